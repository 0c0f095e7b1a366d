//! Euler's method with ancestral sampling: each step overshoots towards the sample and adds fresh noise back.
//!
//! Source: K. Crowson's k-diffusion, `sample_euler_ancestral`; diffusers 0.32.2 `EulerAncestralDiscreteScheduler`.

use candle_core::{DType, Tensor};

use super::arithmetic::{combine, in_float32, scale};
use super::config::SchedulerConfig;
use super::noise_schedule::NoiseSchedule;
use super::sigmas::Sigmas;
use super::{Scheduler, noise_missing};
use crate::error::Result;

/// diffusers' `EulerAncestralDiscreteScheduler`. Every step takes noise, the last one with weight 0.
#[derive(Clone, Debug)]
pub struct EulerAncestralDiscrete {
    sigmas: Sigmas,
}

impl EulerAncestralDiscrete {
    /// The scheduler; until [`Scheduler::set_timesteps`] it visits every training timestep.
    pub fn new(config: &SchedulerConfig) -> Self {
        Self { sigmas: Sigmas::new(config) }
    }
}

impl Scheduler for EulerAncestralDiscrete {
    fn set_timesteps(&mut self, num_inference_steps: usize) -> Result<()> {
        self.sigmas.set_timesteps(num_inference_steps)
    }

    fn timesteps(&self) -> &[f64] {
        &self.sigmas.timesteps
    }

    fn init_noise_sigma(&self) -> f64 {
        self.sigmas.init_noise_sigma()
    }

    fn scale_model_input(&self, sample: &Tensor, timestep: f64) -> Result<Tensor> {
        self.sigmas.scale_model_input(sample, timestep)
    }

    fn takes_noise(&self, _timestep: f64) -> bool {
        true
    }

    fn step(&mut self, _model_output: &Tensor, timestep: f64, _sample: &Tensor) -> Result<Tensor> {
        Err(noise_missing(timestep))
    }

    fn step_with_noise(&mut self, model_output: &Tensor, timestep: f64, sample: &Tensor, noise: &Tensor) -> Result<Tensor> {
        let (sigma, sigma_to) = self.sigmas.around(timestep)?;
        let (from, to) = (sigma * sigma, sigma_to * sigma_to);
        let up = (to * (from - to) / from).sqrt();
        let down = (to - up * up).sqrt();
        let (output, start) = in_float32(model_output, sample)?;
        let slope = self.sigmas.derivative(&output, &start, sigma)?;
        let overshot = combine(&start, 1.0, &slope, down - sigma)?;
        Ok((overshot + scale(&noise.to_dtype(DType::F32)?, up)?)?.to_dtype(sample.dtype())?)
    }

    fn predicted_original(&self, model_output: &Tensor, timestep: f64, sample: &Tensor) -> Result<Tensor> {
        let (sigma, _) = self.sigmas.around(timestep)?;
        let (output, sample) = in_float32(model_output, sample)?;
        self.sigmas.original(&output, &sample, sigma)
    }

    fn add_noise(&self, original: &Tensor, noise: &Tensor, timestep: f64) -> Result<Tensor> {
        self.sigmas.add_noise(original, noise, timestep)
    }

    fn config(&self) -> &SchedulerConfig {
        &self.sigmas.config
    }

    fn noise_schedule(&self) -> &NoiseSchedule {
        &self.sigmas.schedule
    }

    fn boxed_clone(&self) -> Box<dyn Scheduler> {
        Box::new(self.clone())
    }
}
