//! DDIM: the deterministic shortcut through diffusion, and the whole family up to DDPM's variance by `eta`.
//!
//! Source: J. Song, C. Meng, S. Ermon, "Denoising Diffusion Implicit Models", arXiv 2010.02502, equations 12 and 16; diffusers 0.32.2
//! `DDIMScheduler` (without `use_clipped_model_output`).

use candle_core::{DType, Tensor};

use super::ScheduleError;
use super::arithmetic::{clip, combine, in_float32, original_and_epsilon, scale, whole};
use super::config::SchedulerConfig;
use super::noise_schedule::NoiseSchedule;
use super::timesteps::{check_steps, whole_timesteps};
use super::{Scheduler, no_timesteps, noise_missing};
use crate::error::Result;

/// diffusers' `DDIMScheduler`.
#[derive(Clone, Debug)]
pub struct Ddim {
    config: SchedulerConfig,
    schedule: NoiseSchedule,
    timesteps: Vec<f64>,
    /// Training timesteps per inference step, once set.
    stride: Option<i64>,
    eta: f64,
}

impl Ddim {
    /// The deterministic scheduler before [`Scheduler::set_timesteps`].
    pub fn new(config: &SchedulerConfig) -> Self {
        let timesteps = (0..config.num_train_timesteps).rev().map(|t| t as f64).collect();
        Self { config: config.clone(), schedule: NoiseSchedule::new(config), timesteps, stride: None, eta: 0.0 }
    }

    /// The same with `eta` times DDPM's variance (0: none, 1: all of it); above 0 every step takes noise.
    ///
    /// # Errors
    /// [`ScheduleError::Eta`] when `eta` is outside 0..=1.
    pub fn with_eta(mut self, eta: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&eta) {
            return Err(ScheduleError::Eta { found: eta }.into());
        }
        self.eta = eta;
        Ok(self)
    }

    /// The sample before random noise is added, and the standard deviation of that noise.
    fn mean(&self, model_output: &Tensor, timestep: f64, sample: &Tensor) -> Result<(Tensor, f32)> {
        let stride = self.stride.ok_or_else(no_timesteps)?;
        let timestep = whole(timestep)?;
        let alpha = self.schedule.alpha(timestep as usize)?;
        let alpha_to = match usize::try_from(timestep - stride) {
            Ok(to) => self.schedule.alpha(to)?,
            Err(_) if self.config.set_alpha_to_one => 1.0,
            Err(_) => self.schedule.alpha(0)?,
        };
        let (output, sample) = in_float32(model_output, sample)?;
        let (original, epsilon) = original_and_epsilon(self.config.prediction_type, alpha, &output, &sample)?;
        let original = clip(original, self.config.clip_sample)?;
        let variance = (1.0 - alpha_to) / (1.0 - alpha) * (1.0 - alpha / alpha_to);
        let deviation = self.eta as f32 * variance.sqrt();
        let direction = (1.0 - alpha_to - deviation * deviation).sqrt();
        Ok((combine(&original, alpha_to.sqrt(), &epsilon, direction)?, deviation))
    }
}

impl Scheduler for Ddim {
    fn set_timesteps(&mut self, num_inference_steps: usize) -> Result<()> {
        check_steps(&self.config, num_inference_steps)?;
        self.timesteps = whole_timesteps(&self.config, num_inference_steps).into_iter().rev().map(|t| t as f64).collect();
        self.stride = Some((self.config.num_train_timesteps / num_inference_steps) as i64);
        Ok(())
    }

    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn takes_noise(&self, _timestep: f64) -> bool {
        self.eta > 0.0
    }

    fn step(&mut self, model_output: &Tensor, timestep: f64, sample: &Tensor) -> Result<Tensor> {
        if self.takes_noise(timestep) {
            return Err(noise_missing(timestep));
        }
        Ok(self.mean(model_output, timestep, sample)?.0.to_dtype(sample.dtype())?)
    }

    fn step_with_noise(&mut self, model_output: &Tensor, timestep: f64, sample: &Tensor, noise: &Tensor) -> Result<Tensor> {
        if !self.takes_noise(timestep) {
            return Err(ScheduleError::NoVariance.into());
        }
        let (mean, deviation) = self.mean(model_output, timestep, sample)?;
        Ok((mean + scale(&noise.to_dtype(DType::F32)?, deviation)?)?.to_dtype(sample.dtype())?)
    }

    fn config(&self) -> &SchedulerConfig {
        &self.config
    }

    fn noise_schedule(&self) -> &NoiseSchedule {
        &self.schedule
    }

    fn boxed_clone(&self) -> Box<dyn Scheduler> {
        Box::new(self.clone())
    }
}
