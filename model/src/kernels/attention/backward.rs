//! The backward pass of attention: computes the scores again, tile by tile, from the saved logarithms of their sums (Dao et al. 2022,
//! arXiv 2205.14135, algorithm 4).
//!
//! As in the forward pass, a panel's weights against a tile are `[keys, queries]`. Turned into gradients of the scores they are the
//! right operand for the gradient of the queries. For those of keys and values, whose sums run over queries, the panels of a block of
//! queries are packed side by side as left operands.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::online_softmax;
use super::{Sizes, Tiles, hide_later_keys, pack_queries, query_rows, unpack_queries};
use crate::kernels::gemm::macrokernel::{PackedLhs, lhs_offset, multiply_panel, row_tiles};
use crate::kernels::gemm::packing::{pack_rhs, rows_as_panel};
use crate::kernels::isa::vector::load;
use crate::kernels::isa::{self, InstructionSet, Isa, Kernel, as_packed, as_packed_mut, dispatch, storage};
use crate::kernels::memory::scratch::{Scratch, written};
use crate::kernels::memory::shared::SharedMatrix;
use crate::kernels::norm::reductions::sum_pairs;
use crate::kernels::tasks;
use crate::kernels::tuning::attention::{BACKWARD_KEYS, BACKWARD_QUERIES};

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
    backward_on(isa::current(), saved, sizes)
}

fn backward_on(set: InstructionSet, saved: &Saved, sizes: &Sizes) -> [Vec<f32>; 3] {
    let (width, rows) = (sizes.width(), [sizes.queries, sizes.keys, sizes.keys].map(|rows| sizes.batch * rows));
    if rows.iter().any(|rows| rows * width == 0) {
        return rows.map(|rows| vec![0.0; rows * width]);
    }
    let tiles = |values, transposed| Tiles::new(set, values, sizes, BACKWARD_KEYS, transposed);
    let (keys, transposed_keys, values) = (tiles(saved.k, false), tiles(saved.k, true), tiles(saved.v, false));
    let [mut to_q, mut to_k] = [Vec::new(), Vec::new()];
    let compute = |q: &mut [MaybeUninit<f32>], k: &mut [MaybeUninit<f32>], v: &mut [MaybeUninit<f32>]| {
        let matrix = |out: &mut [MaybeUninit<f32>], rows| {
            // SAFETY: the elements of the slice, borrowed exclusively.
            unsafe { SharedMatrix::new(out.as_mut_ptr().cast(), rows, width, width) }
        };
        let out = [matrix(q, rows[0]), matrix(k, rows[1]), matrix(v, rows[2])];
        let all = Gradient { saved, keys: &keys, transposed_keys: &transposed_keys, values: &values, sizes, out };
        let heads = (0..sizes.batch * sizes.heads).collect();
        tasks::for_each(heads, || (), |(), head| dispatch(set, Head { all: &all, head }));
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
    transposed_keys: &'a Tiles,
    values: &'a Tiles,
    sizes: &'a Sizes,
    /// Of queries, keys and values, `[batch * rows, width]`.
    out: [SharedMatrix<'a>; 3],
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
    fn run<I: Isa>(self, isa: I) {
        let sizes = self.all.sizes;
        let panels = sizes.head.div_ceil(I::NR);
        let [k, v] = [(); 2].map(|()| Scratch::take(panels * sizes.keys * I::NR));
        let mut sums = Sums { k, v };
        sums.k.fill(0.0);
        sums.v.fill(0.0);
        for start in (0..sizes.queries).step_by(BACKWARD_QUERIES) {
            self.block(isa, start..sizes.queries.min(start + BACKWARD_QUERIES), &mut sums);
        }
        self.finish::<I>(&sums.k, sizes.scale(), &self.all.out[1]);
        self.finish::<I>(&sums.v, 1.0, &self.all.out[2]);
    }
}

/// A block of queries.
struct Block {
    /// The queries times the scale, and the output's gradient, as right operands: packed panels `[panels, head, queries]`.
    columns: [Scratch; 2],
    /// The same without the scale as right operands whose rows are queries: packed panels `[panels of channels, queries, channels]`.
    rows: [Scratch; 2],
    /// Per query: the logarithm of its sum, and the product of output and output gradient, which is the mean of the weights'
    /// gradients under the weights.
    log_sums: Vec<f32>,
    means: Vec<f32>,
}

impl Head<'_> {
    /// Packs a block of `padded` queries; those too many have no weights.
    #[inline(always)]
    fn pack<I: Isa>(&self, isa: I, queries: &Range<usize>, padded: usize) -> Block {
        let Gradient { saved, sizes, .. } = self.all;
        // Not `map`: what it calls is not always inlined, and then lacks the instruction set.
        let columns =
            [self.columns(isa, saved.q, sizes.scale(), queries, padded), self.columns(isa, saved.gradient, 1.0, queries, padded)];
        let rows = [self.rows(isa, saved.q, queries, padded), self.rows(isa, saved.gradient, queries, padded)];
        let mut log_sums = vec![f32::INFINITY; padded];
        log_sums[..queries.len()].copy_from_slice(&saved.log_sums[self.head * sizes.queries..][queries.clone()]);
        let mut means = vec![0.0; padded];
        let out = query_rows(saved.out, self.head, queries, sizes).values();
        let gradient = query_rows(saved.gradient, self.head, queries, sizes).values();
        for (query, mean) in means[..queries.len()].iter_mut().enumerate() {
            let row = query * sizes.width()..query * sizes.width() + sizes.head;
            *mean = sum_pairs(&out[row.clone()], &gradient[row], |out, gradient| out * gradient);
        }
        Block { columns, rows, log_sums, means }
    }

    /// `[panels, head, queries]`, times `scale`.
    #[inline(always)]
    fn columns<I: Isa>(&self, isa: I, values: &[f32], scale: f32, queries: &Range<usize>, padded: usize) -> Scratch {
        let size = padded * self.all.sizes.head.next_multiple_of(I::KR);
        let mut columns = Scratch::take(storage::<I>(size));
        let to = &mut as_packed_mut::<I>(&mut columns)[..size];
        pack_queries(isa, values, self.head, queries.clone(), self.all.sizes, scale, to);
        columns
    }

    /// `[panels of channels, queries, channels]`.
    #[inline(always)]
    fn rows<I: Isa>(&self, isa: I, values: &[f32], queries: &Range<usize>, padded: usize) -> Scratch {
        let sizes = self.all.sizes;
        let mut rows = Scratch::take(storage::<I>(sizes.head.div_ceil(I::NR) * padded * I::NR));
        for (panel, to) in as_packed_mut::<I>(&mut rows).chunks_exact_mut(padded * I::NR).enumerate() {
            pack_rhs(isa, &query_rows(values, self.head, queries, sizes), panel * I::NR, to);
        }
        rows
    }

    /// Computes the gradient of a block of queries, and adds their part to those of keys and values.
    #[inline(always)]
    fn block<I: Isa>(&self, isa: I, queries: Range<usize>, sums: &mut Sums) {
        let (all, sizes) = (self.all, self.all.sizes);
        let (padded, depth) = (queries.len().next_multiple_of(I::NR), sizes.head.next_multiple_of(I::KR));
        let own = self.pack(isa, &queries, padded);
        let mut to_queries = Scratch::take(padded * sizes.head);
        to_queries.fill(0.0);
        let [mut weights, mut slopes] = [(); 2].map(|()| Scratch::take(all.keys.keys * I::NR));
        let [mut packed_weights, mut packed_slopes] = [(); 2].map(|()| Scratch::take(storage::<I>(all.keys.keys * padded)));
        let mut space = Scratch::default();
        let visible = sizes.visible(queries.end);
        let tiles = all.keys.of(self.head, visible).zip(all.transposed_keys.of(self.head, visible));
        for (((keys, k), (_, transposed_k)), (_, v)) in tiles.zip(all.values.of(self.head, visible)) {
            let (count, padded_keys) = (keys.len(), keys.len().next_multiple_of(I::KR));
            let k = PackedLhs::<I>::new(as_packed::<I>(k), count, depth);
            let v = PackedLhs::<I>::new(as_packed::<I>(v), count, depth);
            let transposed_k = PackedLhs::<I>::new(as_packed::<I>(transposed_k), sizes.head, padded_keys);
            for (panel, to_queries) in to_queries.chunks_exact_mut(sizes.head * I::NR).enumerate() {
                let [q, gradient] =
                    own.columns.each_ref().map(|columns| &as_packed::<I>(columns)[panel * depth * I::NR..][..depth * I::NR]);
                multiply_panel(isa, &k, 0..depth, q, &mut weights, false);
                multiply_panel(isa, &v, 0..depth, gradient, &mut slopes, false);
                if sizes.causal {
                    hide_later_keys(&mut weights[..count * I::NR], keys.start, queries.start + panel * I::NR, I::NR);
                }
                let [log_sums, means] = [&own.log_sums, &own.means].map(|values| &values[panel * I::NR..][..I::NR]);
                online_softmax::backward(isa, &mut weights[..count * I::NR], &mut slopes[..count * I::NR], log_sums, means);
                slopes[count * I::NR..padded_keys * I::NR].fill(0.0);
                pack_beside(isa, &weights, count, (panel, padded), as_packed_mut::<I>(&mut packed_weights));
                pack_beside(isa, &slopes, count, (panel, padded), as_packed_mut::<I>(&mut packed_slopes));
                let slopes = rows_as_panel(isa, &slopes[..padded_keys * I::NR], &mut space);
                multiply_panel(isa, &transposed_k, 0..padded_keys, slopes, to_queries, true);
            }
            let [weights, slopes] =
                [&packed_weights, &packed_slopes].map(|packed| PackedLhs::<I>::new(as_packed::<I>(packed), count, padded));
            let [q, gradient] = own.rows.each_ref().map(|rows| as_packed::<I>(rows).chunks_exact(padded * I::NR).enumerate());
            for (panel, gradient) in gradient {
                let to = &mut sums.v[(panel * sizes.keys + keys.start) * I::NR..][..count * I::NR];
                multiply_panel(isa, &weights, 0..padded, gradient, to, true);
            }
            for (panel, q) in q {
                let to = &mut sums.k[(panel * sizes.keys + keys.start) * I::NR..][..count * I::NR];
                multiply_panel(isa, &slopes, 0..padded, q, to, true);
            }
        }
        to_queries.iter_mut().for_each(|value| *value *= sizes.scale());
        for (panel, values) in to_queries.chunks_exact(sizes.head * I::NR).enumerate() {
            let first = queries.start + panel * I::NR;
            // SAFETY: the head is this task's alone.
            unsafe { unpack_queries(isa, values, self.head, first..queries.end.min(first + I::NR), sizes, &all.out[0]) };
        }
    }

    /// Writes sums over queries, times `scale`.
    #[inline(always)]
    fn finish<I: Isa>(&self, sums: &[f32], scale: f32, out: &SharedMatrix) {
        let sizes = self.all.sizes;
        let (row, column) = (self.head / sizes.heads * sizes.keys, self.head % sizes.heads * sizes.head);
        for key in 0..sizes.keys {
            // SAFETY: the head is this task's alone.
            let to = unsafe { out.row(row + key, column..column + sizes.head) }.into_slice();
            for (panel, to) in to.chunks_mut(I::NR).enumerate() {
                let from = &sums[(panel * sizes.keys + key) * I::NR..][..to.len()];
                to.iter_mut().zip(from).for_each(|(to, from)| *to = MaybeUninit::new(from * scale));
            }
        }
    }
}

/// Packs `rows` rows of panel `panel` of queries as its columns of a left operand that has `depth` columns in all.
#[inline(always)]
fn pack_beside<I: Isa>(isa: I, from: &[f32], rows: usize, (panel, depth): (usize, usize), to: &mut [I::Packed]) {
    let vectors = I::NR / I::LANES;
    for tile in row_tiles::<I>(rows) {
        for (index, row) in tile.clone().enumerate() {
            for vector in 0..vectors {
                let offset = lhs_offset::<I>(&tile, depth, index, panel * vectors + vector);
                let value = load::<I::Simd>(&from[row * I::NR + vector * I::LANES..]);
                isa.pack_lhs(value, &mut to[offset..offset + I::LANES]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::attention::forward_on;
    use crate::kernels::isa::available;

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
            for (name, set) in available() {
                let tolerance = if set.is_float32() { 2e-5 } else { 5e-2 };
                let (out, log_sums) = forward_on(set, &q, &k, &v, &sizes);
                let saved = Saved { q: &q, k: &k, v: &v, out: &out, log_sums: &log_sums, gradient: &gradient };
                let [to_q, to_k, to_v] = backward_on(set, &saved, &sizes);
                for (found, expected) in [out.clone(), to_q, to_k, to_v].iter().zip(&expected) {
                    for (found, expected) in found.iter().zip(expected) {
                        let close = (f64::from(*found) - expected).abs() < tolerance;
                        assert!(close, "{name}, {queries} x {keys} x {head}: {found}, expected {expected}");
                    }
                }
            }
        }
    }
}
