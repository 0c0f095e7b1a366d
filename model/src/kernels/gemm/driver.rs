//! The blocked matrix product (Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication"), which packs both of its
//! operands.
//!
//! 1. The destination's columns are computed `NC` at a time: as many as need [`NC_ELEMENTS`] of the right operand, which a last-level
//!    cache holds. All threads pack these in panels of `NR` columns.
//! 2. A task takes `MC` rows of the left operand, [`MC_ELEMENTS`] of it, and some panels. It packs its rows, which stay in a
//!    second-level cache, and multiplies every panel by all of them, [`KC`] rows of the panel at a time, which stay in a first-level
//!    cache.
//! 3. The epilogue scales the sums of a panel, and stores or adds them as it is asked to.
//!
//! However the work is cut, each element is the same sum in the same order.

use std::ops::Range;

use pulp::Simd;
use rayon::prelude::*;

use super::macrokernel::{PackedLhs, multiply_panel};
use super::matrix::Matrix;
use super::packing::{pack_lhs, pack_rhs};
use super::{Epilogue, Threads};
use crate::kernels::isa::vector::load;
use crate::kernels::isa::{InstructionSet, Isa, Kernel, TileShape, as_packed, as_packed_mut, dispatch, storage};
use crate::kernels::memory::scratch::Scratch;
use crate::kernels::memory::shared::SharedMatrix;
use crate::kernels::tasks;
use crate::kernels::tuning::gemm::{EPILOGUE_PANELS, KC, MC_ELEMENTS, MC_MAX, MC_MIN, NC_ELEMENTS, TASKS_PER_THREAD};

/// A sum of products.
pub struct Gemm<'a> {
    /// The destination.
    pub dst: SharedMatrix<'a>,
    /// What becomes of the values there.
    pub epilogue: Epilogue<'a>,
    /// What the sum is multiplied by.
    pub scale: f32,
    /// Left and right operands, at least one pair: they count as one matrix beside and below the other.
    pub operands: &'a [(Matrix<'a>, Matrix<'a>)],
}

impl Gemm<'_> {
    /// Computes the product.
    pub fn compute(&self, set: InstructionSet, threads: Threads) {
        let shape = TileShape::of(set);
        let depth = self.depth(shape.kr);
        let size = shape.storage(depth * shape.nr);
        let panels = self.dst.columns().div_ceil(shape.nr);
        let together = (NC_ELEMENTS / (depth * shape.nr)).clamp(1, panels);
        for first in (0..panels).step_by(together) {
            let slab = first..panels.min(first + together);
            let mut rhs = Scratch::take(slab.len() * size);
            let pack = |(panel, to): (usize, &mut [f32])| {
                dispatch(set, PackPanel { product: self, first: (slab.start + panel) * shape.nr, to });
            };
            match threads {
                Threads::All => rhs.par_chunks_mut(size).enumerate().for_each(pack),
                Threads::One => rhs.chunks_mut(size).enumerate().for_each(pack),
            }
            let work = |(rows, panels)| dispatch(set, Task { product: self, rhs: &rhs, slab: slab.clone(), rows, panels });
            let tasks = self.tasks(slab.len(), depth, shape.mr, threads);
            match threads {
                Threads::All => tasks::for_each(tasks, || (), |(), task| work(task)),
                Threads::One => tasks.into_iter().for_each(work),
            }
        }
    }

    /// The rows of a panel: every term's are filled up to whole runs of `kr`.
    fn depth(&self, kr: usize) -> usize {
        self.operands.iter().map(|(lhs, _)| lhs.columns().next_multiple_of(kr)).sum()
    }

    /// Cuts a slab of `panels` into tasks: rows, and panels counted from the slab's first.
    fn tasks(&self, panels: usize, depth: usize, mr: usize, threads: Threads) -> Vec<(Range<usize>, Range<usize>)> {
        let rows = self.dst.rows();
        let step = MC_MIN.next_multiple_of(mr);
        let most = (MC_ELEMENTS / depth / step * step).clamp(step, MC_MAX);
        let parts = rows.div_ceil(most);
        let each = rows.div_ceil(parts).next_multiple_of(step);
        let wanted = if threads == Threads::All { TASKS_PER_THREAD * rayon::current_num_threads() } else { 1 };
        let shares = wanted.div_ceil(parts).min(panels);
        let cut = |rows: Range<usize>| {
            (0..shares).map(move |share| (rows.clone(), share * panels / shares..(share + 1) * panels / shares))
        };
        (0..rows).step_by(each).flat_map(|first| cut(first..rows.min(first + each))).collect()
    }
}

/// Packs a panel of the right operands: the columns from `first` on.
struct PackPanel<'a, 'b> {
    product: &'a Gemm<'b>,
    first: usize,
    to: &'a mut [f32],
}

impl Kernel for PackPanel<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let mut to = as_packed_mut::<I>(self.to);
        for (lhs, rhs) in self.product.operands {
            let (own, rest) = to.split_at_mut(lhs.columns().next_multiple_of(I::KR) * I::NR);
            pack_rhs(isa, rhs, self.first, own);
            to = rest;
        }
    }
}

/// Some rows of the left operands times some panels of a slab.
struct Task<'a, 'b> {
    product: &'a Gemm<'b>,
    /// The slab's panels.
    rhs: &'a [f32],
    slab: Range<usize>,
    rows: Range<usize>,
    panels: Range<usize>,
}

impl Kernel for Task<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (rows, depth) = (self.rows.len(), self.product.depth(I::KR));
        let mut lhs = Scratch::take(storage::<I>(rows * depth));
        self.pack_rows(isa, depth, as_packed_mut::<I>(&mut lhs));
        let lhs = PackedLhs::<I>::new(as_packed::<I>(&lhs), rows, depth);
        let rhs = as_packed::<I>(self.rhs);
        let mut sums = Scratch::take(EPILOGUE_PANELS * rows * I::NR);
        for first in self.panels.clone().step_by(EPILOGUE_PANELS) {
            let panels = first..self.panels.end.min(first + EPILOGUE_PANELS);
            for (index, sums) in panels.clone().zip(sums.chunks_exact_mut(rows * I::NR)) {
                let panel = &rhs[index * depth * I::NR..][..depth * I::NR];
                for start in (0..depth).step_by(KC) {
                    let k = start..depth.min(start + KC);
                    multiply_panel(isa, &lhs, k, &panel[start * I::NR..], sums, start > 0);
                }
            }
            self.epilogue(isa, self.slab.start + panels.start..self.slab.start + panels.end, &sums);
        }
    }
}

impl Task<'_, '_> {
    /// Packs the rows of the left operands, one term beside the other.
    #[inline(always)]
    fn pack_rows<I: Isa>(&self, isa: I, depth: usize, to: &mut [I::Packed]) {
        let mut first = 0;
        for (lhs, _) in self.product.operands {
            pack_lhs(isa, lhs, self.rows.clone(), (first, depth), to);
            first += lhs.columns().next_multiple_of(I::KR);
        }
    }
}

impl Task<'_, '_> {
    /// Writes the sums of some panels, row by row.
    #[inline(always)]
    fn epilogue<I: Isa>(&self, isa: I, panels: Range<usize>, sums: &[f32]) {
        let (rows, columns) = (self.rows.len(), self.product.dst.columns());
        for (index, row) in self.rows.clone().enumerate() {
            for (panel, sums) in panels.clone().zip(sums.chunks_exact(rows * I::NR)) {
                let columns = panel * I::NR..columns.min((panel + 1) * I::NR);
                self.write(isa, row, columns, &sums[index * I::NR..][..I::NR]);
            }
        }
    }

    /// Writes the sums of a row of a panel.
    #[inline(always)]
    fn write<I: Isa>(&self, isa: I, row: usize, columns: Range<usize>, sums: &[f32]) {
        let Gemm { dst, epilogue, scale, .. } = self.product;
        let (simd, lanes) = (isa.simd(), I::LANES);
        // SAFETY: the elements belong to this task's rows and panels, which no other task has.
        let mut part = unsafe { dst.row(row, columns.clone()) };
        if columns.len() < I::NR {
            for (column, &sum) in sums[..columns.len()].iter().enumerate() {
                let term = match epilogue {
                    Epilogue::Overwrite => 0.0,
                    Epilogue::Accumulate => part.get(column),
                    Epilogue::ColumnBias(bias) => bias[columns.start + column],
                    Epilogue::RowBias(bias) => bias[row],
                };
                part.put(column, sum * scale + term);
            }
            return;
        }
        let (sums, _) = I::Simd::as_simd_f32s(sums);
        for vector in 0..I::NR / lanes {
            let term = match epilogue {
                Epilogue::Overwrite => None,
                Epilogue::Accumulate => Some(part.get_vector::<I::Simd>(vector * lanes)),
                Epilogue::ColumnBias(bias) => Some(load::<I::Simd>(&bias[columns.start + vector * lanes..])),
                Epilogue::RowBias(bias) => Some(simd.splat_f32s(bias[row])),
            };
            let value = simd.mul_f32s(sums[vector], simd.splat_f32s(*scale));
            part.put_vector::<I::Simd>(vector * lanes, term.map_or(value, |term| simd.add_f32s(value, term)));
        }
    }
}
