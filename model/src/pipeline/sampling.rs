//! Images from prompts: text-to-image and image-to-image with classifier-free guidance (diffusers 0.32 `StableDiffusionPipeline`,
//! `StableDiffusionImg2ImgPipeline`; Ho and Salimans, arXiv 2207.12598).

use candle_core::{DType, Tensor};

use super::control::{Condition, Step, sum_residuals};
use super::{Pipeline, finite};
use crate::error::{ArgumentCause, InputError};
use crate::rng::Generator;
use crate::scheduler::{Scheduler, image_to_image_timesteps};
use crate::taps::{LayerId, TapPlan};
use crate::unet::{TextContext, UnetInput};
use crate::{Error, Result};

/// Where sampling starts.
#[derive(Clone, Debug)]
pub enum Start {
    /// From noise: an image of this height and width in pixels.
    Noise {
        /// Height, a multiple of 8.
        height: usize,
        /// Width, a multiple of 8.
        width: usize,
    },
    /// From an image `[1, 3, h, w]` in -1..1, changed by `strength` 0..1.
    Image {
        /// The image.
        image: Tensor,
        /// How much of the noise is added: 1 forgets the image.
        strength: f64,
    },
}

/// Activations to keep while an image is sampled.
pub struct Watched<'a> {
    /// Which.
    pub plan: &'a TapPlan,
    /// At which calls of the UNet, from 1. PNDM calls it once more than there are steps.
    pub calls: &'a [usize],
    /// What was kept so far.
    pub kept: Vec<WatchedCall>,
}

/// What was kept at one call of the UNet.
#[derive(Debug)]
pub struct WatchedCall {
    /// Its ordinal: the first step is 1.
    pub call: usize,
    /// Under the prompt, or under the negative prompt.
    pub negative: bool,
    /// The kept activations in forward order: `[1, c, h, w]`, maps `[1, heads, queries, keys]`.
    pub features: Vec<(LayerId, Tensor)>,
    /// The aggregated attention maps `[1, keys, h, w]`, if the plan has categories.
    pub attention: Option<Tensor>,
}

/// How an image is sampled.
pub struct Sampling<'a> {
    /// What to show, `[1, n, width]` states.
    pub prompt: &'a TextContext,
    /// What not to show; needed where `guidance_scale` is above 1.
    pub negative_prompt: &'a TextContext,
    /// Weight of the prompt against the negative prompt; 1 or less turns guidance off.
    pub guidance_scale: f64,
    /// Denoising steps.
    pub steps: usize,
    /// Where to start.
    pub start: Start,
    /// ControlNets with their hints.
    pub conditions: &'a [Condition<'a>],
}

impl Pipeline {
    /// Samples one image.
    ///
    /// Draws from `generator` in diffusers' order: latents noise for text-to-image; posterior, then diffusion noise for
    /// image-to-image.
    ///
    /// # Shapes
    /// Returns `[1, 3, h, w]`, about -1..1, not clamped.
    /// # Errors
    /// When a side is not a multiple of 8, the schedule has no step, or what is computed is not finite.
    pub fn sample(&self, sampling: &Sampling, scheduler: &mut dyn Scheduler, generator: &mut Generator) -> Result<Tensor> {
        self.sample_watched(sampling, scheduler, generator, &mut |_| Ok(()))
    }

    /// The same; `after_step` is told the count of steps done after each, and can end the sampling by an error.
    ///
    /// # Errors
    /// As [`Pipeline::sample`], and what `after_step` returns.
    pub fn sample_watched(
        &self,
        sampling: &Sampling,
        scheduler: &mut dyn Scheduler,
        generator: &mut Generator,
        after_step: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<Tensor> {
        let plan = TapPlan::nothing();
        self.sample_tapped(sampling, scheduler, generator, &mut Watched { plan: &plan, calls: &[], kept: Vec::new() }, after_step)
    }

    /// The same, with activations kept at some calls of the UNet.
    ///
    /// # Errors
    /// As [`Pipeline::sample_watched`].
    pub fn sample_tapped(
        &self,
        sampling: &Sampling,
        scheduler: &mut dyn Scheduler,
        generator: &mut Generator,
        watched: &mut Watched,
        after_step: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<Tensor> {
        scheduler.set_timesteps(sampling.steps)?;
        let (mut latents, timesteps) = self.start(sampling, scheduler, generator)?;
        let count = timesteps.len();
        for (index, &timestep) in timesteps.iter().enumerate() {
            let input = scheduler.scale_model_input(&latents, timestep)?.to_dtype(self.compute_dtype())?;
            let prediction = self.guided(&input, Step { timestep, index, count }, sampling, watched)?.to_dtype(DType::F32)?;
            let prediction = finite("the predicted noise", prediction)?;
            latents = if scheduler.takes_noise(timestep) {
                let noise = generator.randn_tensor(latents.dims(), self.device())?;
                scheduler.step_with_noise(&prediction, timestep, &latents, &noise)?
            } else {
                scheduler.step(&prediction, timestep, &latents)?
            };
            after_step(index + 1)?;
        }
        self.decode_latents(&latents)
    }

    /// The latents to begin with and the timesteps to go.
    fn start(&self, sampling: &Sampling, scheduler: &dyn Scheduler, generator: &mut Generator) -> Result<(Tensor, Vec<f64>)> {
        let channels = self.unet.config().in_channels;
        let downscale = self.vae.config().downscale();
        match &sampling.start {
            Start::Noise { height, width } => {
                if height % downscale != 0 || width % downscale != 0 || *height == 0 || *width == 0 {
                    let cause = ArgumentCause::ImageSize { width: *width, height: *height, multiple: downscale };
                    return Err(Error::argument("image size", cause));
                }
                let noise = generator.randn_tensor(&[1, channels, height / downscale, width / downscale], self.device())?;
                Ok(((noise * scheduler.init_noise_sigma())?, scheduler.timesteps().to_vec()))
            }
            Start::Image { image, strength } => {
                let (_, _, height, width) = image.dims4()?;
                let shape = [1, channels, height / downscale, width / downscale];
                let posterior_noise = generator.randn_tensor(&shape, self.device())?;
                let latents = self.encode_images(image, &posterior_noise)?.to_dtype(DType::F32)?;
                let timesteps = image_to_image_timesteps(scheduler, sampling.steps, *strength).to_vec();
                let Some(&first) = timesteps.first() else {
                    let cause = ArgumentCause::NoStep { found: *strength, steps: sampling.steps };
                    return Err(Error::argument("strength", cause));
                };
                let noise = generator.randn_tensor(&shape, self.device())?;
                Ok((scheduler.add_noise(&latents, &noise, first)?, timesteps))
            }
        }
    }

    /// `negative + scale * (positive - negative)`. The two passes run one after the other: on a CPU that costs nothing and halves
    /// the memory, and keys and values stay cached per prompt.
    fn guided(&self, input: &Tensor, step: Step, sampling: &Sampling, watched: &mut Watched) -> Result<Tensor> {
        let positive = self.predict(input, step, sampling, false, watched)?;
        if sampling.guidance_scale <= 1.0 {
            return Ok(positive);
        }
        let negative = self.predict(input, step, sampling, true, watched)?;
        Ok((&negative + ((positive - &negative)? * sampling.guidance_scale)?)?)
    }

    fn predict(&self, input: &Tensor, step: Step, sampling: &Sampling, negative: bool, watched: &mut Watched) -> Result<Tensor> {
        let context = if negative { sampling.negative_prompt } else { sampling.prompt };
        let residuals = sum_residuals(sampling.conditions, input, step, context)?;
        let input = UnetInput { sample: input, timesteps: &[step.timestep], context, residuals: residuals.as_ref() };
        let call = step.index + 1;
        if !watched.calls.contains(&call) {
            return self.unet.forward(&input);
        }
        let plan = watched.plan.clone().to_the_end();
        let mut taps = plan.taps();
        let prediction = self.unet.forward_tapped(&input, &mut taps)?;
        let (_, _, height, width) = input.sample.dims4()?;
        let attention = taps.aggregated_attention(height, width)?;
        watched.kept.push(WatchedCall { call, negative, features: taps.kept(), attention });
        Ok(prediction.ok_or(InputError::EndedEarly)?)
    }
}
