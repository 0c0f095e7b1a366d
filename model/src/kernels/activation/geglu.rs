//! GEGLU (Shazeer 2020, arXiv 2002.05202): rows `[value, gate]` of twice a width to `value * gelu(gate)`, and the gradient. GELU is
//! the exact one, with the error function. Each row goes through vectors; what is left of it, in a vector filled up with zeros.

use std::mem::MaybeUninit;

use pulp::Simd;
use rayon::prelude::*;

use super::rows_per_task;
use crate::kernels::isa::exp::{erf_vector, exp_vector};
use crate::kernels::isa::vector::{load_partial, store};
use crate::kernels::isa::{Isa, Kernel, Vector, current, dispatch};
use crate::kernels::memory::scratch::written;

/// The share of an argument that GELU lets through: the normal distribution's function.
#[inline(always)]
fn share<S: Vector>(simd: S, x: S::f32s) -> S::f32s {
    let half = simd.splat_f32s(0.5);
    simd.multiply_add(half, erf_vector(simd, simd.mul_f32s(x, simd.splat_f32s(std::f32::consts::FRAC_1_SQRT_2))), half)
}

/// The normal distribution's density.
#[inline(always)]
fn density<S: Vector>(simd: S, x: S::f32s) -> S::f32s {
    // 1 / sqrt(2 pi)
    const GREATEST: f32 = 0.398_942_3;
    let exponent = simd.mul_f32s(simd.mul_f32s(x, x), simd.splat_f32s(-0.5));
    simd.mul_f32s(exp_vector(simd, exponent), simd.splat_f32s(GREATEST))
}

/// A row forward.
struct Forward<'a> {
    x: &'a [f32],
    out: &'a mut [MaybeUninit<f32>],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let simd = isa.simd();
        let (values, gates) = self.x.split_at(self.out.len());
        for start in (0..self.out.len()).step_by(I::LANES) {
            let (value, gate) = (load_partial::<I::Simd>(values, start), load_partial::<I::Simd>(gates, start));
            store::<I::Simd>(&mut self.out[start..], simd.mul_f32s(value, simd.mul_f32s(gate, share(simd, gate))));
        }
    }
}

/// A row backward.
struct Backward<'a> {
    x: &'a [f32],
    gradient: &'a [f32],
    out: &'a mut [MaybeUninit<f32>],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let simd = isa.simd();
        let width = self.gradient.len();
        let (values, gates) = self.x.split_at(width);
        let (to_values, to_gates) = self.out.split_at_mut(width);
        for start in (0..width).step_by(I::LANES) {
            let (value, gate) = (load_partial::<I::Simd>(values, start), load_partial::<I::Simd>(gates, start));
            let gradient = load_partial::<I::Simd>(self.gradient, start);
            let share = share(simd, gate);
            let slope = simd.multiply_add(gate, density(simd, gate), share);
            store::<I::Simd>(&mut to_values[start..], simd.mul_f32s(gradient, simd.mul_f32s(gate, share)));
            store::<I::Simd>(&mut to_gates[start..], simd.mul_f32s(simd.mul_f32s(gradient, value), slope));
        }
    }
}

/// Rows `[value, gate]` of twice `width` to `value * gelu(gate)`.
pub fn forward(x: &[f32], width: usize) -> Vec<f32> {
    if width == 0 {
        return Vec::new();
    }
    assert!(x.len().is_multiple_of(2 * width), "rows have a value and a gate for each of {width} results");
    let (set, rows) = (current(), rows_per_task(width));
    let write = |out: &mut [MaybeUninit<f32>]| {
        let rows = out.par_chunks_mut(width).zip(x.par_chunks(2 * width)).with_min_len(rows);
        rows.for_each(|(out, x)| dispatch(set, Forward { x, out }));
    };
    // SAFETY: the rows make up the whole, and each is written vector by vector to its end.
    unsafe { written(x.len() / 2, write) }
}

/// The gradient of the input, rows of twice `width`, from that of the output.
pub fn backward(x: &[f32], gradient: &[f32], width: usize) -> Vec<f32> {
    if width == 0 {
        return Vec::new();
    }
    assert!(x.len().is_multiple_of(2 * width) && gradient.len() * 2 == x.len(), "rows of {width} results do not fit");
    let (set, rows) = (current(), rows_per_task(width));
    let write = |out: &mut [MaybeUninit<f32>]| {
        let rows = out.par_chunks_mut(2 * width).zip(x.par_chunks(2 * width)).zip(gradient.par_chunks(width)).with_min_len(rows);
        rows.for_each(|((out, x), gradient)| dispatch(set, Backward { x, gradient, out }));
    };
    // SAFETY: as in `forward`; both halves of a row are written.
    unsafe { written(x.len(), write) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::activation::{Activation, Gelu};
    use crate::kernels::isa::available;

    /// Rows of every length around those of vectors, on every instruction set, against the function of one number.
    #[test]
    fn rows_of_any_length_are_gated() {
        for width in [1, 3, 4, 7, 8, 15, 16, 17, 33] {
            let x: Vec<f32> = (0..2 * width).map(|index| (index * 37 % 101) as f32 / 10.0 - 5.0).collect();
            let gradient: Vec<f32> = (0..width).map(|index| (index * 29 % 53) as f32 / 20.0 - 1.0).collect();
            for (name, set) in available() {
                // SAFETY: the kernel writes the row; what it left out would be NaN.
                let out = unsafe { written(width, |out| dispatch(set, Forward { x: &x, out })) };
                // SAFETY: as above.
                let back = unsafe { written(2 * width, |out| dispatch(set, Backward { x: &x, gradient: &gradient, out })) };
                let close = |found: f32, expected: f32| (found - expected).abs() <= 4e-7 * (1.0 + expected.abs());
                for index in 0..width {
                    let (value, gate) = (x[index], x[width + index]);
                    assert!(close(out[index], value * Gelu::value(gate)), "{name}, {width}");
                    assert!(close(back[index], gradient[index] * Gelu::value(gate)), "{name}, {width}");
                    assert!(close(back[width + index], gradient[index] * value * Gelu::slope(gate)), "{name}, {width}");
                }
            }
        }
    }
}
