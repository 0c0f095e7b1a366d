//! The UNet's transformer (diffusers `Transformer2DModel`, `BasicTransformerBlock`, `Attention`, `FeedForward` with GEGLU).

use super::UnetConfig;
use super::attention::{CrossAttention, SelfAttention};
use super::context::TextContext;
use crate::Result;
use crate::layers::{Conv2d, GroupNorm, LayerNorm, Linear, Weights};
use crate::ops::Activation;
use crate::taps::{BlockTap, LayerId, Position, Stop, Taps};

/// Where a transformer block stands: its position, its index there, and the height and width of its tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockPosition {
    pub position: Position,
    pub block: usize,
    pub size: (usize, usize),
}

impl BlockPosition {
    pub fn id(self, tap: BlockTap) -> LayerId {
        LayerId::Block(self.position, self.block, tap)
    }
}

/// Self-attention, cross-attention and feed-forward, each behind a layer norm and a residual.
#[derive(Debug)]
struct BasicTransformerBlock {
    norm1: LayerNorm,
    attn1: SelfAttention,
    norm2: LayerNorm,
    attn2: CrossAttention,
    norm3: LayerNorm,
    ff_in: Linear,
    ff_out: Linear,
}

impl BasicTransformerBlock {
    fn load(width: usize, heads: usize, cross_attention_dim: usize, weights: Weights) -> Result<Self> {
        Ok(Self {
            norm1: LayerNorm::load(width, 1e-5, weights.pp("norm1"))?,
            attn1: SelfAttention::load(width, heads, weights.pp("attn1"))?,
            norm2: LayerNorm::load(width, 1e-5, weights.pp("norm2"))?,
            attn2: CrossAttention::load(width, heads, cross_attention_dim, weights.pp("attn2"))?,
            norm3: LayerNorm::load(width, 1e-5, weights.pp("norm3"))?,
            ff_in: Linear::load(width, 8 * width, weights.pp("ff.net.0.proj"))?,
            ff_out: Linear::load(4 * width, width, weights.pp("ff.net.2"))?,
        })
    }

    fn forward(&self, x: &Activation, context: &TextContext, at: BlockPosition, taps: &mut Taps) -> Result<Activation, Stop> {
        let attended = self.attn1.forward(&self.norm1.forward(x)?, at, taps)?;
        let x = attended.add(x)?;
        let attended = self.attn2.forward(&self.norm2.forward(&x)?, context, at, taps)?;
        let x = attended.add(&x)?;
        let gated = self.ff_in.forward(&self.norm3.forward(&x)?)?;
        let out = if taps.wants(at.id(BlockTap::FfnInner)) {
            let inner = gated.geglu()?;
            taps.keep_tokens(at.id(BlockTap::FfnInner), &inner, at.size)?;
            self.ff_out.forward(&inner)?
        } else {
            self.ff_out.forward_geglu(&gated)?
        };
        let out = out.add(&x)?;
        taps.keep_tokens(at.id(BlockTap::Out), &out, at.size)?;
        Ok(out)
    }
}

/// What stands between feature maps and tokens: a 1x1 convolution on the maps (SD1.5) or a linear layer on the tokens
/// (`use_linear_projection`, SD2). The same numbers but for the order of sums; the layers differ in what their adapters look like.
#[derive(Debug)]
enum Projection {
    Convolution(Conv2d),
    Linear(Linear),
}

impl Projection {
    fn load(config: &UnetConfig, width: usize, weights: Weights) -> Result<Self> {
        Ok(match config.use_linear_projection() {
            true => Self::Linear(Linear::load(width, width, weights)?),
            false => Self::Convolution(Conv2d::load(width, width, 1, weights)?),
        })
    }

    /// `x` `[b, c, h, w]`; returns `[b, h * w, c]`.
    fn to_tokens(&self, x: Activation) -> Result<Activation> {
        match self {
            Self::Convolution(convolution) => convolution.forward(&x)?.to_tokens(),
            Self::Linear(linear) => {
                let tokens = x.to_tokens()?;
                drop(x);
                linear.forward(&tokens)
            }
        }
    }

    /// `tokens` `[b, h * w, c]`; returns `[b, c, h, w]`.
    fn to_maps(&self, tokens: &Activation, height: usize, width: usize) -> Result<Activation> {
        match self {
            Self::Convolution(convolution) => convolution.forward(&tokens.from_tokens(height, width)?),
            Self::Linear(linear) => linear.forward(tokens)?.from_tokens(height, width),
        }
    }
}

/// Group norm, projection to tokens, transformer blocks, projection back, residual.
#[derive(Debug)]
pub struct Transformer2DModel {
    norm: GroupNorm,
    proj_in: Projection,
    transformer_blocks: Vec<BasicTransformerBlock>,
    proj_out: Projection,
}

impl Transformer2DModel {
    /// Reads the transformer: so many `blocks` with so many `heads` over `width` channels.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(config: &UnetConfig, width: usize, heads: usize, blocks: usize, weights: Weights) -> Result<Self> {
        let transformer_blocks = (0..blocks).map(|block| {
            BasicTransformerBlock::load(width, heads, config.cross_attention_dim, weights.pp("transformer_blocks").pp(block))
        });
        Ok(Self {
            // 1e-6, unlike the residual blocks' 1e-5: diffusers fixes it in the class.
            norm: GroupNorm::load(config.norm_num_groups, width, 1e-6, weights.pp("norm"))?,
            proj_in: Projection::load(config, width, weights.pp("proj_in"))?,
            transformer_blocks: transformer_blocks.collect::<Result<_>>()?,
            proj_out: Projection::load(config, width, weights.pp("proj_out"))?,
        })
    }

    /// # Shapes
    /// `x` `[b, c, h, w]`; returns the same.
    /// # Errors
    /// When a tensor operation fails; [`Stop::Complete`] when the taps need nothing further.
    pub(super) fn forward(
        &self,
        x: &Activation,
        context: &TextContext,
        position: Position,
        taps: &mut Taps,
    ) -> Result<Activation, Stop> {
        let (_, _, h, w) = x.read().dims4()?;
        let mut tokens = self.proj_in.to_tokens(self.norm.forward(x)?)?;
        for (block, transformer) in self.transformer_blocks.iter().enumerate() {
            let at = BlockPosition { position, block, size: (h, w) };
            tokens = transformer.forward(&tokens, context, at, taps)?;
        }
        let out = self.proj_out.to_maps(&tokens, h, w)?.add(x)?;
        taps.keep(LayerId::VitOut(position), &out)?;
        Ok(out)
    }
}
