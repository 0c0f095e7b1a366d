//! The matrix product in register blocks (`block.rs`), which both factors are first brought into the order of.
//!
//! 1. The result's columns are computed a *slab* at a time: as many as need [`SLAB`] elements of the right matrix, which a last-level
//!    cache holds. All threads lay these out in panels, two vectors of columns wide.
//! 2. A task takes some rows of the left matrix, [`NEAR`] elements of it, and some panels. It lays its rows out in groups, which stay
//!    in a second-level cache, and multiplies every panel by all of them, [`DEPTH`] rows of the panel at a time, which stay in a
//!    first-level cache.
//! 3. The sums of a panel are scaled, and replace or are added to what they are asked to.
//!
//! However the work is cut, each element is the same sum in the same order.

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use crate::kernels::gemm::block::{self, Factors};
use crate::kernels::gemm::packing;
use crate::kernels::gemm::{Destination, Matrix, Threads};
use crate::kernels::isa::lanes::{Kernel, Lanes, dispatch, load};
use crate::kernels::memory::scratch::Scratch;
use crate::kernels::memory::shared::Places;
use crate::kernels::tasks;

/// Elements of the right matrix in a slab, about.
const SLAB: usize = 1_500_000;
/// Elements of the left matrix that a task lays out, about.
const NEAR: usize = 1 << 16;
/// The most rows of the left matrix that a task takes.
const MOST_ROWS: usize = 192;
/// Rows of a panel that are multiplied at once; a multiple of all vectors' lengths.
const DEPTH: usize = 320;
/// Panels whose sums are written together: runs of several lines of a cache.
const TOGETHER: usize = 4;

/// A sum of products: the result's places, and the factors.
pub struct Packed<'a> {
    /// The result.
    pub out: Places<'a>,
    /// What becomes of the values there.
    pub destination: Destination<'a>,
    /// What the sum is multiplied by.
    pub scale: f32,
    /// Left and right matrices, at least one pair: they count as one matrix beside and below the other.
    pub factors: &'a [(Matrix<'a>, Matrix<'a>)],
}

/// The rows of a panel that a term takes: whole vectors.
fn depth(a: &Matrix, lanes: usize) -> usize {
    a.columns().next_multiple_of(lanes)
}

impl Packed<'_> {
    /// Computes the product.
    pub fn compute(&self, arch: Arch, threads: Threads) {
        let lanes = crate::kernels::isa::lanes::lanes(arch);
        let width = 2 * lanes;
        let depth = self.depth(lanes);
        let panels = self.out.columns().div_ceil(width);
        let together = (SLAB / (depth * width)).clamp(1, panels);
        for first in (0..panels).step_by(together) {
            let slab = first..panels.min(first + together);
            let mut right = Scratch::take(slab.len() * depth * width);
            let order = |(panel, to): (usize, &mut [f32])| {
                dispatch(arch, OrderPanel { product: self, first: (slab.start + panel) * width, to });
            };
            match threads {
                Threads::All => right.par_chunks_mut(depth * width).enumerate().for_each(order),
                Threads::One => right.chunks_mut(depth * width).enumerate().for_each(order),
            }
            let work = |(rows, panels)| dispatch(arch, Task { product: self, right: &right, slab: slab.clone(), rows, panels });
            let tasks = self.tasks(slab.len(), depth, threads);
            match threads {
                Threads::All => tasks::for_each(tasks, || (), |(), task| work(task)),
                Threads::One => tasks.into_iter().for_each(work),
            }
        }
    }

    /// The rows of a panel.
    fn depth(&self, lanes: usize) -> usize {
        self.factors.iter().map(|(a, _)| depth(a, lanes)).sum()
    }

    /// Cuts the result of a slab of `panels` into tasks: rows, and panels counted from the slab's first.
    fn tasks(&self, panels: usize, depth: usize, threads: Threads) -> Vec<(Range<usize>, Range<usize>)> {
        let rows = self.out.rows();
        // Twelve rows fill a whole number of blocks of every instruction set.
        let most = (NEAR / depth / 12 * 12).clamp(12, MOST_ROWS);
        let parts = rows.div_ceil(most);
        let each = rows.div_ceil(parts).next_multiple_of(12);
        let wanted = if threads == Threads::All { 3 * rayon::current_num_threads() } else { 1 };
        let shares = wanted.div_ceil(parts).min(panels);
        let cut = |rows: Range<usize>| {
            (0..shares).map(move |share| (rows.clone(), share * panels / shares..(share + 1) * panels / shares))
        };
        (0..rows).step_by(each).flat_map(|first| cut(first..rows.min(first + each))).collect()
    }
}

/// Lays out a panel of the right matrices: the columns from `first` on.
struct OrderPanel<'a, 'b> {
    product: &'a Packed<'b>,
    first: usize,
    to: &'a mut [f32],
}

impl Kernel for OrderPanel<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, simd: S) {
        let mut to = self.to;
        for (a, b) in self.product.factors {
            let (own, rest) = to.split_at_mut(depth(a, S::F32_LANES) * 2 * S::F32_LANES);
            packing::panel(simd, b, self.first, own);
            to = rest;
        }
    }
}

/// Some rows of the left matrix times some panels of a slab.
struct Task<'a, 'b> {
    product: &'a Packed<'b>,
    /// The slab's panels.
    right: &'a [f32],
    slab: Range<usize>,
    rows: Range<usize>,
    panels: Range<usize>,
}

impl Kernel for Task<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, simd: S) {
        let width = 2 * S::F32_LANES;
        let (rows, depth) = (self.rows.len(), self.product.depth(S::F32_LANES));
        let mut left = Scratch::take(rows * depth);
        self.order_rows(simd, depth / S::F32_LANES, &mut left);
        let mut sums = Scratch::take(TOGETHER * rows * width);
        for first in self.panels.clone().step_by(TOGETHER) {
            let panels = first..self.panels.end.min(first + TOGETHER);
            for (index, sums) in panels.clone().zip(sums.chunks_exact_mut(rows * width)) {
                let panel = &self.right[index * depth * width..][..depth * width];
                for start in (0..depth).step_by(DEPTH) {
                    let count = DEPTH.min(depth - start);
                    let panel = &panel[start * width..][..count * width];
                    for block in block::blocks::<S>(rows) {
                        let columns = &left[block.start * depth + start * block.len()..][..count * block.len()];
                        let out = &mut sums[block.start * width..block.end * width];
                        block::multiply(simd, Factors { panel, columns }, out, start == 0);
                    }
                }
            }
            let panels = self.slab.start + panels.start..self.slab.start + panels.end;
            self.finish(simd, panels, &sums);
        }
    }
}

impl Task<'_, '_> {
    /// Writes the sums of some panels, row by row.
    #[inline(always)]
    fn finish<S: Lanes>(&self, simd: S, panels: Range<usize>, sums: &[f32]) {
        let width = 2 * S::F32_LANES;
        let (rows, columns) = (self.rows.len(), self.product.out.columns());
        for (index, row) in self.rows.clone().enumerate() {
            for (panel, sums) in panels.clone().zip(sums.chunks_exact(rows * width)) {
                self.write(simd, row, panel * width..columns.min((panel + 1) * width), &sums[index * width..][..width]);
            }
        }
    }

    /// Writes the sums of a row of a panel.
    #[inline(always)]
    fn write<S: Lanes>(&self, simd: S, row: usize, columns: Range<usize>, sums: &[f32]) {
        let Packed { out, destination, scale, .. } = self.product;
        let lanes = S::F32_LANES;
        // SAFETY: the places belong to this task's rows and panels, which no other task has.
        let mut places = unsafe { out.row(row, columns.clone()) };
        if columns.len() < 2 * lanes {
            for (column, &sum) in sums[..columns.len()].iter().enumerate() {
                let term = match destination {
                    Destination::Replace => 0.0,
                    Destination::Add => places.get(column),
                    Destination::Bias(bias) => bias[columns.start + column],
                    Destination::RowBias(bias) => bias[row],
                };
                places.put(column, sum * scale + term);
            }
            return;
        }
        let (sums, _) = S::as_simd_f32s(sums);
        for half in 0..2 {
            let term = match destination {
                Destination::Replace => None,
                Destination::Add => Some(places.get_vector::<S>(half * lanes)),
                Destination::Bias(bias) => Some(load::<S>(&bias[columns.start + half * lanes..])),
                Destination::RowBias(bias) => Some(simd.splat_f32s(bias[row])),
            };
            let value = simd.mul_f32s(sums[half], simd.splat_f32s(*scale));
            places.put_vector::<S>(half * lanes, term.map_or(value, |term| simd.add_f32s(value, term)));
        }
    }
}

impl Task<'_, '_> {
    /// Lays out the rows of the left matrices in blocks.
    #[inline(always)]
    fn order_rows<S: Lanes>(&self, simd: S, groups: usize, to: &mut [f32]) {
        let mut first = 0;
        for (a, _) in self.product.factors {
            packing::blocks(simd, a, self.rows.clone(), (first, groups), to);
            first += depth(a, S::F32_LANES) / S::F32_LANES;
        }
    }
}
