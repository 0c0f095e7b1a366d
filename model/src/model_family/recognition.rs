//! What a weight file is, and of which family, by its keys and shapes and never by its name.

use super::{FAMILIES, ModelFamily, Network, naming::ldm, refused, sd15};
use crate::formats::WeightFile;
use serde_json::Value;

/// What a weight file holds, when it is no adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelKind {
    /// A whole model of a family, or networks of one, in LDM naming.
    LdmCheckpoint(&'static ModelFamily),
    /// One network in diffusers' or transformers' naming.
    Component(Network),
    /// Something that is known and not supported, in words.
    Refused(&'static str),
    /// No tensors.
    Empty,
    /// Not understood; perhaps an adapter.
    Unknown,
}

impl std::fmt::Display for ModelKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LdmCheckpoint(family) => write!(formatter, "a {family} checkpoint in LDM naming"),
            Self::Component(network) => write!(formatter, "the {network} of a diffusers pipeline"),
            Self::Refused(kind) => formatter.write_str(kind),
            Self::Empty => formatter.write_str("a file without tensors"),
            Self::Unknown => formatter.write_str("a file whose keys are not understood"),
        }
    }
}

/// Tells what the file holds.
pub fn model_kind(file: &WeightFile) -> ModelKind {
    if let Some(kind) = refused::in_weights(file) {
        return ModelKind::Refused(kind);
    }
    if let Some(family) = of_checkpoint(file) {
        return ModelKind::LdmCheckpoint(family);
    }
    let has = |name: &str| file.contains(name);
    if has("controlnet_cond_embedding.conv_in.weight") {
        ModelKind::Component(Network::ControlNet)
    } else if has("conv_in.weight") && has("time_embedding.linear_1.weight") {
        ModelKind::Component(Network::Unet)
    } else if has("quant_conv.weight") && has("decoder.conv_in.weight") {
        ModelKind::Component(Network::Vae)
    } else if has("text_model.embeddings.token_embedding.weight") || has("embeddings.token_embedding.weight") {
        ModelKind::Component(Network::TextEncoder)
    } else if file.names().len() == 0 {
        ModelKind::Empty
    } else {
        ModelKind::Unknown
    }
}

/// The family of a checkpoint in LDM naming; `None` when the file is no such checkpoint.
///
/// A text encoder tells its family by its names; without one the UNet tells it by its shapes, and an autoencoder alone is every
/// family's.
pub fn of_checkpoint(file: &WeightFile) -> Option<&'static ModelFamily> {
    let names = || file.names().chain(file.not_tensors().map(|(name, _)| name));
    // The most particular family first: `cond_stage_model.` is the beginning of both text encoders.
    let by_text = FAMILIES.iter().rev().find(|family| names().any(|name| name.starts_with(family.text_encoder.prefix)));
    let has_other = names().any(|name| name.starts_with(ldm::UNET_PREFIX) || name.starts_with(ldm::VAE_PREFIX));
    by_text.copied().or_else(|| has_other.then(|| of_shapes(file).unwrap_or(&sd15::FAMILY)))
}

/// The family of a UNet, whatever its names, by the shapes of projections and cross-attention; `None` when there is neither.
pub fn of_shapes(file: &WeightFile) -> Option<&'static ModelFamily> {
    let shape = |name: &str| file.info(name).map_or(&[][..], |info| info.shape.as_slice());
    let projection = file.names().find(|name| name.ends_with(".proj_in.weight")).map(|name| shape(name).len() == 2);
    match projection {
        Some(linear) => FAMILIES.into_iter().find(|family| family.linear_projections == linear),
        None => {
            let key = file.names().find(|name| name.ends_with("attn2.to_k.weight"))?;
            FAMILIES.into_iter().find(|family| shape(key).get(1) == Some(&family.text_width))
        }
    }
}

/// The family of an adapter: what kohya's metadata say, else by the width of cross-attention's inputs; the default family's when
/// nothing says another.
pub fn of_adapter(file: &WeightFile) -> &'static ModelFamily {
    if let Some(version) = file.metadata().get("ss_base_model_version")
        && let Some(family) = FAMILIES.into_iter().find(|family| version.trim_end_matches("_v") == family.kohya_version)
    {
        return family;
    }
    let inputs_of_text = |key: &str| {
        key.contains("attn2")
            && key.contains("to_k")
            && [".lora_down.weight", ".lora_A.weight"].iter().any(|end| key.ends_with(end))
    };
    let width = file.names().find(|key| inputs_of_text(key)).and_then(|key| file.info(key)?.shape.get(1));
    of_text_width(width.copied()).unwrap_or(&sd15::FAMILY)
}

/// The family whose cross-attention has inputs of this width.
pub fn of_text_width(width: Option<usize>) -> Option<&'static ModelFamily> {
    FAMILIES.into_iter().find(|family| width == Some(family.text_width))
}

/// The family of a UNet's or ControlNet's `config.json`.
pub fn of_unet_config(config: &Value) -> &'static ModelFamily {
    ModelFamily::of_projections(config["use_linear_projection"].as_bool().unwrap_or(false))
}
