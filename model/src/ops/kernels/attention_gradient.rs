//! The backward pass of attention: computes the scores again, tile by tile, from the saved logarithms of their sums (Dao et al. 2022,
//! arXiv 2205.14135, algorithm 4). Tiles are transposed as in the forward pass.

use rayon::prelude::*;

use super::attention::{KEYS, QUERIES, Sizes, hide_later_keys, sample, scores, transpose};
use super::exponential::exp;
use super::product::{Destination, Matrix, MatrixMut, Threads, product};
use super::vector::vectorise;

/// What the backward pass reads.
#[derive(Clone, Copy)]
pub struct Saved<'a> {
    /// Queries, `[batch, queries, width]`.
    pub q: &'a [f32],
    /// Keys, `[batch, keys, width]`.
    pub k: &'a [f32],
    /// Values, `[batch, keys, width]`.
    pub v: &'a [f32],
    /// The output, `[batch, queries, width]`.
    pub out: &'a [f32],
    /// The logarithms of the sums of the exponentials of the scores, `[batch, heads, queries]`.
    pub log_sums: &'a [f32],
    /// The gradient of the output.
    pub gradient: &'a [f32],
}

/// The gradients of queries, keys and values, each shaped as what it belongs to.
pub fn backward(saved: &Saved, sizes: &Sizes) -> [Vec<f32>; 3] {
    let heads: Vec<HeadGradient> = (0..sizes.batch * sizes.heads)
        .into_par_iter()
        .with_max_len(1)
        .map(|index| head_gradient(saved, index / sizes.heads, index % sizes.heads, sizes))
        .collect();
    let gather = |rows: usize, part: fn(&HeadGradient) -> &[f32]| {
        let mut all = vec![0.0; sizes.batch * rows * sizes.width()];
        all.par_chunks_mut(sizes.width()).with_min_len(64).enumerate().for_each(|(row, all)| {
            for (head, values) in all.chunks_mut(sizes.head).enumerate() {
                let from = part(&heads[row / rows * sizes.heads + head]);
                values.copy_from_slice(&from[row % rows * sizes.head..][..sizes.head]);
            }
        });
        all
    };
    [gather(sizes.queries, |own| &own.q), gather(sizes.keys, |own| &own.k), gather(sizes.keys, |own| &own.v)]
}

/// The gradients of one head of one sample: `[queries, head]`, `[keys, head]`, `[keys, head]`.
struct HeadGradient {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

/// What one head is computed in, a block of queries at a time; all transposed, rows as long as the block has queries.
struct Workspace {
    /// `[head, queries]`, times the scale.
    queries: Vec<f32>,
    /// `[head, queries]`: the output's gradient.
    gradients: Vec<f32>,
    /// `[head, queries]`: the gradient of the queries.
    to_queries: Vec<f32>,
    /// Per query, the product of output and output gradient, which is the mean of the weights' gradients under the weights.
    means: Vec<f32>,
    /// `[keys, queries]`: scores, then softmax weights.
    weights: Vec<f32>,
    /// `[keys, queries]`: gradients of the weights, then of the scores.
    slopes: Vec<f32>,
}

fn head_gradient(saved: &Saved, index: usize, head: usize, sizes: &Sizes) -> HeadGradient {
    let mut result = HeadGradient {
        q: vec![0.0; sizes.queries * sizes.head],
        k: vec![0.0; sizes.keys * sizes.head],
        v: vec![0.0; sizes.keys * sizes.head],
    };
    let (most, keys) = (QUERIES.min(sizes.queries), KEYS.min(sizes.keys));
    let [queries, gradients, to_queries] = [(); 3].map(|()| vec![0.0; sizes.head * most]);
    let [weights, slopes] = [(); 2].map(|()| vec![0.0; keys * most]);
    let mut own = Workspace { queries, gradients, to_queries, means: vec![0.0; most], weights, slopes };
    for start in (0..sizes.queries).step_by(QUERIES) {
        block_gradient(&mut own, saved, index, head, start, sizes, &mut result);
    }
    result
}

/// Adds the part of the queries from `start` on to the gradients of one head.
fn block_gradient(
    own: &mut Workspace,
    saved: &Saved,
    index: usize,
    head: usize,
    start: usize,
    sizes: &Sizes,
    result: &mut HeadGradient,
) {
    let (width, offset) = (sizes.width(), head * sizes.head);
    let count = QUERIES.min(sizes.queries - start);
    let first_number = (index * sizes.queries + start) * width + offset;
    let [q, out, gradient] = [saved.q, saved.out, saved.gradient].map(|values| &values[first_number..]);
    let [k, v] = [saved.k, saved.v].map(|values| &sample(values, index, sizes)[offset..]);
    let log_sums = &saved.log_sums[(index * sizes.heads + head) * sizes.queries + start..][..count];
    transpose(&mut own.queries, q, count, sizes, sizes.scale());
    transpose(&mut own.gradients, gradient, count, sizes, 1.0);
    for (query, mean) in own.means[..count].iter_mut().enumerate() {
        let row = query * width..query * width + sizes.head;
        *mean = out[row.clone()].iter().zip(&gradient[row]).map(|(out, gradient)| out * gradient).sum();
    }
    own.to_queries[..sizes.head * count].fill(0.0);
    let visible = sizes.visible(start + count);
    for first in (0..visible).step_by(KEYS) {
        let keys = KEYS.min(visible - first);
        scores(&mut own.weights, k, &own.queries, first, keys, count, sizes);
        scores(&mut own.slopes, v, &own.gradients, first, keys, count, sizes);
        if sizes.causal {
            hide_later_keys(&mut own.weights[..keys * count], first, start, count);
        }
        softmax_gradient(&mut own.weights[..keys * count], &mut own.slopes[..keys * count], log_sums, &own.means[..count]);
        let (weights, slopes) = (Matrix::new(&own.weights, keys, count, count), Matrix::new(&own.slopes, keys, count, count));
        let range = first * sizes.head..(first + keys) * sizes.head;
        let [q, gradient] = [q, gradient].map(|rows| Matrix::new(rows, count, sizes.head, width));
        let to_v = MatrixMut::new(&mut result.v[range.clone()], keys, sizes.head, sizes.head);
        product(to_v, Destination::Add, 1.0, weights, gradient, Threads::One);
        let to_k = MatrixMut::new(&mut result.k[range], keys, sizes.head, sizes.head);
        product(to_k, Destination::Add, sizes.scale(), slopes, q, Threads::One);
        let to_queries = MatrixMut::new(&mut own.to_queries, sizes.head, count, count);
        let k = Matrix::new(&k[first * width..], keys, sizes.head, width);
        product(to_queries, Destination::Add, sizes.scale(), k.transposed(), slopes, Threads::One);
    }
    for (query, row) in result.q[start * sizes.head..][..count * sizes.head].chunks_mut(sizes.head).enumerate() {
        for (channel, value) in row.iter_mut().enumerate() {
            *value = own.to_queries[channel * count + query];
        }
    }
}

/// Scores become weights, and gradients of weights become gradients of scores: `weight * (slope - mean)`.
fn softmax_gradient(weights: &mut [f32], slopes: &mut [f32], log_sums: &[f32], means: &[f32]) {
    let count = log_sums.len();
    vectorise!({
        for (weights, slopes) in weights.chunks_exact_mut(count).zip(slopes.chunks_exact_mut(count)) {
            row_gradient(weights, slopes, log_sums, means);
        }
    });
}

/// [`softmax_gradient`] of one key.
#[inline(always)]
fn row_gradient(weights: &mut [f32], slopes: &mut [f32], log_sums: &[f32], means: &[f32]) {
    for (((weight, slope), &log_sum), &mean) in weights.iter_mut().zip(slopes).zip(log_sums).zip(means) {
        *weight = exp(*weight - log_sum);
        *slope = *weight * (*slope - mean);
    }
}
