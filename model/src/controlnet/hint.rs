//! The condition image's way in (diffusers `ControlNetConditioningEmbedding`): 3x3 convolutions with SiLU, every second of them
//! after the first halving the size.

use candle_core::Tensor;

use super::ControlNetConfig;
use crate::Result;
use crate::layers::{Conv2d, Weights};
use crate::ops::{Activation, Padding};

/// Image in 0..1 to a map of the latents' size.
#[derive(Debug)]
pub(super) struct ConditioningEmbedding {
    conv_in: Conv2d,
    blocks: Vec<Conv2d>,
    conv_out: Conv2d,
}

impl ConditioningEmbedding {
    pub fn load(config: &ControlNetConfig, weights: Weights) -> Result<Self> {
        let widths = &config.conditioning_embedding_out_channels;
        let mut blocks = Vec::new();
        for (i, pair) in widths.windows(2).enumerate() {
            let at = |block: usize| weights.pp("blocks").pp(block);
            blocks.push(Conv2d::load(pair[0], pair[0], 3, at(2 * i))?);
            blocks.push(Conv2d::load_strided(pair[0], pair[1], 3, 2, Padding::same(1), at(2 * i + 1))?);
        }
        Ok(Self {
            conv_in: Conv2d::load(config.conditioning_channels, widths[0], 3, weights.pp("conv_in"))?,
            blocks,
            conv_out: Conv2d::load(widths[widths.len() - 1], config.unet.block_out_channels[0], 3, weights.pp("conv_out"))?,
        })
    }

    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let mut hidden = self.conv_in.forward(&Activation::shared(images.clone()))?.silu()?;
        for block in &self.blocks {
            hidden = block.forward(&hidden)?.silu()?;
        }
        self.conv_out.forward(&hidden).map(Activation::into_tensor)
    }
}
