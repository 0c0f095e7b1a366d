//! The backward pass of attention: computes the scores again, tile by tile, from the saved logarithms of their sums (Dao et al. 2022,
//! arXiv 2205.14135, algorithm 4).
//!
//! As in the forward pass, all products are register blocks, and a panel's weights against a tile are `[keys, queries]`. Turned into
//! gradients of the scores they are the right factor for the gradient of the queries as they lie. For those of keys and values, whose
//! sums run over queries, the panels of a block of queries are laid out side by side as left factors.

use std::mem::MaybeUninit;
use std::ops::Range;

use pulp::Arch;

use crate::kernels::attention::online_softmax::slope;
use crate::kernels::attention::{Sizes, Tiles, hide_later_keys, query_rows, turn_back, turn_queries};
use crate::kernels::gemm::block::{blocks, multiply_rows};
use crate::kernels::gemm::packing;
use crate::kernels::isa::lanes::{Kernel, Lanes, dispatch};
use crate::kernels::memory::scratch::{Scratch, written};
use crate::kernels::memory::shared::Places;
use crate::kernels::norm::reductions::sum_pairs;
use crate::kernels::{isa, tasks};

/// Queries of a block, and the most keys of a tile: the weights between them take 64 KiB, and so do their gradients.
const QUERIES: usize = 128;
const KEYS: usize = 128;

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
    backward_on(isa::arch(), saved, sizes)
}

fn backward_on(arch: Arch, saved: &Saved, sizes: &Sizes) -> [Vec<f32>; 3] {
    let (width, rows) = (sizes.width(), [sizes.queries, sizes.keys, sizes.keys].map(|rows| sizes.batch * rows));
    if rows.iter().any(|rows| rows * width == 0) {
        return rows.map(|rows| vec![0.0; rows * width]);
    }
    let tiles = |values, turned| Tiles::new(arch, values, sizes, KEYS, turned);
    let (keys, turned_keys, values) = (tiles(saved.k, false), tiles(saved.k, true), tiles(saved.v, false));
    let [mut to_q, mut to_k] = [Vec::new(), Vec::new()];
    let compute = |q: &mut [MaybeUninit<f32>], k: &mut [MaybeUninit<f32>], v: &mut [MaybeUninit<f32>]| {
        let place = |out: &mut [MaybeUninit<f32>], rows| {
            // SAFETY: the elements of the slice, borrowed exclusively.
            unsafe { Places::new(out.as_mut_ptr().cast(), rows, width, width) }
        };
        let out = [place(q, rows[0]), place(k, rows[1]), place(v, rows[2])];
        let all = Gradient { saved, keys: &keys, turned_keys: &turned_keys, values: &values, sizes, out };
        let heads = (0..sizes.batch * sizes.heads).collect();
        tasks::for_each(heads, || (), |(), head| dispatch(arch, Head { all: &all, head }));
    };
    // SAFETY: every head's task writes its channels of all rows of all three.
    let to_v = unsafe {
        written(rows[2] * width, |v| {
            to_k = written(rows[1] * width, |k| to_q = written(rows[0] * width, |q| compute(q, k, v)));
        })
    };
    [to_q, to_k, to_v]
}

struct Gradient<'a> {
    saved: &'a Saved<'a>,
    keys: &'a Tiles,
    turned_keys: &'a Tiles,
    values: &'a Tiles,
    sizes: &'a Sizes,
    /// Of queries, keys and values, `[batch * rows, width]`.
    out: [Places<'a>; 3],
}

/// One head of one sample; heads are counted over all samples.
struct Head<'a> {
    all: &'a Gradient<'a>,
    head: usize,
}

/// Sums over queries for all keys of a head, in panels of its channels: `[panels, keys, channels]`.
struct Sums {
    k: Scratch,
    v: Scratch,
}

impl Kernel for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, simd: S) {
        let (sizes, width) = (self.all.sizes, 2 * S::F32_LANES);
        let panels = sizes.head.div_ceil(width);
        let [k, v] = [(); 2].map(|()| Scratch::take(panels * sizes.keys * width));
        let mut sums = Sums { k, v };
        sums.k.fill(0.0);
        sums.v.fill(0.0);
        for start in (0..sizes.queries).step_by(QUERIES) {
            self.block(simd, start..sizes.queries.min(start + QUERIES), &mut sums);
        }
        self.finish::<S>(&sums.k, sizes.scale(), &self.all.out[1]);
        self.finish::<S>(&sums.v, 1.0, &self.all.out[2]);
    }
}

/// A block of queries, in panels.
struct Block {
    /// `[panels, head, queries]`, times the scale, and the output's gradient.
    turned: [Scratch; 2],
    /// The same as right factors whose rows are queries: `[panels of channels, queries, channels]`, without the scale.
    rows: [Scratch; 2],
    /// Per query: the logarithm of its sum, and the product of output and output gradient, which is the mean of the weights'
    /// gradients under the weights.
    log_sums: Vec<f32>,
    means: Vec<f32>,
}

impl Head<'_> {
    /// Lays out a block of `padded` queries; those too many have no weights.
    #[inline(always)]
    fn lay_out<S: Lanes>(&self, simd: S, queries: &Range<usize>, padded: usize) -> Block {
        let Gradient { saved, sizes, .. } = self.all;
        let depth = sizes.head.next_multiple_of(S::F32_LANES);
        // Not `map`: what it calls is not always inlined, and then lacks the instruction set.
        let turned = [
            self.turned(simd, saved.q, sizes.scale(), queries, padded * depth),
            self.turned(simd, saved.gradient, 1.0, queries, padded * depth),
        ];
        let rows = [self.rows(simd, saved.q, queries, padded), self.rows(simd, saved.gradient, queries, padded)];
        let mut log_sums = vec![f32::INFINITY; padded];
        log_sums[..queries.len()].copy_from_slice(&saved.log_sums[self.head * sizes.queries..][queries.clone()]);
        let mut means = vec![0.0; padded];
        let out = query_rows(saved.out, self.head, queries, sizes).values();
        let gradient = query_rows(saved.gradient, self.head, queries, sizes).values();
        for (query, mean) in means[..queries.len()].iter_mut().enumerate() {
            let row = query * sizes.width()..query * sizes.width() + sizes.head;
            *mean = sum_pairs(&out[row.clone()], &gradient[row], |out, gradient| out * gradient);
        }
        Block { turned, rows, log_sums, means }
    }

    /// `[panels, head, queries]`, times `scale`, in a buffer of `size`.
    #[inline(always)]
    fn turned<S: Lanes>(&self, simd: S, values: &[f32], scale: f32, queries: &Range<usize>, size: usize) -> Scratch {
        let mut turned = Scratch::take(size);
        turn_queries(simd, values, self.head, queries.clone(), self.all.sizes, scale, &mut turned);
        turned
    }

    /// `[panels of channels, queries, channels]`.
    #[inline(always)]
    fn rows<S: Lanes>(&self, simd: S, values: &[f32], queries: &Range<usize>, padded: usize) -> Scratch {
        let (sizes, width) = (self.all.sizes, 2 * S::F32_LANES);
        let mut rows = Scratch::take(sizes.head.div_ceil(width) * padded * width);
        for (panel, to) in rows.chunks_exact_mut(padded * width).enumerate() {
            packing::panel(simd, &query_rows(values, self.head, queries, sizes), panel * width, to);
        }
        rows
    }

    /// Computes the gradient of a block of queries, and adds their part to those of keys and values.
    #[inline(always)]
    fn block<S: Lanes>(&self, simd: S, queries: Range<usize>, sums: &mut Sums) {
        let (all, sizes, width) = (self.all, self.all.sizes, 2 * S::F32_LANES);
        let (padded, depth) = (queries.len().next_multiple_of(width), sizes.head.next_multiple_of(S::F32_LANES));
        let own = self.lay_out(simd, &queries, padded);
        let mut to_queries = Scratch::take(padded * sizes.head);
        to_queries.fill(0.0);
        let [mut weights, mut slopes] = [(); 2].map(|()| Scratch::take(all.keys.keys * width));
        let [mut weight_blocks, mut slope_blocks] = [(); 2].map(|()| Scratch::take(all.keys.keys * padded));
        let visible = sizes.visible(queries.end);
        let tiles = all.keys.of(self.head, visible).zip(all.turned_keys.of(self.head, visible));
        for (((keys, k), (_, turned_k)), (_, v)) in tiles.zip(all.values.of(self.head, visible)) {
            let (count, padded_keys) = (keys.len(), keys.len().next_multiple_of(S::F32_LANES));
            for (panel, to_queries) in to_queries.chunks_exact_mut(sizes.head * width).enumerate() {
                let [q, gradient] = own.turned.each_ref().map(|turned| &turned[panel * depth * width..][..depth * width]);
                multiply_rows(simd, k, (count, depth), q, &mut weights, true);
                multiply_rows(simd, v, (count, depth), gradient, &mut slopes, true);
                if sizes.causal {
                    hide_later_keys(&mut weights[..count * width], keys.start, queries.start + panel * width, width);
                }
                let [log_sums, means] = [&own.log_sums, &own.means].map(|values| &values[panel * width..][..width]);
                slope(simd, &mut weights[..count * width], &mut slopes[..count * width], log_sums, means);
                slopes[count * width..padded_keys * width].fill(0.0);
                lay_beside::<S>(&weights, count, (panel, padded / width), &mut weight_blocks);
                lay_beside::<S>(&slopes, count, (panel, padded / width), &mut slope_blocks);
                multiply_rows(simd, turned_k, (sizes.head, padded_keys), &slopes, to_queries, false);
            }
            let [q, gradient] = own.rows.each_ref().map(|rows| rows.chunks_exact(padded * width).enumerate());
            for (panel, gradient) in gradient {
                let to = &mut sums.v[(panel * sizes.keys + keys.start) * width..][..count * width];
                multiply_rows(simd, &weight_blocks, (count, padded), gradient, to, false);
            }
            for (panel, q) in q {
                let to = &mut sums.k[(panel * sizes.keys + keys.start) * width..][..count * width];
                multiply_rows(simd, &slope_blocks, (count, padded), q, to, false);
            }
        }
        to_queries.iter_mut().for_each(|value| *value *= sizes.scale());
        for (panel, values) in to_queries.chunks_exact(sizes.head * width).enumerate() {
            let first = queries.start + panel * width;
            // SAFETY: the head is this task's alone.
            unsafe { turn_back(simd, values, self.head, first..queries.end.min(first + width), sizes, &all.out[0]) };
        }
    }

    /// Writes sums over queries, times `scale`.
    #[inline(always)]
    fn finish<S: Lanes>(&self, sums: &[f32], scale: f32, out: &Places) {
        let (sizes, width) = (self.all.sizes, 2 * S::F32_LANES);
        let (row, column) = (self.head / sizes.heads * sizes.keys, self.head % sizes.heads * sizes.head);
        for key in 0..sizes.keys {
            // SAFETY: the head is this task's alone.
            let to = unsafe { out.row(row + key, column..column + sizes.head) }.into_slice();
            for (panel, to) in to.chunks_mut(width).enumerate() {
                let from = &sums[(panel * sizes.keys + key) * width..][..to.len()];
                to.iter_mut().zip(from).for_each(|(to, from)| *to = MaybeUninit::new(from * scale));
            }
        }
    }
}

/// Lays out `rows` rows of a panel as some groups of blocks, of which `panels` panels lie side by side.
#[inline(always)]
fn lay_beside<S: Lanes>(from: &[f32], rows: usize, (panel, panels): (usize, usize), to: &mut [f32]) {
    let (from, _) = S::as_simd_f32s(from);
    let (to, _) = S::as_mut_simd_f32s(to);
    for block in blocks::<S>(rows) {
        let to = &mut to[block.start * 2 * panels + panel * 2 * block.len()..][..2 * block.len()];
        for (index, row) in block.clone().enumerate() {
            to[index] = from[2 * row];
            to[block.len() + index] = from[2 * row + 1];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::attention::forward_on;

    /// One head of one sample in float64: the output, and the gradients for the gradient `g` of the output.
    fn plain([q, k, v, g]: [&[f32]; 4], sizes: &Sizes) -> [Vec<f64>; 4] {
        let (rows, width) = (sizes.queries, sizes.head);
        let dot = |a: &[f32], i: usize, b: &[f32], j: usize| -> f64 {
            (0..width).map(|c| f64::from(a[i * width + c]) * f64::from(b[j * width + c])).sum()
        };
        let [mut out, mut to_q, mut to_k, mut to_v] = [rows, rows, sizes.keys, sizes.keys].map(|rows| vec![0.0; rows * width]);
        for query in 0..rows {
            let seen = if sizes.causal { query + 1 } else { sizes.keys };
            let weights: Vec<f64> = (0..seen).map(|key| (dot(q, query, k, key) * f64::from(sizes.scale())).exp()).collect();
            let total: f64 = weights.iter().sum();
            let slopes: Vec<f64> = (0..seen).map(|key| dot(g, query, v, key)).collect();
            let mean: f64 = weights.iter().zip(&slopes).map(|(weight, slope)| weight / total * slope).sum();
            for key in 0..seen {
                let weight = weights[key] / total;
                let slope = weight * (slopes[key] - mean) * f64::from(sizes.scale());
                for c in 0..width {
                    out[query * width + c] += weight * f64::from(v[key * width + c]);
                    to_v[key * width + c] += weight * f64::from(g[query * width + c]);
                    to_q[query * width + c] += slope * f64::from(k[key * width + c]);
                    to_k[key * width + c] += slope * f64::from(q[query * width + c]);
                }
            }
        }
        [out, to_q, to_k, to_v]
    }

    /// Several blocks of queries and tiles of keys, with and without a mask, on every instruction set.
    #[test]
    fn blocks_and_tiles_make_up_the_whole() {
        for (queries, keys, head, causal) in
            [(300, 300, 10, true), (200, 200, 160, true), (530, 530, 40, true), (261, 300, 19, false), (5, 77, 3, false)]
        {
            let sizes = Sizes { batch: 1, queries, keys, heads: 1, head, causal };
            let numbers = |count: usize, seed: usize| -> Vec<f32> {
                (0..count * head).map(|index| ((index * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0).collect()
            };
            let [q, k, v, gradient] =
                [(queries, 1), (keys, 2), (keys, 3), (queries, 4)].map(|(count, seed)| numbers(count, seed));
            let expected = plain([&q, &k, &v, &gradient], &sizes);
            for (name, arch) in isa::available() {
                let (out, log_sums) = forward_on(arch, &q, &k, &v, &sizes);
                let saved = Saved { q: &q, k: &k, v: &v, out: &out, log_sums: &log_sums, gradient: &gradient };
                let [to_q, to_k, to_v] = backward_on(arch, &saved, &sizes);
                for (found, expected) in [out.clone(), to_q, to_k, to_v].iter().zip(&expected) {
                    for (found, expected) in found.iter().zip(expected) {
                        let close = (f64::from(*found) - expected).abs() < 2e-5;
                        assert!(close, "{name}, {queries} x {keys} x {head}: {found}, expected {expected}");
                    }
                }
            }
        }
    }
}
