//! Two-dimensional convolution: by Winograd's algorithm where it pays (`winograd.rs`), else as an implicit matrix product
//! (`implicit.rs`), both by one blocked driver (`driver.rs`); with few channels as a general matrix product over columns that are made
//! tile by tile, with 1x1 filters over the image itself. The working memory of each is bounded whatever the image size.

mod bands;
mod columns;
mod driver;
mod filters;
mod implicit;
mod winograd;
mod winograd_transform;

use std::mem::MaybeUninit;

use rayon::prelude::*;

pub use self::columns::Geometry;
use self::columns::fill;
pub use self::filters::{Filters, Numbers};
use crate::kernels::gemm::{Epilogue, Matrix, MatrixMut, Threads, product};
use crate::kernels::isa::{self, InstructionSet};
use crate::kernels::memory::scratch::written;
use crate::kernels::tasks;
use crate::kernels::tuning::columns::{GRADIENT_TILE, STEP, TILE, WIDEST};

/// Output positions per tile; depends on the sizes alone, so that results do not depend on the number of threads.
fn tile_width(sizes: &Geometry) -> usize {
    let width = TILE / sizes.patch().max(1) / STEP * STEP;
    width.clamp(STEP, WIDEST).min(sizes.positions())
}

/// A run of output positions of one sample, with the rows of the output that it fills, one per output channel.
struct Tile<'a> {
    sample: usize,
    start: usize,
    rows: Vec<&'a mut [f32]>,
}

/// Cuts an output `[batch, out_channels, positions]` into tiles.
fn cut(out: &mut [f32], out_channels: usize, positions: usize, width: usize) -> Vec<Tile<'_>> {
    let mut tiles = Vec::new();
    for (sample, image) in out.chunks_mut(out_channels * positions).enumerate() {
        let first = tiles.len();
        for start in (0..positions).step_by(width) {
            tiles.push(Tile { sample, start, rows: Vec::with_capacity(out_channels) });
        }
        for channel in image.chunks_mut(positions) {
            for (tile, part) in tiles[first..].iter_mut().zip(channel.chunks_mut(width)) {
                tile.rows.push(part);
            }
        }
    }
    tiles
}

/// A way to compute a convolution into memory that need not be initialized.
type Way = fn(InstructionSet, &mut [MaybeUninit<f32>], &[f32], Filters, Option<&[f32]>, &Geometry);

/// What one thread works in.
struct Workspace {
    columns: Vec<f32>,
    result: Vec<f32>,
}

/// `x` `[batch, channels, height, width]` with `filters` of `sizes` to `[batch, filters.outputs, positions]`.
pub fn forward(x: &[f32], filters: Filters, bias: Option<&[f32]>, batch: usize, sizes: &Geometry) -> Vec<f32> {
    let (positions, out_channels) = (sizes.positions(), filters.outputs);
    assert_eq!(x.len(), batch * sizes.channels * sizes.plane(), "the input does not have the convolution's sizes");
    assert_eq!(filters.inputs, sizes.channels, "the filters do not have the input's channels");
    assert!(bias.is_none_or(|bias| bias.len() == out_channels), "the bias does not have the filters' channels");
    let length = batch * out_channels * positions;
    if length == 0 {
        return Vec::new();
    }
    if sizes.is_pointwise() {
        return pointwise(x, filters, bias, batch, sizes);
    }
    let way = match () {
        () if winograd::pays(&filters, sizes) => Some(winograd::forward as Way),
        () if implicit::pays(&filters) => Some(implicit::forward as Way),
        () => None,
    };
    if let Some(way) = way {
        // SAFETY: both ways write all of their output.
        return unsafe { written(length, |out| way(isa::current(), out, x, filters, bias, sizes)) };
    }
    let mut out = vec![0.0; length];
    let weight = &*filters.by_output();
    let width = tile_width(sizes);
    let sample = sizes.channels * sizes.plane();
    let tiles = cut(&mut out, out_channels, positions, width);
    let workspace = || Workspace { columns: vec![0.0; sizes.patch() * width], result: vec![0.0; out_channels * width] };
    // Few tiles: all threads share each. Many: each thread takes its own. The arithmetic is the same.
    let threads = if tiles.len() < 2 * rayon::current_num_threads() { Threads::All } else { Threads::One };
    let work = |own: &mut Workspace, tile: Tile| {
        let x = &x[tile.sample * sample..(tile.sample + 1) * sample];
        let count = tile.rows.first().map_or(0, |row| row.len());
        match threads {
            Threads::One => fill(&mut own.columns, width, x, sizes, 0, tile.start, count),
            Threads::All => own.columns.par_chunks_mut(width).with_min_len(64).enumerate().for_each(|(index, row)| {
                fill(row, width, x, sizes, index, tile.start, count);
            }),
        }
        let columns = Matrix::new(&own.columns, sizes.patch(), count, width);
        let weight = Matrix::new(weight, out_channels, sizes.patch(), sizes.patch());
        let result = MatrixMut::new(&mut own.result, out_channels, count, width);
        product(result, Epilogue::Overwrite, 1.0, weight, columns, threads);
        for (channel, (row, result)) in tile.rows.into_iter().zip(own.result.chunks(width)).enumerate() {
            let bias = bias.map_or(0.0, |bias| bias[channel]);
            for (out, &result) in row.iter_mut().zip(result) {
                *out = result + bias;
            }
        }
    };
    match threads {
        Threads::One => tasks::for_each(tiles, workspace, work),
        Threads::All => {
            let mut own = workspace();
            tiles.into_iter().for_each(|tile| work(&mut own, tile));
        }
    }
    out
}

/// A 1x1 convolution: a matrix product per sample.
fn pointwise(x: &[f32], filters: Filters, bias: Option<&[f32]>, batch: usize, sizes: &Geometry) -> Vec<f32> {
    let (positions, Filters { inputs, outputs, .. }) = (sizes.positions(), filters);
    let values = filters.numbers.widened();
    let weight = match filters.reversed {
        true => Matrix::new(&values, inputs, outputs, outputs).transposed(),
        false => Matrix::new(&values, outputs, inputs, inputs),
    };
    let write = |out: &mut [MaybeUninit<f32>]| {
        for (out, x) in out.chunks_mut(outputs * positions).zip(x.chunks(inputs * positions)) {
            let x = Matrix::new(x, inputs, positions, positions);
            let out = MatrixMut::unwritten(out, outputs, positions, positions);
            product(out, Epilogue::row_bias(bias), 1.0, weight, x, Threads::All);
        }
    };
    // SAFETY: the products fill the samples, which make up the whole.
    unsafe { written(batch * outputs * positions, write) }
}

/// The input gradient of a convolution with `sizes`, `[batch, channels, height, width]`.
///
/// Input pixels that lie a stride apart meet the same taps of the kernel, and their gradient is a convolution of the output gradient
/// with these taps, rotated by half a turn and with input and output channels exchanged. With stride 1 that is the whole image.
pub fn input_gradient(gradient: &[f32], filters: Filters, batch: usize, sizes: &Geometry) -> Vec<f32> {
    let (stride, out_channels) = (sizes.stride, filters.outputs);
    let weight = if stride == 1 { Default::default() } else { filters.by_output() };
    let mut out = if stride == 1 { Vec::new() } else { vec![0.0; batch * sizes.channels * sizes.plane()] };
    for (y, x) in (0..stride.min(sizes.height)).flat_map(|y| (0..stride.min(sizes.width)).map(move |x| (y, x))) {
        let rows = Taps::new(sizes.kernel_height, sizes.top, stride, y);
        let columns = Taps::new(sizes.kernel_width, sizes.left, stride, x);
        if rows.count == 0 || columns.count == 0 {
            // A stride beyond the kernel leaves out pixels, which have no gradient.
            continue;
        }
        let part = Geometry {
            channels: out_channels,
            height: sizes.out_height,
            width: sizes.out_width,
            kernel_height: rows.count,
            kernel_width: columns.count,
            top: rows.padding,
            left: columns.padding,
            stride: 1,
            out_height: (sizes.height - y).div_ceil(stride),
            out_width: (sizes.width - x).div_ceil(stride),
        };
        if stride == 1 {
            return forward(gradient, filters.reversed(), None, batch, &part);
        }
        let taps = rotated(&weight, out_channels, sizes, &rows, &columns);
        let taps = Filters::new(Numbers::F32(&taps), sizes.channels, out_channels, rows.count * columns.count);
        let values = forward(gradient, taps, None, batch, &part);
        let planes = out.par_chunks_mut(sizes.plane()).zip(values.par_chunks(part.positions()));
        planes.for_each(|(plane, values)| {
            for (row, values) in plane.chunks_mut(sizes.width).skip(y).step_by(stride).zip(values.chunks(part.out_width)) {
                row.iter_mut().skip(x).step_by(stride).zip(values).for_each(|(to, from)| *to = *from);
            }
        });
    }
    out
}

/// The taps along one axis that input pixels `first_pixel`, `first_pixel + stride`, .. meet: `first`, `first + stride`, ..
struct Taps {
    first: usize,
    stride: usize,
    count: usize,
    /// Zeros before the output gradient, for the convolution with these taps.
    padding: isize,
}

impl Taps {
    fn new(kernel: usize, padding: isize, stride: usize, first_pixel: usize) -> Self {
        let padded = first_pixel as isize + padding;
        let first = padded.rem_euclid(stride as isize) as usize;
        let count = kernel.saturating_sub(first).div_ceil(stride);
        // Tap `first` of that pixel belongs to this output position, the next tap to the position before, and so on.
        let position = (padded - first as isize) / stride as isize;
        Self { first, stride, count, padding: count as isize - 1 - position }
    }

    /// The taps, last first.
    fn rotated(&self) -> impl Iterator<Item = usize> + Clone {
        let (first, stride) = (self.first, self.stride);
        (0..self.count).rev().map(move |index| first + index * stride)
    }
}

/// Some taps of `weight` `[out_channels, channels, kernel_height, kernel_width]` as `[channels, out_channels, rows, columns]`.
fn rotated(weight: &[f32], out_channels: usize, sizes: &Geometry, rows: &Taps, columns: &Taps) -> Vec<f32> {
    let (kernel, taps) = (sizes.kernel_height * sizes.kernel_width, rows.count * columns.count);
    let mut rotated = vec![0.0; sizes.channels * out_channels * taps];
    if rotated.is_empty() {
        return rotated;
    }
    rotated.par_chunks_mut(out_channels * taps).enumerate().for_each(|(input, all)| {
        for (output, to) in all.chunks_mut(taps).enumerate() {
            let from = &weight[(output * sizes.channels + input) * kernel..][..kernel];
            let offsets = rows.rotated().flat_map(|y| columns.rotated().map(move |x| y * sizes.kernel_width + x));
            to.iter_mut().zip(offsets).for_each(|(to, offset)| *to = from[offset]);
        }
    });
    rotated
}

/// The weight gradient `[out_channels, patch]`: output gradient times transposed columns, summed over positions and samples.
pub fn weight_gradient(x: &[f32], gradient: &[f32], batch: usize, out_channels: usize, sizes: &Geometry) -> Vec<f32> {
    let (patch, positions) = (sizes.patch(), sizes.positions());
    let mut out = vec![0.0; out_channels * patch];
    if out.is_empty() || positions == 0 {
        return out;
    }
    // A task takes some patch rows over all positions, so every element is summed by one thread in one order.
    let height = (TILE / positions).clamp(1, GRADIENT_TILE.0).min(patch);
    let width = (TILE / height).clamp(STEP, GRADIENT_TILE.1).min(positions);
    let sample = sizes.channels * sizes.plane();
    let parts: Vec<Vec<f32>> = (0..patch.div_ceil(height))
        .into_par_iter()
        .map_init(
            || vec![0.0; height * width],
            |columns, part| {
                let first = part * height;
                let own = height.min(patch - first);
                let mut sum = vec![0.0; own * out_channels];
                for (index, start) in
                    (0..batch).flat_map(|sample| (0..positions).step_by(width).map(move |start| (sample, start)))
                {
                    let count = width.min(positions - start);
                    fill(
                        &mut columns[..own * width],
                        width,
                        &x[index * sample..(index + 1) * sample],
                        sizes,
                        first,
                        start,
                        count,
                    );
                    let gradient = &gradient[index * out_channels * positions + start..];
                    let gradient = Matrix::new(gradient, out_channels, count, positions);
                    let columns = Matrix::new(columns, own, count, width);
                    let sum = MatrixMut::new(&mut sum, own, out_channels, out_channels);
                    product(sum, Epilogue::Accumulate, 1.0, columns, gradient.transposed(), Threads::One);
                }
                sum
            },
        )
        .collect();
    out.par_chunks_mut(patch).enumerate().for_each(|(channel, row)| {
        for (index, value) in row.iter_mut().enumerate() {
            *value = parts[index / height][index % height * out_channels + channel];
        }
    });
    out
}

#[cfg(test)]
mod tests;
