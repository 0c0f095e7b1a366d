//! Names of the activations that can be extracted, exactly as the original extractor (generic-diffusion-feature) spells them.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// Where in the UNet a residual block or a transformer stands. Levels and repeats count from 0 in forward order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
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
pub enum BlockPart {
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

/// The parts of a block in forward order, with their names.
const BLOCK_PARTS: [(BlockPart, &str); 8] = [
    (BlockPart::SelfQ, "self-q"),
    (BlockPart::SelfK, "self-k"),
    (BlockPart::SelfV, "self-v"),
    (BlockPart::SelfMap, "self-map"),
    (BlockPart::CrossQ, "cross-q"),
    (BlockPart::CrossMap, "cross-map"),
    (BlockPart::FfnInner, "ffn-inner"),
    (BlockPart::Out, "out"),
];

impl BlockPart {
    /// All parts in forward order.
    pub fn all() -> impl Iterator<Item = Self> {
        BLOCK_PARTS.iter().map(|(part, _)| *part)
    }

    fn name(self) -> &'static str {
        // The table has every variant; the test `every_id_parses_back` walks it.
        BLOCK_PARTS.iter().find(|(part, _)| *part == self).map_or("", |(_, name)| name)
    }
}

/// One activation that can be extracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerId {
    /// The latents given to the UNet.
    UnetIn,
    /// Output of `conv_in`.
    UnetAfterConvIn,
    /// Output of the second convolution of a residual block, before the shortcut is added.
    ResIncrement(Place),
    /// Output of a residual block.
    ResOut(Place),
    /// An activation of transformer block number `.1`.
    Block(Place, usize, BlockPart),
    /// Output of a `Transformer2DModel`, after `proj_out` and the residual.
    VitOut(Place),
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

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down { level, repeat } => write!(f, "down-level{level}-repeat{repeat}"),
            Self::Mid { repeat } => write!(f, "mid-repeat{repeat}"),
            Self::Up { level, repeat } => write!(f, "up-level{level}-repeat{repeat}"),
        }
    }
}

impl Place {
    /// The prefix of this place's transformer: the middle one has no repeat in its name.
    fn transformer(self) -> String {
        match self {
            Self::Mid { .. } => "mid".to_owned(),
            place => place.to_string(),
        }
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnetIn => f.write_str("unet-in"),
            Self::UnetAfterConvIn => f.write_str("unet-after-conv-in"),
            Self::ResIncrement(place) => write!(f, "{place}-res-increment"),
            Self::ResOut(place) => write!(f, "{place}-res-out"),
            Self::Block(place, block, part) => write!(f, "{}-vit-block{block}-{}", place.transformer(), part.name()),
            Self::VitOut(place) => write!(f, "{}-vit-out", place.transformer()),
            Self::DownsamplerOut(level) => write!(f, "down-level{level}-downsampler-out"),
            Self::UpsamplerOut(level) => write!(f, "up-level{level}-upsampler-out"),
            Self::UnetOut => f.write_str("unet-out"),
            Self::VaeOut => f.write_str("vae-out"),
            Self::Attn => f.write_str("attn"),
        }
    }
}

impl FromStr for LayerId {
    type Err = Error;

    /// Reads the spelling that [`fmt::Display`] writes. Whether a given UNet has the layer is [`super::Layout`]'s to say.
    fn from_str(text: &str) -> Result<Self> {
        parse(text).ok_or_else(|| Error::Unknown { kind: "layer id", name: text.to_owned(), nearest: None })
    }
}

fn parse(text: &str) -> Option<LayerId> {
    match text {
        "unet-in" => return Some(LayerId::UnetIn),
        "unet-after-conv-in" => return Some(LayerId::UnetAfterConvIn),
        "unet-out" => return Some(LayerId::UnetOut),
        "vae-out" => return Some(LayerId::VaeOut),
        "attn" => return Some(LayerId::Attn),
        _ => {}
    }
    if let Some(rest) = text.strip_prefix("mid-") {
        if let Some((repeat, rest)) = numbered(rest, "repeat") {
            return residual(Place::Mid { repeat }, rest);
        }
        return transformer(Place::Mid { repeat: 0 }, rest);
    }
    let (down, rest) = match text.strip_prefix("down-") {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix("up-")?),
    };
    let (level, rest) = numbered(rest, "level")?;
    match (down, rest) {
        (true, "downsampler-out") => return Some(LayerId::DownsamplerOut(level)),
        (false, "upsampler-out") => return Some(LayerId::UpsamplerOut(level)),
        _ => {}
    }
    let (repeat, rest) = numbered(rest, "repeat")?;
    let place = if down { Place::Down { level, repeat } } else { Place::Up { level, repeat } };
    residual(place, rest).or_else(|| transformer(place, rest))
}

/// Reads `NAME<number>-rest`.
fn numbered<'a>(text: &'a str, name: &str) -> Option<(usize, &'a str)> {
    let (number, rest) = text.strip_prefix(name)?.split_once('-')?;
    Some((number.parse().ok()?, rest))
}

fn residual(place: Place, part: &str) -> Option<LayerId> {
    match part {
        "res-increment" => Some(LayerId::ResIncrement(place)),
        "res-out" => Some(LayerId::ResOut(place)),
        _ => None,
    }
}

fn transformer(place: Place, part: &str) -> Option<LayerId> {
    if part == "vit-out" {
        return Some(LayerId::VitOut(place));
    }
    let (block, part) = numbered(part.strip_prefix("vit-")?, "block")?;
    let (part, _) = BLOCK_PARTS.iter().find(|(_, name)| *name == part)?;
    Some(LayerId::Block(place, block, *part))
}
