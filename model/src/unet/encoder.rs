//! The half that a UNet and a ControlNet share: time embedding, first convolution, down path and middle.

use candle_core::{DType, Tensor};

use super::UnetConfig;
use super::blocks::{BlockSizes, DownBlock, MidBlock, Pass};
use super::embeddings::TimestepEmbedding;
use crate::Result;
use crate::error::InputError;
use crate::layers::{Conv2d, Weights};
use crate::ops::Activation;
use crate::taps::{LayerId, Stop};

/// `time_embedding`, `conv_in`, `down_blocks` and `mid_block`.
#[derive(Debug)]
pub(crate) struct UnetEncoder {
    time_embedding: TimestepEmbedding,
    conv_in: Conv2d,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    in_channels: usize,
    context_width: usize,
}

impl UnetEncoder {
    pub fn load(config: &UnetConfig, weights: &Weights) -> Result<Self> {
        if config.upcast_attention() && weights.compute_dtype() == DType::F16 {
            return Err(InputError::UpcastAttention.into());
        }
        let sizes = BlockSizes::new(config);
        let width = config.block_out_channels[0];
        let levels = config.block_out_channels.len();
        let time_embedding = TimestepEmbedding::load(width, config.time_embedding_width(), weights.pp("time_embedding"))?;
        let down_blocks = (0..levels).map(|level| DownBlock::load(level, sizes, weights.pp("down_blocks").pp(level)));
        Ok(Self {
            time_embedding,
            conv_in: Conv2d::load(config.in_channels, width, 3, weights.pp("conv_in"))?,
            down_blocks: down_blocks.collect::<Result<_>>()?,
            mid_block: MidBlock::load(sizes, weights.pp("mid_block"))?,
            in_channels: config.in_channels,
            context_width: config.cross_attention_dim,
        })
    }

    /// The time embedding after SiLU, `[b or 1, width]`.
    pub fn time_embedding(&self, timesteps: &[f64], sample: &Tensor) -> Result<Activation> {
        let batch = sample.dim(0)?;
        if timesteps.len() != 1 && timesteps.len() != batch {
            return Err(InputError::Timesteps { batch, found: timesteps.len() }.into());
        }
        self.time_embedding.forward_silu(timesteps, sample.device())
    }

    /// The same of features of one timestep, which gradients flow to, `[1, width]`.
    pub fn time_embedding_of(&self, features: &Tensor) -> Result<Activation> {
        self.time_embedding.of_features(features)
    }

    /// The first convolution, `[b, width, h, w]`.
    pub fn conv_in(&self, sample: &Tensor) -> Result<Activation> {
        let (_, channels, _, _) = sample.dims4()?;
        if channels != self.in_channels {
            return Err(InputError::LatentChannels { expected: self.in_channels, found: channels }.into());
        }
        self.conv_in.forward(&Activation::shared(sample.clone()))
    }

    /// Down path and middle from the first convolution's output. Returns the middle's output and every skip connection.
    pub fn forward(&self, x: Activation, pass: &mut Pass) -> Result<(Activation, Vec<Tensor>), Stop> {
        let (_, _, text_width) = pass.context.states().dims3()?;
        if text_width != self.context_width {
            return Err(InputError::TextWidth { expected: self.context_width, found: text_width }.into());
        }
        pass.taps.keep(LayerId::UnetAfterConvIn, &x)?;
        let mut skips = vec![x.keep()];
        let mut hidden = x;
        for down_block in &self.down_blocks {
            hidden = down_block.forward(hidden, &mut skips, pass)?;
        }
        Ok((self.mid_block.forward(&hidden, pass)?, skips))
    }
}
