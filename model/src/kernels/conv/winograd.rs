//! Convolution with 3 x 3 filters and stride 1 by Winograd's F(4x4, 3x3): 36 products where the direct way takes 144.
//!
//! The output is cut into tiles of 4 x 4. A *band* is one row of tiles of one image; some bands make a *batch*, sized so that its
//! transformed input stays in a last-level cache. For each batch:
//!
//! 1. The input is transformed, a group of channels (as many as a vector has lanes) at a time. Its rows are transposed in a small
//!    buffer, a [`SEGMENT`] of tiles at a time, and every tile's 36 values go to 36 packed left operands, tiles by channels.
//! 2. A task takes one or two *panels* of output channels over all tiles of the batch. It transforms the filters of [`KC`] input
//!    channels at a time into 36 packed right operands, in cache, multiplies, and sums up. As epilogue it transforms the sums back,
//!    adds the bias and transposes them into rows of the output.
//!
//! Transformed filters would take four times the weight's memory, so they are made anew in every call: that costs as much as the
//! products of two to four tiles. Few batches share all threads; of many, each thread takes its own. Either way each output is the
//! same sum in the same order.

use std::mem::MaybeUninit;
use std::ops::Range;

use pulp::Simd;
use rayon::prelude::*;

use super::bands::{Rows, Share, cut, for_each, for_each_batch, shares};
use super::columns::{Geometry, lane_line};
use super::filters::Filters;
use super::winograd_transform::{PATCH, POINTS, TAPS, TILE, input, output, weight};
use crate::kernels::gemm::macrokernel::{PackedLhs, lhs_offset, multiply_panels, row_tiles};
use crate::kernels::isa::vector::{lanes_to_rows, load, load_partial, rows_to_lanes};
use crate::kernels::isa::{F32s, InstructionSet, Isa, Kernel, MAX_LANES, TileShape, as_packed, dispatch, storage};
use crate::kernels::memory::scratch::Scratch;
use crate::kernels::memory::shared::{SharedElements, SharedMatrices};
use crate::kernels::tuning::microkernel::{CACHE_LINE, SUM_DEPTH};
use crate::kernels::tuning::winograd::{
    BATCH, FILTER_IN_TILES, FILTERS_AT_ONCE, KC, KC_OF_SMALL_BATCHES, MIN_CHANNELS, MIN_TILES, SEGMENT, SMALL_BATCH,
};

/// `elements`, rounded up to an odd number of lines. Rows of equal length that are read together start an odd number of lines of a
/// cache apart: at even distances they would compete for the same places in it.
fn stride(elements: usize) -> usize {
    (elements.div_ceil(CACHE_LINE) | 1) * CACHE_LINE
}

/// Whether a convolution can be computed this way.
fn applies(sizes: &Geometry) -> bool {
    sizes.kernel_height == TAPS && sizes.kernel_width == TAPS && sizes.stride == 1
}

/// Whether a convolution is faster this way, by its shape alone: enough channels to fill vectors, and maps of which tiles waste
/// little.
pub fn pays(filters: &Filters, sizes: &Geometry) -> bool {
    let tiles = sizes.out_height.div_ceil(TILE) * sizes.out_width.div_ceil(TILE);
    let channels = filters.inputs.min(filters.outputs) >= MIN_CHANNELS;
    applies(sizes) && channels && POINTS * (tiles + FILTER_IN_TILES) < TAPS * TAPS * sizes.positions()
}

/// One convolution.
struct Convolution<'a> {
    set: InstructionSet,
    shape: TileShape,
    x: &'a [f32],
    filters: Filters<'a>,
    bias: Option<&'a [f32]>,
    sizes: Geometry,
    /// Bands of one image.
    bands: usize,
    /// Tiles of a band.
    across: usize,
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
    assert!(applies(sizes) && filters.inputs == sizes.channels && filters.taps == TAPS * TAPS, "not a 3 x 3 convolution");
    let shape = TileShape::of(set);
    let (bands, across) = (sizes.out_height.div_ceil(TILE), sizes.out_width.div_ceil(TILE));
    let convolution = Convolution { set, shape, x, filters, bias, sizes: *sizes, bands, across };
    let panels = filters.outputs.div_ceil(shape.nr);
    let mut rows = cut(out, filters.outputs, sizes, TILE, shape.nr);
    let tile = POINTS * sizes.channels.next_multiple_of(shape.kr);
    let smallest = MIN_TILES.div_ceil(across).max(1);
    let largest = (BATCH / (tile * across)).max(smallest);
    for_each_batch(&mut rows, panels, (smallest, largest), |bands, rows, shared| convolution.batch(bands, rows, shared));
}

/// The transformed input of a batch: 36 packed left operands.
#[derive(Clone, Copy)]
struct Layout {
    /// Channels, filled up to whole runs.
    depth: usize,
    /// Rows of an operand.
    tiles: usize,
    /// Memory from an operand to the next.
    operand: usize,
}

impl Convolution<'_> {
    /// Computes some bands' rows, on all threads if `shared`.
    fn batch(&self, bands: Range<usize>, rows: &mut [Rows], shared: bool) {
        let (tiles, shape) = (bands.len() * self.across, self.shape);
        let depth = self.sizes.channels.next_multiple_of(shape.kr);
        let layout = Layout { depth, tiles, operand: stride(shape.storage(depth * tiles)) };
        let mut lhs = Scratch::take(POINTS * layout.operand);
        let to = SharedMatrices::new(&mut lhs, layout.operand);
        let transform = |group| {
            dispatch(self.set, TransformInput { convolution: self, layout, group, bands: bands.clone(), to: &to });
        };
        let groups = depth / shape.lanes;
        match shared {
            true => (0..groups).into_par_iter().for_each(transform),
            false => (0..groups).for_each(transform),
        }
        let panels = rows.len() / bands.len();
        // Two panels at once read the input half as often, but there must be work for every thread.
        let width = if tiles < SMALL_BATCH || shared && panels < 4 * rayon::current_num_threads() { 1 } else { 2 };
        let jobs = shares(rows, panels, width);
        for_each(jobs, shared, |share| dispatch(self.set, Multiply { convolution: self, layout, lhs: &lhs, share }));
    }
}

/// Transforms a group of input channels of some bands.
struct TransformInput<'a> {
    convolution: &'a Convolution<'a>,
    layout: Layout,
    group: usize,
    bands: Range<usize>,
    to: &'a SharedMatrices<'a, POINTS>,
}

impl Kernel for TransformInput<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        const WIDTH: usize = SEGMENT * TILE + PATCH - TILE;
        let Self { convolution, layout, group, .. } = self;
        let simd = isa.simd();
        let mut lines = [simd.splat_f32s(0.0); PATCH * WIDTH];
        let mut row_tiles = row_tiles::<I>(layout.tiles);
        let mut row_tile = 0..0;
        let mut tile = 0;
        for band in self.bands {
            for first in (0..convolution.across).step_by(SEGMENT) {
                let count = SEGMENT.min(convolution.across - first);
                for (row, line) in lines.chunks_mut(WIDTH).enumerate() {
                    let line = &mut line[..count * TILE + PATCH - TILE];
                    convolution.line(isa, group, band, row, first * TILE, line);
                }
                for index in 0..count {
                    if tile == row_tile.end {
                        row_tile = row_tiles.next().unwrap_or(tile..layout.tiles);
                    }
                    let offset = lhs_offset::<I>(&row_tile, layout.depth, tile - row_tile.start, group);
                    let patch = &lines[index * TILE..][..(PATCH - 1) * WIDTH + PATCH];
                    // SAFETY: a group's tile has a place of its own in each operand, and a group is transformed by one task.
                    let mut to = unsafe { self.to.at::<I::Packed>(offset, I::LANES) };
                    input(simd, |row, column| patch[row * WIDTH + column], |point, value| isa.pack_lhs(value, to.of(point)));
                    tile += 1;
                }
            }
        }
    }
}

impl Convolution<'_> {
    /// Row `row` of a band's patches from column `start` of the padded input on, a group of channels in the lanes.
    #[inline(always)]
    fn line<I: Isa>(&self, isa: I, group: usize, band: usize, row: usize, start: usize, line: &mut [F32s<I>]) {
        let sizes = &self.sizes;
        let y = (band % self.bands * TILE + row) as isize - sizes.top;
        lane_line(isa.simd(), self.x, sizes, (band / self.bands, group), (y, start as isize - sizes.left), line);
    }
}

/// Computes some panels of output channels over all tiles of a batch.
struct Multiply<'a, 'b, 'c> {
    convolution: &'a Convolution<'a>,
    layout: Layout,
    lhs: &'a [f32],
    share: Share<'c, 'b>,
}

impl Kernel for Multiply<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let Layout { depth, tiles, operand } = self.layout;
        let panels = self.share.panels;
        let most = if tiles < SMALL_BATCH { KC_OF_SMALL_BATCHES } else { KC };
        // Equal parts of at most `most` channels that are whole runs of a sum, so that sums do not depend on how they are cut.
        let kc = depth.div_ceil(depth.div_ceil(most)).next_multiple_of(SUM_DEPTH);
        let sums_stride = stride(panels * tiles * I::NR);
        let filters_stride = stride(storage::<I>(panels * kc * I::NR));
        let mut filters = Scratch::take(POINTS * filters_stride);
        let mut sums = Scratch::take(POINTS * sums_stride);
        for start in (0..depth).step_by(kc) {
            let k = start..depth.min(start + kc);
            let to = SharedMatrices::new(&mut filters, filters_stride);
            for panel in 0..panels {
                // SAFETY: all operands are this task's own.
                let mut to = unsafe { to.at::<I::Packed>(panel * kc * I::NR, kc * I::NR) };
                self.convolution.transform_filters(isa, self.share.first + panel, k.clone(), &mut to);
            }
            for point in 0..POINTS {
                let lhs = PackedLhs::<I>::new(as_packed::<I>(&self.lhs[point * operand..][..operand]), tiles, depth);
                let filters = as_packed::<I>(&filters[point * filters_stride..][..filters_stride]);
                let rhs = (&filters[..panels * kc * I::NR], kc * I::NR);
                let sums = &mut sums[point * sums_stride..][..panels * tiles * I::NR];
                multiply_panels(isa, &lhs, k.clone(), rhs, sums, usize::MAX, start > 0);
            }
        }
        let sums = SharedMatrices::new(&mut sums, sums_stride);
        for panel in 0..panels {
            for (band, rows) in self.share.rows.iter_mut().enumerate() {
                let start = (panel * tiles + band * self.convolution.across) * I::NR;
                self.convolution.epilogue(isa, self.share.first + panel, &mut rows[panel], &sums, start);
            }
        }
    }
}

impl Convolution<'_> {
    /// Transforms the filters of a panel for some input channels to that panel of 36 right operands.
    #[inline(always)]
    fn transform_filters<I: Isa>(
        &self,
        isa: I,
        panel: usize,
        channels: Range<usize>,
        to: &mut SharedElements<I::Packed, POINTS>,
    ) {
        let (simd, lanes, filters) = (isa.simd(), I::LANES, &self.filters);
        let there = channels.start.min(filters.inputs)..channels.end.min(filters.inputs);
        let together = filters.inputs_together().min(FILTERS_AT_ONCE);
        let mut taps = [simd.splat_f32s(0.0); FILTERS_AT_ONCE * TAPS * TAPS];
        let mut space = [0.0; MAX_LANES * FILTERS_AT_ONCE * TAPS * TAPS];
        for vector in 0..I::NR / lanes {
            let output = panel * I::NR + vector * lanes;
            let count = lanes.min(filters.outputs.saturating_sub(output));
            if count == 0 {
                // Nobody reads the products of these lanes.
                continue;
            }
            for first in there.clone().step_by(together) {
                let inputs = together.min(there.end - first);
                let length = inputs * TAPS * TAPS;
                let range = (filters.start(output, first), filters.output_stride());
                let (rows, row_stride) = filters.numbers.rows(range, (count, length), &mut space);
                rows_to_lanes(simd, rows, row_stride, count, &mut taps[..length]);
                for (input, filter) in taps[..length].chunks_exact(TAPS * TAPS).enumerate() {
                    let mut taps = [filter[0]; TAPS * TAPS];
                    for (tap, value) in filter.iter().enumerate() {
                        taps[if filters.reversed { TAPS * TAPS - 1 - tap } else { tap }] = *value;
                    }
                    let row = first + input - channels.start;
                    weight(simd, taps, |point, value| isa.pack_rhs(value, to.of(point), row, vector));
                }
            }
        }
        for row in there.len()..channels.len() {
            for (point, vector) in (0..POINTS).flat_map(|point| (0..I::NR / lanes).map(move |vector| (point, vector))) {
                isa.pack_rhs(simd.splat_f32s(0.0), to.of(point), row, vector);
            }
        }
    }

    /// Transforms a panel's sums of one band, from `start` in 36 matrices on, back into rows of the output.
    #[inline(always)]
    fn epilogue<I: Isa>(&self, isa: I, panel: usize, rows: &mut Rows, sums: &SharedMatrices<POINTS>, start: usize) {
        const WIDTH: usize = SEGMENT * TILE;
        let (simd, lanes) = (isa.simd(), I::LANES);
        let mut lines = [simd.splat_f32s(0.0); TILE * WIDTH];
        for vector in 0..(I::NR / lanes).min(rows.len().div_ceil(lanes)) {
            let output_channel = panel * I::NR + vector * lanes;
            let rows = &mut rows[vector * lanes..];
            let count = lanes.min(rows.len());
            let bias = self.bias.map_or(&[][..], |all| &all[output_channel..output_channel + count]);
            let bias = load_partial::<I::Simd>(bias, 0);
            for first in (0..self.across).step_by(SEGMENT) {
                let tiles = SEGMENT.min(self.across - first);
                for tile in 0..tiles {
                    // SAFETY: all matrices are this task's own, and only read here.
                    let sums = unsafe { sums.at::<f32>(start + (first + tile) * I::NR + vector * lanes, lanes) };
                    let values = output(simd, |point| load::<I::Simd>(sums.get(point)));
                    for (index, value) in values.into_iter().enumerate() {
                        lines[index / TILE * WIDTH + tile * TILE + index % TILE] = simd.add_f32s(value, bias);
                    }
                }
                let width = (tiles * TILE).min(self.sizes.out_width - first * TILE);
                for (row, line) in lines.chunks(WIDTH).enumerate() {
                    let begin = row * self.sizes.out_width + first * TILE;
                    let mut parts: [&mut [MaybeUninit<f32>]; MAX_LANES] = std::array::from_fn(|_| Default::default());
                    if begin >= rows[0].len() {
                        break;
                    }
                    for (part, row) in parts.iter_mut().zip(rows[..count].iter_mut()) {
                        *part = &mut row[begin..begin + width];
                    }
                    lanes_to_rows(simd, line, &mut parts[..count]);
                }
            }
        }
    }
}
