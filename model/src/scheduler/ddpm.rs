//! DDPM: ancestral sampling, one random draw per step.
//!
//! Source: J. Ho, A. Jain, P. Abbeel, "Denoising Diffusion Probabilistic Models", arXiv 2006.11239, equations 6 and 7; diffusers 0.32.2
//! `DDPMScheduler` with variance types `fixed_small` and `fixed_large`.

use candle_core::{DType, Tensor};

use super::ScheduleError;
use super::arithmetic::{clip, combine, in_float32, original_and_epsilon, scale, whole};
use super::config::{SchedulerConfig, VarianceType};
use super::noise_schedule::NoiseSchedule;
use super::timesteps::{check_steps, whole_timesteps};
use super::{Scheduler, noise_missing};
use crate::error::Result;

/// diffusers' `DDPMScheduler`. Every step but that of timestep 0 takes noise.
#[derive(Clone, Debug)]
pub struct Ddpm {
    config: SchedulerConfig,
    schedule: NoiseSchedule,
    timesteps: Vec<f64>,
}

impl Ddpm {
    /// The scheduler; until [`Scheduler::set_timesteps`] it visits every training timestep.
    pub fn new(config: &SchedulerConfig) -> Self {
        let timesteps = (0..config.num_train_timesteps).rev().map(|t| t as f64).collect();
        Self { config: config.clone(), schedule: NoiseSchedule::new(config), timesteps }
    }

    /// The mean of the posterior, and the standard deviation of the noise around it.
    fn posterior(&self, model_output: &Tensor, timestep: f64, sample: &Tensor) -> Result<(Tensor, f32)> {
        let position = self.timesteps.iter().position(|&t| t == timestep);
        let position = position.ok_or(ScheduleError::UnknownTimestep { found: timestep })?;
        let alpha = self.schedule.alpha(whole(timestep)? as usize)?;
        let alpha_to = match self.timesteps.get(position + 1) {
            Some(&to) => self.schedule.alpha(whole(to)? as usize)?,
            None => 1.0,
        };
        let (beta, beta_to) = (1.0 - alpha, 1.0 - alpha_to);
        let step_alpha = alpha / alpha_to;
        let step_beta = 1.0 - step_alpha;

        let (output, sample) = in_float32(model_output, sample)?;
        let (original, _) = original_and_epsilon(self.config.prediction_type, alpha, &output, &sample)?;
        let original = clip(original, self.config.clip_sample)?;
        let mean = combine(&original, alpha_to.sqrt() * step_beta / beta, &sample, step_alpha.sqrt() * beta_to / beta)?;
        let variance = match self.config.variance_type {
            VarianceType::FixedSmall => (beta_to / beta * step_beta).max(1e-20),
            VarianceType::FixedLarge => step_beta,
        };
        Ok((mean, variance.sqrt()))
    }
}

impl Scheduler for Ddpm {
    fn set_timesteps(&mut self, num_inference_steps: usize) -> Result<()> {
        check_steps(&self.config, num_inference_steps)?;
        self.timesteps = whole_timesteps(&self.config, num_inference_steps).into_iter().rev().map(|t| t as f64).collect();
        Ok(())
    }

    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn takes_noise(&self, timestep: f64) -> bool {
        timestep > 0.0
    }

    fn step(&mut self, model_output: &Tensor, timestep: f64, sample: &Tensor) -> Result<Tensor> {
        if self.takes_noise(timestep) {
            return Err(noise_missing(timestep));
        }
        Ok(self.posterior(model_output, timestep, sample)?.0.to_dtype(sample.dtype())?)
    }

    fn step_with_noise(&mut self, model_output: &Tensor, timestep: f64, sample: &Tensor, noise: &Tensor) -> Result<Tensor> {
        if !self.takes_noise(timestep) {
            return Err(ScheduleError::LastStep.into());
        }
        let (mean, deviation) = self.posterior(model_output, timestep, sample)?;
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
