//! Stable Diffusion 2.0 and 2.1: OpenCLIP ViT-H/14 as text encoder, its last but one layer's states; projections in the UNet are
//! matrices; heads of 64 channels; noise prediction at 512 pixels (`-base`), velocity prediction at 768 pixels.
//!
//! Weight files do not say which of the two a model predicts. diffusers 0.32 takes the noise for a checkpoint with `global_step`
//! 875000 and the velocity for any other, which is wrong for most tuned models; here it comes from the scheduler's configuration
//! of the base that is named, or from the user.

use super::naming::{ldm::TextEncoderNaming, open_clip};
use super::{Extractor, ModelFamily, Prediction};
use crate::scheduler::SchedulerClass;

/// Stable Diffusion 2.x.
pub const FAMILY: ModelFamily = ModelFamily {
    id: "sd2",
    name: "Stable Diffusion 2",
    architecture: "stable-diffusion-v2",
    kohya_version: "sd_v2",
    kohya_v2: true,
    repository: "stabilityai/stable-diffusion-2-1",
    text_width: 1024,
    linear_projections: true,
    scaling_factor: 0.18215,
    predictions: &[Prediction::Noise, Prediction::Velocity],
    text_encoder: TextEncoderNaming {
        prefix: "cond_stage_model.model.",
        to_diffusers: open_clip::to_diffusers,
        to_ldm: open_clip::to_ldm,
        unused: open_clip::unused,
        fillers: open_clip::fillers,
    },
    extractor: Extractor {
        version: "2-1",
        repository: "stabilityai/stable-diffusion-2-1-base",
        // The original has those of 1-5 alone, which do not fit.
        controlnets: [("canny", "thibaud/controlnet-sd21-canny-diffusers"), ("depth", "thibaud/controlnet-sd21-depth-diffusers")],
        scheduler: Some(SchedulerClass::EulerDiscrete),
    },
};
