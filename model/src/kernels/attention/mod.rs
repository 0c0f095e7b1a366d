//! Attention (Vaswani et al. 2017, arXiv 1706.03762, equation 1) without storing the scores: blocks of queries meet tiles of keys,
//! with an online softmax (Milakov and Gimelshein 2018, arXiv 1805.02867; Dao et al. 2022, arXiv 2205.14135, algorithm 1).
//!
//! Keys, and values transposed, are packed as left operands once, tile by tile ([`Tiles`]). A task has some queries of a head, packed
//! as panels of the right operand. A panel's scores against a tile, `[keys, queries]`, stay in a first-level cache, go through the
//! softmax down the columns, where neighboring numbers are independent, and are the right operand of the next product.

pub mod backward;
mod online_softmax;

use std::mem::MaybeUninit;
use std::ops::Range;

use pulp::Simd;
use rayon::prelude::*;

use self::online_softmax::Running;
use crate::kernels::gemm::Matrix;
use crate::kernels::gemm::macrokernel::{PackedLhs, multiply_panel};
use crate::kernels::gemm::packing::{pack_lhs, pack_rhs_scaled, rows_as_panel};
use crate::kernels::isa::vector::lanes_to_rows;
use crate::kernels::isa::{self, InstructionSet, Isa, Kernel, MAX_LANES, TileShape, as_packed, as_packed_mut, dispatch, storage};
use crate::kernels::memory::scratch::{Scratch, written};
use crate::kernels::memory::shared::SharedMatrix;
use crate::kernels::tasks;
use crate::kernels::tuning::attention::{KEYS_STEP, MAX_KEYS, MIN_KEYS, QUERIES, TILE};

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
    /// Whether a query sees only keys up to its own position.
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

/// Keys or values of all heads, packed as left operands, tile after tile.
pub(super) struct Tiles {
    packed: Scratch,
    /// Keys per tile, and of a head.
    pub keys: usize,
    all: usize,
    /// Tiles per head, and the memory of a tile.
    count: usize,
    size: usize,
}

impl Tiles {
    /// Packs `[batch, keys, width]`: the rows of a tile are keys, or, `transposed`, the head's channels.
    pub fn new(set: InstructionSet, values: &[f32], sizes: &Sizes, most: usize, transposed: bool) -> Self {
        let shape = TileShape::of(set);
        let keys = (TILE / sizes.head).clamp(MIN_KEYS, most) / KEYS_STEP * KEYS_STEP;
        let count = sizes.keys.div_ceil(keys);
        let size = shape.storage(keys * if transposed { sizes.head } else { sizes.head.next_multiple_of(shape.kr) });
        let mut packed = Scratch::take(sizes.batch * sizes.heads * count * size);
        packed.par_chunks_mut(size).enumerate().for_each(|(index, to)| {
            let (tile, head, sample) = (index % count, index / count % sizes.heads, index / count / sizes.heads);
            let keys = tile * keys..sizes.keys.min((tile + 1) * keys);
            let from = &values[(sample * sizes.keys + keys.start) * sizes.width() + head * sizes.head..];
            let rows = Matrix::new(from, keys.len(), sizes.head, sizes.width());
            dispatch(set, PackTile { matrix: if transposed { rows.transposed() } else { rows }, to });
        });
        Self { packed, keys, all: sizes.keys, count, size }
    }

    /// The tiles of a head of a sample in which the first `visible` keys are, with the keys in them. Tiles are whole, for they are cut
    /// into rows by how many keys they have.
    pub fn of(&self, head: usize, visible: usize) -> impl Iterator<Item = (Range<usize>, &[f32])> {
        let all = self.packed[head * self.count * self.size..].chunks(self.size);
        (0..visible).step_by(self.keys).map(move |first| first..self.all.min(first + self.keys)).zip(all)
    }
}

/// Packs all rows of a matrix as a left operand.
struct PackTile<'a> {
    matrix: Matrix<'a>,
    to: &'a mut [f32],
}

impl Kernel for PackTile<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let depth = self.matrix.columns().next_multiple_of(I::KR);
        pack_lhs(isa, &self.matrix, 0..self.matrix.rows(), (0, depth), as_packed_mut::<I>(self.to));
    }
}

/// `q` `[batch, queries, width]`, `k` and `v` `[batch, keys, width]` to the output `[batch, queries, width]` and the logarithms of
/// the sums of the exponentials of the scores, `[batch, heads, queries]`.
pub fn forward(q: &[f32], k: &[f32], v: &[f32], sizes: &Sizes) -> (Vec<f32>, Vec<f32>) {
    forward_on(isa::current(), q, k, v, sizes)
}

pub(super) fn forward_on(set: InstructionSet, q: &[f32], k: &[f32], v: &[f32], sizes: &Sizes) -> (Vec<f32>, Vec<f32>) {
    let (width, heads, rows) = (sizes.width(), sizes.batch * sizes.heads, sizes.batch * sizes.queries);
    let mut log_sums = vec![0.0; heads * sizes.queries];
    if rows * width == 0 || sizes.keys == 0 {
        return (vec![0.0; rows * width], log_sums);
    }
    assert!(q.len() >= rows * width, "there are fewer queries than their sizes tell");
    let keys = Tiles::new(set, k, sizes, MAX_KEYS, false);
    let values = Tiles::new(set, v, sizes, MAX_KEYS, true);
    // SAFETY: the elements of the vector, which is used again only afterwards.
    let logarithms = unsafe { SharedMatrix::new(log_sums.as_mut_ptr(), heads, sizes.queries, sizes.queries) };
    let write = |out: &mut [MaybeUninit<f32>]| {
        // SAFETY: the elements of the slice, borrowed exclusively.
        let out = unsafe { SharedMatrix::new(out.as_mut_ptr().cast(), rows, width, width) };
        let all = Attention { q, keys: &keys, values: &values, sizes, out, logarithms };
        let starts = (0..sizes.queries).step_by(QUERIES);
        let tasks = (0..heads).flat_map(|head| starts.clone().map(move |start| (head, start))).collect();
        tasks::for_each(tasks, || (), |(), (head, start)| dispatch(set, Queries { all: &all, head, start }));
    };
    // SAFETY: every query of every head is a task's, which writes its channels.
    let out = unsafe { written(rows * width, write) };
    (out, log_sums)
}

struct Attention<'a> {
    q: &'a [f32],
    keys: &'a Tiles,
    values: &'a Tiles,
    sizes: &'a Sizes,
    /// `[batch * queries, width]`.
    out: SharedMatrix<'a>,
    /// `[batch * heads, queries]`.
    logarithms: SharedMatrix<'a>,
}

/// Some queries of a head of a sample; heads are counted over all samples.
struct Queries<'a> {
    all: &'a Attention<'a>,
    head: usize,
    start: usize,
}

impl Kernel for Queries<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let sizes = self.all.sizes;
        let count = QUERIES.min(sizes.queries - self.start);
        let (panels, depth) = (count.div_ceil(I::NR), sizes.head.next_multiple_of(I::KR));
        let mut queries = Scratch::take(storage::<I>(panels * depth * I::NR));
        let queries = &mut as_packed_mut::<I>(&mut queries)[..panels * depth * I::NR];
        pack_queries(isa, self.all.q, self.head, self.start..self.start + count, sizes, sizes.scale(), queries);
        let [mut out, mut greatest, mut total] = [sizes.head, 1, 1].map(|rows| Scratch::take(panels * rows * I::NR));
        let (mut scores, mut space) = (Scratch::take(self.all.keys.keys * I::NR), Scratch::default());
        out.fill(0.0);
        greatest.fill(f32::NEG_INFINITY);
        total.fill(0.0);
        let visible = sizes.visible(self.start + count);
        for ((keys, k), (_, v)) in self.all.keys.of(self.head, visible).zip(self.all.values.of(self.head, visible)) {
            let padded = keys.len().next_multiple_of(I::KR);
            let k = PackedLhs::<I>::new(as_packed::<I>(k), keys.len(), depth);
            let v = PackedLhs::<I>::new(as_packed::<I>(v), sizes.head, padded);
            let scores = &mut scores[..padded * I::NR];
            for (panel, queries) in queries.chunks_exact(depth * I::NR).enumerate() {
                multiply_panel(isa, &k, 0..depth, queries, scores, false);
                scores[keys.len() * I::NR..].fill(f32::NEG_INFINITY);
                if sizes.causal {
                    hide_later_keys(scores, keys.start, self.start + panel * I::NR, I::NR);
                }
                let out = &mut out[panel * sizes.head * I::NR..][..sizes.head * I::NR];
                let (greatest, total) = (&mut greatest[panel * I::NR..], &mut total[panel * I::NR..]);
                online_softmax::update(isa, Running { out, greatest, total }, scores);
                multiply_panel(isa, &v, 0..padded, rows_as_panel(isa, scores, &mut space), out, true);
            }
        }
        for (panel, own) in out.chunks_exact_mut(sizes.head * I::NR).enumerate() {
            let total = &mut total[panel * I::NR..][..I::NR];
            let (first, greatest) = (self.start + panel * I::NR, &greatest[panel * I::NR..]);
            for query in first..sizes.queries.min(first + I::NR) {
                let lane = query - first;
                // SAFETY: these queries of this head are this task's alone.
                unsafe { self.all.logarithms.row(self.head, query..query + 1) }.put(0, greatest[lane] + total[lane].ln());
            }
            total.iter_mut().for_each(|total| *total = 1.0 / *total);
            for row in own.chunks_exact_mut(I::NR) {
                row.iter_mut().zip(&*total).for_each(|(value, factor)| *value *= factor);
            }
            // SAFETY: as above.
            unsafe { unpack_queries(isa, own, self.head, first..sizes.queries.min(first + I::NR), sizes, &self.all.out) };
        }
    }
}

/// Packs some rows of a head, transposed and times `scale`, as panels of the right operand: `[panels, head, queries]`; what is missing
/// are zeros.
#[inline(always)]
pub(super) fn pack_queries<I: Isa>(
    isa: I,
    q: &[f32],
    head: usize,
    queries: Range<usize>,
    sizes: &Sizes,
    scale: f32,
    to: &mut [I::Packed],
) {
    let rows = query_rows(q, head, &queries, sizes).transposed();
    for (panel, to) in to.chunks_exact_mut(sizes.head.next_multiple_of(I::KR) * I::NR).enumerate() {
        pack_rhs_scaled(isa, &rows, panel * I::NR, Some(scale), to);
    }
}

/// Some rows of a head of `[batch, queries, width]`.
pub(super) fn query_rows<'a>(q: &'a [f32], head: usize, queries: &Range<usize>, sizes: &Sizes) -> Matrix<'a> {
    let row = head / sizes.heads * sizes.queries + queries.start;
    Matrix::new(&q[row * sizes.width() + head % sizes.heads * sizes.head..], queries.len(), sizes.head, sizes.width())
}

/// Writes a panel of sums `[head, queries]` to its rows of `[batch * queries, width]`.
///
/// # Safety
/// No other task uses these rows of the head.
#[inline(always)]
pub(super) unsafe fn unpack_queries<I: Isa>(
    isa: I,
    panel: &[f32],
    head: usize,
    queries: Range<usize>,
    sizes: &Sizes,
    out: &SharedMatrix,
) {
    let (panel, _) = I::Simd::as_simd_f32s(panel);
    let mut column = Scratch::take(sizes.head * I::LANES);
    let (column, _) = I::Simd::as_mut_simd_f32s(&mut column);
    let (row, channel) = (head / sizes.heads * sizes.queries, head % sizes.heads * sizes.head);
    for vector in 0..I::NR / I::LANES {
        column.iter_mut().zip(panel.iter().skip(vector).step_by(I::NR / I::LANES)).for_each(|(to, from)| *to = *from);
        let start = queries.end.min(queries.start + vector * I::LANES);
        let some = start..queries.end.min(start + I::LANES);
        let mut rows: [&mut [MaybeUninit<f32>]; MAX_LANES] = std::array::from_fn(|_| Default::default());
        for (to, query) in rows.iter_mut().zip(some.clone()) {
            // SAFETY: the caller's promise.
            *to = unsafe { out.row(row + query, channel..channel + sizes.head) }.into_slice();
        }
        lanes_to_rows(isa.simd(), column, &mut rows[..some.len()]);
    }
}

/// Scores of keys behind their query become minus infinity.
pub(super) fn hide_later_keys(scores: &mut [f32], first: usize, start: usize, count: usize) {
    for (key, row) in scores.chunks_mut(count).enumerate() {
        let hidden = (first + key).saturating_sub(start).min(count);
        row[..hidden].fill(f32::NEG_INFINITY);
    }
}
