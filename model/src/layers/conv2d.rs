//! A 2-D convolution with a frozen weight and an adapter slot (`torch.nn.Conv2d`, peft `lora.Conv2d`).

use std::sync::Arc;

use candle_core::Tensor;

use super::{Slot, Weights};
use crate::Result;
use crate::adapter::LayerKind;
use crate::ops::{self, Padding};

/// A square-kernel convolution with bias, any stride, zero padding per side.
#[derive(Debug)]
pub struct Conv2d {
    slot: Arc<Slot>,
    stride: usize,
    padding: Padding,
}

impl Conv2d {
    /// Reads `weight` `[c_out, c_in, kernel, kernel]` and `bias` `[c_out]` under the path of `weights`; stride 1 and the padding
    /// that keeps the size (`kernel / 2`).
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(c_in: usize, c_out: usize, kernel: usize, weights: Weights) -> Result<Self> {
        Self::load_strided(c_in, c_out, kernel, 1, Padding::same(kernel / 2), weights)
    }

    /// The same with a stride and a padding.
    ///
    /// # Errors
    /// As [`Conv2d::load`].
    pub fn load_strided(
        c_in: usize,
        c_out: usize,
        kernel: usize,
        stride: usize,
        padding: Padding,
        weights: Weights,
    ) -> Result<Self> {
        let weight = weights.weight("weight", &[c_out, c_in, kernel, kernel])?;
        let bias = weights.parameter("bias", &[c_out])?;
        let slot = weights.register(Slot::new(LayerKind::Conv2d { c_in, c_out, kernel }, weight, Some(bias)));
        Ok(Self { slot, stride, padding })
    }

    /// # Shapes
    /// `x` `[b, c_in, h, w]`; returns `[b, c_out, h', w']`.
    /// # Errors
    /// When the shapes disagree.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let weight = self.slot.weight();
        let mut y = ops::conv2d(x, &weight, self.slot.bias().as_ref(), self.stride, self.padding)?;
        for adapter in self.slot.adapters() {
            if let Some(term) = adapter.conv2d(x, &weight, self.stride, self.padding)? {
                y = ops::add(&term, y)?;
                ops::discard(&term)?;
            }
        }
        Ok(y)
    }

    /// The same where nobody needs the values of `x` afterwards; in training they are freed unless an adapter's gradients need them.
    ///
    /// # Errors
    /// As [`Conv2d::forward`].
    pub fn forward_last(&self, x: Tensor) -> Result<Tensor> {
        let y = self.forward(&x)?;
        if self.slot.adapters().is_empty() {
            ops::discard(&x)?;
        }
        Ok(y)
    }
}
