//! All layers of an image in one array, as the original's `--aggregate_output`: every layer is enlarged to the largest last axis by
//! nearest neighbor, and they are joined over channels in the order of the store. Attention maps are stretched like images.

use driftless::taps::LayerId;

use super::Feature;

/// The sizes of an aggregate of layers of these shapes.
pub fn aggregated_size(shapes: impl IntoIterator<Item = [usize; 3]> + Clone) -> [usize; 3] {
    let side = shapes.clone().into_iter().map(|shape| shape[2]).max().unwrap_or(0);
    let channels = shapes.into_iter().fold(0usize, |sum, shape| sum.saturating_add(shape[0]));
    [channels, side, side]
}

/// Joins layers.
pub fn aggregate(features: &[(LayerId, Feature)]) -> Feature {
    let shape = aggregated_size(features.iter().map(|(_, feature)| feature.shape));
    let side = shape[1];
    let mut values = Vec::with_capacity(shape.iter().product());
    for (_, feature) in features {
        let [_, height, width] = feature.shape;
        let rows: Vec<usize> = (0..side).map(|i| nearest(i, height, side)).collect();
        let columns: Vec<usize> = (0..side).map(|i| nearest(i, width, side)).collect();
        for channel in feature.values.chunks_exact((height * width).max(1)) {
            for row in &rows {
                let line = &channel[row * width..(row + 1) * width];
                values.extend(columns.iter().map(|column| line[*column]));
            }
        }
    }
    Feature { shape, values }
}

/// The input that output `i` shows, in PyTorch's arithmetic (`upsample_nearest2d`): the scale is rounded to float32, which now and then
/// picks the neighbor of what exact arithmetic would.
fn nearest(i: usize, input: usize, output: usize) -> usize {
    if output == input {
        return i;
    }
    if output == 2 * input {
        return i / 2;
    }
    let scale = input as f32 / output as f32;
    ((i as f32 * scale) as usize).min(input - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::fixture;

    // Reference: torch 2.15 interpolate (nearest) and cat: tests/reference/extract_outputs.py. Exact: values are copied.
    #[test]
    fn aggregation_equals_torch() {
        let cases = fixture("outputs.json");
        for case in cases["aggregation"].as_array().unwrap() {
            let inputs = case["inputs"].as_array().unwrap().iter();
            let features: Vec<_> = inputs.map(|input| (LayerId::UnetIn, Feature::from_json(input))).collect();
            assert_eq!(aggregate(&features), Feature::from_json(&case["output"]));
        }
    }

    #[test]
    fn source_indices_equal_torch() {
        let cases = fixture("outputs.json");
        for case in cases["nearest"].as_array().unwrap() {
            let size = |key: &str| case[key].as_u64().unwrap() as usize;
            let indices: Vec<usize> = (0..size("output")).map(|i| nearest(i, size("input"), size("output"))).collect();
            let expected: Vec<usize> = case["indices"].as_array().unwrap().iter().map(|i| i.as_u64().unwrap() as usize).collect();
            assert_eq!(indices, expected, "{} to {}", case["input"], case["output"]);
        }
    }
}
