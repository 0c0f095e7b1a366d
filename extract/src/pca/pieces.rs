//! An aggregated feature cut back into its layers and attention maps.

use driftless::taps::AttentionCategory;
use features::stores::Feature;

/// How a feature is cut along its channels.
#[derive(Clone, Debug)]
pub struct Cuts {
    /// Channels of each layer.
    pub layers: Vec<usize>,
    /// Categories of attention behind the layers, all equally wide.
    pub attention: Vec<AttentionCategory>,
    /// Channels of one attention map.
    pub tokens: usize,
}

/// A part of a feature.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The name of its image, without extension: empty for a whole feature, else a path as the original's.
    pub name: String,
    /// Whether each channel gets an image of its own, too.
    pub is_attention: bool,
    /// Its channels.
    pub feature: Feature,
}

/// Cuts that do not add up to a feature's channels.
#[derive(Debug, thiserror::Error)]
pub enum Misfit {
    /// Too many layers.
    #[error("has {channels} channels, fewer than --channels adds up to")]
    TooFew {
        /// The feature's channels.
        channels: usize,
    },
    /// What is behind the layers is no whole number of maps.
    #[error(
        "has {channels} channels, {left} of them behind the layers; --channels, and --attention times --tokens times the number of map sizes, have to add up"
    )]
    NoMaps {
        /// The feature's channels.
        channels: usize,
        /// Those behind the layers.
        left: usize,
    },
}

impl Cuts {
    /// Cuts a feature.
    ///
    /// # Errors
    /// When the cuts do not add up to the feature's channels.
    pub fn cut(&self, feature: &Feature) -> Result<Vec<Piece>, Misfit> {
        if self.layers.is_empty() && self.attention.is_empty() {
            return Ok(vec![Piece { name: String::new(), is_attention: false, feature: feature.clone() }]);
        }
        let layers = self.layers.iter().try_fold(0usize, |sum, channels| sum.checked_add(*channels));
        let left = layers.and_then(|layers| feature.shape[0].checked_sub(layers));
        let channels = feature.shape[0];
        let left = left.ok_or(Misfit::TooFew { channels })?;
        let per_map = self.attention.len() * self.tokens;
        let fits = if self.attention.is_empty() { left == 0 } else { left > 0 && per_map > 0 && left % per_map == 0 };
        if !fits {
            return Err(Misfit::NoMaps { channels, left });
        }
        let mut start = 0;
        let mut take = |channels: usize| {
            start += channels;
            channels_of(feature, start - channels, channels)
        };
        let mut pieces = Vec::new();
        for (number, channels) in self.layers.iter().enumerate() {
            pieces.push(Piece { name: format!("base/{number}"), is_attention: false, feature: take(*channels) });
        }
        for category in &self.attention {
            for number in 0..left / per_map {
                pieces.push(Piece { name: format!("attn/{category}/{number}"), is_attention: true, feature: take(self.tokens) });
            }
        }
        Ok(pieces)
    }
}

fn channels_of(feature: &Feature, start: usize, channels: usize) -> Feature {
    let [_, height, width] = feature.shape;
    let area = height * width;
    Feature { shape: [channels, height, width], values: feature.values[start * area..(start + channels) * area].to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(channels: usize) -> Feature {
        Feature { shape: [channels, 1, 2], values: (0..2 * channels).map(|i| i as f32).collect() }
    }

    fn cut(layers: &[usize], attention: &[AttentionCategory], channels: usize) -> Result<Vec<(String, Vec<f32>)>, String> {
        let cuts = Cuts { layers: layers.to_vec(), attention: attention.to_vec(), tokens: 2 };
        let pieces = cuts.cut(&feature(channels)).map_err(|misfit| misfit.to_string())?;
        Ok(pieces.into_iter().map(|piece| (piece.name, piece.feature.values)).collect())
    }

    #[test]
    fn layers_then_maps() {
        let pieces = cut(&[1, 2], &[AttentionCategory::UpCross, AttentionCategory::DownCross], 11).unwrap();
        let names: Vec<&str> = pieces.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["base/0", "base/1", "attn/up_cross/0", "attn/up_cross/1", "attn/down_cross/0", "attn/down_cross/1"]);
        assert_eq!(pieces[1].1, [2.0, 3.0, 4.0, 5.0]);
        assert_eq!(pieces[5].1, [18.0, 19.0, 20.0, 21.0]);
        assert_eq!(cut(&[], &[], 3).unwrap()[0].0, "");
        assert_eq!(cut(&[], &[AttentionCategory::UpCross], 4).unwrap().len(), 2);
    }

    #[test]
    fn sums_have_to_agree() {
        assert!(cut(&[4], &[], 3).unwrap_err().contains("fewer than"));
        assert!(cut(&[1], &[], 3).unwrap_err().contains("add up"));
        assert!(cut(&[1], &[AttentionCategory::UpCross], 4).is_err());
        assert!(cut(&[4], &[AttentionCategory::UpCross], 4).is_err());
    }
}
