//! The levels of the UNet (diffusers `CrossAttnDownBlock2D`, `DownBlock2D`, `UNetMidBlock2DCrossAttn`, `UpBlock2D`,
//! `CrossAttnUpBlock2D`): repeats of a residual block with or without a transformer behind it.

use std::sync::Arc;

use candle_core::Tensor;

use super::UnetConfig;
use super::context::TextContext;
use super::resnet::{Downsample2D, ResnetBlock2D, ResnetSizes, Upsample2D};
use super::transformer::Transformer2DModel;
use crate::Result;
use crate::error::InputError;
use crate::layers::Weights;
use crate::ops::{self, Activation, GradientSink};
use crate::taps::{LayerId, Position, Stop, TapPlan, Taps};

/// What a pass carries through every block.
pub(crate) struct Pass<'a, 'plan> {
    /// The time embedding after SiLU, `[b or 1, time embedding]`.
    pub temb: Activation,
    pub context: &'a TextContext,
    pub taps: &'a mut Taps<'plan>,
    /// Set in training with gradient checkpointing: repeats are recomputed in the backward pass.
    pub checkpointing: Option<&'a GradientSink>,
}

/// A residual block and the transformer behind it: the unit that taps, skip connections and gradient checkpointing work on.
#[derive(Debug)]
pub(super) struct Repeat {
    resnet: ResnetBlock2D,
    attention: Option<Transformer2DModel>,
    position: Position,
}

impl Repeat {
    fn forward(&self, x: &Activation, temb: &Activation, context: &TextContext, taps: &mut Taps) -> Result<Activation, Stop> {
        let hidden = self.resnet.forward(x, temb, self.position, taps)?;
        match &self.attention {
            Some(attention) => attention.forward(&hidden, context, self.position, taps),
            None => Ok(hidden),
        }
    }

    /// Runs the repeat in a pass; with checkpointing its activations are dropped and made again in the backward pass.
    fn run(self: &Arc<Self>, x: &Activation, pass: &mut Pass) -> Result<Activation, Stop> {
        let Some(sink) = pass.checkpointing else { return self.forward(x, &pass.temb, pass.context, pass.taps) };
        let repeat = self.clone();
        let block = move |[x, temb, states]: [&Tensor; 3]| {
            let context = TextContext::uncached(states.clone());
            let [x, temb] = [x, temb].map(|input| Activation::shared(input.clone()));
            let out = repeat.forward(&x, &temb, &context, &mut TapPlan::nothing().taps()).map_err(Stop::into_error)?;
            Ok(out.into_tensor())
        };
        // The inputs are read when the block is computed again, the result is not.
        let out = ops::checkpoint(sink, [x.saved(), pass.temb.saved(), pass.context.states()], block)?;
        Ok(Activation::new(out))
    }
}

/// What the blocks of a network have in common.
#[derive(Clone, Copy)]
pub(super) struct BlockSizes<'a> {
    pub config: &'a UnetConfig,
    pub resnet: ResnetSizes,
}

impl<'a> BlockSizes<'a> {
    pub fn new(config: &'a UnetConfig) -> Self {
        let resnet =
            ResnetSizes { groups: config.norm_num_groups, eps: config.norm_eps, time_embedding: config.time_embedding_width() };
        Self { config, resnet }
    }

    fn transformer(&self, width: usize, heads: usize, blocks: usize, weights: Weights) -> Result<Option<Transformer2DModel>> {
        (blocks > 0).then(|| Transformer2DModel::load(self.config, width, heads, blocks, weights)).transpose()
    }
}

/// One level of the down path.
#[derive(Debug)]
pub(super) struct DownBlock {
    repeats: Vec<Arc<Repeat>>,
    downsampler: Option<Downsample2D>,
    level: usize,
}

impl DownBlock {
    pub fn load(level: usize, sizes: BlockSizes, weights: Weights) -> Result<Self> {
        let config = sizes.config;
        let width = config.block_out_channels[level];
        let mut c_in = if level == 0 { width } else { config.block_out_channels[level - 1] };
        let mut repeats = Vec::new();
        for repeat in 0..config.layers_per_block {
            let blocks = config.down_transformer_blocks(level);
            repeats.push(Arc::new(Repeat {
                resnet: ResnetBlock2D::load(c_in, width, sizes.resnet, weights.pp("resnets").pp(repeat))?,
                attention: sizes.transformer(width, config.heads(level), blocks, weights.pp("attentions").pp(repeat))?,
                position: Position::Down { level, repeat },
            }));
            c_in = width;
        }
        let last = level + 1 == config.block_out_channels.len();
        let downsampler = (!last).then(|| Downsample2D::load(width, weights.pp("downsamplers.0"))).transpose()?;
        Ok(Self { repeats, downsampler, level })
    }

    /// Pushes every output onto `skips`; returns the last.
    pub fn forward(&self, x: Activation, skips: &mut Vec<Tensor>, pass: &mut Pass) -> Result<Activation, Stop> {
        let mut hidden = x;
        for repeat in &self.repeats {
            hidden = repeat.run(&hidden, pass)?;
            skips.push(hidden.keep());
        }
        if let Some(downsampler) = &self.downsampler {
            hidden = downsampler.forward(&hidden)?;
            pass.taps.keep(LayerId::DownsamplerOut(self.level), &hidden)?;
            skips.push(hidden.keep());
        }
        Ok(hidden)
    }
}

/// The middle: a residual block with a transformer, and a residual block.
#[derive(Debug)]
pub(super) struct MidBlock {
    first: Arc<Repeat>,
    second: Arc<Repeat>,
}

impl MidBlock {
    pub fn load(sizes: BlockSizes, weights: Weights) -> Result<Self> {
        let config = sizes.config;
        let level = config.block_out_channels.len() - 1;
        let width = config.block_out_channels[level];
        let resnet = |repeat: usize| ResnetBlock2D::load(width, width, sizes.resnet, weights.pp("resnets").pp(repeat));
        let attention =
            sizes.transformer(width, config.heads(level), config.mid_transformer_blocks(), weights.pp("attentions.0"))?;
        Ok(Self {
            first: Arc::new(Repeat { resnet: resnet(0)?, attention, position: Position::Mid { repeat: 0 } }),
            second: Arc::new(Repeat { resnet: resnet(1)?, attention: None, position: Position::Mid { repeat: 1 } }),
        })
    }

    pub fn forward(&self, x: &Activation, pass: &mut Pass) -> Result<Activation, Stop> {
        let hidden = self.first.run(x, pass)?;
        self.second.run(&hidden, pass)
    }
}

/// One level of the up path: each repeat takes one skip connection.
#[derive(Debug)]
pub(super) struct UpBlock {
    repeats: Vec<Arc<Repeat>>,
    upsampler: Option<Upsample2D>,
    level: usize,
}

impl UpBlock {
    pub fn load(level: usize, sizes: BlockSizes, weights: Weights) -> Result<Self> {
        let config = sizes.config;
        let widths: Vec<usize> = config.block_out_channels.iter().rev().copied().collect();
        let last = level + 1 == widths.len();
        let width = widths[level];
        let heads = config.heads(widths.len() - 1 - level);
        let skip_in = widths[(level + 1).min(widths.len() - 1)];
        let mut repeats = Vec::new();
        for repeat in 0..=config.layers_per_block {
            let hidden = if repeat == 0 { widths[level.saturating_sub(1)] } else { width };
            let skip = if repeat == config.layers_per_block { skip_in } else { width };
            let blocks = config.up_transformer_blocks(level);
            repeats.push(Arc::new(Repeat {
                resnet: ResnetBlock2D::load(hidden + skip, width, sizes.resnet, weights.pp("resnets").pp(repeat))?,
                attention: sizes.transformer(width, heads, blocks, weights.pp("attentions").pp(repeat))?,
                position: Position::Up { level, repeat },
            }));
        }
        let upsampler = (!last).then(|| Upsample2D::load(width, weights.pp("upsamplers.0"))).transpose()?;
        Ok(Self { repeats, upsampler, level })
    }

    /// Takes its skip connections off the end of `skips`; returns the level's output.
    pub fn forward(&self, x: Activation, skips: &mut Vec<Tensor>, pass: &mut Pass) -> Result<Activation, Stop> {
        let mut hidden = x;
        for repeat in &self.repeats {
            let skip = skips.pop().ok_or(InputError::SkipConnections)?;
            hidden = repeat.run(&hidden.concat_channels(&skip)?, pass)?;
        }
        if let Some(upsampler) = &self.upsampler {
            // The next skip connection's size: twice this one's, or one less where the downsampler rounded up.
            let (_, _, height, width) = skips.last().ok_or(InputError::SkipConnections)?.dims4()?;
            hidden = upsampler.forward(&hidden, height, width)?;
            pass.taps.keep(LayerId::UpsamplerOut(self.level), &hidden)?;
        }
        Ok(hidden)
    }
}
