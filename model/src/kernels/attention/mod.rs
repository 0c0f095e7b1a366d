//! Attention (Vaswani et al. 2017, arXiv 1706.03762, equation 1) without storing the scores: blocks of queries meet tiles of keys,
//! with a running softmax (Milakov and Gimelshein 2018, arXiv 1805.02867; Dao et al. 2022, arXiv 2205.14135, algorithm 1).
//!
//! All products are register blocks (`block.rs`). Keys, and values turned, are laid out as their left factors once, tile by tile
//! ([`Tiles`]). A task has some queries of a head, in panels as wide as a register block, turned. A panel's scores against a tile,
//! `[keys, queries]`, stay in a first-level cache, are softened down the columns, where neighboring numbers are independent, and are
//! the right factor of the next product as they lie.

pub mod backward;
pub mod online_softmax;

use std::mem::MaybeUninit;
use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use crate::kernels::attention::online_softmax::{Softened, soften};
use crate::kernels::gemm::Matrix;
use crate::kernels::gemm::block::multiply_rows;
use crate::kernels::gemm::packing;
use crate::kernels::isa::lanes::{Kernel, Lanes, MOST_LANES, dispatch, lanes, scatter};
use crate::kernels::memory::scratch::{Scratch, written};
use crate::kernels::memory::shared::Places;
use crate::kernels::{isa, tasks};

/// Queries of a task.
const QUERIES: usize = 256;
/// The most keys of a tile: a panel's scores take 16 to 32 KiB.
const KEYS: usize = 256;
/// The fewest where heads are wide: with fewer, bringing the output up to date costs more than the cache saves.
const FEWEST_KEYS: usize = 128;
/// Elements of the keys in a tile, about: they and the values stay in a second-level cache.
const TILE: usize = 1 << 14;

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

/// Keys or values of all heads as left factors, tile after tile.
pub(super) struct Tiles {
    elements: Scratch,
    /// Keys per tile, and of a head.
    pub keys: usize,
    all: usize,
    /// Tiles per head, and elements per tile.
    count: usize,
    size: usize,
}

impl Tiles {
    /// Lays out `[batch, keys, width]`: a tile's keys are the rows, or, `turned`, the head's channels.
    pub fn new(arch: Arch, values: &[f32], sizes: &Sizes, most: usize, turned: bool) -> Self {
        // Whole vectors of every instruction set.
        let keys = (TILE / sizes.head).clamp(FEWEST_KEYS, most) / (2 * MOST_LANES) * 2 * MOST_LANES;
        let (count, lanes) = (sizes.keys.div_ceil(keys), lanes(arch));
        let size = keys * if turned { sizes.head } else { sizes.head.next_multiple_of(lanes) };
        let mut elements = Scratch::take(sizes.batch * sizes.heads * count * size);
        elements.par_chunks_mut(size).enumerate().for_each(|(index, to)| {
            let (tile, head, sample) = (index % count, index / count % sizes.heads, index / count / sizes.heads);
            let keys = tile * keys..sizes.keys.min((tile + 1) * keys);
            let from = &values[(sample * sizes.keys + keys.start) * sizes.width() + head * sizes.head..];
            let rows = Matrix::new(from, keys.len(), sizes.head, sizes.width());
            dispatch(arch, Order { matrix: if turned { rows.transposed() } else { rows }, to });
        });
        Self { elements, keys, all: sizes.keys, count, size }
    }

    /// The tiles of a head of a sample in which the first `visible` keys are, with the keys in them. Tiles are whole, for their
    /// blocks are cut by how many keys they have.
    pub fn of(&self, head: usize, visible: usize) -> impl Iterator<Item = (Range<usize>, &[f32])> {
        let all = self.elements[head * self.count * self.size..].chunks(self.size);
        (0..visible).step_by(self.keys).map(move |first| first..self.all.min(first + self.keys)).zip(all)
    }
}

/// Lays out all rows of a matrix in blocks.
struct Order<'a> {
    matrix: Matrix<'a>,
    to: &'a mut [f32],
}

impl Kernel for Order<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, simd: S) {
        packing::blocks(simd, &self.matrix, 0..self.matrix.rows(), (0, self.matrix.columns().div_ceil(S::F32_LANES)), self.to);
    }
}

/// `q` `[batch, queries, width]`, `k` and `v` `[batch, keys, width]` to the output `[batch, queries, width]` and the logarithms of
/// the sums of the exponentials of the scores, `[batch, heads, queries]`.
pub fn forward(q: &[f32], k: &[f32], v: &[f32], sizes: &Sizes) -> (Vec<f32>, Vec<f32>) {
    forward_on(isa::arch(), q, k, v, sizes)
}

pub(super) fn forward_on(arch: Arch, q: &[f32], k: &[f32], v: &[f32], sizes: &Sizes) -> (Vec<f32>, Vec<f32>) {
    let (width, heads, rows) = (sizes.width(), sizes.batch * sizes.heads, sizes.batch * sizes.queries);
    let mut log_sums = vec![0.0; heads * sizes.queries];
    if rows * width == 0 || sizes.keys == 0 {
        return (vec![0.0; rows * width], log_sums);
    }
    assert!(q.len() >= rows * width, "there are fewer queries than their sizes tell");
    let keys = Tiles::new(arch, k, sizes, KEYS, false);
    let values = Tiles::new(arch, v, sizes, KEYS, true);
    // SAFETY: the elements of the vector, which is used again only afterwards.
    let logarithms = unsafe { Places::new(log_sums.as_mut_ptr(), heads, sizes.queries, sizes.queries) };
    let write = |out: &mut [MaybeUninit<f32>]| {
        // SAFETY: the elements of the slice, borrowed exclusively.
        let out = unsafe { Places::new(out.as_mut_ptr().cast(), rows, width, width) };
        let all = Attention { q, keys: &keys, values: &values, sizes, out, logarithms };
        let starts = (0..sizes.queries).step_by(QUERIES);
        let tasks = (0..heads).flat_map(|head| starts.clone().map(move |start| (head, start))).collect();
        tasks::for_each(tasks, || (), |(), (head, start)| dispatch(arch, Queries { all: &all, head, start }));
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
    out: Places<'a>,
    /// `[batch * heads, queries]`.
    logarithms: Places<'a>,
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
    fn run<S: Lanes>(self, simd: S) {
        let (sizes, width) = (self.all.sizes, 2 * S::F32_LANES);
        let count = QUERIES.min(sizes.queries - self.start);
        let (panels, depth) = (count.div_ceil(width), sizes.head.next_multiple_of(S::F32_LANES));
        let mut queries = Scratch::take(panels * depth * width);
        turn_queries(simd, self.all.q, self.head, self.start..self.start + count, sizes, sizes.scale(), &mut queries);
        let [mut out, mut greatest, mut total] = [sizes.head, 1, 1].map(|rows| Scratch::take(panels * rows * width));
        let mut scores = Scratch::take(self.all.keys.keys * width);
        out.fill(0.0);
        greatest.fill(f32::NEG_INFINITY);
        total.fill(0.0);
        let visible = sizes.visible(self.start + count);
        for ((keys, k), (_, v)) in self.all.keys.of(self.head, visible).zip(self.all.values.of(self.head, visible)) {
            let padded = keys.len().next_multiple_of(S::F32_LANES);
            let scores = &mut scores[..padded * width];
            for (panel, queries) in queries.chunks_exact(depth * width).enumerate() {
                multiply_rows(simd, k, (keys.len(), depth), queries, scores, true);
                scores[keys.len() * width..].fill(f32::NEG_INFINITY);
                if sizes.causal {
                    hide_later_keys(scores, keys.start, self.start + panel * width, width);
                }
                let out = &mut out[panel * sizes.head * width..][..sizes.head * width];
                let (greatest, total) = (&mut greatest[panel * width..], &mut total[panel * width..]);
                soften(simd, Softened { out, greatest, total }, scores);
                multiply_rows(simd, v, (sizes.head, padded), scores, out, false);
            }
        }
        for (panel, own) in out.chunks_exact_mut(sizes.head * width).enumerate() {
            let total = &mut total[panel * width..][..width];
            let (first, greatest) = (self.start + panel * width, &greatest[panel * width..]);
            for query in first..sizes.queries.min(first + width) {
                let lane = query - first;
                // SAFETY: these queries of this head are this task's alone.
                unsafe { self.all.logarithms.row(self.head, query..query + 1) }.put(0, greatest[lane] + total[lane].ln());
            }
            total.iter_mut().for_each(|total| *total = 1.0 / *total);
            for row in own.chunks_exact_mut(width) {
                row.iter_mut().zip(&*total).for_each(|(value, factor)| *value *= factor);
            }
            // SAFETY: as above.
            unsafe { turn_back(simd, own, self.head, first..sizes.queries.min(first + width), sizes, &self.all.out) };
        }
    }
}

/// Some rows of a head in panels, turned, times `scale`: `[panels, head, queries]`; what is missing are zeros.
#[inline(always)]
pub(super) fn turn_queries<S: Lanes>(
    simd: S,
    q: &[f32],
    head: usize,
    queries: Range<usize>,
    sizes: &Sizes,
    scale: f32,
    to: &mut [f32],
) {
    let rows = query_rows(q, head, &queries, sizes).transposed();
    let width = 2 * S::F32_LANES;
    for (panel, to) in to.chunks_exact_mut(sizes.head.next_multiple_of(S::F32_LANES) * width).enumerate() {
        packing::panel(simd, &rows, panel * width, to);
        to.iter_mut().for_each(|value| *value *= scale);
    }
}

/// Some rows of a head of `[batch, queries, width]`.
pub(super) fn query_rows<'a>(q: &'a [f32], head: usize, queries: &Range<usize>, sizes: &Sizes) -> Matrix<'a> {
    let row = head / sizes.heads * sizes.queries + queries.start;
    Matrix::new(&q[row * sizes.width() + head % sizes.heads * sizes.head..], queries.len(), sizes.head, sizes.width())
}

/// Writes a panel `[head, queries]` to its places in `[batch * queries, width]`.
///
/// # Safety
/// No other task uses these places.
#[inline(always)]
pub(super) unsafe fn turn_back<S: Lanes>(
    simd: S,
    panel: &[f32],
    head: usize,
    queries: Range<usize>,
    sizes: &Sizes,
    out: &Places,
) {
    let lanes = S::F32_LANES;
    let (panel, _) = S::as_simd_f32s(panel);
    let mut half_panel = Scratch::take(sizes.head * lanes);
    let (half_panel, _) = S::as_mut_simd_f32s(&mut half_panel);
    let (row, column) = (head / sizes.heads * sizes.queries, head % sizes.heads * sizes.head);
    for half in 0..2 {
        half_panel.iter_mut().zip(panel.iter().skip(half).step_by(2)).for_each(|(to, from)| *to = *from);
        let some = queries.start + half * lanes..queries.end.min(queries.start + (half + 1) * lanes);
        let mut rows: [&mut [MaybeUninit<f32>]; MOST_LANES] = std::array::from_fn(|_| Default::default());
        for (to, query) in rows.iter_mut().zip(some.clone()) {
            // SAFETY: the caller's promise.
            *to = unsafe { out.row(row + query, column..column + sizes.head) }.into_slice();
        }
        scatter(simd, half_panel, &mut rows[..some.len()]);
    }
}

/// Scores of keys behind their query become minus infinity.
pub(super) fn hide_later_keys(scores: &mut [f32], first: usize, start: usize, count: usize) {
    for (key, row) in scores.chunks_mut(count).enumerate() {
        let hidden = (first + key).saturating_sub(start).min(count);
        row[..hidden].fill(f32::NEG_INFINITY);
    }
}
