//! Points of one image found in another by their features: the position of the largest cosine, as if both features were enlarged to
//! the image's size bilinearly (PyTorch's `interpolate(mode="bilinear", align_corners=False)`), of which nothing is ever made.
//!
//! Enlarging is linear. So the product of a descriptor with an enlarged feature is its product with the feature itself, enlarged; and the
//! norm of an enlarged position follows from the products of its four neighbors with each other.

use features::stores::Feature;
use rayon::prelude::*;

/// Where a point was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Row of the enlarged feature.
    pub row: usize,
    /// Its column.
    pub column: usize,
    /// The cosine there.
    pub cosine: f64,
}

/// One side of an enlargement: the two cells that a position lies between, and the share of the second.
#[derive(Clone, Copy, Debug)]
struct Between {
    low: usize,
    high: usize,
    share: f64,
}

/// PyTorch's rule: centers stay centers, what lies before the first center is the first, the last cell has no neighbor.
fn between(cells: usize, size: usize) -> Vec<Between> {
    let at = |position: usize| {
        let source = ((position as f64 + 0.5) * cells as f64 / size as f64 - 0.5).max(0.0);
        let low = (source as usize).min(cells.saturating_sub(1));
        Between { low, high: (low + 1).min(cells.saturating_sub(1)), share: source - low as f64 }
    };
    (0..size).map(at).collect()
}

/// Values of the enlarged feature at points (row, column), rounded half to even and kept within `size`; a list of channels each.
pub fn descriptors(feature: &Feature, points: &[[f64; 2]], size: [usize; 2]) -> Vec<Vec<f64>> {
    let [_, height, width] = feature.shape;
    let (rows, columns) = (between(height, size[0]), between(width, size[1]));
    let nearest = |value: f64, size: usize| (value.round_ties_even().max(0.0) as usize).min(size.saturating_sub(1));
    let of = |[y, x]: &[f64; 2]| {
        let (row, column) = (rows[nearest(*y, size[0])], columns[nearest(*x, size[1])]);
        let channels = feature.values.chunks_exact((height * width).max(1));
        channels.map(|channel| interpolated(|at| f64::from(channel[at]), row, column, width)).collect()
    };
    points.iter().map(of).collect()
}

fn interpolated(of: impl Fn(usize) -> f64, row: Between, column: Between, width: usize) -> f64 {
    let line = |y: usize| of(y * width + column.low) * (1.0 - column.share) + of(y * width + column.high) * column.share;
    line(row.low) * (1.0 - row.share) + line(row.high) * row.share
}

/// A feature that points are looked for in, with the norms of its enlargement.
pub struct Target<'a> {
    feature: &'a Feature,
    rows: Vec<Between>,
    columns: Vec<Between>,
    /// Of every enlarged position, row by row.
    norms: Vec<f64>,
}

impl<'a> Target<'a> {
    /// Prepares a feature, as if enlarged to `size` (rows, columns).
    pub fn new(feature: &'a Feature, size: [usize; 2]) -> Self {
        let [_, height, width] = feature.shape;
        let (rows, columns) = (between(height, size[0]), between(width, size[1]));
        // Products of every cell with itself and its neighbors: right, below, below right; and of the one to the right with the one below.
        let product = |(y0, x0): (usize, usize), (y1, x1): (usize, usize)| {
            let channels = feature.values.chunks_exact((height * width).max(1));
            channels.map(|channel| f64::from(channel[y0 * width + x0]) * f64::from(channel[y1 * width + x1])).sum::<f64>()
        };
        let cell = |at: usize| {
            let (y, x) = (at / width, at % width);
            let (below, right) = ((y + 1).min(height - 1), (x + 1).min(width - 1));
            [(y, x), (y, right), (below, x), (below, right)]
                .map(|other| product((y, x), other))
                .into_iter()
                .chain([product((y, right), (below, x))])
                .collect::<Vec<f64>>()
        };
        let cells: Vec<Vec<f64>> = (0..height * width).into_par_iter().map(cell).collect();
        let norm = |row: &Between, column: &Between| {
            let at = |y: usize, x: usize| &cells[y * width + x];
            let (a, b) = ((1.0 - row.share, row.share), (1.0 - column.share, column.share));
            let weights = [a.0 * b.0, a.0 * b.1, a.1 * b.0, a.1 * b.1];
            let corner = at(row.low, column.low);
            let own = [corner[0], at(row.low, column.high)[0], at(row.high, column.low)[0], at(row.high, column.high)[0]];
            // Pairs of the four corners: top, left, diagonal, antidiagonal, right, bottom.
            let pairs = [
                (0, 1, corner[1]),
                (0, 2, corner[2]),
                (0, 3, corner[3]),
                (1, 2, corner[4]),
                (1, 3, at(row.low, column.high)[2]),
                (2, 3, at(row.high, column.low)[1]),
            ];
            let squares: f64 = (0..4).map(|i| weights[i] * weights[i] * own[i]).sum();
            let mixed: f64 = pairs.iter().map(|(i, j, product)| 2.0 * weights[*i] * weights[*j] * product).sum();
            (squares + mixed).max(0.0).sqrt()
        };
        let norms = rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column)));
        let norms = norms.map(|(row, column)| norm(row, column)).collect();
        Self { feature, rows, columns, norms }
    }

    /// Where each descriptor is found: the largest cosine, the first in row-major order of equal ones. A position without a direction is
    /// never taken unless there is no other.
    pub fn find(&self, descriptors: &[Vec<f64>]) -> Vec<Found> {
        descriptors.par_iter().map(|descriptor| self.find_one(descriptor)).collect()
    }

    fn find_one(&self, descriptor: &[f64]) -> Found {
        let [_, height, width] = self.feature.shape;
        let mut products = vec![0.0; height * width];
        for (channel, weight) in self.feature.values.chunks_exact((height * width).max(1)).zip(descriptor) {
            products.iter_mut().zip(channel).for_each(|(product, value)| *product += weight * f64::from(*value));
        }
        let length = descriptor.iter().map(|value| value * value).sum::<f64>().sqrt();
        let mut best = Found { row: 0, column: 0, cosine: f64::NEG_INFINITY };
        for (row, line) in self.rows.iter().enumerate() {
            for (column, along) in self.columns.iter().enumerate() {
                let norm = self.norms[row * self.columns.len() + column] * length;
                let cosine = interpolated(|at| products[at], *line, *along, width) / norm;
                if cosine > best.cosine {
                    best = Found { row, column, cosine };
                }
            }
        }
        best
    }
}
