//! The timestep's embedding (diffusers `Timesteps` and `TimestepEmbedding`).

use candle_core::{DType, Device, Tensor};

use crate::Result;
use crate::layers::{Linear, Weights};
use crate::ops::Activation;

/// Sinusoidal features of timesteps: the cosine half first, then the sine half, frequencies `exp(-ln(10000) i / half)`.
///
/// # Shapes
/// `timesteps` `b` numbers; returns `[b, width]` float32.
/// # Errors
/// When the device has no memory.
pub fn timestep_features(timesteps: &[f64], width: usize, device: &Device) -> Result<Tensor> {
    let half = width / 2;
    let mut features = Vec::with_capacity(timesteps.len() * width);
    for &timestep in timesteps {
        let angle = |i: usize| {
            // In float32 as the reference computes it: the exponent, then the frequency, then the product are each rounded.
            let exponent = -(10000f64.ln() as f32) * i as f32 / half as f32;
            timestep as f32 * exponent.exp()
        };
        features.extend((0..half).map(|i| angle(i).cos()));
        features.extend((0..half).map(|i| angle(i).sin()));
    }
    Ok(Tensor::from_vec(features, (timesteps.len(), width), device)?)
}

/// [`timestep_features`] of a timestep that gradients flow to.
///
/// # Shapes
/// `timestep` one float32 number; returns `[1, width]`.
/// # Errors
/// When it is not one number, or a tensor operation fails.
pub fn tracked_timestep_features(timestep: &Tensor, width: usize) -> Result<Tensor> {
    let half = width / 2;
    let frequency = |i: usize| (-(10000f64.ln() as f32) * i as f32 / half as f32).exp();
    let frequencies = Tensor::from_iter((0..half).map(frequency), timestep.device())?.unsqueeze(0)?;
    let angles = frequencies.broadcast_mul(&timestep.reshape((1, 1))?)?;
    Ok(Tensor::cat(&[angles.cos()?, angles.sin()?], 1)?)
}

/// `linear_2(silu(linear_1(features)))`.
#[derive(Debug)]
pub struct TimestepEmbedding {
    linear_1: Linear,
    linear_2: Linear,
    features: usize,
    dtype: DType,
}

impl TimestepEmbedding {
    /// Reads `linear_1` and `linear_2`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(features: usize, width: usize, weights: Weights) -> Result<Self> {
        Ok(Self {
            linear_1: Linear::load(features, width, weights.pp("linear_1"))?,
            linear_2: Linear::load(width, width, weights.pp("linear_2"))?,
            features,
            dtype: weights.compute_dtype(),
        })
    }

    /// The embedding with the SiLU that every residual block applies to it already taken.
    ///
    /// # Shapes
    /// `timesteps` `b` numbers; returns `[b, width]`.
    /// # Errors
    /// When a tensor operation fails.
    pub fn forward_silu(&self, timesteps: &[f64], device: &Device) -> Result<Activation> {
        self.of_features(&timestep_features(timesteps, self.features, device)?)
    }

    /// The same of features.
    ///
    /// # Shapes
    /// `features` `[b, features]`; returns `[b, width]`.
    /// # Errors
    /// When a tensor operation fails.
    pub fn of_features(&self, features: &Tensor) -> Result<Activation> {
        let features = features.to_dtype(self.dtype)?;
        let hidden = self.linear_1.forward(&Activation::shared(features))?.silu()?;
        self.linear_2.forward(&hidden)?.silu()
    }
}
