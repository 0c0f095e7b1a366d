//! Points found again in a warped image, whose truth is known: what the other scores are checked against.

use features::stores::Feature;

use crate::matching::{Target, descriptors};
use crate::warp::Warp;

use super::{ScoreFault, same_shape};

/// Points along each side of the grid that is looked for.
const GRID: usize = 10;
/// A point is found when it is at most this share of the image's side away.
const ALPHA: f64 = 0.1;

/// How well points were found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WarpMatch {
    /// Share of the points found within a tenth of the image's side.
    pub pck: f64,
    /// Mean distance from the truth, in cells of the feature.
    pub cells: f64,
}

/// Finds points of an image's feature in that of the warped image; both images have `side` pixels a side. The points are those of a regular
/// grid of the warped image that the warp takes from within the image.
///
/// # Errors
/// When the shapes differ, or the warp takes nothing from within the image.
pub fn warp_pck(feature: &Feature, warped: &Feature, warp: &Warp, side: usize) -> Result<WarpMatch, ScoreFault> {
    same_shape(feature, warped)?;
    let inside = |value: f64| (0.0..=(side as f64 - 1.0)).contains(&value);
    let grid = (0..GRID).map(|step| ((2 * step + 1) * side / (2 * GRID)) as f64);
    let truth = grid.clone().flat_map(|y| grid.clone().map(move |x| [y, x]));
    let pairs = truth.map(|truth| (truth, warp.source(truth, side))).filter(|(_, [y, x])| inside(*y) && inside(*x));
    let (truth, source): (Vec<[f64; 2]>, Vec<[f64; 2]>) = pairs.unzip();
    if truth.is_empty() {
        return Err(ScoreFault::NoOverlap);
    }
    let found = Target::new(warped, [side, side]).find(&descriptors(feature, &source, [side, side]));
    let distances = found.iter().zip(&truth).map(|(found, [y, x])| {
        let (dy, dx) = (found.row as f64 - y, found.column as f64 - x);
        (dy * dy + dx * dx).sqrt()
    });
    let distances: Vec<f64> = distances.collect();
    let count = distances.len() as f64;
    let cell = side as f64 / feature.shape[1].max(1) as f64;
    Ok(WarpMatch {
        pck: distances.iter().filter(|distance| **distance <= ALPHA * side as f64).count() as f64 / count,
        cells: distances.iter().sum::<f64>() / count / cell,
    })
}
