//! The maps of a UNet that CleanDIFT aligns: the middle's, and those of the up path up to its last level's first block.

use driftless::Result;
use driftless::taps::{LayerId, PassSizes};
use driftless::unet::UnetConfig;

/// A map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// The original's name: `mid`, `us1` and so on.
    pub name: String,
    /// The activation.
    pub id: LayerId,
    /// Its channels.
    pub channels: usize,
}

/// The maps of a UNet, in forward order: after each block of the up path the transformer's output, or where there is none the residual block's;
/// of the last block of a level what the upsampler makes of it; of the last level the first block alone. Eleven with Stable Diffusion's sizes.
///
/// # Errors
/// When the network has no such layers.
pub fn of(config: &UnetConfig) -> Result<Vec<Map>> {
    let layout = config.layout();
    let side = 1 << config.block_out_channels.len();
    let sizes = PassSizes { latents: (side, side), image: (8 * side, 8 * side), tokens: 77 };
    let shapes = layout.shapes(&sizes, &[]);
    let block = |level: usize, repeat: usize| {
        let with_text = layout.parse(&format!("up-level{level}-repeat{repeat}-vit-out"));
        with_text.or_else(|_| layout.parse(&format!("up-level{level}-repeat{repeat}-res-out")))
    };
    let mut ids = vec![layout.parse("mid-repeat1-res-out")?];
    let last = config.block_out_channels.len() - 1;
    for level in 0..last {
        for repeat in 0..config.layers_per_block {
            ids.push(block(level, repeat)?);
        }
        ids.push(layout.parse(&format!("up-level{level}-upsampler-out"))?);
    }
    ids.push(block(last, 0)?);
    let map = |(index, id): (usize, LayerId)| {
        let name = if index == 0 { "mid".to_owned() } else { format!("us{index}") };
        let channels = shapes.iter().find(|(other, _)| *other == id).map_or(0, |(_, shape)| shape[0]);
        Map { name, id, channels }
    };
    Ok(ids.into_iter().enumerate().map(map).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Reference: CompVis/cleandift b070976, configs/sd15_feature_extractor.yaml, `feature_dims`.
    #[test]
    fn eleven_maps_of_stable_diffusion() {
        let maps = of(&UnetConfig::stable_diffusion_1_5()).unwrap();
        let found: Vec<(&str, usize)> = maps.iter().map(|map| (map.name.as_str(), map.channels)).collect();
        let wide = ["mid", "us1", "us2", "us3", "us4", "us5", "us6"].map(|name| (name, 1280));
        assert_eq!(found, [&wide[..], &[("us7", 640), ("us8", 640), ("us9", 640), ("us10", 320)]].concat());
    }
}
