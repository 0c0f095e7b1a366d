//! UNet names. LDM numbers its blocks through (`input_blocks.7.1`), diffusers numbers levels and layers
//! (`down_blocks.2.attentions.0`); between them stands only how many layers a level has.

use super::{index, replace_head, reversed};
use std::collections::BTreeSet;

/// Layers outside of the levels: LDM, diffusers.
const SINGLE: &[(&str, &str)] = &[
    ("input_blocks.0.0", "conv_in"),
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("middle_block.1", "mid_block.attentions.0"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
];

/// Layers of a resnet: LDM, diffusers.
const RESNET: &[(&str, &str)] = &[
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
];

/// How a UNet's blocks are laid out, as far as names depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnetLayout {
    /// Levels of resolution; four in SD1.5.
    levels: usize,
    /// Resnets per level on the way down, one fewer than on the way up; two in SD1.5.
    layers_per_block: usize,
    /// Up blocks with attention; SD1.5 has it in 1, 2 and 3.
    up_attention: BTreeSet<usize>,
}

impl UnetLayout {
    /// The layout of a UNet whose weights have these LDM names (without the prefix); `None` when they are no UNet's.
    pub fn from_ldm<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<Self> {
        let input = |name: &'a str| index(name.strip_prefix("input_blocks.")?);
        let downsamplers: BTreeSet<usize> = names
            .clone()
            .filter_map(input)
            .filter(|(block, rest)| *block > 0 && rest.starts_with("0.op."))
            .map(|(block, _)| block)
            .collect();
        let last = names.clone().filter_map(input).map(|(block, _)| block).max()?;
        // The first downsampler follows the first level's layers; a single level has none.
        let layers_per_block = downsamplers.first().map_or(last, |first| first - 1);
        let levels = downsamplers.len() + 1;
        let mut layout = Self { levels, layers_per_block, up_attention: BTreeSet::new() };
        layout.up_attention = names
            .filter_map(|name| index(name.strip_prefix("output_blocks.")?))
            .filter(|(_, rest)| rest.starts_with("1.transformer_blocks."))
            .map(|(block, _)| block / (layers_per_block + 1))
            .collect();
        (layers_per_block > 0).then_some(layout)
    }

    /// The layout of a UNet whose weights have these diffusers names; `None` when they are no UNet's.
    pub fn from_diffusers<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<Self> {
        let down = |name: &'a str| index(name.strip_prefix("down_blocks.")?);
        let levels = names.clone().filter_map(down).map(|(level, _)| level + 1).max()?;
        let layers_per_block = names
            .clone()
            .filter_map(down)
            .filter_map(|(_, rest)| index(rest.strip_prefix("resnets.")?))
            .map(|(layer, _)| layer + 1)
            .max()?;
        let up_attention = names
            .filter_map(|name| index(name.strip_prefix("up_blocks.")?))
            .filter(|(_, rest)| rest.starts_with("attentions."))
            .map(|(level, _)| level)
            .collect();
        Some(Self { levels, layers_per_block, up_attention })
    }

    /// The diffusers name of the weight with this LDM name (without the prefix).
    pub fn to_diffusers(&self, ldm: &str) -> Option<String> {
        if let Some(rest) = ldm.strip_prefix("input_blocks.")
            && !rest.starts_with("0.")
        {
            return self.input_block(rest);
        }
        if let Some(rest) = ldm.strip_prefix("output_blocks.") {
            return self.output_block(rest);
        }
        for (block, resnet) in [("middle_block.0.", "mid_block.resnets.0."), ("middle_block.2.", "mid_block.resnets.1.")] {
            if let Some(rest) = ldm.strip_prefix(block) {
                return Some(format!("{resnet}{}", replace_head(rest, RESNET.iter().copied())?));
            }
        }
        // The first convolution has no modules inside.
        let leaf = ldm.strip_prefix("input_blocks.0.0").is_none_or(|rest| matches!(rest, ".weight" | ".bias"));
        replace_head(ldm, SINGLE.iter().copied()).filter(|_| leaf)
    }

    fn input_block(&self, name: &str) -> Option<String> {
        let (block, rest) = index(name)?;
        let (level, layer) = ((block - 1) / (self.layers_per_block + 1), (block - 1) % (self.layers_per_block + 1));
        let (module, rest) = index(rest)?;
        if level >= self.levels {
            return None;
        }
        if layer == self.layers_per_block {
            let rest = rest.strip_prefix("op.").filter(|_| module == 0)?;
            return Some(format!("down_blocks.{level}.downsamplers.0.conv.{rest}"));
        }
        match module {
            0 => Some(format!("down_blocks.{level}.resnets.{layer}.{}", replace_head(rest, RESNET.iter().copied())?)),
            1 => Some(format!("down_blocks.{level}.attentions.{layer}.{rest}")),
            _ => None,
        }
    }

    fn output_block(&self, name: &str) -> Option<String> {
        let (block, rest) = index(name)?;
        let (level, layer) = (block / (self.layers_per_block + 1), block % (self.layers_per_block + 1));
        let (module, rest) = index(rest)?;
        if level >= self.levels {
            return None;
        }
        match (module, rest.strip_prefix("conv.")) {
            (0, _) => Some(format!("up_blocks.{level}.resnets.{layer}.{}", replace_head(rest, RESNET.iter().copied())?)),
            (_, Some(rest)) if layer == self.layers_per_block && module == self.upsampler_index(level) => {
                Some(format!("up_blocks.{level}.upsamplers.0.conv.{rest}"))
            }
            (1, None) => Some(format!("up_blocks.{level}.attentions.{layer}.{rest}")),
            _ => None,
        }
    }

    /// The upsampler stands behind the attention where there is one.
    fn upsampler_index(&self, level: usize) -> usize {
        if self.up_attention.contains(&level) { 2 } else { 1 }
    }

    /// The LDM name (without the prefix) of the weight with this diffusers name.
    pub fn to_ldm(&self, diffusers: &str) -> Option<String> {
        let per_level = self.layers_per_block + 1;
        if let Some(rest) = diffusers.strip_prefix("down_blocks.") {
            let (level, rest) = index(rest).filter(|(level, _)| *level < self.levels)?;
            let (module, layer, rest) = list_and_index(rest)?;
            let block = per_level * level + layer + 1;
            return match module {
                "resnets" if layer < per_level - 1 => {
                    Some(format!("input_blocks.{block}.0.{}", replace_head(rest, reversed(RESNET))?))
                }
                "attentions" if layer < per_level - 1 => Some(format!("input_blocks.{block}.1.{rest}")),
                "downsamplers" if layer == 0 => {
                    Some(format!("input_blocks.{}.0.op.{}", per_level * (level + 1), rest.strip_prefix("conv.")?))
                }
                _ => None,
            };
        }
        if let Some(rest) = diffusers.strip_prefix("up_blocks.") {
            let (level, rest) = index(rest).filter(|(level, _)| *level < self.levels)?;
            let (module, layer, rest) = list_and_index(rest)?;
            let block = per_level * level + layer;
            return match module {
                "resnets" if layer < per_level => {
                    Some(format!("output_blocks.{block}.0.{}", replace_head(rest, reversed(RESNET))?))
                }
                "attentions" if layer < per_level => Some(format!("output_blocks.{block}.1.{rest}")),
                "upsamplers" if layer == 0 => {
                    let module = self.upsampler_index(level);
                    Some(format!("output_blocks.{}.{module}.conv.{}", per_level * (level + 1) - 1, rest.strip_prefix("conv.")?))
                }
                _ => None,
            };
        }
        for (resnet, block) in [("mid_block.resnets.0.", "middle_block.0."), ("mid_block.resnets.1.", "middle_block.2.")] {
            if let Some(rest) = diffusers.strip_prefix(resnet) {
                return Some(format!("{block}{}", replace_head(rest, reversed(RESNET))?));
            }
        }
        replace_head(diffusers, reversed(SINGLE))
    }
}

/// Splits `resnets.1.conv1.weight` into `resnets`, 1 and `conv1.weight`.
fn list_and_index(name: &str) -> Option<(&str, usize, &str)> {
    let (module, rest) = name.split_once('.')?;
    let (layer, rest) = index(rest)?;
    Some((module, layer, rest))
}
