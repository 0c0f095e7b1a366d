//! The autoencoder's way in (diffusers `Encoder`, `DownEncoderBlock2D`).

use super::VaeConfig;
use super::blocks::{EPS, MidBlock, ResnetBlock};
use crate::Result;
use crate::layers::{Conv2d, GroupNorm, Weights};
use crate::ops::{Activation, Padding};

/// Residual blocks of one level, and the strided convolution behind them.
#[derive(Debug)]
struct DownBlock {
    resnets: Vec<ResnetBlock>,
    downsampler: Option<Conv2d>,
}

/// Image to moments.
#[derive(Debug)]
pub(super) struct Encoder {
    conv_in: Conv2d,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Encoder {
    pub fn load(config: &VaeConfig, weights: Weights) -> Result<Self> {
        let (groups, widths) = (config.norm_num_groups, &config.block_out_channels);
        let mut c_in = widths[0];
        let mut down_blocks = Vec::new();
        for (level, &width) in widths.iter().enumerate() {
            let block = weights.pp("down_blocks").pp(level);
            let mut resnets = Vec::new();
            for repeat in 0..config.layers_per_block {
                resnets.push(ResnetBlock::load(c_in, width, groups, block.pp("resnets").pp(repeat))?);
                c_in = width;
            }
            // Padded on the right and at the bottom only, unlike the UNet's.
            let padding = Padding { top: 0, bottom: 1, left: 0, right: 1 };
            let last = level + 1 == widths.len();
            let downsampler = (!last)
                .then(|| Conv2d::load_strided(width, width, 3, 2, padding, block.pp("downsamplers.0.conv")))
                .transpose()?;
            down_blocks.push(DownBlock { resnets, downsampler });
        }
        Ok(Self {
            conv_in: Conv2d::load(config.in_channels, widths[0], 3, weights.pp("conv_in"))?,
            down_blocks,
            mid_block: MidBlock::load(c_in, groups, weights.pp("mid_block"))?,
            conv_norm_out: GroupNorm::load(groups, c_in, EPS, weights.pp("conv_norm_out"))?,
            conv_out: Conv2d::load(c_in, 2 * config.latent_channels, 3, weights.pp("conv_out"))?,
        })
    }

    pub fn forward(&self, x: &Activation) -> Result<Activation> {
        let mut hidden = self.conv_in.forward(x)?;
        for block in &self.down_blocks {
            for resnet in &block.resnets {
                hidden = resnet.forward(hidden)?;
            }
            if let Some(downsampler) = &block.downsampler {
                hidden = downsampler.forward(&hidden)?;
            }
        }
        let hidden = self.mid_block.forward(hidden)?;
        self.conv_out.forward(&self.conv_norm_out.forward_silu(&hidden)?)
    }
}
