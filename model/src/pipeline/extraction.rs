//! One extraction as the original extractor (generic-diffusion-feature) makes it: noise the latents, perhaps denoise some steps or
//! invert instead, then one UNet call without guidance whose activations are the features.
//!
//! For Stable Diffusion 2 the original replaces the folder's scheduler by Euler's over the same settings (`components/models.py`, version
//! `2-1`): a timestep `t` above 0 reaches the UNet as `t - 1`, noise is not mixed in but added, and the UNet sees latents scaled down. Kept
//! as it is there: latents from an inversion are scaled down too, although they hold no added noise.
//!
//! Beside that, one call on clean latents ([`NoiseLevel::Clean`]), as CleanDIFT (b070976, `sd_feature_extraction.py`) makes it.
//!
//! Differences: `denoising_from` works without a ControlNet (plain denoising), inversion works for batches, and the UNet stops after
//! the deepest wanted layer unless its output is needed.

use std::time::Instant;

use candle_core::Tensor;

use super::Pipeline;
use super::control::{Condition, Step, sum_residuals};
use crate::Result;
use crate::error::InputError;
use crate::scheduler::{self, ExtractionSchedule, InversionLadder, Scheduler, SchedulerConfig, ddim_inversion_step};
use crate::taps::{LayerId, TapPlan};
use crate::unet::{TextContext, UnetInput};

/// A stage of the work, for timings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// One call of all ControlNets.
    ControlNet,
    /// One call of the UNet.
    Unet,
}

/// The latents that the network is shown, and the timestep that it is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NoiseLevel {
    /// Latents with the noise of a training step.
    Noised {
        /// The training step asked for, 0..1000; what reaches the UNet is one more, with Stable Diffusion 2 one less (see
        /// [`ExtractionSchedule`]).
        t: usize,
        /// Denoise from this step down to `t` first.
        denoising_from: Option<usize>,
        /// Noise by DDIM inversion in place of a random draw.
        use_ddim_inversion: bool,
    },
    /// The latents as they are, for networks that were trained on such (CleanDIFT, arXiv 2412.03439): nothing is added, no scheduler scales
    /// them, and the network is told this timestep itself, which may be a fraction.
    Clean {
        /// 0 to 999.
        timestep: f64,
    },
}

/// What to extract from a batch of latents.
pub struct Extraction<'a> {
    /// The noise.
    pub level: NoiseLevel,
    /// The prompt, batch 1 or the latents'.
    pub context: &'a TextContext,
    /// ControlNets with their hints.
    pub conditions: &'a [Condition<'a>],
    /// The activations to keep.
    pub plan: &'a TapPlan,
    /// Decode the latents after one more scheduler step, too.
    pub vae_out: bool,
    /// Run to the end, and say which clean latents the prediction means; of clean latents nothing is predicted.
    pub original: bool,
}

/// What came out, each with the batch in front.
#[derive(Debug)]
pub struct Extracted {
    /// The kept activations in forward order: `[b, c, h, w]`, maps `[b, heads, queries, keys]`.
    pub features: Vec<(LayerId, Tensor)>,
    /// The decoded image `[b, 3, 8 h, 8 w]`, if asked for.
    pub vae_out: Option<Tensor>,
    /// The scaled latents `[b, 4, h, w]` that the prediction means to be the clean ones, in float32, if asked for.
    pub original: Option<Tensor>,
    /// The aggregated attention maps `[b, keys, h, w]`, if the plan has categories.
    pub attention: Option<Tensor>,
}

impl Pipeline {
    /// Extracts from scaled latents. `watch` is told the seconds of every ControlNet and UNet call.
    ///
    /// # Shapes
    /// `latents` `[b, 4, h, w]`; `noise` the same, standard normal (unused with inversion, and where none is added).
    /// # Errors
    /// When `t` and `denoising_from` make no schedule, shapes disagree, or `vae_out` is asked for of clean latents.
    pub fn extract(
        &self,
        latents: &Tensor,
        noise: &Tensor,
        request: &Extraction,
        watch: &mut dyn FnMut(Stage, f64),
    ) -> Result<Extracted> {
        let (t, denoising_from, use_ddim_inversion) = match request.level {
            NoiseLevel::Noised { t, denoising_from, use_ddim_inversion } => (t, denoising_from, use_ddim_inversion),
            NoiseLevel::Clean { timestep } => return self.extract_clean(latents, timestep, request, watch),
        };
        // A fresh scheduler for every batch, so that multistep state never leaks from image to image.
        let mut scheduler = scheduler::from_config(&self.extraction_scheduler()?)?;
        let schedule = ExtractionSchedule::new(scheduler.as_ref(), t, denoising_from)?;
        scheduler.set_timesteps(schedule.num_inference_steps)?;
        let mut sample = if use_ddim_inversion {
            self.invert(latents, schedule.extraction, request.context, watch)?
        } else {
            let noise = noise.to_device(latents.device())?.to_dtype(latents.dtype())?;
            scheduler.add_noise(latents, &noise, schedule.start)?
        };
        let count = schedule.denoised.len() + 1;
        for (index, &timestep) in schedule.denoised.iter().enumerate() {
            let plan = TapPlan::nothing();
            let input = scheduler.scale_model_input(&sample, timestep)?;
            let (prediction, _) = self.call(&input, Step { timestep, index, count }, request, &plan, watch)?;
            let prediction = prediction.ok_or(InputError::EndedEarly)?;
            sample = scheduler.step(&prediction, timestep, &sample)?;
        }
        let last = Step { timestep: schedule.extraction, index: count - 1, count };
        self.extract_at(&sample, last, request, scheduler.as_mut(), watch)
    }

    /// The one call of clean latents.
    fn extract_clean(
        &self,
        latents: &Tensor,
        timestep: f64,
        request: &Extraction,
        watch: &mut dyn FnMut(Stage, f64),
    ) -> Result<Extracted> {
        if request.vae_out {
            return Err(InputError::NoStep.into());
        }
        let step = Step { timestep, index: 0, count: 1 };
        let (_, (features, attention)) = self.call(latents, step, request, request.plan, watch)?;
        Ok(Extracted { features, vae_out: None, original: None, attention })
    }

    /// The scheduler that the original extracts with.
    fn extraction_scheduler(&self) -> Result<SchedulerConfig> {
        match self.unet.config().family().extractor.scheduler {
            Some(class) => self.scheduler_config.with_class(class),
            None => Ok(self.scheduler_config.clone()),
        }
    }

    /// The extraction call itself, and what is made from its prediction.
    fn extract_at(
        &self,
        sample: &Tensor,
        step: Step,
        request: &Extraction,
        scheduler: &mut dyn Scheduler,
        watch: &mut dyn FnMut(Stage, f64),
    ) -> Result<Extracted> {
        let whole = (request.vae_out || request.original).then(|| request.plan.clone().to_the_end());
        let plan = whole.as_ref().unwrap_or(request.plan);
        let input = scheduler.scale_model_input(sample, step.timestep)?;
        let (prediction, (features, attention)) = self.call(&input, step, request, plan, watch)?;
        let wanted = |wanted: bool| match (&prediction, wanted) {
            (Some(prediction), true) => Ok(Some(prediction)),
            (None, true) => Err(InputError::EndedEarly),
            (_, false) => Ok(None),
        };
        let original = wanted(request.original)?;
        let original = original.map(|prediction| scheduler.predicted_original(prediction, step.timestep, sample)).transpose()?;
        let vae_out = match wanted(request.vae_out)? {
            Some(prediction) => Some(self.decode_latents(&scheduler.step(prediction, step.timestep, sample)?)?),
            None => None,
        };
        Ok(Extracted { features, vae_out, original, attention })
    }

    /// One call of the ControlNets and the UNet.
    #[allow(clippy::type_complexity)] // a prediction and what was tapped
    fn call(
        &self,
        sample: &Tensor,
        step: Step,
        request: &Extraction,
        plan: &TapPlan,
        watch: &mut dyn FnMut(Stage, f64),
    ) -> Result<(Option<Tensor>, (Vec<(LayerId, Tensor)>, Option<Tensor>))> {
        let mut residuals = None;
        if !request.conditions.is_empty() {
            let start = Instant::now();
            residuals = sum_residuals(request.conditions, sample, step, request.context)?;
            watch(Stage::ControlNet, start.elapsed().as_secs_f64());
        }
        let start = Instant::now();
        let input = UnetInput { sample, timesteps: &[step.timestep], context: request.context, residuals: residuals.as_ref() };
        let mut taps = plan.taps();
        let prediction = self.unet.forward_tapped(&input, &mut taps)?;
        watch(Stage::Unet, start.elapsed().as_secs_f64());
        let (_, _, height, width) = sample.dims4()?;
        let attention = taps.aggregated_attention(height, width)?;
        Ok((prediction, (taps.kept(), attention)))
    }

    /// The original's DDIM inversion: without ControlNet and guidance, up to the first step of its ladder that is not below `until`.
    fn invert(&self, latents: &Tensor, until: f64, context: &TextContext, watch: &mut dyn FnMut(Stage, f64)) -> Result<Tensor> {
        let mut sample = latents.clone();
        let ladder = InversionLadder::new(&self.extraction_scheduler()?, until)?;
        for rung in &ladder.rungs {
            let start = Instant::now();
            let input = UnetInput { sample: &sample, timesteps: &[rung.timestep as f64], context, residuals: None };
            let prediction = self.unet.forward(&input)?;
            watch(Stage::Unet, start.elapsed().as_secs_f64());
            let noise = ladder.noise(rung, &prediction, &sample)?;
            sample = ddim_inversion_step(&sample, &noise, rung.alpha_from, rung.alpha_to)?;
        }
        Ok(sample)
    }
}
