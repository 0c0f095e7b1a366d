//! Names of the activations that can be extracted, exactly as the original extractor (generic-diffusion-feature) spells them, each
//! with the shape it has where it arises. [`super::Layout`] says which of them a UNet has, and in which order.

use std::fmt;

/// Where in the UNet a residual block or a transformer stands. Levels and repeats count from 0 in forward order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Position {
    /// `down_blocks.LEVEL`, its `resnets.REPEAT` and `attentions.REPEAT`.
    Down {
        /// Level.
        level: usize,
        /// Repeat.
        repeat: usize,
    },
    /// `mid_block`, its `resnets.REPEAT`; its only transformer is `attentions.0` and is named without the repeat.
    Mid {
        /// Repeat.
        repeat: usize,
    },
    /// `up_blocks.LEVEL`, its `resnets.REPEAT` and `attentions.REPEAT`.
    Up {
        /// Level.
        level: usize,
        /// Repeat.
        repeat: usize,
    },
}

/// An activation inside a transformer block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockTap {
    /// Output of `attn1.to_q`, before the split into heads.
    SelfQ,
    /// Output of `attn1.to_k`.
    SelfK,
    /// Output of `attn1.to_v`.
    SelfV,
    /// Softmax probabilities of the self-attention, `[heads, queries, keys]`.
    SelfMap,
    /// Output of `attn2.to_q`.
    CrossQ,
    /// Softmax probabilities of the cross-attention, `[heads, queries, text tokens]`.
    CrossMap,
    /// GEGLU's output, four times as wide as the block.
    FfnInner,
    /// The block's output, before `proj_out`.
    Out,
}

/// One activation that can be extracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerId {
    /// The latents given to the UNet.
    UnetIn,
    /// Output of `conv_in`.
    UnetAfterConvIn,
    /// Output of the second convolution of a residual block, before the shortcut is added.
    ResIncrement(Position),
    /// Output of a residual block.
    ResOut(Position),
    /// An activation of transformer block number `.1`.
    Block(Position, usize, BlockTap),
    /// Output of a `Transformer2DModel`, after `proj_out` and the residual.
    VitOut(Position),
    /// Output of `down_blocks.LEVEL.downsamplers.0`.
    DownsamplerOut(usize),
    /// Output of `up_blocks.LEVEL.upsamplers.0`.
    UpsamplerOut(usize),
    /// The predicted noise.
    UnetOut,
    /// The image decoded after one scheduler step. Not part of the UNet: the extractor makes it.
    VaeOut,
    /// The aggregated attention maps. Not part of the UNet: the extractor makes it.
    Attn,
}

/// What arises at the stages of a forward pass, in forward order: as the latents come in,
pub(super) const LATENTS: [LayerId; 1] = [LayerId::UnetIn];
/// behind the first convolution,
pub(super) const CONV_IN: [LayerId; 1] = [LayerId::UnetAfterConvIn];
/// in a residual block,
pub(super) const RESIDUAL_BLOCK: [fn(Position) -> LayerId; 2] = [LayerId::ResIncrement, LayerId::ResOut];
/// in a block of a transformer,
pub(super) const TRANSFORMER_BLOCK: [BlockTap; 8] = [
    BlockTap::SelfQ,
    BlockTap::SelfK,
    BlockTap::SelfV,
    BlockTap::SelfMap,
    BlockTap::CrossQ,
    BlockTap::CrossMap,
    BlockTap::FfnInner,
    BlockTap::Out,
];
/// behind the blocks of a transformer,
pub(super) const TRANSFORMER_END: [fn(Position) -> LayerId; 1] = [LayerId::VitOut];
/// behind the repeats of a level of the down path that ends in a downsampler,
pub(super) const DOWN_END: [fn(usize) -> LayerId; 1] = [LayerId::DownsamplerOut];
/// behind the repeats of a level of the up path that ends in an upsampler,
pub(super) const UP_END: [fn(usize) -> LayerId; 1] = [LayerId::UpsamplerOut];
/// and at the end.
pub(super) const END: [LayerId; 1] = [LayerId::UnetOut];

/// The sizes where an activation arises.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site {
    /// Channels of the feature map.
    pub channels: usize,
    /// Attention heads.
    pub heads: usize,
    /// Height of the feature map.
    pub height: usize,
    /// Width of the feature map.
    pub width: usize,
    /// Tokens of the text.
    pub tokens: usize,
}

impl Site {
    /// Positions of the feature map: queries of both attentions, keys of the self-attention.
    pub fn positions(&self) -> usize {
        self.height * self.width
    }

    fn map(&self) -> [usize; 3] {
        [self.channels, self.height, self.width]
    }

    fn feed_forward(&self) -> [usize; 3] {
        [4 * self.channels, self.height, self.width]
    }

    fn self_attention(&self) -> [usize; 3] {
        [self.heads, self.positions(), self.positions()]
    }

    fn cross_attention(&self) -> [usize; 3] {
        [self.heads, self.positions(), self.tokens]
    }
}

/// A shape as a function of the sizes at the site.
type Shape = fn(&Site) -> [usize; 3];

impl BlockTap {
    /// What stands behind the block's prefix in the id, and the shape.
    fn describe(self) -> (&'static str, Shape) {
        match self {
            Self::SelfQ => ("self-q", Site::map),
            Self::SelfK => ("self-k", Site::map),
            Self::SelfV => ("self-v", Site::map),
            Self::SelfMap => ("self-map", Site::self_attention),
            Self::CrossQ => ("cross-q", Site::map),
            Self::CrossMap => ("cross-map", Site::cross_attention),
            Self::FfnInner => ("ffn-inner", Site::feed_forward),
            Self::Out => ("out", Site::map),
        }
    }
}

impl LayerId {
    /// The id's text and the activation's shape at its site.
    fn describe(self) -> (String, Shape) {
        match self {
            Self::UnetIn => ("unet-in".to_owned(), Site::map),
            Self::UnetAfterConvIn => ("unet-after-conv-in".to_owned(), Site::map),
            Self::ResIncrement(position) => (format!("{position}-res-increment"), Site::map),
            Self::ResOut(position) => (format!("{position}-res-out"), Site::map),
            Self::Block(position, block, tap) => {
                let (name, shape) = tap.describe();
                (format!("{}-vit-block{block}-{name}", position.transformer()), shape)
            }
            Self::VitOut(position) => (format!("{}-vit-out", position.transformer()), Site::map),
            Self::DownsamplerOut(level) => (format!("down-level{level}-downsampler-out"), Site::map),
            Self::UpsamplerOut(level) => (format!("up-level{level}-upsampler-out"), Site::map),
            Self::UnetOut => ("unet-out".to_owned(), Site::map),
            Self::VaeOut => ("vae-out".to_owned(), Site::map),
            Self::Attn => ("attn".to_owned(), Site::map),
        }
    }

    /// `[channels, height, width]`, or `[heads, queries, keys]` of attention maps.
    pub(super) fn shape(self, site: &Site) -> [usize; 3] {
        self.describe().1(site)
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe().0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down { level, repeat } => write!(f, "down-level{level}-repeat{repeat}"),
            Self::Mid { repeat } => write!(f, "mid-repeat{repeat}"),
            Self::Up { level, repeat } => write!(f, "up-level{level}-repeat{repeat}"),
        }
    }
}

impl Position {
    /// The prefix of this position's transformer: the middle one has no repeat in its name.
    fn transformer(self) -> String {
        match self {
            Self::Mid { .. } => "mid".to_owned(),
            Self::Down { .. } | Self::Up { .. } => self.to_string(),
        }
    }
}
