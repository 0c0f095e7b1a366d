//! Group normalization (Wu and He 2018, arXiv 1803.08494, equation 1) and layer normalization (Ba et al. 2016, arXiv 1607.06450)
//! with frozen affine parameters, and the first with an optional SiLU behind.

pub mod reductions;

use std::mem::MaybeUninit;

use rayon::prelude::*;

use self::reductions::{sum, sum_pairs};
use crate::kernels::activation::{Activation, Silu, rows_per_task};
use crate::kernels::isa::vectorize;
use crate::kernels::memory::scratch::written;
use crate::kernels::tuning::passes::STATISTICS;

/// Mean and reciprocal standard deviation of one group or row.
#[derive(Clone, Copy)]
pub struct Statistics {
    /// The mean.
    pub mean: f32,
    /// 1 / sqrt(variance + eps), the variance over all elements (not one less).
    pub scale: f32,
}

/// Statistics in one pass over memory: blocks that fit the first cache have their mean and squared deviations taken in float32,
/// and are merged in float64 (Chan, Golub and LeVeque 1979), so a large mean costs no precision.
#[inline(always)]
fn statistics(values: &[f32], eps: f64) -> Statistics {
    let (mut count, mut mean, mut squares) = (0.0_f64, 0.0_f64, 0.0_f64);
    for block in values.chunks(STATISTICS) {
        let own_count = block.len() as f64;
        let own_mean = f64::from(sum(block, |value| value)) / own_count;
        let pivot = own_mean as f32;
        // Deviations from the rounded mean, corrected below by their own mean.
        let own_squares = f64::from(sum(block, |value| (value - pivot) * (value - pivot)));
        let own_squares = own_squares - own_count * (own_mean - f64::from(pivot)).powi(2);
        let difference = own_mean - mean;
        let total = count + own_count;
        mean += difference * own_count / total;
        squares += own_squares + difference * difference * count * own_count / total;
        count = total;
    }
    let variance = (squares / count).max(0.0);
    // `max` would hide not-a-number.
    let variance = if squares.is_nan() { f64::NAN } else { variance };
    Statistics { mean: mean as f32, scale: (1.0 / (variance + eps).sqrt()) as f32 }
}

/// The sizes of a group normalization over `[batch, channels, space]`.
#[derive(Clone, Copy)]
pub struct Groups {
    /// Groups per sample.
    pub groups: usize,
    /// Channels per group.
    pub channels: usize,
    /// Elements per channel.
    pub space: usize,
}

impl Groups {
    fn elements(self) -> usize {
        self.channels * self.space
    }
}

/// Normalizes every group, scales and shifts its channels, and applies SiLU where `silu`; answers the statistics too.
pub fn group_forward(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    sizes: Groups,
    eps: f64,
    silu: bool,
) -> (Vec<f32>, Vec<Statistics>) {
    let elements = sizes.elements();
    if elements == 0 {
        return (vec![0.0; x.len()], Vec::new());
    }
    let mut all = Vec::new();
    let write = |out: &mut [MaybeUninit<f32>]| {
        let groups = out.par_chunks_mut(elements).zip(x.par_chunks(elements)).enumerate();
        let tasks = groups.with_min_len(rows_per_task(elements)).map(|(index, (out, x))| {
            let first = index % sizes.groups * sizes.channels;
            vectorize!({
                let own = statistics(x, eps);
                for channel in 0..sizes.channels {
                    let scale = own.scale * weight[first + channel];
                    let shift = bias[first + channel] - own.mean * scale;
                    let range = channel * sizes.space..(channel + 1) * sizes.space;
                    let places = out[range.clone()].iter_mut().zip(&x[range]);
                    if silu {
                        places.for_each(|(out, &x)| _ = out.write(Silu::value(x * scale + shift)));
                    } else {
                        places.for_each(|(out, &x)| _ = out.write(x * scale + shift));
                    }
                }
                own
            })
        });
        all = tasks.collect();
    };
    // SAFETY: the groups make up the whole, and each is written channel by channel.
    let out = unsafe { written(x.len(), write) };
    (out, all)
}

/// The input gradient of [`group_forward`]: with z the normalized values and g their gradient,
/// `scale * (g - mean(g) - z * mean(g z))`.
pub fn group_backward(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    sizes: Groups,
    silu: bool,
    all: &[Statistics],
    gradient: &[f32],
) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    let elements = sizes.elements();
    if elements == 0 {
        return out;
    }
    let tasks = out.par_chunks_mut(elements).zip(x.par_chunks(elements)).zip(gradient.par_chunks(elements)).enumerate();
    tasks.with_min_len(rows_per_task(elements)).for_each(|(index, ((out, x), gradient))| {
        let first = index % sizes.groups * sizes.channels;
        let own = all[index];
        vectorize!({
            let (mut total, mut along) = (0.0_f64, 0.0_f64);
            // First `out` holds g; each channel is small enough that float32 sums keep their precision in lanes.
            for channel in 0..sizes.channels {
                let (weight, bias) = (weight[first + channel], bias[first + channel]);
                let range = channel * sizes.space..(channel + 1) * sizes.space;
                let (out, x, gradient) = (&mut out[range.clone()], &x[range.clone()], &gradient[range]);
                let places = out.iter_mut().zip(x).zip(gradient);
                if silu {
                    places.for_each(|((out, &x), &gradient)| {
                        *out = gradient * Silu::slope((x - own.mean) * own.scale * weight + bias) * weight;
                    });
                } else {
                    places.for_each(|((out, _), &gradient)| *out = gradient * weight);
                }
                for (out, x) in out.chunks(STATISTICS).zip(x.chunks(STATISTICS)) {
                    total += f64::from(sum(out, |g| g));
                    along += f64::from(sum_pairs(out, x, |g, x| g * ((x - own.mean) * own.scale)));
                }
            }
            finish(out, x, own, total, along);
        });
    });
    out
}

/// `out = scale * (out - total / count - z * along / count)`.
#[inline(always)]
fn finish(out: &mut [f32], x: &[f32], own: Statistics, total: f64, along: f64) {
    let count = out.len() as f64;
    let (total, along) = ((total / count) as f32, (along / count) as f32);
    for (out, &x) in out.iter_mut().zip(x) {
        let z = (x - own.mean) * own.scale;
        *out = own.scale * (*out - total - z * along);
    }
}

/// Normalizes every row of `weight.len()` elements, then scales and shifts them; answers the statistics too.
pub fn layer_forward(x: &[f32], weight: &[f32], bias: &[f32], eps: f64) -> (Vec<f32>, Vec<Statistics>) {
    let width = weight.len();
    if width == 0 {
        return (Vec::new(), Vec::new());
    }
    assert!(bias.len() == width && x.len().is_multiple_of(width), "rows have {width} elements");
    let mut all = Vec::new();
    let write = |out: &mut [MaybeUninit<f32>]| {
        let rows = out.par_chunks_mut(width).zip(x.par_chunks(width)).with_min_len(rows_per_task(width));
        let rows = rows.map(|(out, x)| {
            vectorize!({
                let own = statistics(x, eps);
                for (((out, &x), &weight), &bias) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                    out.write((x - own.mean) * own.scale * weight + bias);
                }
                own
            })
        });
        all = rows.collect();
    };
    // SAFETY: the rows make up the whole, and each is written element by element.
    let out = unsafe { written(x.len(), write) };
    (out, all)
}

/// The input gradient of [`layer_forward`]; the formula is [`group_backward`]'s.
pub fn layer_backward(x: &[f32], weight: &[f32], all: &[Statistics], gradient: &[f32]) -> Vec<f32> {
    let width = weight.len();
    let mut out = vec![0.0; x.len()];
    if width == 0 {
        return out;
    }
    let rows = out.par_chunks_mut(width).zip(x.par_chunks(width)).zip(gradient.par_chunks(width)).zip(all.par_iter());
    rows.with_min_len(rows_per_task(width)).for_each(|(((out, x), gradient), &own)| {
        vectorize!({
            for ((out, &gradient), &weight) in out.iter_mut().zip(gradient).zip(weight) {
                *out = gradient * weight;
            }
            let total = f64::from(sum(out, |g| g));
            let along = f64::from(sum_pairs(out, x, |g, x| g * ((x - own.mean) * own.scale)));
            finish(out, x, own, total, along);
        });
    });
    out
}
