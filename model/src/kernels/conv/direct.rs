//! Convolution of any kernel size and stride as one matrix product in register blocks (`block.rs`).
//!
//! The rows of the product's right matrix are what the taps read: by group of input channels (as many as a vector has lanes), in
//! these by tap, in these by channel. Its columns are output positions. A *band* is one row of an image's output; some bands make a
//! *batch*, sized so that its columns stay in a last-level cache. For each batch:
//!
//! 1. The columns are made, a group of channels at a time: the input's rows are turned into lanes, a [`SEGMENT`] of positions at a
//!    time, and copied to where each tap reads them.
//! 2. A task takes some *panels* of output channels (two vectors each) over all positions of the batch. It brings the filters
//!    of a [`DEPTH`] of rows at a time into the order of a panel, in cache, multiplies, sums up, adds the bias, and turns lanes into
//!    rows of the output.
//!
//! Few batches share all threads; of many, each thread takes its own. Either way each output is the same sum in the same order.

use std::mem::MaybeUninit;
use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use crate::kernels::conv::bands::{Rows, Share, cut, for_each, for_each_batch, shares};
use crate::kernels::conv::columns::{Geometry, lane_line};
use crate::kernels::conv::filters::Filters;
use crate::kernels::gemm::block::{self, Factors};
use crate::kernels::isa::lanes::{Kernel, Lanes, MOST_LANES, dispatch, gather, load, scatter};
use crate::kernels::memory::scratch::Scratch;
use crate::kernels::memory::shared::Matrices;

/// Positions whose input is turned into lanes at once: the buffer stays in a first-level cache.
const SEGMENT: usize = 64;
/// Rows of the product that are multiplied at once: a panel of them stays in a first-level cache.
const DEPTH: usize = 320;
/// Elements of a batch's columns, about.
const BATCH: usize = 1_500_000;
/// The fewest positions in a batch where the images have as many: the filters are put into order once per batch.
const LEAST: usize = 512;
/// Blocks of columns that stay in a second-level cache while all panels of a task meet them.
const NEAR: usize = 8;
/// Panels of a task at most: their filters and sums stay in a second-level cache.
const PANELS: usize = 8;
/// The fewest channels on either side that fill vectors well enough.
const FEWEST_CHANNELS: usize = 16;

/// Whether a convolution is faster this way than over columns for a general product, by its shape alone.
pub fn pays(filters: &Filters) -> bool {
    filters.inputs.min(filters.outputs) >= FEWEST_CHANNELS
}

/// One convolution.
struct Convolution<'a> {
    arch: Arch,
    x: &'a [f32],
    filters: Filters<'a>,
    bias: Option<&'a [f32]>,
    sizes: Geometry,
    /// Groups of input channels.
    groups: usize,
}

/// `x` `[batch, channels, height, width]` to `out` `[batch, out_channels, positions]`, all of which is written.
pub fn forward(arch: Arch, out: &mut [MaybeUninit<f32>], x: &[f32], filters: Filters, bias: Option<&[f32]>, sizes: &Geometry) {
    let taps = sizes.kernel_height * sizes.kernel_width;
    assert!(filters.inputs == sizes.channels && filters.taps == taps, "the filters do not have the convolution's sizes");
    let lanes = crate::kernels::isa::lanes::lanes(arch);
    let convolution = Convolution { arch, x, filters, bias, sizes: *sizes, groups: sizes.channels.div_ceil(lanes) };
    let panels = filters.outputs.div_ceil(2 * lanes);
    let mut rows = cut(out, filters.outputs, sizes, 1, 2 * lanes);
    let smallest = LEAST.div_ceil(sizes.out_width);
    let largest = (BATCH / (convolution.groups * lanes * taps * sizes.out_width)).max(smallest);
    for_each_batch(&mut rows, panels, (smallest, largest), |bands, rows, shared| convolution.batch(bands, rows, lanes, shared));
}

impl Convolution<'_> {
    /// Computes some bands' rows, on all threads if `shared`.
    fn batch(&self, bands: Range<usize>, rows: &mut [Rows], lanes: usize, shared: bool) {
        let positions = bands.len() * self.sizes.out_width;
        let size = self.groups * self.filters.taps * positions * lanes;
        let mut columns = Scratch::take(size);
        let to = Matrices::new(&mut columns, size);
        let fill = |group| dispatch(self.arch, FillColumns { convolution: self, group, bands: bands.clone(), to: &to });
        match shared {
            true => (0..self.groups).into_par_iter().for_each(fill),
            false => (0..self.groups).for_each(fill),
        }
        let panels = rows.len() / bands.len();
        // More panels at once read the columns less often, but there must be work for every thread.
        let width = if shared { panels.div_ceil(2 * rayon::current_num_threads()) } else { panels }.clamp(1, PANELS);
        let jobs = shares(rows, panels, width);
        for_each(jobs, shared, |share| dispatch(self.arch, Multiply { convolution: self, columns: &columns, positions, share }));
    }
}

/// Makes the columns of a group of input channels for some bands: positions in blocks, as `block.rs` multiplies them; in a block
/// groups; in these taps; for a tap the block's positions, a vector of channels each.
struct FillColumns<'a> {
    convolution: &'a Convolution<'a>,
    group: usize,
    bands: Range<usize>,
    to: &'a Matrices<'a, 1>,
}

impl Kernel for FillColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, simd: S) {
        let sizes = &self.convolution.sizes;
        let taps = self.convolution.filters.taps;
        let positions = self.bands.len() * sizes.out_width;
        let rows = self.convolution.groups * taps;
        // Where a position's first tap goes, and how far apart its taps are.
        let place =
            |block: &Range<usize>, at| (block.start * rows + self.group * taps * block.len() + at - block.start, block.len());
        let blocks = block::blocks::<S>(positions);
        let places: Vec<_> = blocks.flat_map(|block| block.clone().map(move |at| place(&block, at))).collect();
        let mut line = Scratch::take(((SEGMENT - 1) * sizes.stride + sizes.kernel_width) * S::F32_LANES);
        let line = S::as_mut_simd_f32s(&mut line).0;
        for (band, places) in self.bands.zip(places.chunks(sizes.out_width)) {
            for (segment, places) in places.chunks(SEGMENT).enumerate() {
                let line = &mut line[..(places.len() - 1) * sizes.stride + sizes.kernel_width];
                for ky in 0..sizes.kernel_height {
                    self.convolution.line(simd, self.group, band, ky, segment * SEGMENT * sizes.stride, line);
                    for kx in 0..sizes.kernel_width {
                        let tap = ky * sizes.kernel_width + kx;
                        for (value, &(first, distance)) in line[kx..].iter().step_by(sizes.stride).zip(places) {
                            // SAFETY: every group, tap and position has a place of its own; a group is laid out by one task.
                            let to = unsafe { self.to.at::<S>((first + tap * distance) * S::F32_LANES) };
                            to.store(0, *value);
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
    fn line<S: Lanes>(&self, simd: S, group: usize, band: usize, ky: usize, start: usize, line: &mut [S::f32s]) {
        let sizes = &self.sizes;
        let y = (band % sizes.out_height * sizes.stride + ky) as isize - sizes.top;
        lane_line(simd, self.x, sizes, (band / sizes.out_height, group), (y, start as isize - sizes.left), line);
    }
}

/// Computes some panels of output channels over all positions of a batch.
struct Multiply<'a, 'b, 'c> {
    convolution: &'a Convolution<'a>,
    columns: &'a [f32],
    positions: usize,
    share: Share<'c, 'b>,
}

impl Kernel for Multiply<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(mut self, simd: S) {
        let (lanes, width) = (S::F32_LANES, 2 * S::F32_LANES);
        let (taps, groups) = (self.convolution.filters.taps, self.convolution.groups);
        let depth = (DEPTH / (taps * lanes)).clamp(1, groups);
        let panel_size = depth * taps * lanes * width;
        let mut filters = Scratch::take(self.share.panels * panel_size);
        let mut sums = Scratch::take(self.share.panels * self.positions * width);
        let blocks: Vec<Range<usize>> = block::blocks::<S>(self.positions).collect();
        for first in (0..groups).step_by(depth) {
            let count = depth.min(groups - first);
            for (panel, filters) in filters.chunks_mut(panel_size).enumerate() {
                self.convolution.order(simd, self.share.first + panel, first..first + count, filters);
            }
            for near in blocks.chunks(NEAR) {
                for (filters, sums) in filters.chunks(panel_size).zip(sums.chunks_mut(self.positions * width)) {
                    for block in near {
                        let out = &mut sums[block.start * width..block.end * width];
                        let rows = taps * block.len() * lanes;
                        let columns = &self.columns[block.start * groups * taps * lanes + first * rows..][..count * rows];
                        let panel = &filters[..count * taps * lanes * width];
                        block::multiply(simd, Factors { panel, columns }, out, first == 0);
                    }
                }
            }
        }
        let bands = self.share.rows.iter_mut().enumerate();
        for (band, rows) in bands {
            for (panel, rows) in rows.iter_mut().enumerate() {
                let start = (panel * self.positions + band * self.convolution.sizes.out_width) * width;
                self.convolution.finish(simd, self.share.first + panel, rows, &sums[start..]);
            }
        }
    }
}

impl Convolution<'_> {
    /// Brings the filters of a panel for some groups of input channels into the order of its rows.
    #[inline(always)]
    fn order<S: Lanes>(&self, simd: S, panel: usize, groups: Range<usize>, to: &mut [f32]) {
        let (lanes, filters, taps) = (S::F32_LANES, &self.filters, self.filters.taps);
        let (to, _) = S::as_mut_simd_f32s(to);
        let mut row = Scratch::take(lanes * taps * lanes);
        let row = S::as_mut_simd_f32s(&mut row).0;
        let mut space = Scratch::take(lanes * lanes * taps);
        for (group, to) in groups.zip(to.chunks_exact_mut(taps * lanes * 2)) {
            let channels = group * lanes..filters.inputs.min((group + 1) * lanes);
            let together = filters.inputs_together().min(channels.len());
            for half in 0..2 {
                let output = (panel * 2 + half) * lanes;
                let count = lanes.min(filters.outputs.saturating_sub(output));
                if count == 0 {
                    // Nobody reads the products of these lanes.
                    continue;
                }
                for first in channels.clone().step_by(together) {
                    let length = together.min(channels.end - first) * taps;
                    let places = (filters.start(output, first), filters.output_stride());
                    let (rows, stride) = filters.numbers.rows(places, (count, length), &mut space);
                    gather(simd, rows, stride, count, &mut row[..length]);
                    for (input, row) in row[..length].chunks_exact(taps).enumerate() {
                        let lane = first + input - channels.start;
                        for (tap, value) in row.iter().enumerate() {
                            let tap = if filters.reversed { taps - 1 - tap } else { tap };
                            to[(tap * lanes + lane) * 2 + half] = *value;
                        }
                    }
                }
                for lane in channels.len()..lanes {
                    (0..taps).for_each(|tap| to[(tap * lanes + lane) * 2 + half] = simd.splat_f32s(0.0));
                }
            }
        }
    }

    /// Adds the bias to a panel's sums of one band and turns lanes into rows of the output.
    #[inline(always)]
    fn finish<S: Lanes>(&self, simd: S, panel: usize, rows: &mut Rows, sums: &[f32]) {
        let lanes = S::F32_LANES;
        let (sums, _) = S::as_simd_f32s(sums);
        let mut line = [simd.splat_f32s(0.0); SEGMENT];
        for (half, rows) in rows.chunks_mut(lanes).enumerate() {
            let mut bias = [0.0; MOST_LANES];
            if let Some(all) = self.bias {
                bias[..rows.len()].copy_from_slice(&all[(panel * 2 + half) * lanes..][..rows.len()]);
            }
            let bias = load::<S>(&bias);
            let channels = rows.len();
            for first in (0..self.sizes.out_width).step_by(SEGMENT) {
                let count = SEGMENT.min(self.sizes.out_width - first);
                for (at, value) in line[..count].iter_mut().enumerate() {
                    *value = simd.add_f32s(sums[(first + at) * 2 + half], bias);
                }
                let mut parts: [&mut [MaybeUninit<f32>]; MOST_LANES] = std::array::from_fn(|_| Default::default());
                for (part, row) in parts.iter_mut().zip(rows.iter_mut()) {
                    *part = &mut row[first..first + count];
                }
                scatter(simd, &line, &mut parts[..channels]);
            }
        }
    }
}
