//! Convolution with 3 x 3 filters and stride 1 by Winograd's F(4x4, 3x3): 36 products where the direct way takes 144.
//!
//! The output is cut into tiles of 4 x 4, which are the rows of the products; a band is one row of tiles of one image. The depth is
//! input channels. To transform a group of them, the input's rows are transposed in a small buffer, a [`SEGMENT`] of tiles at a time,
//! and every tile's 36 values go to 36 packed left operands. The filters are transformed into 36 packed right operands, and the
//! epilogue transforms the sums back, adds the bias and transposes them into rows of the output.
//!
//! Transformed filters would take four times the weight's memory, so they are made anew in every call: that costs as much as the
//! products of two to four tiles.

use std::mem::MaybeUninit;
use std::ops::Range;

use pulp::Simd;

use super::bands::Rows;
use super::columns::Geometry;
use super::driver::{Convolution, Cut, Method, Part, compute};
use super::filters::Filters;
use super::winograd_transform::{PATCH, POINTS, TAPS, TILE, input, output, weight};
use crate::kernels::gemm::macrokernel::{lhs_offset, row_tiles};
use crate::kernels::isa::vector::{lanes_to_rows, load, load_partial, rows_to_lanes};
use crate::kernels::isa::{InstructionSet, Isa, MAX_LANES, TileShape};
use crate::kernels::memory::shared::{SharedElements, SharedMatrices};
use crate::kernels::tuning::microkernel::SUM_DEPTH;
use crate::kernels::tuning::winograd::{
    BATCH, FILTER_IN_TILES, FILTERS_AT_ONCE, KC, KC_OF_SMALL_BATCHES, MIN_CHANNELS, MIN_TILES, SEGMENT, SMALL_BATCH,
};

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
    let (bands, across) = (sizes.out_height.div_ceil(TILE), sizes.out_width.div_ceil(TILE));
    compute(set, &Winograd { bands, across }, &Convolution { x, filters, bias, sizes: *sizes }, out);
}

/// The transformed patches as 36 left operands.
struct Winograd {
    /// Bands of one image.
    bands: usize,
    /// Tiles of a band.
    across: usize,
}

impl Method<POINTS> for Winograd {
    fn cut(&self, convolution: &Convolution, shape: TileShape) -> Cut {
        Cut {
            height: TILE,
            rows: self.across,
            depth: convolution.sizes.channels.next_multiple_of(shape.kr),
            fewest_rows: MIN_TILES,
            elements: BATCH,
            tiles_in_cache: usize::MAX,
        }
    }

    fn panels_at_once(&self, tiles: usize, panels: usize, shared: bool) -> usize {
        // Two panels at once read the input half as often, but there must be work for every thread.
        if tiles < SMALL_BATCH || shared && panels < 4 * rayon::current_num_threads() { 1 } else { 2 }
    }

    fn depth_at_once<I: Isa>(&self, _: &Convolution, part: &Part) -> usize {
        let most = if part.rows < SMALL_BATCH { KC_OF_SMALL_BATCHES } else { KC };
        // Equal parts of at most `most` channels that are whole runs of a sum, so that sums do not depend on how they are cut.
        part.depth.div_ceil(part.depth.div_ceil(most)).next_multiple_of(SUM_DEPTH)
    }

    #[inline(always)]
    fn pack_lhs<I: Isa>(&self, isa: I, convolution: &Convolution, part: &Part, group: usize, to: &SharedMatrices<POINTS>) {
        const WIDTH: usize = SEGMENT * TILE + PATCH - TILE;
        let simd = isa.simd();
        let mut lines = [simd.splat_f32s(0.0); PATCH * WIDTH];
        let mut row_tiles = row_tiles::<I>(part.rows);
        let mut row_tile = 0..0;
        let mut tile = 0;
        for band in part.bands.clone() {
            let (image, top) = (band / self.bands, band % self.bands * TILE);
            for first in (0..self.across).step_by(SEGMENT) {
                let count = SEGMENT.min(self.across - first);
                for (row, line) in lines.chunks_mut(WIDTH).enumerate() {
                    let line = &mut line[..count * TILE + PATCH - TILE];
                    convolution.line(isa, group, image, (top + row, first * TILE), line);
                }
                for index in 0..count {
                    if tile == row_tile.end {
                        row_tile = row_tiles.next().unwrap_or(tile..part.rows);
                    }
                    let offset = lhs_offset::<I>(&row_tile, part.depth, tile - row_tile.start, group);
                    let patch = &lines[index * TILE..][..(PATCH - 1) * WIDTH + PATCH];
                    // SAFETY: a group's tile has a place of its own in each operand, and a group is transformed by one task.
                    let mut to = unsafe { to.at::<I::Packed>(offset, I::LANES) };
                    input(simd, |row, column| patch[row * WIDTH + column], |point, value| isa.pack_lhs(value, to.of(point)));
                    tile += 1;
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
        channels: Range<usize>,
        to: &mut SharedElements<I::Packed, POINTS>,
    ) {
        let (simd, lanes, filters) = (isa.simd(), I::LANES, &convolution.filters);
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

    #[inline(always)]
    fn write<I: Isa>(
        &self,
        isa: I,
        convolution: &Convolution,
        panel: usize,
        rows: &mut Rows,
        sums: &SharedMatrices<POINTS>,
        start: usize,
    ) {
        const WIDTH: usize = SEGMENT * TILE;
        let (simd, lanes) = (isa.simd(), I::LANES);
        let mut lines = [simd.splat_f32s(0.0); TILE * WIDTH];
        for vector in 0..(I::NR / lanes).min(rows.len().div_ceil(lanes)) {
            let output_channel = panel * I::NR + vector * lanes;
            let rows = &mut rows[vector * lanes..];
            let count = lanes.min(rows.len());
            let bias = convolution.bias.map_or(&[][..], |all| &all[output_channel..output_channel + count]);
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
                let width = (tiles * TILE).min(convolution.sizes.out_width - first * TILE);
                for (row, line) in lines.chunks(WIDTH).enumerate() {
                    let begin = row * convolution.sizes.out_width + first * TILE;
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
