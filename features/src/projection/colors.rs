//! A feature as an image: its first three components in a common basis as red, green and blue.

use driftless::vision::Rgb;

use super::{Basis, COMPONENTS, NoComponents};
use crate::stores::Feature;

/// Standard deviations from black to full color: all but a few outliers of any distribution (Chebyshev: at most 4 of 25).
const SPREAD: f64 = 5.0;

/// Red, green and blue along the three axes: the mean is gray, and the ends are where few positions are.
///
/// # Errors
/// When the feature has other channels than the basis.
pub fn colored(feature: &Feature, basis: &Basis) -> Result<Rgb, NoComponents> {
    let [channels, height, width] = feature.shape;
    let scores = basis.scores(&feature.values, channels, height * width)?;
    let mut pixels = vec![0; COMPONENTS * height * width];
    for (color, (scores, variance)) in scores.iter().zip(&basis.variance).enumerate() {
        let spread = (SPREAD * variance.sqrt()).max(f64::MIN_POSITIVE);
        for (pixel, score) in pixels.chunks_exact_mut(COMPONENTS).zip(scores) {
            // The cast saturates.
            pixel[color] = ((score / spread + 0.5) * 256.0) as u8;
        }
    }
    Ok(Rgb { width, height, pixels })
}
