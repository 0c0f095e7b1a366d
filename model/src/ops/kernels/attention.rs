//! Attention (Vaswani et al. 2017, arXiv 1706.03762, equation 1) without storing the scores: blocks of queries meet blocks of keys,
//! with a running softmax (Milakov and Gimelshein 2018, arXiv 1805.02867; Dao et al. 2022, arXiv 2205.14135, algorithm 1).
//!
//! Tiles of scores are held transposed, `[keys, queries]`: then the softmax of a block of queries runs down the columns, where
//! neighbouring numbers are independent, and all products read what they need without repacking.

use super::exponential::exp;
use super::product::{Destination, Matrix, MatrixMut, Threads, product};
use super::softmax::greater;
use super::tasks;
use super::vector::vectorise;

/// Queries per block: a multiple of gemm's register blocks (64 with AVX-512), large against the cost of a call.
pub(super) const QUERIES: usize = 256;
/// Keys per block: with the above, a tile of scores takes 256 KiB.
pub(super) const KEYS: usize = 256;

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
    pub(super) fn visible(&self, end: usize) -> usize {
        if self.causal { self.keys.min(end) } else { self.keys }
    }
}

/// A block of queries of one head, with its part of the output: a piece of `head` numbers per query.
struct Block<'a> {
    sample: usize,
    head: usize,
    start: usize,
    out: Vec<&'a mut [f32]>,
    log_sums: &'a mut [f32],
}

/// Cuts an output `[batch, queries, heads * head]` and its logarithms `[batch, heads, queries]` into blocks.
fn cut<'a>(out: &'a mut [f32], log_sums: &'a mut [f32], sizes: &Sizes) -> Vec<Block<'a>> {
    let parts = sizes.queries.div_ceil(QUERIES);
    let mut blocks: Vec<Block> = log_sums
        .chunks_mut(sizes.queries)
        .enumerate()
        .flat_map(|(index, row)| {
            row.chunks_mut(QUERIES).enumerate().map(move |(part, log_sums)| Block {
                sample: index / sizes.heads,
                head: index % sizes.heads,
                start: part * QUERIES,
                out: Vec::with_capacity(log_sums.len()),
                log_sums,
            })
        })
        .collect();
    for (row, all) in out.chunks_mut(sizes.width()).enumerate() {
        let (sample, query) = (row / sizes.queries, row % sizes.queries);
        for (head, piece) in all.chunks_mut(sizes.head).enumerate() {
            blocks[(sample * sizes.heads + head) * parts + query / QUERIES].out.push(piece);
        }
    }
    blocks
}

/// What one thread works in, for one block at a time; all transposed, rows `count` (the block's queries) long.
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

/// `q` `[batch, queries, width]`, `k` and `v` `[batch, keys, width]` to the output `[batch, queries, width]` and the logarithms of
/// the sums of the exponentials of the scores, `[batch, heads, queries]`.
pub fn forward(q: &[f32], k: &[f32], v: &[f32], sizes: &Sizes) -> (Vec<f32>, Vec<f32>) {
    let width = sizes.width();
    let mut out = vec![0.0; sizes.batch * sizes.queries * width];
    let mut log_sums = vec![0.0; sizes.batch * sizes.heads * sizes.queries];
    if out.is_empty() || sizes.keys == 0 {
        return (out, log_sums);
    }
    let (most, keys) = (QUERIES.min(sizes.queries), KEYS.min(sizes.keys));
    let workspace = || Workspace {
        queries: vec![0.0; sizes.head * most],
        scores: vec![0.0; keys * most],
        out: vec![0.0; sizes.head * most],
        greatest: vec![0.0; most],
        total: vec![0.0; most],
        correction: vec![0.0; most],
    };
    tasks::for_each(cut(&mut out, &mut log_sums, sizes), workspace, |own, block| {
        let (count, offset) = (block.out.len(), block.head * sizes.head);
        let q = &q[(block.sample * sizes.queries + block.start) * width + offset..];
        let (k, v) = (&sample(k, block.sample, sizes)[offset..], &sample(v, block.sample, sizes)[offset..]);
        forward_block(own, q, k, v, block.start, count, sizes);
        for (query, (row, log_sum)) in block.out.into_iter().zip(block.log_sums).enumerate() {
            let scale = 1.0 / own.total[query];
            for (channel, value) in row.iter_mut().enumerate() {
                *value = own.out[channel * count + query] * scale;
            }
            *log_sum = own.greatest[query] + own.total[query].ln();
        }
    });
    (out, log_sums)
}

/// The keys or values of one sample.
pub(super) fn sample<'a>(values: &'a [f32], index: usize, sizes: &Sizes) -> &'a [f32] {
    let size = sizes.keys * sizes.width();
    &values[index * size..(index + 1) * size]
}

/// One block of queries: leaves the unscaled output, the greatest scores and the sums in the workspace.
fn forward_block(own: &mut Workspace, q: &[f32], k: &[f32], v: &[f32], start: usize, count: usize, sizes: &Sizes) {
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
pub(super) fn transpose(to: &mut [f32], from: &[f32], count: usize, sizes: &Sizes, scale: f32) {
    for (query, row) in from.chunks(sizes.width()).take(count).enumerate() {
        for (channel, &value) in row[..sizes.head].iter().enumerate() {
            to[channel * count + query] = value * scale;
        }
    }
}

/// `scores` `[keys, count]` = keys `first..` times transposed queries.
pub(super) fn scores(scores: &mut [f32], k: &[f32], queries: &[f32], first: usize, keys: usize, count: usize, sizes: &Sizes) {
    let k = Matrix::new(&k[first * sizes.width()..], keys, sizes.head, sizes.width());
    let queries = Matrix::new(queries, sizes.head, count, count);
    product(MatrixMut::new(scores, keys, count, count), Destination::Replace, 1.0, k, queries, Threads::One);
}

/// Scores of keys behind their query become minus infinity.
pub(super) fn hide_later_keys(scores: &mut [f32], first: usize, start: usize, count: usize) {
    for (key, row) in scores.chunks_mut(count).enumerate() {
        let hidden = (first + key).saturating_sub(start).min(count);
        row[..hidden].fill(f32::NEG_INFINITY);
    }
}

/// Turns a tile of scores into weights relative to the greatest score so far, and brings the sums and the output up to date.
fn running_softmax(own: &mut Workspace, keys: usize, count: usize) {
    let scores = &mut own.scores[..keys * count];
    let (greatest, total, correction) = (&mut own.greatest[..count], &mut own.total[..count], &mut own.correction[..count]);
    let out = &mut own.out;
    vectorise!({
        correction.copy_from_slice(greatest);
        for row in scores.chunks_exact(count) {
            raise(greatest, row);
        }
        for (correction, &greatest) in correction.iter_mut().zip(&*greatest) {
            *correction = exp(*correction - greatest);
        }
        scale(total, correction);
        for row in scores.chunks_exact_mut(count) {
            weigh(row, greatest, total);
        }
        for row in out.chunks_exact_mut(count) {
            scale(row, correction);
        }
    });
}

// Loops as functions of slices: as arguments these are known not to overlap, which lets the compiler use vector instructions.

/// `greatest = max(greatest, scores)`.
#[inline(always)]
fn raise(greatest: &mut [f32], scores: &[f32]) {
    for (greatest, &score) in greatest.iter_mut().zip(scores) {
        *greatest = greater(*greatest, score);
    }
}

/// `values *= factors`.
#[inline(always)]
fn scale(values: &mut [f32], factors: &[f32]) {
    for (value, &factor) in values.iter_mut().zip(factors) {
        *value *= factor;
    }
}

/// Scores become weights relative to the greatest, which are added to the totals.
#[inline(always)]
fn weigh(scores: &mut [f32], greatest: &[f32], total: &mut [f32]) {
    for ((score, &greatest), total) in scores.iter_mut().zip(greatest).zip(total) {
        let weight = exp(*score - greatest);
        *score = weight;
        *total += weight;
    }
}
