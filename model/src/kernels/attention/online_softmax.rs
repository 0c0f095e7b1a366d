//! The softmax inside attention, on a panel of scores `[keys, NR queries]`: everything runs down the columns, whose numbers are
//! independent.
//!
//! - [`update`]: the online softmax of the forward pass. Scores become weights relative to the greatest so far; what was summed up
//!   relative to a smaller one is scaled down (Milakov and Gimelshein 2018, arXiv 1805.02867, algorithm 3).
//! - [`backward`]: weights again from the saved logarithms of their sums, and gradients of weights into those of scores.

use pulp::Simd;

use crate::kernels::isa::exp::exp_vector;
use crate::kernels::isa::{Isa, Vector};

/// Rows whose maxima and sums are taken at once, as one waits for the one before. Panels have whole vectors of rows, which are
/// multiples of it. Decides an order of summation.
const ACCUMULATORS: usize = 4;

/// What the queries of a panel have met so far, all `[.., queries]`.
pub struct Running<'a> {
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
pub fn update<I: Isa>(isa: I, own: Running, scores: &mut [f32]) {
    let (simd, vectors) = (isa.simd(), I::NR / I::LANES);
    let (scores, _) = I::Simd::as_mut_simd_f32s(scores);
    let (out, _) = I::Simd::as_mut_simd_f32s(own.out);
    let (greatest, _) = I::Simd::as_mut_simd_f32s(own.greatest);
    let (total, _) = I::Simd::as_mut_simd_f32s(own.total);
    for vector in 0..vectors {
        let before = greatest[vector];
        let mut maxima = [before; ACCUMULATORS];
        for rows in scores.chunks_exact(vectors * ACCUMULATORS) {
            for (row, maximum) in maxima.iter_mut().enumerate() {
                *maximum = simd.max_f32s(*maximum, rows[vectors * row + vector]);
            }
        }
        let maximum = maxima.into_iter().fold(before, |one, other| simd.max_f32s(one, other));
        let mut sums = [simd.splat_f32s(0.0); ACCUMULATORS];
        for rows in scores.chunks_exact_mut(vectors * ACCUMULATORS) {
            for (row, sum) in sums.iter_mut().enumerate() {
                let weight = exp_vector(simd, simd.sub_f32s(rows[vectors * row + vector], maximum));
                rows[vectors * row + vector] = weight;
                *sum = simd.add_f32s(*sum, weight);
            }
        }
        let correction = exp_vector(simd, simd.sub_f32s(before, maximum));
        let sum = sums.into_iter().fold(simd.splat_f32s(0.0), |one, other| simd.add_f32s(one, other));
        total[vector] = simd.multiply_add(total[vector], correction, sum);
        greatest[vector] = maximum;
        for row in out.chunks_exact_mut(vectors) {
            row[vector] = simd.mul_f32s(row[vector], correction);
        }
    }
}

/// Scores become weights, and gradients of weights (`slopes`) become gradients of scores: `weight * (slope - mean)`.
#[inline(always)]
pub fn backward<I: Isa>(isa: I, weights: &mut [f32], slopes: &mut [f32], log_sums: &[f32], means: &[f32]) {
    let (simd, vectors) = (isa.simd(), I::NR / I::LANES);
    let (weights, _) = I::Simd::as_mut_simd_f32s(weights);
    let (slopes, _) = I::Simd::as_mut_simd_f32s(slopes);
    let (log_sums, _) = I::Simd::as_simd_f32s(log_sums);
    let (means, _) = I::Simd::as_simd_f32s(means);
    let (log_sums, means) = (&log_sums[..vectors], &means[..vectors]);
    for (weights, slopes) in weights.chunks_exact_mut(vectors).zip(slopes.chunks_exact_mut(vectors)) {
        for vector in 0..vectors {
            weights[vector] = exp_vector(simd, simd.sub_f32s(weights[vector], log_sums[vector]));
            slopes[vector] = simd.mul_f32s(weights[vector], simd.sub_f32s(slopes[vector], means[vector]));
        }
    }
}
