//! The autoencoder's way out (diffusers `Decoder`, `UpDecoderBlock2D`).

use super::VaeConfig;
use super::blocks::{EPS, MidBlock, ResnetBlock};
use crate::Result;
use crate::layers::{Conv2d, GroupNorm, Weights};
use crate::ops::Activation;

/// Residual blocks of one level, and the convolution behind the enlargement.
#[derive(Debug)]
struct UpBlock {
    resnets: Vec<ResnetBlock>,
    upsampler: Option<Conv2d>,
}

/// Latents to image.
#[derive(Debug)]
pub(super) struct Decoder {
    conv_in: Conv2d,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Decoder {
    pub fn load(config: &VaeConfig, weights: Weights) -> Result<Self> {
        let groups = config.norm_num_groups;
        let widths: Vec<usize> = config.block_out_channels.iter().rev().copied().collect();
        let mut c_in = widths[0];
        let mid_block = MidBlock::load(c_in, groups, weights.pp("mid_block"))?;
        let mut up_blocks = Vec::new();
        for (level, &width) in widths.iter().enumerate() {
            let block = weights.pp("up_blocks").pp(level);
            let mut resnets = Vec::new();
            for repeat in 0..=config.layers_per_block {
                resnets.push(ResnetBlock::load(c_in, width, groups, block.pp("resnets").pp(repeat))?);
                c_in = width;
            }
            let last = level + 1 == widths.len();
            let upsampler = (!last).then(|| Conv2d::load(width, width, 3, block.pp("upsamplers.0.conv"))).transpose()?;
            up_blocks.push(UpBlock { resnets, upsampler });
        }
        Ok(Self {
            conv_in: Conv2d::load(config.latent_channels, widths[0], 3, weights.pp("conv_in"))?,
            mid_block,
            up_blocks,
            conv_norm_out: GroupNorm::load(groups, c_in, EPS, weights.pp("conv_norm_out"))?,
            conv_out: Conv2d::load(c_in, config.out_channels, 3, weights.pp("conv_out"))?,
        })
    }

    pub fn forward(&self, latents: Activation) -> Result<Activation> {
        let mut hidden = self.mid_block.forward(self.conv_in.forward(&latents)?)?;
        for block in &self.up_blocks {
            for resnet in &block.resnets {
                hidden = resnet.forward(hidden)?;
            }
            if let Some(upsampler) = &block.upsampler {
                let (_, _, height, width) = hidden.read().dims4()?;
                hidden = upsampler.forward(&hidden.upsample_nearest(2 * height, 2 * width)?)?;
            }
        }
        self.conv_out.forward(&self.conv_norm_out.forward_silu(&hidden)?)
    }
}
