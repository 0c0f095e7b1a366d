//! The shape that every layer will have, from the UNet's configuration alone: for lists, for checks before any weight is read, and to
//! say how much will be written.

use driftless::taps::{AttentionCategory, BlockPart, LayerId, Place};
use driftless::unet::UnetConfig;

/// Text tokens of an ordinary prompt.
pub const TOKENS: usize = 77;
/// Pixels per latent.
pub const LATENT: usize = 8;

/// Shapes of one UNet at one image size.
#[derive(Clone, Debug)]
pub struct Shapes<'a> {
    config: &'a UnetConfig,
    /// Side of the latents.
    side: usize,
    /// Keys of the cross-attention.
    tokens: usize,
}

impl<'a> Shapes<'a> {
    /// For images of `img_size` pixels and prompts of `tokens` tokens.
    pub fn new(config: &'a UnetConfig, img_size: usize, tokens: usize) -> Self {
        Self { config, side: img_size / LATENT, tokens }
    }

    /// Side of the latents: `img_size / 8`.
    pub fn latent_side(&self) -> usize {
        self.side
    }

    /// Side after `halvings` downsamplers.
    fn side_at(&self, halvings: usize) -> usize {
        (0..halvings).fold(self.side, |side, _| side.div_ceil(2))
    }

    /// Level of the down path with the same width and size.
    fn depth(&self, place: Place) -> usize {
        let last = self.config.block_out_channels.len() - 1;
        match place {
            Place::Down { level, .. } => level,
            Place::Mid { .. } => last,
            Place::Up { level, .. } => last - level.min(last),
        }
    }

    /// `[channels, height, width]` of a layer, or `[heads, queries, keys]` of attention maps. `categories` are those of `attn`.
    pub fn of(&self, id: LayerId, categories: &[AttentionCategory]) -> [usize; 3] {
        let widths = &self.config.block_out_channels;
        let square = |channels, side| [channels, side, side];
        let last = widths.len() - 1;
        match id {
            LayerId::UnetIn => square(self.config.in_channels, self.side),
            LayerId::UnetAfterConvIn => square(widths[0], self.side),
            LayerId::UnetOut => square(self.config.out_channels, self.side),
            LayerId::VaeOut => square(3, self.side * LATENT),
            LayerId::DownsamplerOut(level) => square(widths[level.min(last)], self.side_at(level + 1)),
            LayerId::UpsamplerOut(level) => square(widths[last - level.min(last)], self.side_at(last.saturating_sub(level + 1))),
            LayerId::ResIncrement(place) | LayerId::ResOut(place) | LayerId::VitOut(place) => {
                square(widths[self.depth(place)], self.side_at(self.depth(place)))
            }
            LayerId::Block(place, _, part) => {
                let depth = self.depth(place);
                let (width, heads, side) = (widths[depth], self.config.heads(depth), self.side_at(depth));
                match part {
                    BlockPart::SelfMap => [heads, side * side, side * side],
                    BlockPart::CrossMap => [heads, side * side, self.tokens],
                    BlockPart::FfnInner => square(4 * width, side),
                    _ => square(width, side),
                }
            }
            LayerId::Attn => square(self.aggregated_keys(categories), self.side),
        }
    }

    /// Channels of `attn`: the keys of every size of map that is aggregated, category by category.
    fn aggregated_keys(&self, categories: &[AttentionCategory]) -> usize {
        let (smallest, largest) = ((self.side / 4).pow(2), (self.side / 2).pow(2));
        let layout = self.config.layout();
        let has_category = |depth: usize, category: AttentionCategory| {
            layout.ids().into_iter().any(|id| match id {
                LayerId::Block(place, _, BlockPart::SelfMap) => {
                    self.depth(place) == depth
                        && [false, true].map(|cross| AttentionCategory::of(place, cross)).contains(&category)
                }
                _ => false,
            })
        };
        let is_cross = |category| {
            matches!(category, AttentionCategory::DownCross | AttentionCategory::MidCross | AttentionCategory::UpCross)
        };
        let mut keys = 0;
        for category in categories {
            let mut sides: Vec<usize> = (0..self.config.block_out_channels.len())
                .filter(|depth| has_category(*depth, *category))
                .map(|depth| self.side_at(depth))
                .filter(|side| (smallest..=largest).contains(&side.pow(2)))
                .collect();
            sides.dedup();
            keys += sides.iter().map(|side| if is_cross(*category) { self.tokens } else { side.pow(2) }).sum::<usize>();
        }
        keys
    }
}

/// `320 x 64 x 64`.
pub fn text(shape: [usize; 3]) -> String {
    shape.map(|side| side.to_string()).join(" x ")
}

#[cfg(test)]
mod tests {
    use super::*;

    // Reference: generic-diffusion-feature e4361a6 on diffusers 0.32.2, --show_all_layers at 512 x 512: all 197 ids, in order.
    #[test]
    fn shapes_of_the_original() {
        let config = UnetConfig::stable_diffusion_1_5();
        let shapes = Shapes::new(&config, 512, TOKENS);
        let fixture = crate::stores::fixture("shapes.json");
        let expected = fixture["shapes"].as_object().unwrap();
        let ids = config.layout().ids();
        assert_eq!(ids.iter().map(ToString::to_string).collect::<Vec<_>>(), expected.keys().cloned().collect::<Vec<_>>());
        for id in ids {
            assert_eq!(serde_json::json!(shapes.of(id, &[])), expected[&id.to_string()], "{id}");
        }
        assert_eq!(shapes.of(LayerId::VaeOut, &[]), [3, 512, 512]);
    }

    #[test]
    fn channels_of_the_aggregate() {
        let config = UnetConfig::stable_diffusion_1_5();
        let shapes = Shapes::new(&config, 512, TOKENS);
        let channels = |names: &[&str]| {
            let categories: Vec<AttentionCategory> = names.iter().map(|name| name.parse().unwrap()).collect();
            shapes.of(LayerId::Attn, &categories)[0]
        };
        assert_eq!(channels(&["up_cross"]), 154);
        assert_eq!(channels(&["down_self"]), 1280);
        assert_eq!(channels(&["up_cross", "down_cross", "up_self"]), 154 + 154 + 1280);
        assert_eq!(channels(&["mid_self"]), 0);
    }
}
