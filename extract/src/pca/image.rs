//! Numbers to colors, with the original's recipe (`feature_visualization.py`).

use driftless::vision::{Filter, Rgb, resize};
use features::projection::{NoComponents, scores};
use features::stores::Feature;
use half::f16;

/// Side of the images of single tokens.
const TOKEN_SIDE: usize = 256;

/// A feature's first three principal components as red, green and blue, each stretched to 0..255 and truncated.
///
/// # Errors
/// When there are fewer than three channels or positions, or a number is not finite.
pub fn components(feature: &Feature) -> Result<Rgb, NoComponents> {
    let [channels, height, width] = feature.shape;
    let channels = scores(&feature.values, channels, height * width)?.map(|scores| stretched(&scores));
    let pixels = (0..height * width).flat_map(|i| [channels[0][i], channels[1][i], channels[2][i]]).collect();
    Ok(Rgb { width, height, pixels })
}

/// 0 for the smallest, 255 for the largest; a constant gives 0.
fn stretched(values: &[f64]) -> Vec<u8> {
    let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // Truncated by the cast, which also turns the not-a-number of a constant into 0.
    values.iter().map(|value| ((value - smallest) / (largest - smallest) * 255.0) as u8).collect()
}

/// An image enlarged (or reduced) so that its short side has `side` pixels, nearest neighbor.
pub fn enlarged(image: &Rgb, side: usize) -> Rgb {
    let short = image.width.min(image.height).max(1);
    resize(image, image.width * side / short, image.height * side / short, Filter::Nearest)
}

/// The attention that one token gets: x 255 / largest, truncated, gray, bicubic to 256 x 256. The original computes in the file's type,
/// so float16 files are rounded after each step.
pub fn token(values: &[f32], height: usize, width: usize, is_half: bool) -> Rgb {
    let round = |value: f32| if is_half { f16::from_f32(value).to_f32() } else { value };
    let largest = values.iter().copied().fold(0.0, f32::max);
    let pixels = values.iter().flat_map(|value| [round(round(255.0 * value) / largest) as u8; 3]).collect();
    resize(&Rgb { width, height, pixels }, TOKEN_SIDE, TOKEN_SIDE, Filter::Bicubic)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A committed fixture, made by the scripts in tests/reference.
    fn fixture(name: &str) -> serde_json::Value {
        let path = format!("{}/../tests/fixtures/extract/{name}", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    /// `{"shape": [c, h, w], "values": [...]}`.
    fn feature(value: &serde_json::Value) -> Feature {
        let shape: Vec<usize> = serde_json::from_value(value["shape"].clone()).unwrap();
        Feature { shape: shape.try_into().unwrap(), values: serde_json::from_value(value["values"].clone()).unwrap() }
    }

    fn bytes(value: &serde_json::Value) -> Vec<u8> {
        serde_json::from_value(value.clone()).unwrap()
    }

    // Reference: NumPy's exact SVD with scikit-learn's signs, and Pillow: tests/reference/extract_pca.py. Bytes are truncated, so the
    // last bits of float64 may move one by one level; more than one in a hundred would not be rounding.
    #[test]
    fn components_equal_the_original() {
        for case in fixture("pca.json")["components"].as_array().unwrap() {
            let image = components(&feature(&case["feature"])).unwrap();
            let expected = bytes(&case["pixels"]);
            assert_eq!(image.pixels.len(), expected.len());
            let off: Vec<i32> = image.pixels.iter().zip(&expected).map(|(a, b)| i32::from(*a) - i32::from(*b)).collect();
            assert!(off.iter().all(|off| off.abs() <= 1), "{off:?}");
            assert!(off.iter().filter(|off| **off != 0).count() * 100 <= off.len());
        }
    }

    // Exact: the same roundings in the same order.
    #[test]
    fn tokens_equal_the_original() {
        for case in fixture("pca.json")["tokens"].as_array().unwrap() {
            let map = feature(&case["feature"]);
            let image = token(&map.values, map.shape[1], map.shape[2], case["is_half"].as_bool().unwrap());
            let sampled: Vec<u8> = image.pixels.iter().step_by(3 * 37).copied().collect();
            assert_eq!(sampled, bytes(&case["every_37th_pixel"]));
        }
    }

    #[test]
    fn constants_are_black_and_too_few_channels_refused() {
        let feature = Feature { shape: [3, 2, 2], values: vec![5.0; 12] };
        assert_eq!(components(&feature).unwrap().pixels, [0; 12]);
        let feature = Feature { shape: [2, 2, 2], values: vec![5.0; 8] };
        assert!(components(&feature).unwrap_err().to_string().contains("has 2 channels"));
        assert_eq!(token(&[0.0; 4], 2, 2, false).pixels[0], 0);
    }

    #[test]
    fn short_sides_become_the_size() {
        let image = enlarged(&Rgb::filled(4, 2, [1, 2, 3]), 10);
        assert_eq!((image.width, image.height), (20, 10));
    }
}
