//! The UNet's residual block and its down- and upsampler (diffusers `ResnetBlock2D`, `Downsample2D`, `Upsample2D`).

use crate::Result;
use crate::layers::{Conv2d, GroupNorm, Linear, Weights};
use crate::ops::{Activation, Padding};
use crate::taps::{LayerId, Position, Stop, Taps};

/// `shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))) + time_emb_proj(temb))))`.
#[derive(Debug)]
pub struct ResnetBlock2D {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
}

/// What all residual blocks of a network share.
#[derive(Clone, Copy, Debug)]
pub struct ResnetSizes {
    /// Groups of the norms.
    pub groups: usize,
    /// Epsilon of the norms.
    pub eps: f64,
    /// Width of the time embedding.
    pub time_embedding: usize,
}

impl ResnetBlock2D {
    /// Reads the block; a block that changes the width has a 1x1 `conv_shortcut`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(c_in: usize, c_out: usize, sizes: ResnetSizes, weights: Weights) -> Result<Self> {
        let conv_shortcut = (c_in != c_out).then(|| Conv2d::load(c_in, c_out, 1, weights.pp("conv_shortcut"))).transpose()?;
        Ok(Self {
            norm1: GroupNorm::load(sizes.groups, c_in, sizes.eps, weights.pp("norm1"))?,
            conv1: Conv2d::load(c_in, c_out, 3, weights.pp("conv1"))?,
            time_emb_proj: Linear::load(sizes.time_embedding, c_out, weights.pp("time_emb_proj"))?,
            norm2: GroupNorm::load(sizes.groups, c_out, sizes.eps, weights.pp("norm2"))?,
            conv2: Conv2d::load(c_out, c_out, 3, weights.pp("conv2"))?,
            conv_shortcut,
        })
    }

    /// # Shapes
    /// `x` `[b, c_in, h, w]`, `temb` `[b or 1, time embedding]` after SiLU; returns `[b, c_out, h, w]`.
    /// # Errors
    /// When a tensor operation fails; [`Stop::Complete`] when the taps need nothing further.
    pub(super) fn forward(
        &self,
        x: &Activation,
        temb: &Activation,
        position: Position,
        taps: &mut Taps,
    ) -> Result<Activation, Stop> {
        let hidden = self.conv1.forward(&self.norm1.forward_silu(x)?)?;
        let hidden = hidden.add_channels(&self.time_emb_proj.forward(temb)?)?;
        let increment = self.conv2.forward(&self.norm2.forward_silu(&hidden)?)?;
        taps.keep(LayerId::ResIncrement(position), &increment)?;
        let out = match &self.conv_shortcut {
            Some(shortcut) => shortcut.forward(x)?.add(&increment)?,
            None => increment.add(x)?,
        };
        taps.keep(LayerId::ResOut(position), &out)?;
        Ok(out)
    }
}

/// A strided 3x3 convolution, padded by 1 on all sides.
#[derive(Debug)]
pub struct Downsample2D {
    conv: Conv2d,
}

impl Downsample2D {
    /// Reads `conv`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(channels: usize, weights: Weights) -> Result<Self> {
        Ok(Self { conv: Conv2d::load_strided(channels, channels, 3, 2, Padding::same(1), weights.pp("conv"))? })
    }

    /// # Shapes
    /// `x` `[b, c, h, w]`; returns `[b, c, ceil(h / 2), ceil(w / 2)]`.
    /// # Errors
    /// When a tensor operation fails.
    pub fn forward(&self, x: &Activation) -> Result<Activation> {
        self.conv.forward(x)
    }
}

/// Nearest-neighbor enlargement, then a 3x3 convolution.
#[derive(Debug)]
pub struct Upsample2D {
    conv: Conv2d,
}

impl Upsample2D {
    /// Reads `conv`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(channels: usize, weights: Weights) -> Result<Self> {
        Ok(Self { conv: Conv2d::load(channels, channels, 3, weights.pp("conv"))? })
    }

    /// Enlarges to `height` x `width`: twice the input, or one less where the skip connection's size is odd.
    ///
    /// # Shapes
    /// `x` `[b, c, h, w]`; returns `[b, c, height, width]`.
    /// # Errors
    /// When a tensor operation fails.
    pub fn forward(&self, x: &Activation, height: usize, width: usize) -> Result<Activation> {
        self.conv.forward(&x.upsample_nearest(height, width)?)
    }
}
