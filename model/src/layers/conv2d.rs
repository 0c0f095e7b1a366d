//! A 2-D convolution with a frozen weight and an adapter slot (`torch.nn.Conv2d`, peft `lora.Conv2d`).

use std::sync::Arc;

use super::{Slot, Weights};
use crate::Result;
use crate::adapter::LayerShape;
use crate::ops::{Activation, Padding};

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
        let slot = weights.register(Slot::new(LayerShape::Conv2d { c_in, c_out, kernel }, weight, Some(bias)));
        Ok(Self { slot, stride, padding })
    }

    /// # Shapes
    /// `x` `[b, c_in, h, w]`; returns `[b, c_out, h', w']`.
    /// # Errors
    /// When the shapes disagree.
    pub fn forward(&self, x: &Activation) -> Result<Activation> {
        let weight = self.slot.weight();
        let mut y = x.conv2d(&weight, self.slot.bias().as_ref(), self.stride, self.padding)?;
        for adapter in self.slot.adapters() {
            if let Some(term) = adapter.conv2d(x.saved(), &weight, self.stride, self.padding)? {
                y = y.add(&Activation::new(term))?;
            }
        }
        Ok(y)
    }
}
