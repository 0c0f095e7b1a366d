//! Agreement with a reference: linear centered kernel alignment over positions.
//!
//! Source: S. Kornblith, M. Norouzi, H. Lee, G. Hinton, "Similarity of Neural Network Representations Revisited", arXiv 1905.00414.

use features::stores::Feature;

use super::{ScoreFault, same_shape};

/// `||X^T Y||^2 / (||X^T X|| ||Y^T Y||)` in Frobenius norms, with positions as rows, channels as columns, columns centered: 0 to 1. `None`
/// where one of the two does not vary.
///
/// # Errors
/// When the shapes differ.
pub fn cka(feature: &Feature, reference: &Feature) -> Result<Option<f64>, ScoreFault> {
    same_shape(feature, reference)?;
    let [channels, height, width] = feature.shape;
    let positions = height * width;
    let [x, y] = [feature, reference].map(|feature| centered(feature, positions));
    // By channels `||X^T Y||^2` is a sum over pairs of channels; by positions it is the product of two Gram matrices. The smaller is taken.
    let (cross, x_norm, y_norm) = match channels <= positions {
        true => {
            let rows = |values: &'_ [f64]| values.chunks_exact(positions.max(1)).map(<[f64]>::to_vec).collect::<Vec<_>>();
            let (x, y) = (rows(&x), rows(&y));
            (products(&x, &y, |dot, _| dot * dot), products(&x, &x, |dot, _| dot * dot), products(&y, &y, |dot, _| dot * dot))
        }
        false => {
            let columns = |values: &[f64]| -> Vec<Vec<f64>> {
                (0..positions).map(|position| values.iter().skip(position).step_by(positions).copied().collect()).collect()
            };
            let (x, y) = (columns(&x), columns(&y));
            let of_y = |(i, j): (usize, usize)| dot(&y[i], &y[j]);
            (
                products(&x, &x, |dot, pair| dot * of_y(pair)),
                products(&x, &x, |dot, _| dot * dot),
                products(&y, &y, |dot, _| dot * dot),
            )
        }
    };
    let norms = (x_norm * y_norm).sqrt();
    Ok((norms > 0.0).then(|| cross / norms))
}

/// Channels without their means.
fn centered(feature: &Feature, positions: usize) -> Vec<f64> {
    let channels = feature.values.chunks_exact(positions.max(1)).map(|channel| {
        let mean = channel.iter().map(|value| f64::from(*value)).sum::<f64>() / positions as f64;
        channel.iter().map(move |value| f64::from(*value) - mean)
    });
    channels.flatten().collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Four sums at once, in an order that does not depend on the machine.
    let (a4, b4) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut sums = [0.0; 4];
    for (a, b) in a4.0.iter().zip(b4.0) {
        for lane in 0..4 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f64>() + a4.1.iter().zip(b4.1).map(|(a, b)| a * b).sum::<f64>()
}

/// A sum over all pairs of rows of what `of` makes of their product. Each row's part is summed by itself, so that threads change nothing.
fn products(a: &[Vec<f64>], b: &[Vec<f64>], of: impl Fn(f64, (usize, usize)) -> f64 + Sync) -> f64 {
    use rayon::prelude::*;
    let of_row = |i: usize| (0..b.len()).map(|j| of(dot(&a[i], &b[j]), (i, j))).sum::<f64>();
    let rows: Vec<f64> = (0..a.len()).into_par_iter().map(of_row).collect();
    rows.iter().sum()
}
