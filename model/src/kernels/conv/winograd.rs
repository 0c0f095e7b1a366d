//! Convolution with 3 x 3 filters and stride 1 by Winograd's F(4x4, 3x3): 36 products where the direct way takes 144.
//!
//! The output is cut into tiles of 4 x 4. A *band* is one row of tiles of one image; some bands make a *batch*, sized so that its
//! transformed input stays in a last-level cache. For each batch:
//!
//! 1. The input is transformed, a group of channels (as many as a vector has lanes) at a time. Its rows are turned into lanes in a
//!    small buffer, a [`SEGMENT`] of tiles at a time, and every tile's 36 values go to 36 matrices, channels by tiles.
//! 2. A task takes one or two *panels* of output channels (two vectors each) over all tiles of the batch. It transforms the
//!    filters of a [`DEPTH`] of input channels at a time, in cache, multiplies them with the 36 matrices block by block
//!    (`block.rs`), and sums up. Then it transforms the sums back, adds the bias and turns lanes into rows of the output.
//!
//! Transformed filters would take four times the weight's memory, so they are made anew in every call: that costs as much as the
//! products of two to four tiles. Few batches share all threads; of many, each thread takes its own. Either way each output is the
//! same sum in the same order.

use std::mem::MaybeUninit;
use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use crate::kernels::conv::bands::{Rows, Share, cut, for_each, for_each_batch, shares};
use crate::kernels::conv::columns::{Geometry, lane_line};
use crate::kernels::conv::filters::Filters;
use crate::kernels::conv::winograd_transform::{PATCH, POINTS, TAPS, TILE, input, output, weight};
use crate::kernels::gemm::block::{self, Factors};
use crate::kernels::isa::lanes::{Kernel, Lanes, MOST_LANES, dispatch, gather, scatter};
use crate::kernels::memory::scratch::Scratch;
use crate::kernels::memory::shared::Matrices;

/// Tiles whose rows are turned into lanes at once: the buffer stays in a first-level cache.
const SEGMENT: usize = 16;
/// Input channels whose transformed filters are in cache at once.
const DEPTH: usize = 320;
/// The same where a batch has few tiles, and filters are many times larger than the maps.
const SHALLOW: usize = 64;
/// Tiles below which a batch counts as having few.
const FEW: usize = 40;
/// Elements of a batch's transformed input, about.
const BATCH: usize = 6_000_000;
/// The fewest tiles in a batch where the maps have as many: the filters are transformed once per batch.
const LEAST: usize = 128;
/// The fewest channels on either side for which transforming pays.
const FEWEST_CHANNELS: usize = 16;
/// What transforming a filter costs, in products of a tile.
const FILTER_IN_TILES: usize = 2;
/// Elements in a line of a cache. Rows of equal length that are read together start an odd number of lines apart: at even
/// distances they would compete for the same places in the cache.
const LINE: usize = 16;

/// `elements`, rounded up to an odd number of lines.
fn stride(elements: usize) -> usize {
    (elements.div_ceil(LINE) | 1) * LINE
}

/// Whether a convolution can be computed this way.
fn applies(sizes: &Geometry) -> bool {
    sizes.kernel_height == TAPS && sizes.kernel_width == TAPS && sizes.stride == 1
}

/// Whether a convolution is faster this way, by its shape alone: enough channels to fill vectors, and maps of which tiles waste
/// little.
pub fn pays(filters: &Filters, sizes: &Geometry) -> bool {
    let tiles = sizes.out_height.div_ceil(TILE) * sizes.out_width.div_ceil(TILE);
    let channels = filters.inputs.min(filters.outputs) >= FEWEST_CHANNELS;
    applies(sizes) && channels && POINTS * (tiles + FILTER_IN_TILES) < TAPS * TAPS * sizes.positions()
}

/// One convolution.
struct Convolution<'a> {
    arch: Arch,
    x: &'a [f32],
    filters: Filters<'a>,
    bias: Option<&'a [f32]>,
    sizes: Geometry,
    lanes: usize,
    /// Bands of one image.
    bands: usize,
    /// Tiles of a band.
    across: usize,
}

/// `x` `[batch, channels, height, width]` to `out` `[batch, out_channels, positions]`, all of which is written.
pub fn forward(arch: Arch, out: &mut [MaybeUninit<f32>], x: &[f32], filters: Filters, bias: Option<&[f32]>, sizes: &Geometry) {
    assert!(applies(sizes) && filters.inputs == sizes.channels && filters.taps == TAPS * TAPS, "not a 3 x 3 convolution");
    let lanes = crate::kernels::isa::lanes::lanes(arch);
    let (bands, across) = (sizes.out_height.div_ceil(TILE), sizes.out_width.div_ceil(TILE));
    let convolution = Convolution { arch, x, filters, bias, sizes: *sizes, lanes, bands, across };
    let panels = filters.outputs.div_ceil(2 * lanes);
    let mut rows = cut(out, filters.outputs, sizes, TILE, 2 * lanes);
    let tile = POINTS * sizes.channels.next_multiple_of(lanes);
    let smallest = LEAST.div_ceil(across).max(1);
    let largest = (BATCH / (tile * across)).max(smallest);
    for_each_batch(&mut rows, panels, (smallest, largest), |bands, rows, shared| convolution.batch(bands, rows, shared));
}

/// Where the transformed input of a batch lies: 36 matrices; in each of them the tiles in blocks, as `block.rs` multiplies them; in
/// these the groups of channels; in these the block's tiles, a vector of channels each. So a product reads on and on.
#[derive(Clone, Copy)]
struct Layout {
    groups: usize,
    tiles: usize,
    /// Elements from a matrix to the next.
    matrix: usize,
}

impl Convolution<'_> {
    /// Computes some bands' rows, on all threads if `shared`.
    fn batch(&self, bands: Range<usize>, rows: &mut [Rows], shared: bool) {
        let tiles = bands.len() * self.across;
        let groups = self.sizes.channels.div_ceil(self.lanes);
        let layout = Layout { groups, tiles, matrix: stride(groups * tiles * self.lanes) };
        let mut values = Scratch::take(POINTS * layout.matrix);
        let to = Matrices::new(&mut values, layout.matrix);
        let transform = |group| {
            dispatch(self.arch, TransformInput { convolution: self, layout, group, bands: bands.clone(), to: &to });
        };
        match shared {
            true => (0..groups).into_par_iter().for_each(transform),
            false => (0..groups).for_each(transform),
        }
        let panels = rows.len() / bands.len();
        // Two panels at once read the input half as often, but there must be work for every thread.
        let width = if tiles < FEW || shared && panels < 4 * rayon::current_num_threads() { 1 } else { 2 };
        let jobs = shares(rows, panels, width);
        for_each(jobs, shared, |share| dispatch(self.arch, Multiply { convolution: self, layout, values: &values, share }));
    }
}

/// Transforms a group of input channels of some bands.
struct TransformInput<'a> {
    convolution: &'a Convolution<'a>,
    layout: Layout,
    group: usize,
    bands: Range<usize>,
    to: &'a Matrices<'a, POINTS>,
}

impl Kernel for TransformInput<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, simd: S) {
        const WIDTH: usize = SEGMENT * TILE + PATCH - TILE;
        let Self { convolution, layout, group, .. } = self;
        let mut lines = [simd.splat_f32s(0.0); PATCH * WIDTH];
        let mut blocks = block::blocks::<S>(layout.tiles);
        let mut block = 0..0;
        let mut tile = 0;
        for band in self.bands {
            for first in (0..convolution.across).step_by(SEGMENT) {
                let count = SEGMENT.min(convolution.across - first);
                for (row, line) in lines.chunks_mut(WIDTH).enumerate() {
                    let line = &mut line[..count * TILE + PATCH - TILE];
                    convolution.line(simd, group, band, row, first * TILE, line);
                }
                for index in 0..count {
                    if tile == block.end {
                        block = blocks.next().unwrap_or(tile..layout.tiles);
                    }
                    let place = block.start * layout.groups + group * block.len() + tile - block.start;
                    let patch = &lines[index * TILE..][..(PATCH - 1) * WIDTH + PATCH];
                    // SAFETY: a group's tile has a place of its own in each matrix, and a group is transformed by one task.
                    let to = unsafe { self.to.at::<S>(place * S::F32_LANES) };
                    input(simd, |row, column| patch[row * WIDTH + column], |point, value| to.store(point, value));
                    tile += 1;
                }
            }
        }
    }
}

impl Convolution<'_> {
    /// Row `row` of a band's patches from column `start` of the padded input on, a group of channels in the lanes.
    #[inline(always)]
    fn line<S: Lanes>(&self, simd: S, group: usize, band: usize, row: usize, start: usize, line: &mut [S::f32s]) {
        let sizes = &self.sizes;
        let y = (band % self.bands * TILE + row) as isize - sizes.top;
        lane_line(simd, self.x, sizes, (band / self.bands, group), (y, start as isize - sizes.left), line);
    }
}

/// Computes some panels of output channels over all tiles of a batch.
struct Multiply<'a, 'b, 'c> {
    convolution: &'a Convolution<'a>,
    layout: Layout,
    values: &'a [f32],
    share: Share<'c, 'b>,
}

impl Kernel for Multiply<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(mut self, simd: S) {
        let Layout { groups, tiles, matrix } = self.layout;
        let width = 2 * S::F32_LANES;
        let depth = if tiles < FEW { SHALLOW } else { DEPTH } / S::F32_LANES;
        // Equal parts of at most `depth` groups that are whole runs of a sum, so that sums do not depend on how they are cut.
        let run = block::RUN / S::F32_LANES;
        let parts = groups.div_ceil(depth);
        let depth = groups.div_ceil(parts).next_multiple_of(run);
        let sums_stride = stride(self.share.panels * tiles * width);
        let filters_panel = depth * S::F32_LANES * width;
        let filters_stride = stride(self.share.panels * filters_panel);
        let mut filters = Scratch::take(POINTS * filters_stride);
        let mut sums = Scratch::take(POINTS * sums_stride);
        for first in (0..groups).step_by(depth) {
            let count = depth.min(groups - first);
            let to = Matrices::new(&mut filters, filters_stride);
            for panel in 0..self.share.panels {
                self.convolution.filters(simd, self.share.first + panel, first..first + count, &to, panel * filters_panel);
            }
            for point in 0..POINTS {
                let columns = &self.values[point * matrix..(point + 1) * matrix];
                for panel in 0..self.share.panels {
                    let panel_values = &filters[point * filters_stride + panel * filters_panel..][..count * S::F32_LANES * width];
                    let sums = &mut sums[point * sums_stride + panel * tiles * width..][..tiles * width];
                    for block in block::blocks::<S>(tiles) {
                        let group = block.len() * S::F32_LANES;
                        let columns = &columns[block.start * groups * S::F32_LANES + first * group..][..count * group];
                        let factors = Factors { panel: panel_values, columns };
                        block::multiply(simd, factors, &mut sums[block.start * width..block.end * width], first == 0);
                    }
                }
            }
        }
        let sums = Matrices::new(&mut sums, sums_stride);
        for panel in 0..self.share.panels {
            for (band, rows) in self.share.rows.iter_mut().enumerate() {
                let start = (panel * tiles + band * self.convolution.across) * width;
                self.convolution.finish(simd, self.share.first + panel, &mut rows[panel], &sums, start);
            }
        }
    }
}

impl Convolution<'_> {
    /// Transforms the filters of a panel for some groups of input channels, to `start` in every matrix, all of which are the task's.
    #[inline(always)]
    fn filters<S: Lanes>(&self, simd: S, panel: usize, groups: Range<usize>, to: &Matrices<POINTS>, start: usize) {
        const CHUNK: usize = 8;
        let lanes = S::F32_LANES;
        let filters = &self.filters;
        let channels = groups.start * lanes..groups.end * lanes;
        let there = channels.start..channels.end.min(filters.inputs);
        let together = filters.inputs_together().min(CHUNK);
        let mut taps = [simd.splat_f32s(0.0); CHUNK * TAPS * TAPS];
        let mut space = [0.0; MOST_LANES * CHUNK * TAPS * TAPS];
        for half in 0..2 {
            let output = panel * 2 * lanes + half * lanes;
            let count = lanes.min(filters.outputs.saturating_sub(output));
            if count == 0 {
                // Nobody reads the products of these lanes.
                continue;
            }
            for first in there.clone().step_by(together) {
                let inputs = together.min(there.end - first);
                let length = inputs * TAPS * TAPS;
                let places = (filters.start(output, first), filters.output_stride());
                let (rows, stride) = filters.numbers.rows(places, (count, length), &mut space);
                gather(simd, rows, stride, count, &mut taps[..length]);
                for (input, filter) in taps[..length].chunks_exact(TAPS * TAPS).enumerate() {
                    let mut taps = [filter[0]; TAPS * TAPS];
                    for (tap, value) in filter.iter().enumerate() {
                        taps[if filters.reversed { TAPS * TAPS - 1 - tap } else { tap }] = *value;
                    }
                    let place = ((first + input - channels.start) * 2 + half) * lanes;
                    // SAFETY: all matrices are this task's own.
                    let to = unsafe { to.at::<S>(start + place) };
                    weight(simd, taps, |point, value| to.store(point, value));
                }
            }
        }
        for place in (there.end - channels.start) * 2..channels.len() * 2 {
            // SAFETY: all matrices are this task's own.
            let to = unsafe { to.at::<S>(start + place * lanes) };
            (0..POINTS).for_each(|point| to.store(point, simd.splat_f32s(0.0)));
        }
    }

    /// Transforms a panel's sums of one band, from `start` in every matrix on, back into rows of the output.
    #[inline(always)]
    fn finish<S: Lanes>(&self, simd: S, panel: usize, rows: &mut Rows, sums: &Matrices<POINTS>, start: usize) {
        let lanes = S::F32_LANES;
        const WIDTH: usize = SEGMENT * TILE;
        let mut lines = [simd.splat_f32s(0.0); TILE * WIDTH];
        for half in 0..2.min(rows.len().div_ceil(lanes)) {
            let output_channel = panel * 2 * lanes + half * lanes;
            let rows = &mut rows[half * lanes..];
            let count = lanes.min(rows.len());
            let mut bias = [0.0; MOST_LANES];
            if let Some(all) = self.bias {
                bias[..count].copy_from_slice(&all[output_channel..output_channel + count]);
            }
            let bias = crate::kernels::isa::lanes::load::<S>(&bias);
            for first in (0..self.across).step_by(SEGMENT) {
                let tiles = SEGMENT.min(self.across - first);
                for tile in 0..tiles {
                    // SAFETY: all matrices are this task's own.
                    let sums = unsafe { sums.at::<S>(start + ((first + tile) * 2 + half) * lanes) };
                    let values = output(simd, |point| sums.load(point));
                    for (index, value) in values.into_iter().enumerate() {
                        lines[index / TILE * WIDTH + tile * TILE + index % TILE] = simd.add_f32s(value, bias);
                    }
                }
                let width = (tiles * TILE).min(self.sizes.out_width - first * TILE);
                for (row, line) in lines.chunks(WIDTH).enumerate() {
                    let begin = row * self.sizes.out_width + first * TILE;
                    let mut parts: [&mut [MaybeUninit<f32>]; MOST_LANES] = std::array::from_fn(|_| Default::default());
                    if begin >= rows[0].len() {
                        break;
                    }
                    for (part, row) in parts.iter_mut().zip(rows[..count].iter_mut()) {
                        *part = &mut row[begin..begin + width];
                    }
                    scatter(simd, line, &mut parts[..count]);
                }
            }
        }
    }
}
