//! What is known and not supported: other architectures, and other things than models. Everything that refuses one of them by name
//! asks here, and the errors are made here.

use super::ModelFamily;
use crate::error::{ConfigCause, Error, ModelFileCause, Result};
use crate::formats::{WeightFile, read_config};
use serde_json::Value;
use std::path::Path;

/// What an SDXL adapter is called.
pub const SDXL_ADAPTER: &str = "an SDXL adapter";

/// A sign by which something is recognized in a weight file.
enum Sign {
    /// A name, of a tensor or not, begins like this.
    Begins(&'static str),
    /// A name has this in it.
    Has(&'static str),
}

/// The signs, strongest first, and what they are signs of.
const SIGNS: [(Sign, &str); 19] = [
    (Sign::Begins("conditioner.embedders."), "an SDXL model or adapter"),
    (Sign::Begins("model.diffusion_model.label_emb."), "an SDXL model or adapter"),
    (Sign::Begins("label_emb."), "an SDXL model or adapter"),
    (Sign::Begins("add_embedding."), "an SDXL model or adapter"),
    (Sign::Begins("lora_te2_"), "an SDXL model or adapter"),
    (Sign::Has("double_blocks"), "a Flux model or adapter"),
    (Sign::Has("joint_blocks"), "a Stable Diffusion 3 model or adapter"),
    (Sign::Begins("text_encoders."), "a Stable Diffusion 3 model"),
    (Sign::Begins("lora_unet_input_blocks_"), SDXL_ADAPTER),
    (Sign::Begins("lora_unet_middle_block_"), SDXL_ADAPTER),
    (Sign::Begins("lora_unet_output_blocks_"), SDXL_ADAPTER),
    (Sign::Begins("lora_unet_label_emb_"), SDXL_ADAPTER),
    (Sign::Begins("text_encoder_2."), SDXL_ADAPTER),
    (Sign::Begins("control_model."), "a ControlNet checkpoint in LDM naming"),
    (Sign::Begins("control_net_"), "a ControlNet checkpoint in LDM naming"),
    (Sign::Begins("string_to_param"), "a textual inversion embedding"),
    (Sign::Begins("emb_params"), "a textual inversion embedding"),
    (Sign::Begins("string_to_token"), "a textual inversion embedding"),
    (Sign::Begins("lora_unet_time_embed_"), SDXL_ADAPTER),
];

/// The first convolution of a UNet, whose input channels tell inpainting and depth models apart.
const FIRST_CONVOLUTIONS: [&str; 2] = ["model.diffusion_model.input_blocks.0.0.weight", "conv_in.weight"];

/// What a weight file is, in words, when it is something that is known and not supported.
pub fn in_weights(file: &WeightFile) -> Option<&'static str> {
    let names = || file.names().chain(file.not_tensors().map(|(key, _)| key));
    for (sign, kind) in &SIGNS {
        let found = match sign {
            Sign::Begins(start) => names().any(|name| name.starts_with(start)),
            Sign::Has(piece) => names().any(|name| name.contains(piece)),
        };
        if found {
            return Some(kind);
        }
    }
    let inputs = FIRST_CONVOLUTIONS.iter().find_map(|name| file.info(name)).and_then(|info| info.shape.get(1));
    match inputs {
        Some(9) => Some("an inpainting model (its UNet has nine input channels)"),
        Some(5) => Some("a depth-conditioned model (its UNet has five input channels)"),
        Some(_) | None => None,
    }
}

/// Refuses pipelines of other architectures by what their `model_index.json` says.
///
/// # Errors
/// [`Error::File`] and [`Error::Config`] saying what the folder is.
pub fn in_folder(folder: &Path) -> Result<()> {
    if folder.join("text_encoder_2").is_dir() {
        let advice = format!("driftless supports {} only", ModelFamily::all_names());
        return Err(Error::file(folder, ModelFileCause::TwoTextEncoders, advice));
    }
    let index = folder.join("model_index.json");
    if !index.is_file() {
        return Ok(());
    }
    let class = read_config::<Value>(&index)?["_class_name"].as_str().unwrap_or_default().to_owned();
    if class.contains("XL") || class.contains('3') || class.contains("Inpaint") || !class.starts_with("StableDiffusion") {
        let cause = ConfigCause::Pipeline { found: class.to_owned(), supported: ModelFamily::all_names() };
        return Err(Error::config(index, "_class_name", cause));
    }
    Ok(())
}

/// The error for a file that is something else than what is supported.
pub fn error(file: &WeightFile, kind: &'static str) -> Error {
    let advice = format!("give a {} model or a LoRA for one", ModelFamily::all_names());
    Error::file(file.path(), ModelFileCause::Unsupported { kind }, advice)
}
