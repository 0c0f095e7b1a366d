//! Euler's method on the diffusion equation.
//!
//! Source: arXiv 2206.00364, algorithm 2 without churn; diffusers 0.32.2 `EulerDiscreteScheduler` with linear interpolation of sigmas
//! and discrete timesteps.

use candle_core::Tensor;

use super::Scheduler;
use super::arithmetic::{combine, in_float32};
use super::config::SchedulerConfig;
use super::noise_schedule::NoiseSchedule;
use super::sigmas::Sigmas;
use crate::error::Result;

/// diffusers' `EulerDiscreteScheduler`. Its samples are not scaled down as noise is added, so the network's input has to go through
/// [`Scheduler::scale_model_input`].
#[derive(Clone, Debug)]
pub struct EulerDiscrete {
    sigmas: Sigmas,
}

impl EulerDiscrete {
    /// The scheduler; until [`Scheduler::set_timesteps`] it visits every training timestep.
    pub fn new(config: &SchedulerConfig) -> Self {
        Self { sigmas: Sigmas::new(config) }
    }
}

impl Scheduler for EulerDiscrete {
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

    fn step(&mut self, model_output: &Tensor, timestep: f64, sample: &Tensor) -> Result<Tensor> {
        let (sigma, sigma_to) = self.sigmas.around(timestep)?;
        let (output, start) = in_float32(model_output, sample)?;
        let slope = self.sigmas.derivative(&output, &start, sigma)?;
        Ok(combine(&start, 1.0, &slope, sigma_to - sigma)?.to_dtype(sample.dtype())?)
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
