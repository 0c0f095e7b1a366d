//! Sums, maxima and exponentials of rows. Sums run in lanes: a fixed order of additions that a processor does many at once.

use crate::kernels::isa::exp::exp;

const LANES: usize = 32;

/// The sum of `f` over a row.
#[inline(always)]
pub fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for i in 0..LANES {
            lanes[i] += f(chunk[i]);
        }
    }
    for (i, &value) in chunks.remainder().iter().enumerate() {
        lanes[i] += f(value);
    }
    reduce(lanes)
}

/// The sum of `f` over pairs of two rows of one length.
#[inline(always)]
pub fn sum_pairs(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let b = &b[..a.len()];
    let whole = a.len() / LANES * LANES;
    for (a, b) in a[..whole].chunks_exact(LANES).zip(b[..whole].chunks_exact(LANES)) {
        for i in 0..LANES {
            lanes[i] += f(a[i], b[i]);
        }
    }
    for (i, (&a, &b)) in a[whole..].iter().zip(&b[whole..]).enumerate() {
        lanes[i] += f(a, b);
    }
    reduce(lanes)
}

/// Halves the lanes until one is left.
#[inline(always)]
fn reduce(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The greatest element; not-a-number where there is one.
#[inline(always)]
pub fn maximum(values: &[f32]) -> f32 {
    let mut greatest = f32::NEG_INFINITY;
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for i in 0..LANES {
            lanes[i] = greater(lanes[i], chunk[i]);
        }
    }
    for &value in chunks.remainder().iter().chain(&lanes) {
        greatest = greater(greatest, value);
    }
    greatest
}

/// The greater of two numbers; not-a-number where either is.
#[inline(always)]
pub fn greater(a: f32, b: f32) -> f32 {
    // `a` not-a-number fails the first comparison and passes the second.
    if b > a || b.is_nan() { b } else { a }
}

/// Turns a row of scores into exponentials relative to the greatest, in place, and answers their sum.
#[inline(always)]
pub fn exponentials(row: &mut [f32]) -> f32 {
    let greatest = maximum(row);
    for value in row.iter_mut() {
        *value = exp(*value - greatest);
    }
    sum(row, |value| value)
}
