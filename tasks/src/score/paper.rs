//! The paper's own score (arXiv 2410.06719, section 5.2), with conventions where it leaves a choice: the Laplacian is
//! `[[0,1,0],[1,-4,1],[0,1,0]]` per channel, at inner positions; the reference is the plain model at t = 0, the anchor the plain model at the
//! same t with another draw of the noise.

use features::stores::Feature;

use super::{ScoreFault, same_shape};

/// Both forms of the score: 1 means the reference's contours, 0 those of the anchor. `None` where the anchor has the reference's contours
/// itself, or a map is too small to have any.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Paper {
    /// As the paper has it.
    pub raw: Option<f64>,
    /// With contours divided by their mean, since features at two timesteps differ in scale.
    pub scale_free: Option<f64>,
}

/// `(diff(anchor) - diff(feature)) / diff(anchor)`, where `diff` sums the differences of contours from the reference's.
///
/// # Errors
/// When the shapes differ.
pub fn paper(feature: &Feature, reference: &Feature, anchor: &Feature) -> Result<Paper, ScoreFault> {
    same_shape(feature, reference)?;
    same_shape(feature, anchor)?;
    let [feature, reference, anchor] = [feature, reference, anchor].map(contours);
    let raw = score(&feature, &reference, &anchor);
    let [feature, reference, anchor] = [feature, reference, anchor].map(scaled);
    Ok(Paper { raw, scale_free: score(&feature, &reference, &anchor) })
}

fn score(feature: &[f64], reference: &[f64], anchor: &[f64]) -> Option<f64> {
    let diff = |contours: &[f64]| reference.iter().zip(contours).map(|(a, b)| (a - b).abs()).sum::<f64>();
    let (of_anchor, of_feature) = (diff(anchor), diff(feature));
    (of_anchor > 0.0).then(|| (of_anchor - of_feature) / of_anchor)
}

/// The norm over channels of the Laplacian at every inner position.
fn contours(feature: &Feature) -> Vec<f64> {
    let [_, height, width] = feature.shape;
    let inner = |size: usize| 1..size.saturating_sub(1);
    let at = |y: usize, x: usize| {
        let channels = feature.values.chunks_exact((height * width).max(1)).map(|channel| {
            let value = |y: usize, x: usize| f64::from(channel[y * width + x]);
            let around = value(y - 1, x) + value(y + 1, x) + value(y, x - 1) + value(y, x + 1);
            (around - 4.0 * value(y, x)).powi(2)
        });
        channels.sum::<f64>().sqrt()
    };
    inner(height).flat_map(|y| inner(width).map(move |x| (y, x))).map(|(y, x)| at(y, x)).collect()
}

fn scaled(contours: Vec<f64>) -> Vec<f64> {
    let mean = contours.iter().sum::<f64>() / contours.len() as f64;
    if mean > 0.0 { contours.into_iter().map(|value| value / mean).collect() } else { contours }
}
