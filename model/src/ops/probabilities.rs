//! The softmax weights of attention as tensors, for attention maps (diffusers' `Attention.get_attention_scores`). No gradients.

use candle_core::Tensor;
use rayon::prelude::*;

use super::attention::sizes;
use super::graph::Output;
use super::kernels::attention::Sizes;
use super::kernels::product::{Destination, Matrix, MatrixMut, Threads, product};
use super::kernels::softmax::softmax;
use super::kernels::vector::vectorise;
use super::{composed, host};
use crate::Result;

/// Queries per task.
const QUERIES: usize = 64;

/// `softmax(q k^T / sqrt(d))` per head: `q` `[b, n, heads * d]`, `k` `[b, m, heads * d]` to `[b, heads, n, m]`.
///
/// The result is outside the graph. Errors where shapes do not fit or `heads` does not divide the channels.
pub fn attention_probabilities(q: &Tensor, k: &Tensor, heads: usize) -> Result<Tensor> {
    let name = "attention_probabilities";
    let sizes = sizes(name, q, k, heads)?;
    let (q, k) = (host::activation(name, q)?, host::activation(name, k)?);
    if !q.device().is_cpu() {
        return composed::attention_probabilities(&q, &k, &sizes);
    }
    let (query, key) = (host::read(&q)?, host::read(&k)?);
    let mut out = vec![0.0; sizes.batch * heads * sizes.queries * sizes.keys];
    if !out.is_empty() {
        let maps = out.par_chunks_mut(sizes.queries * sizes.keys).enumerate();
        maps.for_each(|(index, map)| {
            map.par_chunks_mut(QUERIES * sizes.keys).enumerate().for_each(|(block, rows)| {
                probabilities(rows, &query, &key, index / heads, index % heads, block * QUERIES, &sizes);
            });
        });
    }
    Output::host(out, (sizes.batch, heads, sizes.queries, sizes.keys)).into_tensor()
}

/// The mean of [`attention_probabilities`] over heads, `[b, n, m]`, without storing the single heads.
///
/// Errors as [`attention_probabilities`].
pub fn attention_probabilities_mean(q: &Tensor, k: &Tensor, heads: usize) -> Result<Tensor> {
    let name = "attention_probabilities_mean";
    let sizes = sizes(name, q, k, heads)?;
    let (q, k) = (host::activation(name, q)?, host::activation(name, k)?);
    if !q.device().is_cpu() {
        return composed::attention_probabilities_mean(&q, &k, &sizes);
    }
    let (query, key) = (host::read(&q)?, host::read(&k)?);
    let mut out = vec![0.0; sizes.batch * sizes.queries * sizes.keys];
    if !out.is_empty() {
        let scale = 1.0 / heads as f32;
        out.par_chunks_mut(sizes.queries * sizes.keys).enumerate().for_each(|(sample, map)| {
            map.par_chunks_mut(QUERIES * sizes.keys).enumerate().for_each_init(Vec::new, |one, (block, rows)| {
                one.resize(rows.len(), 0.0);
                for head in 0..heads {
                    probabilities(one, &query, &key, sample, head, block * QUERIES, &sizes);
                    for (sum, one) in rows.iter_mut().zip(&*one) {
                        *sum += one * scale;
                    }
                }
            });
        });
    }
    Output::host(out, (sizes.batch, sizes.queries, sizes.keys)).into_tensor()
}

/// The rows of one head's map from query `start` on, as many as `rows` holds.
#[allow(clippy::redundant_closure)] // the closure carries the inlining that vectorises it
fn probabilities(rows: &mut [f32], q: &[f32], k: &[f32], sample: usize, head: usize, start: usize, sizes: &Sizes) {
    let (width, count) = (sizes.width(), rows.len() / sizes.keys);
    let q = &q[(sample * sizes.queries + start) * width + head * sizes.head..];
    let k = &k[sample * sizes.keys * width + head * sizes.head..];
    let (q, k) = (Matrix::new(q, count, sizes.head, width), Matrix::new(k, sizes.keys, sizes.head, width));
    let scores = MatrixMut::new(rows, count, sizes.keys, sizes.keys);
    product(scores, Destination::Replace, sizes.scale(), q, k.transposed(), Threads::One);
    vectorise!({
        rows.chunks_exact_mut(sizes.keys).for_each(
            #[inline(always)]
            |row| softmax(row),
        )
    });
}
