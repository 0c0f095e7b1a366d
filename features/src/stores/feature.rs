//! One image's feature, and what happens to it between network and file: pooling and the split of a batch.

use candle_core::{DType, Device, Tensor};
use driftless::taps::LayerId;
use half::f16;

/// A feature map `[channels, height, width]`, or attention maps `[heads, queries, keys]`, in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    /// Sizes.
    pub shape: [usize; 3],
    /// As many values as the product of `shape`.
    pub values: Vec<f32>,
}

/// The features of one image.
pub type ImageFeatures = Vec<(LayerId, Feature)>;

/// Splits features of a batch into those of its images, and pools them. `attn` and `vae-out` are not pooled, attention maps are: their
/// queries and keys are taken for rows and columns, as in the original.
///
/// # Shapes
/// Tensors `[b, c, h, w]`, all with the same `b`.
/// # Errors
/// When a tensor has another shape or cannot be brought to the CPU.
pub fn split_batch(features: Vec<(LayerId, Tensor)>, feature_resize: usize) -> driftless::Result<Vec<ImageFeatures>> {
    let images = features.first().map_or(Ok(0), |(_, tensor)| tensor.dim(0))?;
    (0..images).map(|image| image_of_batch(&features, image, feature_resize)).collect()
}

/// One image's part of [`split_batch`].
///
/// # Errors
/// As there.
pub fn image_of_batch(features: &[(LayerId, Tensor)], image: usize, feature_resize: usize) -> driftless::Result<ImageFeatures> {
    let of = |(id, tensor): &(LayerId, Tensor)| {
        let (_, channels, height, width) = tensor.dims4()?;
        let one = tensor.get(image)?.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        let feature = Feature { shape: [channels, height, width], values: one.flatten_all()?.to_vec1()? };
        let pooled = is_pooled(*id) && feature_resize > 1;
        Ok((*id, if pooled { feature.pooled(feature_resize) } else { feature }))
    };
    features.iter().map(of).collect()
}

/// Of groups of images that went through the network together, the one with an image, and the image's position in it.
///
/// # Errors
/// When a tensor has no batch.
pub fn group_of(groups: &[Vec<(LayerId, Tensor)>], mut image: usize) -> driftless::Result<Option<(&[(LayerId, Tensor)], usize)>> {
    for group in groups {
        let images = group.first().map_or(Ok(0), |(_, tensor)| tensor.dim(0))?;
        if image < images {
            return Ok(Some((group, image)));
        }
        image -= images;
    }
    Ok(None)
}

/// Whether pooling applies to a layer.
pub fn is_pooled(id: LayerId) -> bool {
    !matches!(id, LayerId::Attn | LayerId::VaeOut)
}

impl Feature {
    /// Adaptive average pooling to `height / ratio` x `width / ratio`, rounded down (`torch.nn.functional.adaptive_avg_pool2d`): output
    /// i covers the inputs from floor(i in / out) to ceil((i + 1) in / out).
    pub fn pooled(&self, ratio: usize) -> Self {
        let [channels, height, width] = self.shape;
        let (out_height, out_width) = (height / ratio, width / ratio);
        let rows: Vec<_> = (0..out_height).map(|i| window(i, height, out_height)).collect();
        let columns: Vec<_> = (0..out_width).map(|i| window(i, width, out_width)).collect();
        let mut values = Vec::with_capacity(channels * out_height * out_width);
        for channel in self.values.chunks_exact((height * width).max(1)).take(channels) {
            for row in &rows {
                for column in &columns {
                    let sum: f32 =
                        row.clone().map(|y| channel[y * width + column.start..y * width + column.end].iter().sum::<f32>()).sum();
                    values.push(sum / (row.len() * column.len()) as f32);
                }
            }
        }
        Self { shape: [channels, out_height, out_width], values }
    }

    /// Whether some value is not finite in the type it is stored in: NaN, infinite, or too large for float16.
    pub fn overflows(&self, dtype: DType) -> bool {
        match dtype {
            DType::F16 => self.values.iter().any(|value| !f16::from_f32(*value).is_finite()),
            _ => self.values.iter().any(|value| !value.is_finite()),
        }
    }

    /// The values' bytes in `dtype` (float16, else float32), little-endian; each is rounded once, to nearest even.
    pub fn bytes(&self, dtype: DType) -> Vec<u8> {
        match dtype {
            DType::F16 => self.values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
            _ => self.values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }

    /// The feature as a tensor of `dtype`.
    ///
    /// # Errors
    /// When memory is short.
    pub fn tensor(&self, dtype: DType) -> driftless::Result<Tensor> {
        Ok(Tensor::from_slice(&self.values, &self.shape, &Device::Cpu)?.to_dtype(dtype)?)
    }
}

fn window(i: usize, size: usize, out: usize) -> std::ops::Range<usize> {
    i * size / out..((i + 1) * size).div_ceil(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::fixture;

    // Reference: torch 2.15 adaptive_avg_pool2d, float32, CPU: tests/reference/extract_outputs.py. 1e-6 absolute: sums of at most 9
    // numbers around 1 in another order.
    #[test]
    fn pooling_equals_torch() {
        for case in fixture("outputs.json")["pooling"].as_array().unwrap() {
            let input = Feature::from_json(&case["input"]);
            let expected = Feature::from_json(&case["output"]);
            let pooled = input.pooled(case["ratio"].as_u64().unwrap() as usize);
            assert_eq!(pooled.shape, expected.shape);
            for (ours, theirs) in pooled.values.iter().zip(&expected.values) {
                assert!((ours - theirs).abs() < 1e-6, "{ours} {theirs}");
            }
        }
    }

    #[test]
    fn a_batch_is_split_and_only_unet_layers_are_pooled() {
        let tensor = Tensor::arange(0f32, 64.0, &Device::Cpu).unwrap().reshape((2, 2, 4, 4)).unwrap();
        let images = split_batch(vec![(LayerId::UnetIn, tensor.clone()), (LayerId::Attn, tensor)], 2).unwrap();
        assert_eq!(images.len(), 2);
        assert_eq!(images[1][0].1.shape, [2, 2, 2]);
        assert_eq!(images[1][0].1.values[0], (32.0 + 33.0 + 36.0 + 37.0) / 4.0);
        assert_eq!(images[1][1].1.shape, [2, 4, 4]);
        assert_eq!(images[1][1].1.values[0], 32.0);
    }

    #[test]
    fn float16_overflow_is_seen() {
        let feature = |value| Feature { shape: [1, 1, 1], values: vec![value] };
        assert!(feature(70000.0).overflows(DType::F16) && !feature(70000.0).overflows(DType::F32));
        assert!(feature(f32::NAN).overflows(DType::F32) && !feature(1.0).overflows(DType::F16));
    }
}
