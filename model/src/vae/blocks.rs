//! Blocks of the autoencoder (diffusers `ResnetBlock2D` without time embedding, `Attention` with one head, `UNetMidBlock2D`).
//! Every norm has epsilon 1e-6.

use crate::Result;
use crate::layers::{Conv2d, GroupNorm, Linear, Weights};
use crate::ops::{Activation, Mask};

pub(super) const EPS: f64 = 1e-6;

/// `shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))))))`.
#[derive(Debug)]
pub(super) struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
}

impl ResnetBlock {
    pub fn load(c_in: usize, c_out: usize, groups: usize, weights: Weights) -> Result<Self> {
        Ok(Self {
            norm1: GroupNorm::load(groups, c_in, EPS, weights.pp("norm1"))?,
            conv1: Conv2d::load(c_in, c_out, 3, weights.pp("conv1"))?,
            norm2: GroupNorm::load(groups, c_out, EPS, weights.pp("norm2"))?,
            conv2: Conv2d::load(c_out, c_out, 3, weights.pp("conv2"))?,
            conv_shortcut: (c_in != c_out).then(|| Conv2d::load(c_in, c_out, 1, weights.pp("conv_shortcut"))).transpose()?,
        })
    }

    /// Takes `x` by value so that nothing outlives its last use: at full resolution each tensor here is 134 MB for a 512 px image.
    pub fn forward(&self, x: Activation) -> Result<Activation> {
        let hidden = self.conv1.forward(&self.norm1.forward_silu(&x)?)?;
        let normed = self.norm2.forward_silu(&hidden)?;
        drop(hidden);
        let hidden = self.conv2.forward(&normed)?;
        drop(normed);
        let shortcut = match &self.conv_shortcut {
            Some(conv) => conv.forward(&x)?,
            None => x,
        };
        hidden.add(&shortcut)
    }
}

/// Attention of a feature map to itself with a single head.
#[derive(Debug)]
struct AttentionBlock {
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
}

impl AttentionBlock {
    /// Reads the block.
    fn load(width: usize, groups: usize, weights: Weights) -> Result<Self> {
        let linear = |name: &str| Linear::load(width, width, weights.pp(name));
        Ok(Self {
            group_norm: GroupNorm::load(groups, width, EPS, weights.pp("group_norm"))?,
            to_q: linear("to_q")?,
            to_k: linear("to_k")?,
            to_v: linear("to_v")?,
            to_out: linear("to_out.0")?,
        })
    }

    fn forward(&self, x: &Activation) -> Result<Activation> {
        let (_, _, h, w) = x.read().dims4()?;
        let tokens = self.group_norm.forward(x)?.to_tokens()?;
        let (q, k, v) = (self.to_q.forward(&tokens)?, self.to_k.forward(&tokens)?, self.to_v.forward(&tokens)?);
        let attended = self.to_out.forward(&q.attention(&k, &v, 1, Mask::None)?)?;
        attended.from_tokens(h, w)?.add(x)
    }
}

/// Residual block, attention, residual block.
#[derive(Debug)]
pub(super) struct MidBlock {
    resnet_0: ResnetBlock,
    attention: AttentionBlock,
    resnet_1: ResnetBlock,
}

impl MidBlock {
    pub fn load(width: usize, groups: usize, weights: Weights) -> Result<Self> {
        Ok(Self {
            resnet_0: ResnetBlock::load(width, width, groups, weights.pp("resnets.0"))?,
            attention: AttentionBlock::load(width, groups, weights.pp("attentions.0"))?,
            resnet_1: ResnetBlock::load(width, width, groups, weights.pp("resnets.1"))?,
        })
    }

    pub fn forward(&self, x: Activation) -> Result<Activation> {
        let hidden = self.attention.forward(&self.resnet_0.forward(x)?)?;
        self.resnet_1.forward(hidden)
    }
}
