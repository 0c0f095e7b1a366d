//! What the same layer is called in different files: LDM, diffusers, kohya and PEFT names.
//!
//! Everything in here works on names alone; no tensor is touched. The common name of a layer is its diffusers or transformers
//! module path (`down_blocks.0.resnets.1.conv1`, `text_model.encoder.layers.3.mlp.fc2`). Tables are one to one, do not know
//! widths and take any number of levels, so miniature models map as full-size ones do.

pub mod ldm;
pub mod modules;
pub mod text_encoder;
pub mod vae_attention;

pub use modules::{LayerKind, layer_kind};

/// The two networks of SD1.5 that adapters are trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// `UNet2DConditionModel`.
    Unet,
    /// `CLIPTextModel`.
    TextEncoder,
}

impl Network {
    /// The name of the network's folder in a pipeline, which is also its prefix in diffusers' adapter files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::TextEncoder => "text_encoder",
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}
