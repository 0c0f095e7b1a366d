//! A linear layer with a frozen weight and an adapter slot (`torch.nn.Linear`, peft `lora.Linear`).

use std::sync::Arc;

use candle_core::Tensor;

use super::{Slot, Weights};
use crate::Result;
use crate::adapter::LayerShape;
use crate::ops::{Activation, Before, LowRank};

/// `y = x W^T + b + adapters(x)`.
#[derive(Debug)]
pub struct Linear {
    slot: Arc<Slot>,
}

impl Linear {
    /// Reads `weight` `[c_out, c_in]` and `bias` `[c_out]` under the path of `weights`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(c_in: usize, c_out: usize, weights: Weights) -> Result<Self> {
        let bias = Some(weights.parameter("bias", &[c_out])?);
        Self::with_bias(c_in, c_out, bias, weights)
    }

    /// The same without a bias.
    ///
    /// # Errors
    /// As [`Linear::load`].
    pub fn load_no_bias(c_in: usize, c_out: usize, weights: Weights) -> Result<Self> {
        Self::with_bias(c_in, c_out, None, weights)
    }

    fn with_bias(c_in: usize, c_out: usize, bias: Option<Tensor>, weights: Weights) -> Result<Self> {
        let weight = weights.weight("weight", &[c_out, c_in])?;
        let slot = weights.register(Slot::new(LayerShape::Linear { c_in, c_out }, weight, bias));
        Ok(Self { slot })
    }

    /// # Shapes
    /// `x` `[.., c_in]`; returns `[.., c_out]`.
    /// # Errors
    /// When the shapes disagree.
    pub fn forward(&self, x: &Activation) -> Result<Activation> {
        self.run(x, Before::Nothing)
    }

    /// The layer after GEGLU. In training with a plain LoRA, GEGLU's output is not kept for the backward pass.
    ///
    /// # Shapes
    /// `x` `[.., 2 c_in]`; returns `[.., c_out]`.
    /// # Errors
    /// When the shapes disagree.
    pub fn forward_geglu(&self, x: &Activation) -> Result<Activation> {
        self.run(x, Before::Geglu)
    }

    fn run(&self, x: &Activation, before: Before) -> Result<Activation> {
        let (weight, bias, adapters) = (self.slot.weight(), self.slot.bias(), self.slot.adapters());
        if let [adapter] = adapters.as_slice()
            && let Some((down, up, scale)) = adapter.as_plain_term(x.read())
        {
            return x.linear_low_rank(before, &weight, bias.as_ref(), LowRank { down, up, scale });
        }
        let gated;
        let x = match before {
            Before::Nothing => x,
            Before::Geglu => {
                gated = x.geglu()?;
                &gated
            }
        };
        let mut y = x.linear(&weight, bias.as_ref())?;
        for adapter in adapters {
            if let Some(term) = adapter.linear(x.saved(), &weight)? {
                y = y.add(&Activation::new(term))?;
            }
        }
        Ok(y)
    }
}
