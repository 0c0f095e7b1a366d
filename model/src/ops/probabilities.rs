//! The softmax weights of attention as tensors, for attention maps (diffusers' `Attention.get_attention_scores`). No gradients.

use candle_core::Tensor;
use rayon::prelude::*;

use super::attention::sizes;
use super::graph::Output;
use super::{composed, host};
use crate::Result;
use crate::kernels::attention::Sizes;
use crate::kernels::gemm::{Epilogue, Matrix, MatrixMut, Threads, product};
use crate::kernels::isa::vectorize;
use crate::kernels::norm::reductions::exponentials;

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
    let (query, keys) = (host::read(&q)?, transposed(&host::read(&k)?, &sizes));
    let mut out = vec![0.0; sizes.batch * heads * sizes.queries * sizes.keys];
    if !out.is_empty() {
        out.par_chunks_mut(sizes.queries * sizes.keys).enumerate().for_each(|(index, map)| {
            map.par_chunks_mut(QUERIES * sizes.keys).enumerate().for_each(|(block, rows)| {
                scores(rows, &query, &keys, index / heads, index % heads, block * QUERIES, &sizes);
                vectorize!({
                    for row in rows.chunks_exact_mut(sizes.keys) {
                        let scale = 1.0 / exponentials(row);
                        row.iter_mut().for_each(|value| *value *= scale);
                    }
                });
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
    let (query, keys) = (host::read(&q)?, transposed(&host::read(&k)?, &sizes));
    let mut out = vec![0.0; sizes.batch * sizes.queries * sizes.keys];
    if !out.is_empty() {
        out.par_chunks_mut(sizes.queries * sizes.keys).enumerate().for_each(|(sample, map)| {
            map.par_chunks_mut(QUERIES * sizes.keys).enumerate().for_each_init(Vec::new, |one, (block, rows)| {
                one.resize(rows.len(), 0.0);
                for head in 0..heads {
                    scores(one, &query, &keys, sample, head, block * QUERIES, &sizes);
                    vectorize!({
                        for (sum, row) in rows.chunks_exact_mut(sizes.keys).zip(one.chunks_exact_mut(sizes.keys)) {
                            let scale = 1.0 / (exponentials(row) * heads as f32);
                            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += *value * scale);
                        }
                    });
                }
            });
        });
    }
    Output::host(out, (sizes.batch, sizes.queries, sizes.keys)).into_tensor()
}

/// Keys `[batch, keys, width]` as `[batch, width, keys]`, the order in which the product reads them without repacking.
fn transposed(k: &[f32], sizes: &Sizes) -> Vec<f32> {
    const CHANNELS: usize = 16;
    let mut out = vec![0.0; k.len()];
    let (width, keys) = (sizes.width(), sizes.keys);
    for (out, k) in out.chunks_mut(width * keys).zip(k.chunks(width * keys)) {
        out.par_chunks_mut(CHANNELS * keys).enumerate().for_each(|(part, out)| {
            for (key, row) in k.chunks(width).enumerate() {
                for (out, &value) in out.chunks_mut(keys).zip(&row[part * CHANNELS..]) {
                    out[key] = value;
                }
            }
        });
    }
    out
}

/// The scores of one head's queries from `start` on, as many as `rows` holds.
fn scores(rows: &mut [f32], q: &[f32], keys: &[f32], sample: usize, head: usize, start: usize, sizes: &Sizes) {
    let (width, count, offset) = (sizes.width(), rows.len() / sizes.keys, head * sizes.head);
    let q = Matrix::new(&q[(sample * sizes.queries + start) * width + offset..], count, sizes.head, width);
    let keys = Matrix::new(&keys[(sample * width + offset) * sizes.keys..], sizes.head, sizes.keys, sizes.keys);
    let scores = MatrixMut::new(rows, count, sizes.keys, sizes.keys);
    product(scores, Epilogue::Overwrite, sizes.scale(), q, keys, Threads::One);
}
