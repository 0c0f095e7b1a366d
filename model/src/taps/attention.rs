//! The original extractor's aggregated attention (`--attention up_cross ...`), the layer id `attn`.

use candle_core::Tensor;

use super::Position;
use crate::{Error, Result};

/// Which attention maps are aggregated: a path of the UNet, and self- or cross-attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttentionCategory {
    /// Cross-attention of the down path.
    DownCross,
    /// Cross-attention of the middle.
    MidCross,
    /// Cross-attention of the up path.
    UpCross,
    /// Self-attention of the down path.
    DownSelf,
    /// Self-attention of the middle.
    MidSelf,
    /// Self-attention of the up path.
    UpSelf,
}

impl AttentionCategory {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::DownCross, Self::MidCross, Self::UpCross, Self::DownSelf, Self::MidSelf, Self::UpSelf];

    /// Whether its maps are of the cross-attention, whose keys are the text's tokens.
    pub fn is_cross(self) -> bool {
        match self {
            Self::DownCross | Self::MidCross | Self::UpCross => true,
            Self::DownSelf | Self::MidSelf | Self::UpSelf => false,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::DownCross => "down_cross",
            Self::MidCross => "mid_cross",
            Self::UpCross => "up_cross",
            Self::DownSelf => "down_self",
            Self::MidSelf => "mid_self",
            Self::UpSelf => "up_self",
        }
    }

    /// The category of an attention layer.
    pub fn of(position: Position, cross: bool) -> Self {
        match (position, cross) {
            (Position::Down { .. }, true) => Self::DownCross,
            (Position::Mid { .. }, true) => Self::MidCross,
            (Position::Up { .. }, true) => Self::UpCross,
            (Position::Down { .. }, false) => Self::DownSelf,
            (Position::Mid { .. }, false) => Self::MidSelf,
            (Position::Up { .. }, false) => Self::UpSelf,
        }
    }
}

impl std::str::FromStr for AttentionCategory {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = AttentionCategory::ALL.into_iter().find(|category| category.name() == text);
        found.ok_or_else(|| Error::unknown("attention", text, AttentionCategory::ALL.map(Self::name)))
    }
}

impl std::fmt::Display for AttentionCategory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Head-averaged maps collected during one forward pass: category, map `[b, queries, keys]`, and the queries' height and width.
#[derive(Clone, Debug, Default)]
pub(super) struct CollectedMaps(pub Vec<(AttentionCategory, Tensor, (usize, usize))>);

impl CollectedMaps {
    /// The original's aggregate: maps of equal size averaged over layers, keys as channels, enlarged by nearest neighbor to the
    /// latents' size, concatenated over the categories as requested and in them over the sizes as they first appeared.
    ///
    /// # Shapes
    /// Returns `[b, sum of keys, height, width]`.
    pub fn aggregate(&self, categories: &[AttentionCategory], height: usize, width: usize) -> Result<Tensor> {
        let mut channels = Vec::new();
        for category in categories {
            let mut sizes: Vec<(usize, usize)> = Vec::new();
            for (_, _, size) in self.0.iter().filter(|(found, ..)| found == category) {
                if !sizes.contains(size) {
                    sizes.push(*size);
                }
            }
            for size in sizes {
                let maps: Vec<&Tensor> = self
                    .0
                    .iter()
                    .filter(|(found, _, other)| found == category && *other == size)
                    .map(|(_, map, _)| map)
                    .collect();
                let mean = Tensor::stack(&maps, 0)?.mean(0)?;
                let (batch, _, keys) = mean.dims3()?;
                let image = mean.transpose(1, 2)?.contiguous()?.reshape((batch, keys, size.0, size.1))?;
                channels.push(image.upsample_nearest2d(height, width)?);
            }
        }
        Ok(Tensor::cat(&channels, 1)?)
    }
}
