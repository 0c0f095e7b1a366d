//! DDIM run backwards, from a sample to the noise that leads to it.
//!
//! Source: arXiv 2010.02502, section 4.3; diffusers 0.32.2 `DDIMInverseScheduler`. The paper's extractor does not use this class but a
//! ladder of its own: see [`super::InversionLadder`].

use candle_core::Tensor;

use super::arithmetic::{clip, combine, in_float32, original_and_epsilon, whole};
use super::config::SchedulerConfig;
use super::noise_schedule::NoiseSchedule;
use super::timesteps::{check_steps, whole_timesteps};
use super::{Scheduler, no_timesteps};
use crate::error::Result;

/// diffusers' `DDIMInverseScheduler`; its timesteps ascend.
#[derive(Clone, Debug)]
pub struct DdimInverse {
    config: SchedulerConfig,
    schedule: NoiseSchedule,
    timesteps: Vec<f64>,
    /// Training timesteps per inference step, once set.
    stride: Option<i64>,
}

impl DdimInverse {
    /// The scheduler before [`Scheduler::set_timesteps`].
    pub fn new(config: &SchedulerConfig) -> Self {
        let timesteps = (0..config.num_train_timesteps).map(|t| t as f64).collect();
        Self { config: config.clone(), schedule: NoiseSchedule::new(config), timesteps, stride: None }
    }
}

impl Scheduler for DdimInverse {
    fn set_timesteps(&mut self, num_inference_steps: usize) -> Result<()> {
        check_steps(&self.config, num_inference_steps)?;
        self.timesteps = whole_timesteps(&self.config, num_inference_steps).into_iter().map(|t| t as f64).collect();
        self.stride = Some((self.config.num_train_timesteps / num_inference_steps) as i64);
        Ok(())
    }

    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn step(&mut self, model_output: &Tensor, timestep: f64, sample: &Tensor) -> Result<Tensor> {
        let stride = self.stride.ok_or_else(no_timesteps)?;
        let to = whole(timestep)?;
        // The sample is as noisy as one stride below; below the first timestep it counts as clean, or as timestep 0.
        let alpha = match usize::try_from(to - stride) {
            Ok(from) => self.schedule.alpha(from)?,
            Err(_) if self.config.set_alpha_to_one => 1.0,
            Err(_) => self.schedule.alpha(0)?,
        };
        let alpha_to = self.schedule.alpha(to as usize)?;
        let (output, start) = in_float32(model_output, sample)?;
        let (original, epsilon) = original_and_epsilon(self.config.prediction_type, alpha, &output, &start)?;
        let original = clip(original, self.config.clip_sample)?;
        Ok(combine(&original, alpha_to.sqrt(), &epsilon, (1.0 - alpha_to).sqrt())?.to_dtype(sample.dtype())?)
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
