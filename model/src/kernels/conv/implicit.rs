//! Convolution of any kernel size and stride as one matrix product whose left operand, the image's patches (im2col), is made in packed
//! form (implicit GEMM).
//!
//! The product's depth is what the taps read: by group of input channels, in these by tap, in these by channel. Its rows are output
//! positions; a band is one row of an image's output. To pack a group, the input's rows are transposed, a [`SEGMENT`] of positions at a
//! time, and copied to where each tap reads them. The epilogue adds the bias and transposes the sums into rows of the output.

use std::mem::MaybeUninit;
use std::ops::Range;

use pulp::Simd;

use super::bands::Rows;
use super::columns::Geometry;
use super::driver::{Convolution, Cut, Method, Part, compute};
use super::filters::Filters;
use crate::kernels::gemm::macrokernel::{lhs_step, row_tiles};
use crate::kernels::isa::vector::{lanes_to_rows, load_partial, rows_to_lanes};
use crate::kernels::isa::{InstructionSet, Isa, MAX_LANES, TileShape};
use crate::kernels::memory::scratch::Scratch;
use crate::kernels::memory::shared::{SharedElements, SharedMatrices};
use crate::kernels::tuning::implicit::{BATCH, KC, MAX_PANELS, MC_TILES, MIN_CHANNELS, MIN_POSITIONS, SEGMENT};

/// Whether a convolution is faster this way than over columns for a general product, by its shape alone.
pub fn pays(filters: &Filters) -> bool {
    filters.inputs.min(filters.outputs) >= MIN_CHANNELS
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
    compute(set, &Implicit, &Convolution { x, filters, bias, sizes: *sizes }, out);
}

/// The patches as one left operand.
struct Implicit;

impl Method<1> for Implicit {
    fn cut(&self, convolution: &Convolution, shape: TileShape) -> Cut {
        let Convolution { filters, sizes, .. } = convolution;
        Cut {
            height: 1,
            rows: sizes.out_width,
            depth: sizes.channels.next_multiple_of(shape.kr) * filters.taps,
            fewest_rows: MIN_POSITIONS,
            elements: BATCH,
            tiles_in_cache: MC_TILES,
        }
    }

    fn panels_at_once(&self, _: usize, panels: usize, shared: bool) -> usize {
        // More panels at once read the columns less often, but there must be work for every thread.
        let width = if shared { panels.div_ceil(2 * rayon::current_num_threads()) } else { panels };
        width.clamp(1, MAX_PANELS)
    }

    fn depth_at_once<I: Isa>(&self, convolution: &Convolution, part: &Part) -> usize {
        let group = convolution.filters.taps * I::LANES;
        (KC / group).clamp(1, part.depth / group).next_multiple_of(I::KR / I::LANES) * group
    }

    #[inline(always)]
    fn pack_lhs<I: Isa>(&self, isa: I, convolution: &Convolution, part: &Part, group: usize, to: &SharedMatrices<1>) {
        let (sizes, taps) = (&convolution.sizes, convolution.filters.taps);
        // Where a position's row begins, and how high its tile is.
        let starts: Vec<_> = row_tiles::<I>(part.rows)
            .flat_map(|tile| tile.clone().map(move |row| (tile.start * part.depth + (row - tile.start) * I::KR, tile.len())))
            .collect();
        let mut line = Scratch::take(((SEGMENT - 1) * sizes.stride + sizes.kernel_width) * I::LANES);
        let line = I::Simd::as_mut_simd_f32s(&mut line).0;
        for (band, starts) in part.bands.clone().zip(starts.chunks(sizes.out_width)) {
            let (image, top) = (band / sizes.out_height, band % sizes.out_height * sizes.stride);
            for (segment, starts) in starts.chunks(SEGMENT).enumerate() {
                let line = &mut line[..(starts.len() - 1) * sizes.stride + sizes.kernel_width];
                for ky in 0..sizes.kernel_height {
                    convolution.line(isa, group, image, (top + ky, segment * SEGMENT * sizes.stride), line);
                    for kx in 0..sizes.kernel_width {
                        let vector = group * taps + ky * sizes.kernel_width + kx;
                        for (value, &(first, height)) in line[kx..].iter().step_by(sizes.stride).zip(starts) {
                            // SAFETY: every group, tap and position has a place of its own; a group is packed by one task.
                            let mut to = unsafe { to.at::<I::Packed>(first + lhs_step::<I>(height, vector), I::LANES) };
                            isa.pack_lhs(*value, to.of(0));
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn pack_rhs<I: Isa>(
        &self,
        isa: I,
        convolution: &Convolution,
        panel: usize,
        depth: Range<usize>,
        to: &mut SharedElements<I::Packed, 1>,
    ) {
        let (simd, lanes, filters, taps) = (isa.simd(), I::LANES, &convolution.filters, convolution.filters.taps);
        let (groups, to) = (depth.start / (taps * lanes)..depth.end / (taps * lanes), to.of(0));
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

    #[inline(always)]
    fn write<I: Isa>(
        &self,
        isa: I,
        convolution: &Convolution,
        panel: usize,
        rows: &mut Rows,
        sums: &SharedMatrices<1>,
        start: usize,
    ) {
        let (simd, lanes, width) = (isa.simd(), I::LANES, convolution.sizes.out_width);
        // SAFETY: all sums are this task's own, and only read here.
        let sums = unsafe { sums.at::<f32>(start, width * I::NR) };
        let (sums, _) = I::Simd::as_simd_f32s(sums.get(0));
        let mut line = [simd.splat_f32s(0.0); SEGMENT];
        for (vector, rows) in rows.chunks_mut(lanes).enumerate() {
            let bias = convolution.bias.map_or(&[][..], |all| &all[panel * I::NR + vector * lanes..][..rows.len()]);
            let bias = load_partial::<I::Simd>(bias, 0);
            let channels = rows.len();
            for first in (0..width).step_by(SEGMENT) {
                let count = SEGMENT.min(width - first);
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
