//! Which layer ids a UNet has, in the order in which a forward pass reaches them.

use super::{BlockPart, LayerId, Place};
use crate::{Error, Result};

/// One level of the down or up path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Residual blocks in this level.
    pub repeats: usize,
    /// Transformer blocks behind each residual block; 0 for a level without attention.
    pub transformer_blocks: usize,
    /// Whether a down- or upsampler ends the level.
    pub sampler: bool,
}

/// The depth of a UNet: what is needed to list its layer ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Down path, from the full resolution.
    pub down: Vec<Level>,
    /// Transformer blocks of the middle.
    pub mid_transformer_blocks: usize,
    /// Up path, from the lowest resolution.
    pub up: Vec<Level>,
}

impl Layout {
    /// Stable Diffusion 1.5's: 197 ids.
    pub fn stable_diffusion_1_5() -> Self {
        let level = |repeats, transformer_blocks, sampler| Level { repeats, transformer_blocks, sampler };
        Self {
            down: vec![level(2, 1, true), level(2, 1, true), level(2, 1, true), level(2, 0, false)],
            mid_transformer_blocks: 1,
            up: vec![level(3, 0, true), level(3, 1, true), level(3, 1, true), level(3, 1, false)],
        }
    }

    /// Every id of the UNet in forward order (the order of the original's store and of aggregated channels).
    pub fn ids(&self) -> Vec<LayerId> {
        let mut ids = vec![LayerId::UnetIn, LayerId::UnetAfterConvIn];
        for (level, sizes) in self.down.iter().enumerate() {
            for repeat in 0..sizes.repeats {
                push_pair(&mut ids, Place::Down { level, repeat }, sizes.transformer_blocks);
            }
            ids.extend(sizes.sampler.then_some(LayerId::DownsamplerOut(level)));
        }
        push_pair(&mut ids, Place::Mid { repeat: 0 }, self.mid_transformer_blocks);
        push_pair(&mut ids, Place::Mid { repeat: 1 }, 0);
        for (level, sizes) in self.up.iter().enumerate() {
            for repeat in 0..sizes.repeats {
                push_pair(&mut ids, Place::Up { level, repeat }, sizes.transformer_blocks);
            }
            ids.extend(sizes.sampler.then_some(LayerId::UpsamplerOut(level)));
        }
        ids.push(LayerId::UnetOut);
        ids
    }

    /// Reads a layer id and makes sure that this UNet has it. `vae-out` and `attn` are accepted as well.
    ///
    /// # Errors
    /// [`Error::Unknown`] naming the nearest id; [`Error::Argument`] for `cross-k` and `cross-v`, which have the text's length
    /// instead of the image's and are no features of it.
    pub fn parse(&self, text: &str) -> Result<LayerId> {
        if text.ends_with("cross-k") || text.ends_with("cross-v") {
            let problem = "keys and values of the cross-attention depend on the text alone and cannot be extracted; use the `-cross-q` or `-cross-map` layer";
            return Err(Error::argument(format!("layer id `{text}`"), problem));
        }
        let ids = self.ids();
        match text.parse() {
            Ok(id @ (LayerId::VaeOut | LayerId::Attn)) => return Ok(id),
            Ok(id) if ids.contains(&id) => return Ok(id),
            _ => {}
        }
        let names: Vec<String> = ids.iter().chain(&[LayerId::VaeOut, LayerId::Attn]).map(ToString::to_string).collect();
        Err(Error::unknown("layer id", text, names.iter().map(String::as_str)))
    }
}

fn push_pair(ids: &mut Vec<LayerId>, place: Place, transformer_blocks: usize) {
    ids.extend([LayerId::ResIncrement(place), LayerId::ResOut(place)]);
    if transformer_blocks > 0 {
        for block in 0..transformer_blocks {
            ids.extend(BlockPart::all().map(|part| LayerId::Block(place, block, part)));
        }
        ids.push(LayerId::VitOut(place));
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
