//! Which layer ids a UNet has, in the order in which a forward pass reaches them, and the shapes of what they stand for.

use super::layer_id::{CONV_IN, DOWN_END, END, LATENTS, RESIDUAL_BLOCK, Site, TRANSFORMER_BLOCK, TRANSFORMER_END, UP_END};
use super::{AttentionCategory, BlockTap, LayerId, Position};
use crate::error::ArgumentCause;
use crate::{Error, Result};

/// One level of the down or up path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Channels of the level's outputs.
    pub channels: usize,
    /// Heads of the level's attentions.
    pub heads: usize,
    /// Residual blocks in this level.
    pub repeats: usize,
    /// Transformer blocks behind each residual block; 0 for a level without attention.
    pub transformer_blocks: usize,
    /// Whether a down- or upsampler ends the level.
    pub sampler: bool,
}

/// The sizes of a UNet's levels: what is needed to list its layer ids and their shapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Channels of the latents.
    pub in_channels: usize,
    /// Channels of the prediction.
    pub out_channels: usize,
    /// Down path, from the full resolution.
    pub down: Vec<Level>,
    /// Transformer blocks of the middle, which is as wide as the last level of the down path.
    pub mid_transformer_blocks: usize,
    /// Up path, from the lowest resolution.
    pub up: Vec<Level>,
}

/// The sizes of a pass that shapes depend on.
#[derive(Clone, Copy, Debug)]
pub struct PassSizes {
    /// Height and width of the latents.
    pub latents: (usize, usize),
    /// Height and width of the image, in pixels.
    pub image: (usize, usize),
    /// Tokens of the prompt.
    pub tokens: usize,
}

impl Layout {
    /// Every id of the UNet in forward order (the order of the original's store and of aggregated channels).
    pub fn ids(&self) -> Vec<LayerId> {
        // The ids do not depend on the sizes.
        self.walk((1, 1), 1).sites.into_iter().map(|(id, _)| id).collect()
    }

    /// Every id of the UNet in forward order, then `vae-out`, then, where `categories` of attention are aggregated, `attn`: each with
    /// `[channels, height, width]`, or `[heads, queries, keys]` of attention maps.
    pub fn shapes(&self, sizes: &PassSizes, categories: &[AttentionCategory]) -> Vec<(LayerId, [usize; 3])> {
        let (height, width) = sizes.latents;
        let sites = self.walk(sizes.latents, sizes.tokens).sites;
        let mut shapes: Vec<_> = sites.iter().map(|(id, site)| (*id, id.shape(site))).collect();
        let image = Site { channels: 3, heads: 0, height: sizes.image.0, width: sizes.image.1, tokens: sizes.tokens };
        shapes.push((LayerId::VaeOut, LayerId::VaeOut.shape(&image)));
        if !categories.is_empty() {
            let keys = categories.iter().map(|category| self.aggregated_keys(*category, sizes)).sum();
            shapes.push((LayerId::Attn, LayerId::Attn.shape(&Site { channels: keys, height, width, ..image })));
        }
        shapes
    }

    /// Reads a layer id that this UNet has, spelled as [`LayerId`] displays it. `vae-out` and `attn` are accepted as well.
    ///
    /// # Errors
    /// [`Error::Unknown`] naming the nearest id; [`Error::Argument`] for `cross-k` and `cross-v`, which have the text's length
    /// instead of the image's and are no features of it.
    pub fn parse(&self, text: &str) -> Result<LayerId> {
        if text.ends_with("cross-k") || text.ends_with("cross-v") {
            return Err(Error::argument(format!("layer id `{text}`"), ArgumentCause::CrossKeysAndValues));
        }
        let ids = self.ids().into_iter().chain([LayerId::VaeOut, LayerId::Attn]);
        let names: Vec<(String, LayerId)> = ids.map(|id| (id.to_string(), id)).collect();
        let found = names.iter().find(|(name, _)| name == text);
        found.map(|(_, id)| *id).ok_or_else(|| Error::unknown("layer id", text, names.iter().map(|(name, _)| name.as_str())))
    }

    /// The attention layers whose head-averaged map goes into the aggregate of a category, with the height and width of their queries.
    ///
    /// The aggregate takes the maps whose number of queries lies between those of a quarter and a half of the latents' side, both
    /// ends in, as the original's filter does (16 x 16 and 32 x 32 at 512 px).
    pub(super) fn aggregated(
        &self,
        category: AttentionCategory,
        (height, width): (usize, usize),
    ) -> Vec<(Position, usize, (usize, usize))> {
        let queries = (height / 4) * (width / 4)..=(height / 2) * (width / 2);
        let wanted = if category.is_cross() { BlockTap::CrossMap } else { BlockTap::SelfMap };
        let mut layers = Vec::new();
        for (id, site) in self.walk((height, width), 1).sites {
            if let LayerId::Block(position, block, found) = id
                && found == wanted
                && AttentionCategory::of(position, category.is_cross()) == category
                && queries.contains(&site.positions())
            {
                layers.push((position, block, (site.height, site.width)));
            }
        }
        layers
    }

    /// Channels of a category's aggregate: the keys of every size of map.
    fn aggregated_keys(&self, category: AttentionCategory, sizes: &PassSizes) -> usize {
        let mut maps: Vec<(usize, usize)> = Vec::new();
        for (.., size) in self.aggregated(category, sizes.latents) {
            if !maps.contains(&size) {
                maps.push(size);
            }
        }
        maps.iter().map(|(height, width)| if category.is_cross() { sizes.tokens } else { height * width }).sum()
    }

    /// Goes through the UNet as a forward pass does.
    fn walk(&self, latents: (usize, usize), tokens: usize) -> Walk {
        let mut walk = Walk { latents, tokens, halvings: 0, channels: self.in_channels, heads: 0, sites: Vec::new() };
        LATENTS.into_iter().for_each(|tap| walk.reach(tap));
        self.down.first().into_iter().for_each(|level| walk.enter(level));
        CONV_IN.into_iter().for_each(|tap| walk.reach(tap));
        for (level, sizes) in self.down.iter().enumerate() {
            walk.enter(sizes);
            (0..sizes.repeats).for_each(|repeat| walk.repeat(Position::Down { level, repeat }, sizes.transformer_blocks));
            if sizes.sampler {
                walk.halvings += 1;
                DOWN_END.into_iter().for_each(|tap| walk.reach(tap(level)));
            }
        }
        walk.repeat(Position::Mid { repeat: 0 }, self.mid_transformer_blocks);
        walk.repeat(Position::Mid { repeat: 1 }, 0);
        for (level, sizes) in self.up.iter().enumerate() {
            walk.enter(sizes);
            (0..sizes.repeats).for_each(|repeat| walk.repeat(Position::Up { level, repeat }, sizes.transformer_blocks));
            if sizes.sampler {
                walk.halvings -= usize::from(walk.halvings > 0);
                UP_END.into_iter().for_each(|tap| walk.reach(tap(level)));
            }
        }
        walk.channels = self.out_channels;
        END.into_iter().for_each(|tap| walk.reach(tap));
        walk
    }
}

/// A walk through a UNet: the sizes at the point that it has reached, and what it has met.
struct Walk {
    latents: (usize, usize),
    tokens: usize,
    halvings: usize,
    channels: usize,
    heads: usize,
    sites: Vec<(LayerId, Site)>,
}

impl Walk {
    fn enter(&mut self, level: &Level) {
        (self.channels, self.heads) = (level.channels, level.heads);
    }

    fn reach(&mut self, id: LayerId) {
        // Each downsampler halves, rounding up.
        let side = |full| (0..self.halvings).fold(full, |side: usize, _| side.div_ceil(2));
        let (height, width) = (side(self.latents.0), side(self.latents.1));
        self.sites.push((id, Site { channels: self.channels, heads: self.heads, height, width, tokens: self.tokens }));
    }

    /// A residual block and the transformer behind it.
    fn repeat(&mut self, position: Position, transformer_blocks: usize) {
        RESIDUAL_BLOCK.into_iter().for_each(|tap| self.reach(tap(position)));
        if transformer_blocks > 0 {
            for block in 0..transformer_blocks {
                TRANSFORMER_BLOCK.into_iter().for_each(|tap| self.reach(LayerId::Block(position, block, tap)));
            }
            TRANSFORMER_END.into_iter().for_each(|tap| self.reach(tap(position)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_diffusion_1_5_has_197_ids_that_parse_back() {
        let layout = Layout::stable_diffusion_1_5();
        let ids = layout.ids();
        assert_eq!(ids.len(), 197);
        for id in ids {
            assert_eq!(layout.parse(&id.to_string()).unwrap(), id);
        }
    }

    #[test]
    fn a_wrong_id_names_the_nearest() {
        let layout = Layout::stable_diffusion_1_5();
        let message = layout.parse("up-level1-repeat1-vit-block0-cros-q").unwrap_err().to_string();
        assert!(message.contains("up-level1-repeat1-vit-block0-cross-q"), "{message}");
        let message = layout.parse("up-level0-repeat0-vit-out").unwrap_err().to_string();
        assert!(message.contains("unknown layer id"), "{message}");
        assert!(layout.parse("up-level1-repeat1-vit-block0-cross-k").unwrap_err().to_string().contains("text alone"));
    }
}
