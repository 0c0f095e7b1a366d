//! Small float32 tensor arithmetic that the schedulers share.
//!
//! diffusers holds coefficients as float32 tensors of no dimension, so here they are `f32` and products of tensors with them round
//! once, in float32. Samples of another type are computed in float32 and handed back in their own; diffusers computes most steps in
//! the sample's type.

use candle_core::{DType, Tensor};

use super::ScheduleError;
use super::config::PredictionType;
use crate::error::Result;

/// `factor * tensor`.
pub(super) fn scale(tensor: &Tensor, factor: f32) -> Result<Tensor> {
    Ok(tensor.affine(f64::from(factor), 0.0)?)
}

/// `tensor / divisor`, rounded once: at Euler's largest sigmas differences of large numbers would magnify a second rounding.
pub(super) fn divide(tensor: &Tensor, divisor: f32) -> Result<Tensor> {
    let divisor = Tensor::new(divisor, tensor.device())?.to_dtype(tensor.dtype())?;
    Ok(tensor.broadcast_div(&divisor)?)
}

/// `x * a + y * b`.
pub(super) fn combine(x: &Tensor, a: f32, y: &Tensor, b: f32) -> Result<Tensor> {
    Ok((scale(x, a)? + scale(y, b)?)?)
}

/// The network's output and the sample in float32.
pub(super) fn in_float32(model_output: &Tensor, sample: &Tensor) -> Result<(Tensor, Tensor)> {
    Ok((model_output.to_dtype(DType::F32)?, sample.to_dtype(DType::F32)?))
}

/// A training timestep as an index.
pub(super) fn whole(timestep: f64) -> Result<i64> {
    // Far below 2^53, so the conversion is exact.
    if timestep.fract() == 0.0 && (0.0..1e9).contains(&timestep) {
        return Ok(timestep as i64);
    }
    Err(ScheduleError::Fraction { found: timestep }.into())
}

/// The clean sample and the noise that an output stands for at a timestep with cumulative alpha `alpha`.
///
/// Source: J. Song, C. Meng, S. Ermon, "Denoising Diffusion Implicit Models", arXiv 2010.02502, equation 12, for epsilon.
pub(super) fn original_and_epsilon(
    prediction_type: PredictionType,
    alpha: f32,
    model_output: &Tensor,
    sample: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let (signal, spread) = (alpha.sqrt(), (1.0 - alpha).sqrt());
    Ok(match prediction_type {
        PredictionType::Epsilon if alpha == 0.0 => {
            return Err(ScheduleError::PureNoise.into());
        }
        PredictionType::Epsilon => (divide(&combine(sample, 1.0, model_output, -spread)?, signal)?, model_output.clone()),
        PredictionType::Sample => (model_output.clone(), divide(&combine(sample, 1.0, model_output, -signal)?, spread)?),
        PredictionType::Velocity => {
            (combine(sample, signal, model_output, -spread)?, combine(model_output, signal, sample, spread)?)
        }
    })
}

/// `tensor` limited to `-range..=range`, where a range is given.
pub(super) fn clip(tensor: Tensor, range: Option<f64>) -> Result<Tensor> {
    match range {
        Some(range) => Ok(tensor.clamp(-range as f32, range as f32)?),
        None => Ok(tensor),
    }
}
