//! Antialiased resampling, byte for byte that of Pillow 11 and 12 (`src/libImaging/Resample.c`, `Geometry.c`; pinned to 12.3).
//!
//! Separable: the horizontal pass comes first and is rounded to the sample type, then the vertical pass; a pass is skipped when
//! that side does not change. 8-bit samples use weights with 22 fractional bits and integer sums, 16-bit samples float64.
//!
//! Differences from Pillow: rows are spread over threads, which changes no number. Pillow 12.2 and later shrink images more than
//! 100 times as tall as wide with the vertical pass first; here they are treated as in 11 and 12.0 to 12.1, like all others.

use super::Rgb;
use rayon::prelude::*;
use std::ops::Range;

/// Resampling filters under Pillow's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Filter {
    /// The nearest sample, not antialiased (`Image.Resampling.NEAREST`).
    Nearest,
    /// Equal weights over the covered samples (`BOX`).
    Box,
    /// Triangle, support 1 (`BILINEAR`).
    Bilinear,
    /// Cubic convolution with a = -0.5, support 2 (`BICUBIC`), Pillow's default.
    Bicubic,
    /// Windowed sinc, support 3 (`LANCZOS`).
    Lanczos,
}

/// Resizes to `width` x `height`: Pillow's `Image.resize((width, height), filter)` for mode RGB.
///
/// An unchanged size gives a copy, whatever the filter. A side of 0 gives an empty image (Pillow refuses it).
pub fn resize(image: &Rgb, width: usize, height: usize, filter: Filter) -> Rgb {
    let pixels = resize_samples::<u8, 3>(&image.pixels, (image.width, image.height), (width, height), filter);
    Rgb { width, height, pixels }
}

/// A channel value that Pillow can resample.
pub(super) trait Sample: Copy + Default + Send + Sync {
    /// A weight as this type's arithmetic wants it.
    type Weight: Copy + Send + Sync;
    /// What products are summed in.
    type Sum: Copy + Send + Sync;
    /// Where a sum starts.
    const START: Self::Sum;
    /// A normalized float64 weight in this type's form.
    fn weight(weight: f64) -> Self::Weight;
    /// One more product.
    fn accumulate(sum: Self::Sum, sample: Self, weight: Self::Weight) -> Self::Sum;
    /// The rounded and clamped result.
    fn finish(sum: Self::Sum) -> Self;
}

const PRECISION_BITS: u32 = 32 - 8 - 2;

impl Sample for u8 {
    type Weight = i32;
    type Sum = i32;
    const START: i32 = 1 << (PRECISION_BITS - 1);

    fn weight(weight: f64) -> i32 {
        // Half away from zero; the cast truncates.
        (weight * f64::from(1 << PRECISION_BITS) + 0.5f64.copysign(weight)) as i32
    }

    #[inline]
    fn accumulate(sum: i32, sample: u8, weight: i32) -> i32 {
        // Weights of all filters sum to 2^22 with negative lobes below a fifth of that: 255 * 1.4 * 2^22 < 2^31.
        sum + i32::from(sample) * weight
    }

    #[inline]
    fn finish(sum: i32) -> u8 {
        (sum >> PRECISION_BITS).clamp(0, 255) as u8
    }
}

impl Sample for u16 {
    type Weight = f64;
    type Sum = f64;
    const START: f64 = 0.0;

    fn weight(weight: f64) -> f64 {
        weight
    }

    #[inline]
    fn accumulate(sum: f64, sample: u16, weight: f64) -> f64 {
        sum + f64::from(sample) * weight
    }

    #[inline]
    fn finish(sum: f64) -> u16 {
        // Below zero everything clamps to 0; the cast saturates above.
        (sum + 0.5).floor() as u16
    }
}

/// Resizes `CHANNELS` interleaved samples per pixel; sizes are (width, height).
pub(super) fn resize_samples<S: Sample, const CHANNELS: usize>(
    samples: &[S],
    from: (usize, usize),
    to: (usize, usize),
    filter: Filter,
) -> Vec<S> {
    assert_eq!(samples.len(), from.0 * from.1 * CHANNELS, "raster holds width * height * channels samples");
    if from == to {
        return samples.to_vec();
    }
    if samples.is_empty() || to.0 == 0 || to.1 == 0 {
        return vec![S::default(); to.0 * to.1 * CHANNELS];
    }
    let Some(kernel) = kernel(filter) else { return nearest::<S, CHANNELS>(samples, from, to) };
    let narrowed;
    let samples = if from.0 == to.0 {
        samples
    } else {
        narrowed = horizontal::<S, CHANNELS>(samples, from.0, &Taps::new::<S>(from.0, to.0, kernel));
        &narrowed
    };
    if from.1 == to.1 { samples.to_vec() } else { vertical(samples, to.0 * CHANNELS, &Taps::new::<S>(from.1, to.1, kernel)) }
}

fn nearest<S: Sample, const CHANNELS: usize>(samples: &[S], from: (usize, usize), to: (usize, usize)) -> Vec<S> {
    let columns = nearest_positions(from.0, to.0);
    let rows = nearest_positions(from.1, to.1);
    let mut output = vec![S::default(); to.0 * to.1 * CHANNELS];
    for (row, line) in rows.into_iter().zip(output.chunks_exact_mut(to.0 * CHANNELS)) {
        let source = &samples[row * from.0 * CHANNELS..][..from.0 * CHANNELS];
        for (&column, pixel) in columns.iter().zip(line.chunks_exact_mut(CHANNELS)) {
            pixel.copy_from_slice(&source[column * CHANNELS..][..CHANNELS]);
        }
    }
    output
}

/// Source index of each output index. Pillow *adds up* the step in float64, so the sum's rounding is part of the result.
fn nearest_positions(from: usize, to: usize) -> Vec<usize> {
    let step = from as f64 / to as f64;
    let mut position = step * 0.5;
    (0..to)
        .map(|_| {
            let index = position as usize;
            position += step;
            index.min(from - 1)
        })
        .collect()
}

/// A filter's weight function and its support on one side.
#[derive(Clone, Copy)]
struct Kernel {
    weight: fn(f64) -> f64,
    support: f64,
}

fn kernel(filter: Filter) -> Option<Kernel> {
    let (weight, support): (fn(f64) -> f64, f64) = match filter {
        Filter::Nearest => return None,
        Filter::Box => (|x| if x > -0.5 && x <= 0.5 { 1.0 } else { 0.0 }, 0.5),
        Filter::Bilinear => (|x| (1.0 - x.abs()).max(0.0), 1.0),
        Filter::Bicubic => (cubic, 2.0),
        Filter::Lanczos => (|x| if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }, 3.0),
    };
    Some(Kernel { weight, support })
}

/// Keys' cubic convolution, a = -0.5, evaluated in Pillow's order of operations.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

/// For each output position the first source position and the weights from there on.
struct Taps<W> {
    ranges: Vec<(usize, Range<usize>)>,
    weights: Vec<W>,
}

impl<W: Copy> Taps<W> {
    fn new<S: Sample<Weight = W>>(from: usize, to: usize, kernel: Kernel) -> Self {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let support = kernel.support * stretch;
        let inverse = 1.0 / stretch;
        let mut taps = Self { ranges: Vec::with_capacity(to), weights: Vec::new() };
        let mut exact = Vec::new();
        for index in 0..to {
            let center = (index as f64 + 0.5) * scale;
            // Casts saturate at 0 below.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            exact.clear();
            exact.extend((first..end).map(|x| (kernel.weight)((x as f64 - center + 0.5) * inverse)));
            let sum: f64 = exact.iter().sum();
            let start = taps.weights.len();
            taps.weights.extend(exact.iter().map(|&weight| S::weight(if sum == 0.0 { weight } else { weight / sum })));
            taps.ranges.push((first, start..taps.weights.len()));
        }
        taps
    }

    fn len(&self) -> usize {
        self.ranges.len()
    }

    fn at(&self, index: usize) -> (usize, &[W]) {
        let (first, range) = &self.ranges[index];
        (*first, &self.weights[range.clone()])
    }
}

fn horizontal<S: Sample, const CHANNELS: usize>(samples: &[S], width: usize, taps: &Taps<S::Weight>) -> Vec<S> {
    let height = samples.len() / (width * CHANNELS);
    let mut output = vec![S::default(); height * taps.len() * CHANNELS];
    let lines = output.par_chunks_exact_mut(taps.len() * CHANNELS).zip(samples.par_chunks_exact(width * CHANNELS));
    lines.for_each(|(line, source)| {
        for (index, pixel) in line.chunks_exact_mut(CHANNELS).enumerate() {
            let (first, weights) = taps.at(index);
            let mut sums = [S::START; CHANNELS];
            for (sample, &weight) in source[first * CHANNELS..].chunks_exact(CHANNELS).zip(weights) {
                for channel in 0..CHANNELS {
                    sums[channel] = S::accumulate(sums[channel], sample[channel], weight);
                }
            }
            for channel in 0..CHANNELS {
                pixel[channel] = S::finish(sums[channel]);
            }
        }
    });
    output
}

fn vertical<S: Sample>(samples: &[S], stride: usize, taps: &Taps<S::Weight>) -> Vec<S> {
    let mut output = vec![S::default(); taps.len() * stride];
    output.par_chunks_exact_mut(stride).enumerate().for_each_init(
        || vec![S::START; stride],
        |sums, (index, line)| {
            let (first, weights) = taps.at(index);
            sums.fill(S::START);
            for (source, &weight) in samples[first * stride..].chunks_exact(stride).zip(weights) {
                for (sum, &sample) in sums.iter_mut().zip(source) {
                    *sum = S::accumulate(*sum, sample, weight);
                }
            }
            for (value, &sum) in line.iter_mut().zip(&*sums) {
                *value = S::finish(sum);
            }
        },
    );
    output
}
