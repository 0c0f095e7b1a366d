//! OpenCV's area averaging, byte for byte: `cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)` on 8-bit color.
//!
//! Reference: OpenCV 5.0 `modules/imgproc/src/resize.cpp`. It is kohya's filter for shrinking. OpenCV has four rules, all kept:
//! whole-number shrinking (integer sums), any other shrinking (float32 weights), 2 x 2 (its own rounding), and bilinear in
//! 11-bit fixed point as soon as one side grows.

use super::Rgb;
use rayon::prelude::*;

const CHANNELS: usize = 3;

/// Resizes to `width` x `height` as OpenCV's `INTER_AREA` does: each output pixel is the mean of the area it covers.
///
/// When a side grows OpenCV falls back to a bilinear rule of its own, which is what comes out here too; for growing images
/// kohya takes [`Filter::Lanczos`](super::Filter::Lanczos) instead. A side of 0 gives an empty image.
pub fn resize_area(image: &Rgb, width: usize, height: usize) -> Rgb {
    assert_eq!(image.pixels.len(), image.width * image.height * CHANNELS, "raster holds width * height * 3 bytes");
    if (width, height) == (image.width, image.height) {
        return image.clone();
    }
    let mut output = Rgb::filled(width, height, [0; CHANNELS]);
    if image.pixels.is_empty() || output.pixels.is_empty() {
        return output;
    }
    let (horizontal, vertical) = (Scale::new(image.width, width), Scale::new(image.height, height));
    match (horizontal.whole(), vertical.whole()) {
        _ if horizontal.scale < 1.0 || vertical.scale < 1.0 => bilinear(image, &mut output, &horizontal, &vertical),
        (Some(columns), Some(rows)) => blocks(image, &mut output, columns, rows),
        _ => weighted(image, &mut output, &horizontal, &vertical),
    }
    output
}

/// One side's sizes and scale, with the roundings of OpenCV's way to compute it.
struct Scale {
    from: usize,
    to: usize,
    /// to / from
    inverse: f64,
    /// 1 / (to / from), which can differ from from / to in the last bit
    scale: f64,
}

impl Scale {
    fn new(from: usize, to: usize) -> Self {
        let inverse = to as f64 / from as f64;
        Self { from, to, inverse, scale: 1.0 / inverse }
    }

    /// The scale when it is a whole number.
    fn whole(&self) -> Option<usize> {
        let rounded = self.scale.round_ties_even();
        ((self.scale - rounded).abs() < f64::EPSILON).then_some(rounded as usize)
    }
}

fn rows_of(output: &mut Rgb) -> impl IndexedParallelIterator<Item = (usize, &mut [u8])> {
    let stride = output.width * CHANNELS;
    output.pixels.par_chunks_exact_mut(stride).enumerate()
}

fn source_row(image: &Rgb, row: usize) -> &[u8] {
    &image.pixels[row * image.width * CHANNELS..][..image.width * CHANNELS]
}

/// Means of whole blocks: integer sums, one float32 product.
fn blocks(image: &Rgb, output: &mut Rgb, columns: usize, rows: usize) {
    let width = output.width;
    let factor = 1.0 / (columns * rows) as f32;
    rows_of(output).for_each_init(
        || vec![0i32; width * CHANNELS],
        |sums, (index, line)| {
            sums.fill(0);
            for row in index * rows..(index + 1) * rows {
                let pixels = source_row(image, row).chunks_exact(columns * CHANNELS);
                for (sum, block) in sums.chunks_exact_mut(CHANNELS).zip(pixels) {
                    for pixel in block.chunks_exact(CHANNELS) {
                        for channel in 0..CHANNELS {
                            sum[channel] += i32::from(pixel[channel]);
                        }
                    }
                }
            }
            for (value, &sum) in line.iter_mut().zip(&*sums) {
                // The 2 x 2 case rounds half up, the others half to even.
                *value = if (columns, rows) == (2, 2) { ((sum + 2) >> 2) as u8 } else { round(sum as f32 * factor) };
            }
        },
    );
}

/// A source position and its share of an output position.
struct Share {
    source: usize,
    weight: f32,
}

/// For each output position the source positions it covers.
fn shares(side: &Scale) -> Vec<Vec<Share>> {
    // OpenCV drops slivers thinner than this.
    const SLIVER: f64 = 1e-3;
    let &Scale { from, to, scale, .. } = side;
    let cover = |index: usize| {
        let start = index as f64 * scale;
        let end = start + scale;
        let cell = scale.min(from as f64 - start);
        let last = (end.floor() as usize).min(from - 1);
        let first = (start.ceil() as usize).min(last);
        let mut covered = Vec::with_capacity(last - first + 2);
        let mut push = |source, weight: f64| covered.push(Share { source, weight: weight as f32 });
        if first as f64 - start > SLIVER {
            push(first - 1, (first as f64 - start) / cell);
        }
        (first..last).for_each(|source| push(source, 1.0 / cell));
        if end - last as f64 > SLIVER {
            push(last, (end - last as f64).min(1.0).min(cell) / cell);
        }
        covered
    };
    (0..to).map(cover).collect()
}

/// Weighted means, float32, rows averaged first and then summed in order.
fn weighted(image: &Rgb, output: &mut Rgb, horizontal: &Scale, vertical: &Scale) {
    let (columns, rows) = (shares(horizontal), shares(vertical));
    let stride = output.width * CHANNELS;
    rows_of(output).for_each_init(
        || vec![0f32; stride],
        |sums, (index, line)| {
            for (order, row) in rows[index].iter().enumerate() {
                let source = source_row(image, row.source);
                for (sum, covered) in sums.chunks_exact_mut(CHANNELS).zip(&columns) {
                    let mut mean = [0f32; CHANNELS];
                    for share in covered {
                        let pixel = &source[share.source * CHANNELS..][..CHANNELS];
                        for channel in 0..CHANNELS {
                            mean[channel] += f32::from(pixel[channel]) * share.weight;
                        }
                    }
                    for channel in 0..CHANNELS {
                        let term = row.weight * mean[channel];
                        sum[channel] = if order == 0 { term } else { sum[channel] + term };
                    }
                }
            }
            for (value, &sum) in line.iter_mut().zip(&*sums) {
                *value = round(sum);
            }
        },
    );
}

/// Half to even, clamped to a byte.
fn round(value: f32) -> u8 {
    value.round_ties_even() as u8
}

/// The two source positions of an output position and their weights, which sum to 2048.
struct Pair {
    positions: [usize; 2],
    weights: [i32; 2],
}

fn pairs(side: &Scale, zero_at_end: bool) -> Vec<Pair> {
    let last = side.from - 1;
    let pair = |index: usize| {
        let source = (index as f64 * side.scale).floor() as usize;
        let fraction = ((index + 1) as f64 - (source + 1) as f64 * side.inverse) as f32;
        let mut fraction = if fraction <= 0.0 { 0.0 } else { fraction - fraction.floor() };
        if zero_at_end && source >= last {
            fraction = 0.0;
        }
        let weights = [1.0 - fraction, fraction].map(|weight| (weight * 2048.0).round_ties_even() as i32);
        Pair { positions: [source.min(last), (source + 1).min(last)], weights }
    };
    (0..side.to).map(pair).collect()
}

/// OpenCV's 8-bit bilinear arithmetic with the positions that `INTER_AREA` uses for growing.
fn bilinear(image: &Rgb, output: &mut Rgb, horizontal: &Scale, vertical: &Scale) {
    let (columns, rows) = (pairs(horizontal, true), pairs(vertical, false));
    rows_of(output).for_each(|(index, line)| {
        let row = &rows[index];
        let sources = row.positions.map(|position| source_row(image, position));
        for (column, pixel) in columns.iter().zip(line.chunks_exact_mut(CHANNELS)) {
            for channel in 0..CHANNELS {
                let across = |source: &[u8]| {
                    let sample = |at: usize| i32::from(source[column.positions[at] * CHANNELS + channel]);
                    sample(0) * column.weights[0] + sample(1) * column.weights[1]
                };
                let part = |at: usize| (row.weights[at] * (across(sources[at]) >> 4)) >> 16;
                pixel[channel] = ((part(0) + part(1) + 2) >> 2).clamp(0, 255) as u8;
            }
        }
    });
}
