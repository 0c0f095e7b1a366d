//! Attention (Vaswani et al. 2017, arXiv 1706.03762, equation 1) without storing the scores: blocks of queries meet blocks of keys,
//! with a running softmax forward (Milakov and Gimelshein 2018, arXiv 1805.02867) and recomputation backward (Dao et al. 2022,
//! arXiv 2205.14135, algorithms 1 and 4).
//!
//! Tiles of scores are held transposed, `[keys, queries]`: then the softmax of a block of queries runs down the columns, where
//! neighbouring numbers are independent, and all products read what they need without repacking.

use rayon::prelude::*;

use super::exponential::exp;
use super::product::{Destination, Matrix, MatrixMut, Threads, product};
use super::softmax::greater;
use super::tasks;
use super::vector::vectorise;

/// Queries per block: a multiple of gemm's register block.
const QUERIES: usize = 64;
/// Keys per block: with the above, a tile of scores takes 192 KiB.
const KEYS: usize = 512;

/// The sizes of one attention.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Samples.
    pub batch: usize,
    /// Queries per sample.
    pub queries: usize,
    /// Keys and values per sample.
    pub keys: usize,
    /// Heads.
    pub heads: usize,
    /// Channels per head.
    pub head: usize,
    /// Whether a query sees only keys up to its own place.
    pub causal: bool,
}

impl Sizes {
    /// Channels of all heads.
    pub fn width(&self) -> usize {
        self.heads * self.head
    }

    /// What scores are multiplied by.
    pub fn scale(&self) -> f32 {
        (1.0 / (self.head as f64).sqrt()) as f32
    }

    /// How many of the keys some query of a block ending before `end` sees.
    fn visible(&self, end: usize) -> usize {
        if self.causal { self.keys.min(end) } else { self.keys }
    }
}

/// A block of queries of one sample, with its part of the output.
struct Block<'a> {
    sample: usize,
    start: usize,
    out: &'a mut [f32],
    log_sums: &'a mut [f32],
}

/// What one thread works in, for one head and block at a time; all transposed, rows `count` (the block's queries) long.
struct Workspace {
    /// `[head, queries]`, times the scale.
    queries: Vec<f32>,
    /// `[keys, queries]`.
    scores: Vec<f32>,
    /// `[head, queries]`.
    out: Vec<f32>,
    greatest: Vec<f32>,
    total: Vec<f32>,
    correction: Vec<f32>,
}

/// `q` `[batch, queries, width]`, `k` and `v` `[batch, keys, width]` to the output `[batch, queries, width]` and, per sample, query
/// and head, the logarithm of the sum of the exponentials of the scores.
pub fn forward(q: &[f32], k: &[f32], v: &[f32], sizes: &Sizes) -> (Vec<f32>, Vec<f32>) {
    let (width, heads) = (sizes.width(), sizes.heads);
    let mut out = vec![0.0; sizes.batch * sizes.queries * width];
    let mut log_sums = vec![0.0; sizes.batch * sizes.queries * heads];
    if out.is_empty() || sizes.keys == 0 {
        return (out, log_sums);
    }
    let samples = out.chunks_mut(sizes.queries * width).zip(log_sums.chunks_mut(sizes.queries * heads)).enumerate();
    let blocks = samples.flat_map(|(sample, (out, log_sums))| {
        let parts = out.chunks_mut(QUERIES * width).zip(log_sums.chunks_mut(QUERIES * heads)).enumerate();
        parts.map(move |(index, (out, log_sums))| Block { sample, start: index * QUERIES, out, log_sums })
    });
    let workspace = || Workspace {
        queries: vec![0.0; sizes.head * QUERIES],
        scores: vec![0.0; KEYS.min(sizes.keys) * QUERIES],
        out: vec![0.0; sizes.head * QUERIES],
        greatest: vec![0.0; QUERIES],
        total: vec![0.0; QUERIES],
        correction: vec![0.0; QUERIES],
    };
    tasks::for_each(blocks.collect(), workspace, |own, block| {
        let count = block.out.len() / width;
        let q = &q[(block.sample * sizes.queries + block.start) * width..][..count * width];
        let (k, v) = (sample(k, block.sample, sizes), sample(v, block.sample, sizes));
        for head in 0..heads {
            let offset = head * sizes.head;
            forward_head(own, &q[offset..], &k[offset..], &v[offset..], block.start, count, sizes);
            for (query, row) in block.out.chunks_mut(width).enumerate() {
                let scale = 1.0 / own.total[query];
                for (channel, value) in row[offset..offset + sizes.head].iter_mut().enumerate() {
                    *value = own.out[channel * count + query] * scale;
                }
                block.log_sums[query * heads + head] = own.greatest[query] + own.total[query].ln();
            }
        }
    });
    (out, log_sums)
}

/// The keys or values of one sample.
fn sample<'a>(values: &'a [f32], index: usize, sizes: &Sizes) -> &'a [f32] {
    let size = sizes.keys * sizes.width();
    &values[index * size..(index + 1) * size]
}

/// One head of one block of queries: leaves the unscaled output, the greatest scores and the sums in the workspace.
fn forward_head(own: &mut Workspace, q: &[f32], k: &[f32], v: &[f32], start: usize, count: usize, sizes: &Sizes) {
    transpose(&mut own.queries, q, count, sizes, sizes.scale());
    own.out[..sizes.head * count].fill(0.0);
    own.greatest[..count].fill(f32::NEG_INFINITY);
    own.total[..count].fill(0.0);
    let visible = sizes.visible(start + count);
    for first in (0..visible).step_by(KEYS) {
        let keys = KEYS.min(visible - first);
        scores(&mut own.scores, k, &own.queries, first, keys, count, sizes);
        if sizes.causal {
            hide_later_keys(&mut own.scores[..keys * count], first, start, count);
        }
        running_softmax(own, keys, count);
        let v = Matrix::new(&v[first * sizes.width()..], keys, sizes.head, sizes.width());
        let weights = Matrix::new(&own.scores, keys, count, count);
        let out = MatrixMut::new(&mut own.out, sizes.head, count, count);
        product(out, Destination::Add, 1.0, v.transposed(), weights, Threads::One);
    }
}

/// `[count, head]` with rows `width` apart to `[head, count]`, times `scale`.
fn transpose(to: &mut [f32], from: &[f32], count: usize, sizes: &Sizes, scale: f32) {
    for (query, row) in from.chunks(sizes.width()).take(count).enumerate() {
        for (channel, &value) in row[..sizes.head].iter().enumerate() {
            to[channel * count + query] = value * scale;
        }
    }
}

/// `scores` `[keys, count]` = keys `first..` times transposed queries.
fn scores(scores: &mut [f32], k: &[f32], queries: &[f32], first: usize, keys: usize, count: usize, sizes: &Sizes) {
    let k = Matrix::new(&k[first * sizes.width()..], keys, sizes.head, sizes.width());
    let queries = Matrix::new(queries, sizes.head, count, count);
    product(MatrixMut::new(scores, keys, count, count), Destination::Replace, 1.0, k, queries, Threads::One);
}

/// Scores of keys behind their query become minus infinity.
fn hide_later_keys(scores: &mut [f32], first: usize, start: usize, count: usize) {
    for (key, row) in scores.chunks_mut(count).enumerate() {
        let hidden = (first + key).saturating_sub(start).min(count);
        row[..hidden].fill(f32::NEG_INFINITY);
    }
}

/// Turns a tile of scores into weights relative to the greatest score so far, and brings the sums and the output up to date.
fn running_softmax(own: &mut Workspace, keys: usize, count: usize) {
    let scores = &mut own.scores[..keys * count];
    let (greatest, total) = (&mut own.greatest[..count], &mut own.total[..count]);
    let correction = &mut own.correction[..count];
    let out = &mut own.out;
    vectorise!({
        correction.copy_from_slice(greatest);
        for row in scores.chunks_exact(count) {
            for (greatest, &score) in greatest.iter_mut().zip(row) {
                *greatest = greater(*greatest, score);
            }
        }
        for i in 0..count {
            correction[i] = exp(correction[i] - greatest[i]);
            total[i] *= correction[i];
        }
        for row in scores.chunks_exact_mut(count) {
            for i in 0..count {
                let weight = exp(row[i] - greatest[i]);
                row[i] = weight;
                total[i] += weight;
            }
        }
        for row in out.chunks_exact_mut(count) {
            for (value, &correction) in row.iter_mut().zip(&*correction) {
                *value *= correction;
            }
        }
    });
}

/// What the backward pass of attention reads.
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
    /// The logarithms of [`forward`].
    pub log_sums: &'a [f32],
    /// The gradient of the output.
    pub gradient: &'a [f32],
}

/// The gradients of queries, keys and values.
pub fn backward(saved: &Saved, sizes: &Sizes) -> [Vec<f32>; 3] {
    let heads: Vec<HeadGradient> = (0..sizes.batch * sizes.heads)
        .into_par_iter()
        .with_max_len(1)
        .map(|index| backward_head(saved, index / sizes.heads, index % sizes.heads, sizes))
        .collect();
    let gather = |rows: usize, part: fn(&HeadGradient) -> &[f32]| {
        let mut all = vec![0.0; sizes.batch * rows * sizes.width()];
        if sizes.width() > 0 {
            all.par_chunks_mut(sizes.width()).with_min_len(64).enumerate().for_each(|(row, all)| {
                for (head, values) in all.chunks_mut(sizes.head).enumerate() {
                    let from = part(&heads[row / rows * sizes.heads + head]);
                    values.copy_from_slice(&from[row % rows * sizes.head..][..sizes.head]);
                }
            });
        }
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

fn backward_head(saved: &Saved, index: usize, head: usize, sizes: &Sizes) -> HeadGradient {
    let (width, offset) = (sizes.width(), head * sizes.head);
    let mut own = HeadGradient {
        q: vec![0.0; sizes.queries * sizes.head],
        k: vec![0.0; sizes.keys * sizes.head],
        v: vec![0.0; sizes.keys * sizes.head],
    };
    if sizes.keys == 0 || sizes.head == 0 {
        return own;
    }
    let (k, v) = (&sample(saved.k, index, sizes)[offset..], &sample(saved.v, index, sizes)[offset..]);
    let tile = KEYS.min(sizes.keys) * QUERIES;
    let (mut weights, mut slopes) = (vec![0.0; tile], vec![0.0; tile]);
    let [mut queries, mut gradients, mut to_queries] = [(); 3].map(|()| vec![0.0; sizes.head * QUERIES]);
    let [mut log_sums, mut means] = [(); 2].map(|()| vec![0.0; QUERIES]);
    for start in (0..sizes.queries).step_by(QUERIES) {
        let count = QUERIES.min(sizes.queries - start);
        let first_row = index * sizes.queries + start;
        let rows = |values: &'_ [f32]| first_row * width + offset..values.len();
        let (q, out, gradient) = (&saved.q[rows(saved.q)], &saved.out[rows(saved.out)], &saved.gradient[rows(saved.gradient)]);
        transpose(&mut queries, q, count, sizes, sizes.scale());
        transpose(&mut gradients, gradient, count, sizes, 1.0);
        for query in 0..count {
            log_sums[query] = saved.log_sums[(first_row + query) * sizes.heads + head];
            let row = query * width..query * width + sizes.head;
            means[query] = out[row.clone()].iter().zip(&gradient[row]).map(|(out, gradient)| out * gradient).sum();
        }
        to_queries[..sizes.head * count].fill(0.0);
        let visible = sizes.visible(start + count);
        for first in (0..visible).step_by(KEYS) {
            let keys = KEYS.min(visible - first);
            scores(&mut weights, k, &queries, first, keys, count, sizes);
            scores(&mut slopes, v, &gradients, first, keys, count, sizes);
            if sizes.causal {
                hide_later_keys(&mut weights[..keys * count], first, start, count);
            }
            softmax_gradient(&mut weights[..keys * count], &mut slopes[..keys * count], &log_sums[..count], &means[..count]);
            let range = first * sizes.head..(first + keys) * sizes.head;
            let weights = Matrix::new(&weights, keys, count, count);
            let slopes = Matrix::new(&slopes, keys, count, count);
            let to_v = MatrixMut::new(&mut own.v[range.clone()], keys, sizes.head, sizes.head);
            let gradient = Matrix::new(gradient, count, sizes.head, width);
            product(to_v, Destination::Add, 1.0, weights, gradient, Threads::One);
            let to_k = MatrixMut::new(&mut own.k[range], keys, sizes.head, sizes.head);
            let q = Matrix::new(q, count, sizes.head, width);
            product(to_k, Destination::Add, sizes.scale(), slopes, q, Threads::One);
            let to_queries = MatrixMut::new(&mut to_queries, sizes.head, count, count);
            let k = Matrix::new(&k[first * width..], keys, sizes.head, width);
            product(to_queries, Destination::Add, sizes.scale(), k.transposed(), slopes, Threads::One);
        }
        for (query, row) in own.q[start * sizes.head..(start + count) * sizes.head].chunks_mut(sizes.head).enumerate() {
            for (channel, value) in row.iter_mut().enumerate() {
                *value = to_queries[channel * count + query];
            }
        }
    }
    own
}

/// Scores become weights, and gradients of weights become gradients of scores: `weight * (slope - mean)`.
fn softmax_gradient(weights: &mut [f32], slopes: &mut [f32], log_sums: &[f32], means: &[f32]) {
    let count = log_sums.len();
    vectorise!({
        for (weights, slopes) in weights.chunks_exact_mut(count).zip(slopes.chunks_exact_mut(count)) {
            for i in 0..count {
                weights[i] = exp(weights[i] - log_sums[i]);
                slopes[i] = weights[i] * (slopes[i] - means[i]);
            }
        }
    });
}
