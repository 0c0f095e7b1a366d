//! VAE names. Levels of the decoder are counted from the other end; the attention layer has five spellings
//! ([`super::super::vae_attention`]).

use super::super::vae_attention::{current_layer, ldm_layer};
use super::{index, replace_head, reversed};

/// Layers outside of the levels, in the encoder and in the decoder: LDM, diffusers.
const SIDE: &[(&str, &str)] = &[("conv_in", "conv_in"), ("norm_out", "conv_norm_out"), ("conv_out", "conv_out")];

/// Layers between encoder and decoder, equal on both sides.
const SINGLE: &[(&str, &str)] = &[("quant_conv", "quant_conv"), ("post_quant_conv", "post_quant_conv")];

/// Layers of a resnet: LDM, diffusers.
const RESNET: &[(&str, &str)] =
    &[("norm1", "norm1"), ("conv1", "conv1"), ("norm2", "norm2"), ("conv2", "conv2"), ("nin_shortcut", "conv_shortcut")];

/// How many levels of resolution a VAE has, which the decoder's names depend on; four in SD1.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VaeLayout {
    levels: usize,
}

impl VaeLayout {
    /// The layout of a VAE whose weights have these LDM names (without the prefix); `None` when they are no VAE's.
    pub fn from_ldm<'a>(names: impl Iterator<Item = &'a str>) -> Option<Self> {
        Self::counted(names.filter_map(|name| index(name.strip_prefix("decoder.up.")?)))
    }

    /// The layout of a VAE whose weights have these diffusers names; `None` when they are no VAE's.
    pub fn from_diffusers<'a>(names: impl Iterator<Item = &'a str>) -> Option<Self> {
        Self::counted(names.filter_map(|name| index(name.strip_prefix("decoder.up_blocks.")?)))
    }

    fn counted<'a>(blocks: impl Iterator<Item = (usize, &'a str)>) -> Option<Self> {
        Some(Self { levels: blocks.map(|(level, _)| level + 1).max()? })
    }

    /// The diffusers name, in today's spelling, of the weight with this LDM name (without the prefix).
    pub fn to_diffusers(self, ldm: &str) -> Option<String> {
        let (side, rest) = match ldm.split_once('.') {
            Some((side @ ("encoder" | "decoder"), rest)) => (side, rest),
            _ => return replace_head(ldm, SINGLE.iter().copied()),
        };
        let (levels, block, sampler, resampler) = match side {
            "encoder" => ("down.", "down_blocks", "downsample.conv.", "downsamplers"),
            _ => ("up.", "up_blocks", "upsample.conv.", "upsamplers"),
        };
        if let Some(rest) = rest.strip_prefix(levels) {
            let (level, rest) = index(rest).filter(|(level, _)| *level < self.levels)?;
            let level = self.counted_from(side, level);
            if let Some(rest) = rest.strip_prefix(sampler) {
                return Some(format!("{side}.{block}.{level}.{resampler}.0.conv.{rest}"));
            }
            let (layer, rest) = index(rest.strip_prefix("block.")?)?;
            let rest = replace_head(rest, RESNET.iter().copied())?;
            return Some(format!("{side}.{block}.{level}.resnets.{layer}.{rest}"));
        }
        for (ldm, resnet) in [("mid.block_1.", 0), ("mid.block_2.", 1)] {
            if let Some(rest) = rest.strip_prefix(ldm) {
                return Some(format!("{side}.mid_block.resnets.{resnet}.{}", replace_head(rest, RESNET.iter().copied())?));
            }
        }
        if let Some(rest) = rest.strip_prefix("mid.attn_1.") {
            let (layer, suffix) = rest.rsplit_once('.')?;
            return Some(format!("{side}.mid_block.attentions.0.{}.{suffix}", current_layer(layer)?));
        }
        Some(format!("{side}.{}", replace_head(rest, SIDE.iter().copied())?))
    }

    /// The LDM name (without the prefix) of the weight with this diffusers name in today's spelling.
    pub fn to_ldm(self, diffusers: &str) -> Option<String> {
        let (side, rest) = match diffusers.split_once('.') {
            Some((side @ ("encoder" | "decoder"), rest)) => (side, rest),
            _ => return replace_head(diffusers, reversed(SINGLE)),
        };
        let (levels, block, sampler, resampler) = match side {
            "encoder" => ("down", "down_blocks.", "downsample", "downsamplers.0."),
            _ => ("up", "up_blocks.", "upsample", "upsamplers.0."),
        };
        if let Some(rest) = rest.strip_prefix(block) {
            let (level, rest) = index(rest).filter(|(level, _)| *level < self.levels)?;
            let level = self.counted_from(side, level);
            if let Some(rest) = rest.strip_prefix(resampler) {
                return Some(format!("{side}.{levels}.{level}.{sampler}.{rest}"));
            }
            let (layer, rest) = index(rest.strip_prefix("resnets.")?)?;
            return Some(format!("{side}.{levels}.{level}.block.{layer}.{}", replace_head(rest, reversed(RESNET))?));
        }
        for (resnet, ldm) in [("mid_block.resnets.0.", "mid.block_1."), ("mid_block.resnets.1.", "mid.block_2.")] {
            if let Some(rest) = rest.strip_prefix(resnet) {
                return Some(format!("{side}.{ldm}{}", replace_head(rest, reversed(RESNET))?));
            }
        }
        if let Some(rest) = rest.strip_prefix("mid_block.attentions.0.") {
            let (layer, suffix) = rest.rsplit_once('.')?;
            return Some(format!("{side}.mid.attn_1.{}.{suffix}", ldm_layer(layer)?));
        }
        Some(format!("{side}.{}", replace_head(rest, reversed(SIDE))?))
    }

    /// LDM counts the decoder's levels from the finest, diffusers from the coarsest; the encoder's are counted alike.
    fn counted_from(self, side: &str, level: usize) -> usize {
        if side == "decoder" { self.levels - 1 - level } else { level }
    }
}
