//! Group and layer normalization with frozen scale and shift (`torch.nn.GroupNorm`, `torch.nn.LayerNorm`).

use candle_core::Tensor;

use super::Weights;
use crate::Result;
use crate::ops::Activation;

/// Group normalization, optionally followed by SiLU in the same pass.
#[derive(Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// Reads `weight` and `bias` `[channels]`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(groups: usize, channels: usize, eps: f64, weights: Weights) -> Result<Self> {
        let weight = weights.parameter("weight", &[channels])?;
        let bias = weights.parameter("bias", &[channels])?;
        Ok(Self { weight, bias, groups, eps })
    }

    /// # Shapes
    /// `x` `[b, c, h, w]`; returns the same.
    /// # Errors
    /// When the channel count disagrees.
    pub fn forward(&self, x: &Activation) -> Result<Activation> {
        x.group_norm(&self.weight, &self.bias, self.groups, self.eps, false)
    }

    /// SiLU of [`GroupNorm::forward`], in one pass.
    ///
    /// # Errors
    /// As [`GroupNorm::forward`].
    pub fn forward_silu(&self, x: &Activation) -> Result<Activation> {
        x.group_norm(&self.weight, &self.bias, self.groups, self.eps, true)
    }
}

/// Layer normalization over the last axis.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Reads `weight` and `bias` `[features]`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(features: usize, eps: f64, weights: Weights) -> Result<Self> {
        let weight = weights.parameter("weight", &[features])?;
        let bias = weights.parameter("bias", &[features])?;
        Ok(Self { weight, bias, eps })
    }

    /// # Shapes
    /// `x` `[.., features]`; returns the same.
    /// # Errors
    /// When the feature count disagrees.
    pub fn forward(&self, x: &Activation) -> Result<Activation> {
        x.layer_norm(&self.weight, &self.bias, self.eps)
    }
}
