//! The noise levels of the Euler schedulers: `sigma = sqrt((1 - a) / a)`, the noise's standard deviation beside an unscaled sample.
//!
//! Source: T. Karras, M. Aittala, T. Aila, S. Laine, "Elucidating the Design Space of Diffusion-Based Generative Models",
//! arXiv 2206.00364; diffusers 0.32.2 `EulerDiscreteScheduler`, `EulerAncestralDiscreteScheduler`.

use candle_core::Tensor;

use super::ScheduleError;
use super::arithmetic::{combine, divide, scale};
use super::config::{FinalSigma, PredictionType, SchedulerConfig, TimestepSpacing};
use super::noise_schedule::NoiseSchedule;
use super::timesteps::{check_steps, euler_timesteps};
use crate::error::Result;

/// Timesteps and their noise levels, the noisiest first.
#[derive(Clone, Debug)]
pub(super) struct Sigmas {
    pub(super) config: SchedulerConfig,
    pub(super) schedule: NoiseSchedule,
    pub(super) timesteps: Vec<f64>,
    /// One level per timestep, and the one after the last step.
    sigmas: Vec<f32>,
}

impl Sigmas {
    /// The levels of all training timesteps.
    pub(super) fn new(config: &SchedulerConfig) -> Self {
        let mut schedule = NoiseSchedule::new(config);
        if config.rescale_betas_zero_snr
            && let Some(last) = schedule.alphas_cumprod.last_mut()
        {
            // float16's smallest positive number in place of zero, so that the first sigma is finite.
            *last = 2.0_f32.powi(-24);
        }
        let mut sigmas: Vec<f32> = training_sigmas(&schedule).rev().collect();
        sigmas.push(0.0);
        let timesteps = (0..config.num_train_timesteps).rev().map(|t| t as f64).collect();
        Self { config: config.clone(), schedule, timesteps, sigmas }
    }

    pub(super) fn set_timesteps(&mut self, num_inference_steps: usize) -> Result<()> {
        check_steps(&self.config, num_inference_steps)?;
        let training: Vec<f32> = training_sigmas(&self.schedule).collect();
        self.timesteps = euler_timesteps(&self.config, num_inference_steps);
        self.sigmas = self.timesteps.iter().map(|&timestep| interpolate(&training, timestep)).collect();
        self.sigmas.push(match self.config.final_sigma {
            FinalSigma::Zero => 0.0,
            FinalSigma::SigmaMin => training[0],
        });
        Ok(())
    }

    pub(super) fn init_noise_sigma(&self) -> f64 {
        let largest = self.sigmas.iter().copied().fold(0.0, f32::max);
        f64::from(match self.config.timestep_spacing {
            TimestepSpacing::Linspace | TimestepSpacing::Trailing => largest,
            TimestepSpacing::Leading => (largest * largest + 1.0).sqrt(),
        })
    }

    /// The levels before and after the step at `timestep`.
    pub(super) fn around(&self, timestep: f64) -> Result<(f32, f32)> {
        let position = self.timesteps.iter().position(|&t| t == timestep);
        let position = position.ok_or(ScheduleError::UnknownTimestep { found: timestep })?;
        Ok((self.sigmas[position], self.sigmas[position + 1]))
    }

    pub(super) fn scale_model_input(&self, sample: &Tensor, timestep: f64) -> Result<Tensor> {
        let (sigma, _) = self.around(timestep)?;
        divide(sample, (sigma * sigma + 1.0).sqrt())
    }

    pub(super) fn add_noise(&self, original: &Tensor, noise: &Tensor, timestep: f64) -> Result<Tensor> {
        let (sigma, _) = self.around(timestep)?;
        Ok((original + noise.affine(f64::from(sigma), 0.0)?)?)
    }

    /// The slope of the sample over sigma: the noise that the network sees in it.
    pub(super) fn derivative(&self, output: &Tensor, sample: &Tensor, sigma: f32) -> Result<Tensor> {
        divide(&(sample - self.original(output, sample, sigma)?)?, sigma)
    }

    /// The clean sample that an output stands for.
    pub(super) fn original(&self, output: &Tensor, sample: &Tensor, sigma: f32) -> Result<Tensor> {
        Ok(match self.config.prediction_type {
            PredictionType::Sample => output.clone(),
            PredictionType::Epsilon => combine(sample, 1.0, output, -sigma)?,
            PredictionType::Velocity => {
                let squared = sigma * sigma + 1.0;
                (scale(output, -sigma / squared.sqrt())? + divide(sample, squared)?)?
            }
        })
    }
}

/// The levels of timesteps 0, 1, ...
fn training_sigmas(schedule: &NoiseSchedule) -> impl DoubleEndedIterator<Item = f32> {
    schedule.alphas_cumprod.iter().map(|&alpha| ((1.0 - alpha) / alpha).sqrt())
}

/// `np.interp` over whole positions: linear between two values, constant beyond the ends.
fn interpolate(values: &[f32], position: f64) -> f32 {
    let last = values.len() - 1;
    let below = (position.max(0.0) as usize).min(last);
    let above = (below + 1).min(last);
    let (low, high) = (f64::from(values[below]), f64::from(values[above]));
    ((high - low) * (position - below as f64) + low) as f32
}
