//! Forward diffusion: how much of a clean sample and of noise a timestep holds.
//!
//! Source: J. Ho, A. Jain, P. Abbeel, "Denoising Diffusion Probabilistic Models", arXiv 2006.11239, equation 4; diffusers 0.32.2
//! `DDPMScheduler.add_noise` and `get_velocity`.

use candle_core::Tensor;

use super::ScheduleError;
use super::betas;
use super::config::SchedulerConfig;
use crate::error::Result;

/// The cumulative alphas `a(t)` of all training timesteps, and what follows from them.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseSchedule {
    /// `a(t)` per training timestep `t`, counted from 0 (almost clean): the share of the sample's variance that is left.
    pub alphas_cumprod: Vec<f32>,
}

impl NoiseSchedule {
    /// The noise that `config` describes.
    pub fn new(config: &SchedulerConfig) -> Self {
        Self { alphas_cumprod: betas::cumulative_alphas(&betas::betas(config)) }
    }

    /// The schedule of the given betas, stretched so that the last timestep is pure noise (arXiv 2305.08891, algorithm 1; diffusers'
    /// `rescale_zero_terminal_snr`).
    pub fn with_zero_terminal_snr(config: &SchedulerConfig) -> Self {
        let betas = betas::betas(config);
        // Stretching twice would divide by zero signal.
        let betas = if config.rescale_betas_zero_snr { betas } else { betas::rescale_zero_terminal_snr(&betas) };
        Self { alphas_cumprod: betas::cumulative_alphas(&betas) }
    }

    /// `a(t)`.
    ///
    /// # Errors
    /// [`ScheduleError::BeyondTraining`] when `timestep` is not a training timestep.
    pub fn alpha(&self, timestep: usize) -> Result<f32> {
        let last = self.alphas_cumprod.len() - 1;
        Ok(self.alphas_cumprod.get(timestep).copied().ok_or(ScheduleError::BeyondTraining { last, found: timestep })?)
    }

    /// `a / (1 - a)` at `timestep`: the signal-to-noise ratio, taken through both square roots as kohya's trainer does.
    ///
    /// # Errors
    /// [`ScheduleError::BeyondTraining`] when `timestep` is not a training timestep.
    pub fn snr(&self, timestep: usize) -> Result<f32> {
        let alpha = self.alpha(timestep)?;
        let ratio = alpha.sqrt() / (1.0 - alpha).sqrt();
        Ok(ratio * ratio)
    }

    /// `sqrt(a) * original + sqrt(1 - a) * noise`.
    ///
    /// `a` is brought to the tensors' type before the square roots are taken, as in diffusers.
    ///
    /// # Shapes
    /// `original` and `noise` `[b, ...]`, one timestep per sample or one for all; returns `[b, ...]`.
    ///
    /// # Errors
    /// [`ScheduleError`] when a timestep is not a training timestep or their number fits neither; [`crate::Error::Tensors`] when the
    /// tensors differ in shape, type or device.
    pub fn add_noise(&self, original: &Tensor, noise: &Tensor, timesteps: &[usize]) -> Result<Tensor> {
        let (signal, spread) = self.roots(original, timesteps)?;
        Ok((original.broadcast_mul(&signal)? + noise.broadcast_mul(&spread)?)?)
    }

    /// `sqrt(a) * noise - sqrt(1 - a) * sample`: what a network with v-prediction is trained to give (arXiv 2202.00512).
    ///
    /// # Shapes
    /// As in [`NoiseSchedule::add_noise`]; `sample` is the clean one.
    ///
    /// # Errors
    /// As in [`NoiseSchedule::add_noise`].
    pub fn velocity(&self, sample: &Tensor, noise: &Tensor, timesteps: &[usize]) -> Result<Tensor> {
        let (signal, spread) = self.roots(sample, timesteps)?;
        Ok((noise.broadcast_mul(&signal)? - sample.broadcast_mul(&spread)?)?)
    }

    /// `sqrt(a)` and `sqrt(1 - a)` per sample, `[b or 1, 1, ...]`, of the type and on the device of `like`.
    fn roots(&self, like: &Tensor, timesteps: &[usize]) -> Result<(Tensor, Tensor)> {
        let samples = like.dims().first().copied().unwrap_or(1);
        if timesteps.len() != samples && timesteps.len() != 1 {
            return Err(ScheduleError::TimestepCount { samples, found: timesteps.len() }.into());
        }
        let alphas = timesteps.iter().map(|&timestep| self.alpha(timestep)).collect::<Result<Vec<_>>>()?;
        let mut shape = vec![1; like.rank()];
        if let Some(first) = shape.first_mut() {
            *first = alphas.len();
        }
        let alphas = Tensor::from_vec(alphas, shape, like.device())?.to_dtype(like.dtype())?;
        Ok((alphas.sqrt()?, alphas.affine(-1.0, 1.0)?.sqrt()?))
    }
}
