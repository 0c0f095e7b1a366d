//! Group and layer normalization with frozen scale and shift and a slot for changes of them (`torch.nn.GroupNorm`,
//! `torch.nn.LayerNorm`).

use std::sync::Arc;

use super::{Slot, Weights};
use crate::Result;
use crate::adapter::LayerShape;
use crate::ops::Activation;

/// Group normalization, optionally followed by SiLU in the same pass.
#[derive(Debug)]
pub struct GroupNorm {
    slot: Arc<Slot>,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// Reads `weight` and `bias` `[channels]`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(groups: usize, channels: usize, eps: f64, weights: Weights) -> Result<Self> {
        Ok(Self { slot: slot(channels, weights)?, groups, eps })
    }

    /// # Shapes
    /// `x` `[b, c, h, w]`; returns the same.
    /// # Errors
    /// When the channel count disagrees.
    pub fn forward(&self, x: &Activation) -> Result<Activation> {
        self.run(x, false)
    }

    /// SiLU of [`GroupNorm::forward`], in one pass.
    ///
    /// # Errors
    /// As [`GroupNorm::forward`].
    pub fn forward_silu(&self, x: &Activation) -> Result<Activation> {
        self.run(x, true)
    }

    fn run(&self, x: &Activation, silu: bool) -> Result<Activation> {
        let (weight, bias) = self.slot.changed()?;
        x.group_norm(&weight, &bias, self.groups, self.eps, silu)
    }
}

/// Layer normalization over the last axis.
#[derive(Debug)]
pub struct LayerNorm {
    slot: Arc<Slot>,
    eps: f64,
}

impl LayerNorm {
    /// Reads `weight` and `bias` `[features]`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(features: usize, eps: f64, weights: Weights) -> Result<Self> {
        Ok(Self { slot: slot(features, weights)?, eps })
    }

    /// # Shapes
    /// `x` `[.., features]`; returns the same.
    /// # Errors
    /// When the feature count disagrees.
    pub fn forward(&self, x: &Activation) -> Result<Activation> {
        let (weight, bias) = self.slot.changed()?;
        x.layer_norm(&weight, &bias, self.eps)
    }
}

/// The slot of a norm's `weight` and `bias` `[channels]`.
fn slot(channels: usize, weights: Weights) -> Result<Arc<Slot>> {
    let (weight, bias) = (weights.parameter("weight", &[channels])?, weights.parameter("bias", &[channels])?);
    Ok(weights.register(Slot::new(LayerShape::Norm { channels }, weight, Some(bias))))
}
