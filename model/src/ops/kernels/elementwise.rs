//! Activation functions over slices, with their derivatives.

use rayon::prelude::*;

use super::exponential::{erf, exp, sigmoid};
use super::vector::vectorise;

/// Elements that one task handles: large against the cost of a task, small against a cache.
const CHUNK: usize = 1 << 14;

/// An activation function of one number and its derivative.
pub trait Activation: Copy + Send + Sync + 'static {
    /// Its value.
    fn value(x: f32) -> f32;
    /// Its derivative.
    fn slope(x: f32) -> f32;
}

/// x sigmoid(x).
#[derive(Clone, Copy)]
pub struct Silu;

impl Activation for Silu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x / (1.0 + exp(-x))
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let s = sigmoid(x);
        s * (1.0 + x * (1.0 - s))
    }
}

/// x Phi(x), Phi the normal distribution's function by erf.
#[derive(Clone, Copy)]
pub struct Gelu;

impl Activation for Gelu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        // 1 / sqrt(2 pi)
        const DENSITY: f32 = 0.398_942_3;
        0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)) + x * DENSITY * exp(-0.5 * x * x)
    }
}

/// x sigmoid(1.702 x).
#[derive(Clone, Copy)]
pub struct QuickGelu;

impl Activation for QuickGelu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x / (1.0 + exp(-1.702 * x))
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let s = sigmoid(1.702 * x);
        s * (1.0 + 1.702 * x * (1.0 - s))
    }
}

/// The activation of every element.
pub fn forward<A: Activation>(x: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(out, x)| {
        vectorise!({
            for (out, &x) in out.iter_mut().zip(x) {
                *out = A::value(x);
            }
        });
    });
    out
}

/// The gradient of the input from that of the output.
pub fn backward<A: Activation>(x: &[f32], gradient: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).zip(gradient.par_chunks(CHUNK)).for_each(|((out, x), gradient)| {
        vectorise!({
            for ((out, &x), &gradient) in out.iter_mut().zip(x).zip(gradient) {
                *out = gradient * A::slope(x);
            }
        });
    });
    out
}

/// Rows `[value, gate]` of twice `width` to `value * gelu(gate)`.
pub fn geglu_forward(x: &[f32], width: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len() / 2];
    if width == 0 {
        return out;
    }
    out.par_chunks_mut(width).zip(x.par_chunks(2 * width)).with_min_len(rows_per_task(width)).for_each(|(out, x)| {
        let (value, gate) = x.split_at(width);
        vectorise!({
            for ((out, &value), &gate) in out.iter_mut().zip(value).zip(gate) {
                *out = value * Gelu::value(gate);
            }
        });
    });
    out
}

/// The gradient of GEGLU's input, rows of twice `width`.
pub fn geglu_backward(x: &[f32], gradient: &[f32], width: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    if width == 0 {
        return out;
    }
    let rows = out.par_chunks_mut(2 * width).zip(x.par_chunks(2 * width)).zip(gradient.par_chunks(width));
    rows.with_min_len(rows_per_task(width)).for_each(|((out, x), gradient)| {
        let (value, gate) = x.split_at(width);
        let (to_value, to_gate) = out.split_at_mut(width);
        vectorise!({
            for i in 0..width {
                to_value[i] = gradient[i] * Gelu::value(gate[i]);
                to_gate[i] = gradient[i] * value[i] * Gelu::slope(gate[i]);
            }
        });
    });
    out
}

/// How many rows of `width` elements make a task worth its cost.
pub fn rows_per_task(width: usize) -> usize {
    (CHUNK / width.max(1)).max(1)
}
