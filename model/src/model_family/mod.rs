//! What a base model is: its networks, what files call their weights, what its network predicts, where it is on a hub, and how to
//! recognize it. One file per family, and one line in [`FAMILIES`].
//!
//! | file | what lives there |
//! | --- | --- |
//! | [`sd15`], [`sd2`] | the families |
//! | [`recognition`] | which family a weight file, an adapter or a folder is of |
//! | [`refused`] | what is known and not supported, and the errors that say so: the one place that refuses |
//! | [`naming`] | LDM's and diffusers' names of the same weights |
//! | `layers` | the layers that an adapter can change |
//! | `network` | the networks of a model |
//!
//! This room reads names, shapes and configurations and computes nothing: the networks themselves take their sizes from the
//! folder's `config.json`.

mod layers;
pub mod naming;
mod network;
pub mod recognition;
pub mod refused;
pub mod sd15;
pub mod sd2;

pub(crate) use layers::resolve_underscored;
pub use layers::{LayerKind, layer_kind};
pub use network::Network;

use crate::scheduler::SchedulerClass;
use naming::ldm::TextEncoderNaming;

/// How many pixels a latent stands for along each side, in every family: their autoencoders halve the image three times. The
/// autoencoder at hand knows its own factor (`VaeConfig::downscale`); this is for plans made before one is loaded.
pub const LATENT_DOWNSCALE: usize = 8;

/// A base model and its descendants: models of the same networks.
#[derive(Debug)]
pub struct ModelFamily {
    /// A short name, for instance `sd15`.
    pub id: &'static str,
    /// What messages call it.
    pub name: &'static str,
    /// What `convert inspect` and metadata call its architecture (the prefix of Stability AI's ModelSpec `modelspec.architecture`).
    pub architecture: &'static str,
    /// What kohya's sd-scripts call it (`ss_base_model_version`); models that predict the velocity get `_v` behind it.
    pub kohya_version: &'static str,
    /// Whether kohya's sd-scripts need `--v2` for it (`ss_v2`).
    pub kohya_v2: bool,
    /// The repository whose model stands for the family.
    pub repository: &'static str,
    /// Width of the text encoder's states.
    pub text_width: usize,
    /// Whether `proj_in` and `proj_out` of a transformer are matrices, and not 1x1 convolutions.
    pub linear_projections: bool,
    /// What scaled latents are: a sample of the autoencoder's posterior times this.
    pub scaling_factor: f64,
    /// What the family's networks are known to predict.
    pub predictions: &'static [Prediction],
    /// The text encoder's names in LDM files.
    pub text_encoder: TextEncoderNaming,
    /// The family in the paper's extractor.
    pub extractor: Extractor,
}

/// What the paper's extractor (generic-diffusion-feature e4361a6, `components/models.py`) does for a family.
#[derive(Debug)]
pub struct Extractor {
    /// The family's name there, a value of `--version`.
    pub version: &'static str,
    /// The repository of the model that it loads.
    pub repository: &'static str,
    /// Repositories of ControlNets by kind.
    pub controlnets: [(&'static str, &'static str); 2],
    /// The scheduler that it puts in place of the model's own, over the same settings.
    pub scheduler: Option<SchedulerClass>,
}

/// What a network predicts, by diffusers' names of `prediction_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prediction {
    /// The added noise, `epsilon`.
    Noise,
    /// The velocity, `v_prediction` (arXiv 2202.00512).
    Velocity,
}

impl Prediction {
    /// diffusers' name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Noise => "epsilon",
            Self::Velocity => "v_prediction",
        }
    }
}

/// Every family. The first is the default.
pub static FAMILIES: [&ModelFamily; 2] = [&sd15::FAMILY, &sd2::FAMILY];

/// The repository of the model that is taken where none is named.
pub const DEFAULT_MODEL: &str = sd15::FAMILY.repository;

impl PartialEq for ModelFamily {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for ModelFamily {}

impl std::fmt::Display for ModelFamily {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

impl ModelFamily {
    /// The kind of the layer at a dotted module path; `None` when the family has no layer of that name.
    pub fn layer_kind(&self, network: Network, path: &str) -> Option<LayerKind> {
        let kind = layer_kind(network, path)?;
        let projection = path.ends_with(".proj_in") || path.ends_with(".proj_out");
        Some(if projection && self.linear_projections { LayerKind::Linear } else { kind })
    }

    /// The family whose transformers project by linear layers, or by 1x1 convolutions.
    pub fn of_projections(linear: bool) -> &'static Self {
        FAMILIES.into_iter().find(|family| family.linear_projections == linear).unwrap_or(&sd15::FAMILY)
    }

    /// The family that the paper's extractor calls `version`.
    pub fn of_extractor_version(version: &str) -> Option<&'static Self> {
        FAMILIES.into_iter().find(|family| family.extractor.version == version)
    }

    /// The names of all families, for messages: `Stable Diffusion 1.5 or Stable Diffusion 2`.
    pub fn all_names() -> String {
        FAMILIES.map(|family| family.name).join(" or ")
    }
}
