//! What a weight file is, by its keys and never by its name.

use crate::adapter::files::key::{self, AdapterKey};
use crate::error::Error;
use crate::formats::{WeightFile, shown};
use std::path::Path;

/// What a weight file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelKind {
    /// A whole SD1.5 model, or parts of one, in LDM naming.
    LdmCheckpoint,
    /// An adapter for SD1.5.
    Adapter,
    /// One network of a pipeline folder, in diffusers or transformers naming; by the name of its folder.
    Component(&'static str),
    /// Something that is known and not supported, in words.
    Refused(&'static str),
    /// No tensors.
    Empty,
    /// Not understood.
    Unknown,
}

impl std::fmt::Display for ModelKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LdmCheckpoint => formatter.write_str("a Stable Diffusion 1.x checkpoint in LDM naming"),
            Self::Adapter => formatter.write_str("an adapter"),
            Self::Component(part) => write!(formatter, "the {part} of a diffusers pipeline"),
            Self::Refused(what) => formatter.write_str(what),
            Self::Empty => formatter.write_str("a file without tensors"),
            Self::Unknown => formatter.write_str("a file whose keys are not understood"),
        }
    }
}

/// Whether the file has an entry, tensor or not, whose name begins like this.
fn any(file: &WeightFile, test: impl Fn(&str) -> bool) -> bool {
    file.names().chain(file.not_tensors().map(|(key, _)| key)).any(test)
}

/// The shape of a tensor, if it is there.
fn shape<'a>(file: &'a WeightFile, name: &str) -> Option<&'a [usize]> {
    file.info(name).map(|info| info.shape.as_slice())
}

/// Tells what the file holds.
pub fn model_kind(file: &WeightFile) -> ModelKind {
    if let Some(what) = other_architecture(file) {
        return ModelKind::Refused(what);
    }
    if any(file, |key| crate::model_family::naming::ldm::Part::ALL.iter().any(|part| key.starts_with(part.prefix()))) {
        return ModelKind::LdmCheckpoint;
    }
    let mut refused = None;
    for key in file.names() {
        match key::parse(key) {
            AdapterKey::Part { .. } | AdapterKey::OtherType(_) => return ModelKind::Adapter,
            AdapterKey::Refused(what) => refused = Some(what),
            AdapterKey::Unknown => {}
        }
    }
    if let Some(what) = refused {
        return ModelKind::Refused(what);
    }
    component(file)
}

/// One network of a pipeline folder, or nothing that is understood.
fn component(file: &WeightFile) -> ModelKind {
    let has = |name: &str| file.contains(name);
    if has("controlnet_cond_embedding.conv_in.weight") {
        ModelKind::Component("controlnet")
    } else if has("conv_in.weight") && has("time_embedding.linear_1.weight") {
        ModelKind::Component("unet")
    } else if has("quant_conv.weight") && has("decoder.conv_in.weight") {
        ModelKind::Component("vae")
    } else if has("text_model.embeddings.token_embedding.weight") || has("embeddings.token_embedding.weight") {
        ModelKind::Component("text_encoder")
    } else if file.names().len() == 0 {
        ModelKind::Empty
    } else {
        ModelKind::Unknown
    }
}

/// Other architectures and other things than models.
fn other_architecture(file: &WeightFile) -> Option<&'static str> {
    const UNET: &str = "model.diffusion_model.";
    let starts = |prefix: &str| any(file, |key| key.starts_with(prefix));
    if starts("conditioner.embedders.")
        || starts("model.diffusion_model.label_emb.")
        || starts("label_emb.")
        || starts("lora_te2_")
    {
        return Some("an SDXL model or adapter");
    }
    if any(file, |key| key.contains("double_blocks")) {
        return Some("a Flux model or adapter");
    }
    if starts("cond_stage_model.model.") {
        return Some("a Stable Diffusion 2 checkpoint");
    }
    let proj_in =
        |key: &str| key.starts_with(UNET) && key.ends_with(".1.proj_in.weight") && shape(file, key).is_some_and(|s| s.len() == 2);
    if file.names().any(proj_in) {
        return Some("a Stable Diffusion 2 checkpoint (its proj_in are matrices)");
    }
    // SD2's text encoder is 1024 wide, which cross-attention shows in whole models and in adapters.
    let wide_text = |key: &str| {
        let ends = ["to_k.weight", "lora_down.weight", "lora_A.weight"].iter().any(|end| key.ends_with(end));
        ends && key.contains("attn2") && key.contains("to_k") && shape(file, key).is_some_and(|s| s.get(1) == Some(&1024))
    };
    if file.names().any(wide_text) {
        return Some("a Stable Diffusion 2 model or adapter (its text encoder is 1024 wide)");
    }
    if starts("control_model.") || starts("control_net_") {
        return Some("a ControlNet checkpoint in LDM naming");
    }
    if starts("string_to_param") || starts("emb_params") || starts("string_to_token") {
        return Some("a textual inversion embedding");
    }
    if starts("conv_in.weight") || starts("model.diffusion_model.input_blocks.0.0.weight") {
        let inputs = ["model.diffusion_model.input_blocks.0.0.weight", "conv_in.weight"]
            .iter()
            .find_map(|key| shape(file, key))
            .and_then(|s| s.get(1));
        if inputs == Some(&9) {
            return Some("an inpainting model (its UNet has nine input channels)");
        }
    }
    // A list of tensors has its positions for names.
    if file.names().len() > 1 && file.names().all(|key| key.bytes().all(|b| b.is_ascii_digit())) {
        return Some("a LoRA of cloneofsimo's format (a list of tensors without names)");
    }
    None
}

/// The error for a file that should hold something else than what it holds.
pub(crate) fn refused(file: &WeightFile, what: &str) -> Error {
    Error::file(file.path(), format!("is {what}, which is not supported"), "give a Stable Diffusion 1.5 model or a LoRA for it")
}

/// The error for a file without a key of an adapter.
pub(crate) fn no_adapter(file: &WeightFile) -> Error {
    let kind = model_kind(file);
    match (kind, file.names().next()) {
        (ModelKind::Refused(what), _) => refused(file, what),
        (ModelKind::Unknown, Some(key)) => {
            let problem = format!("is no adapter: no key is understood, the first is `{}`", shown(key));
            Error::file(file.path(), problem, "give a LoRA in kohya, diffusers or PEFT naming")
        }
        (kind, _) => {
            Error::file(file.path(), format!("is {kind}, not an adapter"), "give a LoRA in kohya, diffusers or PEFT naming")
        }
    }
}

/// The error that lists keys which were not understood.
pub(crate) fn unknown_keys(file: &WeightFile, keys: &[String]) -> Error {
    unknown_keys_error(file.path(), keys)
}

/// The error that lists keys of a file which were not understood: ten of them, and how many more there are.
pub fn unknown_keys_error(path: &Path, keys: &[String]) -> Error {
    let listed: Vec<String> = keys.iter().take(10).map(|key| format!("`{}`", shown(key))).collect();
    let more = keys.len().saturating_sub(listed.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let noun = if keys.len() == 1 { "a key that is" } else { "keys that are" };
    Error::file(
        path,
        format!("has {noun} not understood: {}{more}", listed.join(", ")),
        "check what the file is, or allow unknown keys",
    )
}
