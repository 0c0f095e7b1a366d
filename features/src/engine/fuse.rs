//! One image's features of several sets as one.

use crate::set::FusionMode;
use crate::stores::{Feature, ImageFeatures};
use driftless::error::ArgumentCause;
use driftless::taps::LayerId;

/// A layer whose sizes differ between sets.
#[derive(Debug, thiserror::Error)]
#[error("`{layer}` is {:?} in one set and {:?} in another; leave the layer out of these sets", shapes[0], shapes[1])]
struct Unequal {
    layer: LayerId,
    shapes: [[usize; 3]; 2],
}

/// Fuses features of the same layers.
///
/// # Errors
/// When a layer's sizes differ, as those of attention maps do under prompts of different lengths.
pub fn fuse(mode: FusionMode, sources: &[&ImageFeatures]) -> driftless::Result<ImageFeatures> {
    let Some((first, others)) = sources.split_first() else { return Ok(Vec::new()) };
    let mut fused = Vec::with_capacity(first.len());
    for (number, (id, feature)) in first.iter().enumerate() {
        if let Some((_, other)) = others.iter().map(|features| &features[number]).find(|(_, other)| other.shape != feature.shape)
        {
            let cause = Unequal { layer: *id, shapes: [feature.shape, other.shape] };
            return Err(driftless::Error::argument("fuse", ArgumentCause::above(cause)));
        }
        let features = sources.iter().map(|features| &features[number].1);
        fused.push(match mode {
            FusionMode::Mean => (*id, mean(features, sources.len())),
            FusionMode::Concat => (*id, concatenated(features)),
        });
    }
    Ok(fused)
}

fn mean<'a>(mut features: impl Iterator<Item = &'a Feature>, count: usize) -> Feature {
    let mut sum = features.next().cloned().unwrap_or(Feature { shape: [0; 3], values: Vec::new() });
    for feature in features {
        sum.values.iter_mut().zip(&feature.values).for_each(|(sum, value)| *sum += value);
    }
    sum.values.iter_mut().for_each(|value| *value /= count as f32);
    sum
}

fn concatenated<'a>(features: impl Iterator<Item = &'a Feature>) -> Feature {
    let mut whole = Feature { shape: [0; 3], values: Vec::new() };
    for Feature { shape: [channels, height, width], values } in features {
        whole.shape = [whole.shape[0] + channels, *height, *width];
        whole.values.extend_from_slice(values);
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftless::taps::LayerId;

    #[test]
    fn means_and_joined_channels() {
        let features = |values: [f32; 2]| vec![(LayerId::UnetIn, Feature { shape: [1, 1, 2], values: values.to_vec() })];
        let (a, b) = (features([1.0, 2.0]), features([3.0, 6.0]));
        assert_eq!(fuse(FusionMode::Mean, &[&a, &b]).unwrap(), features([2.0, 4.0]));
        let joined = Feature { shape: [2, 1, 2], values: vec![1.0, 2.0, 3.0, 6.0] };
        assert_eq!(fuse(FusionMode::Concat, &[&a, &b]).unwrap(), vec![(LayerId::UnetIn, joined)]);
        let longer = vec![(LayerId::UnetIn, Feature { shape: [1, 1, 3], values: vec![0.0; 3] })];
        assert!(fuse(FusionMode::Mean, &[&a, &longer]).unwrap_err().to_string().contains("unet-in"));
    }
}
