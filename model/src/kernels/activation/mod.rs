//! Activation functions over slices, with their derivatives.

pub mod geglu;

use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::kernels::isa::exp::{erf, exp, sigmoid};
use crate::kernels::isa::vectorize;
use crate::kernels::memory::scratch::written;
use crate::kernels::tuning::passes::CHUNK;

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
    let write = |out: &mut [MaybeUninit<f32>]| {
        out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(out, x)| {
            vectorize!({
                for (out, &x) in out.iter_mut().zip(x) {
                    out.write(A::value(x));
                }
            });
        });
    };
    // SAFETY: the chunks make up the whole, and each is written by the arguments of its own places.
    unsafe { written(x.len(), write) }
}

/// The gradient of the input from that of the output.
pub fn backward<A: Activation>(x: &[f32], gradient: &[f32]) -> Vec<f32> {
    assert_eq!(x.len(), gradient.len(), "every argument has a gradient");
    let write = |out: &mut [MaybeUninit<f32>]| {
        out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).zip(gradient.par_chunks(CHUNK)).for_each(|((out, x), gradient)| {
            vectorize!({
                for ((out, &x), &gradient) in out.iter_mut().zip(x).zip(gradient) {
                    out.write(gradient * A::slope(x));
                }
            });
        });
    };
    // SAFETY: as in `forward`.
    unsafe { written(x.len(), write) }
}

/// How many rows of `width` elements make a task worth its cost.
pub fn rows_per_task(width: usize) -> usize {
    (CHUNK / width.max(1)).max(1)
}
