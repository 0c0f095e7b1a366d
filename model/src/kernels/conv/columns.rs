//! Lays out what a convolution reads: image patches as matrix columns (im2col), a tile of output positions at a time, or rows of the
//! padded image with channels in the lanes of vectors.

use crate::kernels::isa::Vector;
use crate::kernels::isa::vector::rows_to_lanes;

/// The sizes of a two-dimensional convolution as its kernels see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Input channels.
    pub channels: usize,
    /// Input height.
    pub height: usize,
    /// Input width.
    pub width: usize,
    /// Kernel height.
    pub kernel_height: usize,
    /// Kernel width.
    pub kernel_width: usize,
    /// Rows of zeros above the input; negative crops.
    pub top: isize,
    /// Columns of zeros left of the input; negative crops.
    pub left: isize,
    /// Distance of neighboring output positions in the padded input.
    pub stride: usize,
    /// Output height.
    pub out_height: usize,
    /// Output width.
    pub out_width: usize,
}

impl Geometry {
    /// Elements of one patch: rows of the column matrix.
    pub fn patch(&self) -> usize {
        self.channels * self.kernel_height * self.kernel_width
    }

    /// Elements of one input channel.
    pub fn plane(&self) -> usize {
        self.height * self.width
    }

    /// Output positions per channel.
    pub fn positions(&self) -> usize {
        self.out_height * self.out_width
    }

    /// Whether the column matrix is the input itself.
    pub fn is_pointwise(&self) -> bool {
        let pointwise = self.kernel_height == 1 && self.kernel_width == 1 && self.stride == 1;
        pointwise && self.top == 0 && self.left == 0 && self.out_height == self.height && self.out_width == self.width
    }

    /// Where tap `(ky, kx)` of a kernel lies.
    fn tap(&self, index: usize) -> (usize, usize, usize) {
        let taps = self.kernel_height * self.kernel_width;
        (index / taps, index % taps / self.kernel_width, index % self.kernel_width)
    }
}

/// Fills rows `first..` of the column matrix for output positions `start..start + count`: `columns` holds rows of `row_stride`
/// elements, of which the first `count` are written. `x` is one sample, `[channels, height, width]`.
pub fn fill(columns: &mut [f32], row_stride: usize, x: &[f32], sizes: &Geometry, first: usize, start: usize, count: usize) {
    for (index, row) in columns.chunks_mut(row_stride).enumerate() {
        let (channel, ky, kx) = sizes.tap(first + index);
        let plane = &x[channel * sizes.plane()..(channel + 1) * sizes.plane()];
        fill_row(&mut row[..count], plane, sizes, ky, kx, start);
    }
}

/// One row of the column matrix: what one tap reads at consecutive output positions.
fn fill_row(mut row: &mut [f32], plane: &[f32], sizes: &Geometry, ky: usize, kx: usize, start: usize) {
    let mut y = start / sizes.out_width;
    let mut x = start % sizes.out_width;
    while !row.is_empty() {
        let count = (sizes.out_width - x).min(row.len());
        let (segment, rest) = row.split_at_mut(count);
        match input_row(sizes, y, ky) {
            Some(input_y) => fill_segment(segment, &plane[input_y * sizes.width..(input_y + 1) * sizes.width], sizes, x, kx),
            None => segment.fill(0.0),
        }
        row = rest;
        x = 0;
        y += 1;
    }
}

/// The input row under tap row `ky` at output row `y`, if it is not padding.
fn input_row(sizes: &Geometry, y: usize, ky: usize) -> Option<usize> {
    usize::try_from((y * sizes.stride + ky) as isize - sizes.top).ok().filter(|&y| y < sizes.height)
}

/// What tap column `kx` reads along one input row at output columns `first..`.
fn fill_segment(segment: &mut [f32], input: &[f32], sizes: &Geometry, first: usize, kx: usize) {
    let offset = kx as isize - sizes.left;
    if sizes.stride == 1 {
        // Input column = output column + offset: zeros, a copy, zeros.
        let begin = (first as isize + offset).min(0).unsigned_abs().min(segment.len());
        let end = (input.len() as isize - offset - first as isize).clamp(begin as isize, segment.len() as isize) as usize;
        segment[..begin].fill(0.0);
        if begin < end {
            let source = (first + begin).wrapping_add_signed(offset);
            segment[begin..end].copy_from_slice(&input[source..source + end - begin]);
        }
        segment[end..].fill(0.0);
        return;
    }
    for (index, value) in segment.iter_mut().enumerate() {
        let x = usize::try_from(((first + index) * sizes.stride) as isize + offset);
        *value = x.ok().and_then(|x| input.get(x)).copied().unwrap_or(0.0);
    }
}

/// Row `y` of an image without its padding, from column `x` on, with the channels of a group in the lanes; zeros outside.
///
/// `images` is `[batch, channels, height, width]`; a group is as many channels as a vector has lanes.
#[inline(always)]
pub fn lane_line<S: Vector>(
    simd: S,
    images: &[f32],
    sizes: &Geometry,
    (image, group): (usize, usize),
    (y, x): (isize, isize),
    line: &mut [S::f32s],
) {
    let begin = (-x).clamp(0, line.len() as isize) as usize;
    let end = (sizes.width as isize - x).clamp(begin as isize, line.len() as isize) as usize;
    let Some(y) = usize::try_from(y).ok().filter(|&y| y < sizes.height && begin < end) else {
        line.fill(simd.splat_f32s(0.0));
        return;
    };
    line[..begin].fill(simd.splat_f32s(0.0));
    line[end..].fill(simd.splat_f32s(0.0));
    let channel = group * S::F32_LANES;
    let count = S::F32_LANES.min(sizes.channels.saturating_sub(channel));
    if count == 0 {
        line.fill(simd.splat_f32s(0.0));
        return;
    }
    let row = (image * sizes.channels + channel) * sizes.plane() + y * sizes.width;
    let from = (row + begin).wrapping_add_signed(x);
    rows_to_lanes(simd, &images[from..], sizes.plane(), count, &mut line[begin..end]);
}
