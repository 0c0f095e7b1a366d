//! The softmax inside attention, on a panel of scores `[keys, queries]`, two vectors of queries wide: everything runs down the columns,
//! whose numbers are independent.
//!
//! - [`soften`]: the running softmax of the forward pass. Scores become weights relative to the greatest so far; what was summed up
//!   relative to a smaller one is scaled down (Milakov and Gimelshein 2018, arXiv 1805.02867, algorithm 3).
//! - [`slope`]: weights again from the saved logarithms of their sums, and gradients of weights into those of scores.

use crate::kernels::isa::exponential::exp_vector;
use crate::kernels::isa::lanes::Lanes;

/// Rows whose maxima and sums are taken beside each other, as one waits for the one before. Panels have whole vectors of rows, which
/// are multiples of it.
const BESIDE: usize = 4;

/// What the queries of a panel have met so far, all `[.., queries]`.
pub struct Softened<'a> {
    /// `[head, queries]`: the output, times the totals.
    pub out: &'a mut [f32],
    /// The greatest score.
    pub greatest: &'a mut [f32],
    /// The sum of the weights.
    pub total: &'a mut [f32],
}

/// Turns a panel's scores against a tile into weights relative to the greatest score so far, and brings the sums and the output up to
/// date.
#[inline(always)]
pub fn soften<S: Lanes>(simd: S, own: Softened, scores: &mut [f32]) {
    let (scores, _) = S::as_mut_simd_f32s(scores);
    let (out, _) = S::as_mut_simd_f32s(own.out);
    let (greatest, _) = S::as_mut_simd_f32s(own.greatest);
    let (total, _) = S::as_mut_simd_f32s(own.total);
    for half in 0..2 {
        let before = greatest[half];
        let mut maxima = [before; BESIDE];
        for rows in scores.chunks_exact(2 * BESIDE) {
            for (row, maximum) in maxima.iter_mut().enumerate() {
                *maximum = simd.max_f32s(*maximum, rows[2 * row + half]);
            }
        }
        let maximum = maxima.into_iter().fold(before, |one, other| simd.max_f32s(one, other));
        let mut sums = [simd.splat_f32s(0.0); BESIDE];
        for rows in scores.chunks_exact_mut(2 * BESIDE) {
            for (row, sum) in sums.iter_mut().enumerate() {
                let weight = exp_vector(simd, simd.sub_f32s(rows[2 * row + half], maximum));
                rows[2 * row + half] = weight;
                *sum = simd.add_f32s(*sum, weight);
            }
        }
        let correction = exp_vector(simd, simd.sub_f32s(before, maximum));
        let sum = sums.into_iter().fold(simd.splat_f32s(0.0), |one, other| simd.add_f32s(one, other));
        total[half] = simd.multiply_add(total[half], correction, sum);
        greatest[half] = maximum;
        for row in out.chunks_exact_mut(2) {
            row[half] = simd.mul_f32s(row[half], correction);
        }
    }
}

/// Scores become weights, and gradients of weights (`slopes`) become gradients of scores: `weight * (slope - mean)`.
#[inline(always)]
pub fn slope<S: Lanes>(simd: S, weights: &mut [f32], slopes: &mut [f32], log_sums: &[f32], means: &[f32]) {
    let (weights, _) = S::as_mut_simd_f32s(weights);
    let (slopes, _) = S::as_mut_simd_f32s(slopes);
    let (log_sums, _) = S::as_simd_f32s(log_sums);
    let (means, _) = S::as_simd_f32s(means);
    let (log_sums, means) = ([log_sums[0], log_sums[1]], [means[0], means[1]]);
    for (weights, slopes) in weights.chunks_exact_mut(2).zip(slopes.chunks_exact_mut(2)) {
        for half in 0..2 {
            weights[half] = exp_vector(simd, simd.sub_f32s(weights[half], log_sums[half]));
            slopes[half] = simd.mul_f32s(weights[half], simd.sub_f32s(slopes[half], means[half]));
        }
    }
}
