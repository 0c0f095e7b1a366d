//! Convolution of any kernel size and stride as one matrix product whose left operand, the image's patches (im2col), is made in packed
//! form (implicit GEMM).
//!
//! The product's depth is what the taps read: by group of input channels (as many as a vector has lanes), in these by tap, in these by
//! channel. Its rows are output positions, its columns output channels. A *band* is one row of an image's output; some bands make a
//! *batch*, sized so that its left operand stays in a last-level cache. For each batch:
//!
//! 1. The left operand is packed, a group of channels at a time: the input's rows are transposed, a [`SEGMENT`] of positions at a time,
//!    and copied to where each tap reads them.
//! 2. A task takes some *panels* of output channels over all positions of the batch. It packs the filters, some [`KC`] of depth at a
//!    time, multiplies, sums up, and as epilogue adds the bias and transposes the sums into rows of the output.
//!
//! Few batches share all threads; of many, each thread takes its own. Either way each output is the same sum in the same order.

use std::mem::MaybeUninit;
use std::ops::Range;

use pulp::Simd;
use rayon::prelude::*;

use super::bands::{Rows, Share, cut, for_each, for_each_batch, shares};
use super::columns::{Geometry, lane_line};
use super::filters::Filters;
use crate::kernels::gemm::macrokernel::{PackedLhs, lhs_step, multiply_panels, row_tiles};
use crate::kernels::isa::vector::{lanes_to_rows, load_partial, rows_to_lanes};
use crate::kernels::isa::{F32s, InstructionSet, Isa, Kernel, MAX_LANES, TileShape, as_packed, as_packed_mut, dispatch, storage};
use crate::kernels::memory::scratch::Scratch;
use crate::kernels::memory::shared::SharedMatrices;
use crate::kernels::tuning::implicit::{BATCH, KC, MAX_PANELS, MC_TILES, MIN_CHANNELS, MIN_POSITIONS, SEGMENT};

/// Whether a convolution is faster this way than over columns for a general product, by its shape alone.
pub fn pays(filters: &Filters) -> bool {
    filters.inputs.min(filters.outputs) >= MIN_CHANNELS
}

/// One convolution.
struct Convolution<'a> {
    set: InstructionSet,
    shape: TileShape,
    x: &'a [f32],
    filters: Filters<'a>,
    bias: Option<&'a [f32]>,
    sizes: Geometry,
    /// Groups of input channels, whole runs of a packed operand.
    groups: usize,
}

/// `x` `[batch, channels, height, width]` to `out` `[batch, out_channels, positions]`, all of which is written.
pub fn forward(
    set: InstructionSet,
    out: &mut [MaybeUninit<f32>],
    x: &[f32],
    filters: Filters,
    bias: Option<&[f32]>,
    sizes: &Geometry,
) {
    let taps = sizes.kernel_height * sizes.kernel_width;
    assert!(filters.inputs == sizes.channels && filters.taps == taps, "the filters do not have the convolution's sizes");
    let shape = TileShape::of(set);
    let groups = sizes.channels.next_multiple_of(shape.kr) / shape.lanes;
    let convolution = Convolution { set, shape, x, filters, bias, sizes: *sizes, groups };
    let panels = filters.outputs.div_ceil(shape.nr);
    let mut rows = cut(out, filters.outputs, sizes, 1, shape.nr);
    let smallest = MIN_POSITIONS.div_ceil(sizes.out_width);
    let largest = (BATCH / (groups * shape.lanes * taps * sizes.out_width)).max(smallest);
    for_each_batch(&mut rows, panels, (smallest, largest), |bands, rows, shared| convolution.batch(bands, rows, shared));
}

impl Convolution<'_> {
    /// Computes some bands' rows, on all threads if `shared`.
    fn batch(&self, bands: Range<usize>, rows: &mut [Rows], shared: bool) {
        let positions = bands.len() * self.sizes.out_width;
        let mut lhs = Scratch::take(self.shape.storage(self.groups * self.filters.taps * positions * self.shape.lanes));
        let size = lhs.len();
        let to = SharedMatrices::new(&mut lhs, size);
        let pack = |group| dispatch(self.set, PackGroup { convolution: self, group, bands: bands.clone(), to: &to });
        match shared {
            true => (0..self.groups).into_par_iter().for_each(pack),
            false => (0..self.groups).for_each(pack),
        }
        let panels = rows.len() / bands.len();
        // More panels at once read the columns less often, but there must be work for every thread.
        let width = if shared { panels.div_ceil(2 * rayon::current_num_threads()) } else { panels }.clamp(1, MAX_PANELS);
        let jobs = shares(rows, panels, width);
        for_each(jobs, shared, |share| dispatch(self.set, Multiply { convolution: self, lhs: &lhs, positions, share }));
    }
}

/// Packs the left operand's columns of a group of input channels for some bands.
struct PackGroup<'a> {
    convolution: &'a Convolution<'a>,
    group: usize,
    bands: Range<usize>,
    to: &'a SharedMatrices<'a, 1>,
}

impl Kernel for PackGroup<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let sizes = &self.convolution.sizes;
        let taps = self.convolution.filters.taps;
        let depth = self.convolution.groups * taps * I::LANES;
        // Where a position's row begins, and how high its tile is.
        let tiles = row_tiles::<I>(self.bands.len() * sizes.out_width);
        let starts: Vec<_> = tiles
            .flat_map(|tile| tile.clone().map(move |row| (tile.start * depth + (row - tile.start) * I::KR, tile.len())))
            .collect();
        let mut line = Scratch::take(((SEGMENT - 1) * sizes.stride + sizes.kernel_width) * I::LANES);
        let line = I::Simd::as_mut_simd_f32s(&mut line).0;
        for (band, starts) in self.bands.zip(starts.chunks(sizes.out_width)) {
            for (segment, starts) in starts.chunks(SEGMENT).enumerate() {
                let line = &mut line[..(starts.len() - 1) * sizes.stride + sizes.kernel_width];
                for ky in 0..sizes.kernel_height {
                    self.convolution.line(isa, self.group, band, ky, segment * SEGMENT * sizes.stride, line);
                    for kx in 0..sizes.kernel_width {
                        let vector = self.group * taps + ky * sizes.kernel_width + kx;
                        for (value, &(first, height)) in line[kx..].iter().step_by(sizes.stride).zip(starts) {
                            // SAFETY: every group, tap and position has a place of its own; a group is packed by one task.
                            let mut to = unsafe { self.to.at::<I::Packed>(first + lhs_step::<I>(height, vector), I::LANES) };
                            isa.pack_lhs(*value, to.of(0));
                        }
                    }
                }
            }
        }
    }
}

impl Convolution<'_> {
    /// What tap row `ky` reads for a band from column `start` of the padded input on, a group of channels in the lanes.
    #[inline(always)]
    fn line<I: Isa>(&self, isa: I, group: usize, band: usize, ky: usize, start: usize, line: &mut [F32s<I>]) {
        let sizes = &self.sizes;
        let y = (band % sizes.out_height * sizes.stride + ky) as isize - sizes.top;
        lane_line(isa.simd(), self.x, sizes, (band / sizes.out_height, group), (y, start as isize - sizes.left), line);
    }
}

/// Computes some panels of output channels over all positions of a batch.
struct Multiply<'a, 'b, 'c> {
    convolution: &'a Convolution<'a>,
    lhs: &'a [f32],
    positions: usize,
    share: Share<'c, 'b>,
}

impl Kernel for Multiply<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let (taps, groups) = (self.convolution.filters.taps, self.convolution.groups);
        // Whole runs of a packed operand.
        let at_once = (KC / (taps * I::LANES)).clamp(1, groups).next_multiple_of(I::KR / I::LANES);
        let group = taps * I::LANES;
        let panel_size = at_once * group * I::NR;
        let lhs = PackedLhs::<I>::new(as_packed::<I>(self.lhs), self.positions, groups * group);
        let mut filters = Scratch::take(storage::<I>(self.share.panels * panel_size));
        let filters = &mut as_packed_mut::<I>(&mut filters)[..self.share.panels * panel_size];
        let mut sums = Scratch::take(self.share.panels * self.positions * I::NR);
        for first in (0..groups).step_by(at_once) {
            let some = first..groups.min(first + at_once);
            for (panel, filters) in filters.chunks_mut(panel_size).enumerate() {
                self.convolution.pack_filters(isa, self.share.first + panel, some.clone(), filters);
            }
            let k = some.start * group..some.end * group;
            multiply_panels(isa, &lhs, k, (filters, panel_size), &mut sums, MC_TILES, first > 0);
        }
        let bands = self.share.rows.iter_mut().enumerate();
        for (band, rows) in bands {
            for (panel, rows) in rows.iter_mut().enumerate() {
                let start = (panel * self.positions + band * self.convolution.sizes.out_width) * I::NR;
                self.convolution.epilogue(isa, self.share.first + panel, rows, &sums[start..]);
            }
        }
    }
}

impl Convolution<'_> {
    /// Packs the filters of a panel for some groups of input channels as right operand.
    #[inline(always)]
    fn pack_filters<I: Isa>(&self, isa: I, panel: usize, groups: Range<usize>, to: &mut [I::Packed]) {
        let (simd, lanes, filters, taps) = (isa.simd(), I::LANES, &self.filters, self.filters.taps);
        let mut row = Scratch::take(lanes * taps * lanes);
        let row = I::Simd::as_mut_simd_f32s(&mut row).0;
        let mut space = Scratch::take(lanes * lanes * taps);
        for (index, group) in groups.enumerate() {
            let row_of = |tap: usize, lane: usize| (index * taps + tap) * lanes + lane;
            let channels = (group * lanes).min(filters.inputs)..filters.inputs.min((group + 1) * lanes);
            let together = filters.inputs_together().min(channels.len()).max(1);
            for vector in 0..I::NR / lanes {
                let output = panel * I::NR + vector * lanes;
                let count = lanes.min(filters.outputs.saturating_sub(output));
                if count == 0 {
                    // Nobody reads the products of these lanes.
                    continue;
                }
                for first in channels.clone().step_by(together) {
                    let length = together.min(channels.end - first) * taps;
                    let range = (filters.start(output, first), filters.output_stride());
                    let (rows, stride) = filters.numbers.rows(range, (count, length), &mut space);
                    rows_to_lanes(simd, rows, stride, count, &mut row[..length]);
                    for (input, row) in row[..length].chunks_exact(taps).enumerate() {
                        let lane = first + input - channels.start;
                        for (tap, value) in row.iter().enumerate() {
                            let tap = if filters.reversed { taps - 1 - tap } else { tap };
                            isa.pack_rhs(*value, to, row_of(tap, lane), vector);
                        }
                    }
                }
                for lane in channels.len()..lanes {
                    for tap in 0..taps {
                        isa.pack_rhs(simd.splat_f32s(0.0), to, row_of(tap, lane), vector);
                    }
                }
            }
        }
    }

    /// Adds the bias to a panel's sums of one band and transposes them into rows of the output.
    #[inline(always)]
    fn epilogue<I: Isa>(&self, isa: I, panel: usize, rows: &mut Rows, sums: &[f32]) {
        let (simd, lanes) = (isa.simd(), I::LANES);
        let (sums, _) = I::Simd::as_simd_f32s(sums);
        let mut line = [simd.splat_f32s(0.0); SEGMENT];
        for (vector, rows) in rows.chunks_mut(lanes).enumerate() {
            let bias = self.bias.map_or(&[][..], |all| &all[panel * I::NR + vector * lanes..][..rows.len()]);
            let bias = load_partial::<I::Simd>(bias, 0);
            let channels = rows.len();
            for first in (0..self.sizes.out_width).step_by(SEGMENT) {
                let count = SEGMENT.min(self.sizes.out_width - first);
                for (at, value) in line[..count].iter_mut().enumerate() {
                    *value = simd.add_f32s(sums[(first + at) * (I::NR / lanes) + vector], bias);
                }
                let mut parts: [&mut [MaybeUninit<f32>]; MAX_LANES] = std::array::from_fn(|_| Default::default());
                for (part, row) in parts.iter_mut().zip(rows.iter_mut()) {
                    *part = &mut row[first..first + count];
                }
                lanes_to_rows(simd, &line, &mut parts[..channels]);
            }
        }
    }
}
