//! Stable Diffusion 1.x: CLIP ViT-L/14 as text encoder, four levels of widths 320 to 1280, noise prediction at 512 pixels.
//!
//! Configurations and files are those of `stable-diffusion-v1-5/stable-diffusion-v1-5`; 1.1 to 1.5 and everything tuned from them
//! have the same networks.

use super::naming::{ldm::TextEncoderNaming, text_encoder};
use super::{Extractor, ModelFamily, Prediction};

/// Stable Diffusion 1.x.
pub const FAMILY: ModelFamily = ModelFamily {
    id: "sd15",
    name: "Stable Diffusion 1.5",
    architecture: "stable-diffusion-v1",
    kohya_version: "sd_v1",
    kohya_v2: false,
    repository: "stable-diffusion-v1-5/stable-diffusion-v1-5",
    text_width: 768,
    linear_projections: false,
    scaling_factor: 0.18215,
    predictions: &[Prediction::Noise],
    text_encoder: TextEncoderNaming {
        prefix: "cond_stage_model.transformer.",
        to_diffusers: text_encoder::to_diffusers,
        to_ldm: text_encoder::to_ldm,
        unused: text_encoder::unused,
        fillers: text_encoder::fillers,
    },
    extractor: Extractor {
        version: "1-5",
        repository: "stable-diffusion-v1-5/stable-diffusion-v1-5",
        controlnets: [("canny", "lllyasviel/sd-controlnet-canny"), ("depth", "lllyasviel/sd-controlnet-depth")],
        scheduler: None,
    },
};
