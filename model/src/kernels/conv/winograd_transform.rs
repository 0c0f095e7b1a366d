//! The transformations of Winograd's minimal filtering F(4x4, 3x3), lane by lane.
//!
//! Four outputs of a filter with three taps are read off a product of polynomials that is evaluated at six points
//! (A. Lavin, S. Gray, "Fast algorithms for convolutional neural networks", 2016, section 4; Toom and Cook's construction). In two
//! dimensions the rows and the columns of a tile go through the same matrices. The points decide the rounding error; these are
//! 0, +-2/3, +-3/2 and infinity, with under half the error of the usual 0, +-1, +-2: p and 1/p, both near 1.
//!
//! With points 0, +-a, +-b, infinity and s = a^2 + b^2, a b = 1:
//!
//! ```text
//! input    v0 = d4 - s d2 + d0            v5 = d5 - s d3 + d1
//!          v1, v2 = (d4 - b^2 d2) +- a (d3 - b^2 d1)      v3, v4 with a and b exchanged
//! weight   u0 = g0                        u5 = g2
//!          u1, u2 = (g0 + a^2 g2 +- a g1) / (2 a^2 (a^2 - b^2))      u3, u4 with a and b exchanged
//! output   yk = a^k (m1 + (-1)^k m2) + b^k (m3 + (-1)^k m4), k = 0 to 3, and m0 in y0, m5 in y3
//! ```

use crate::kernels::isa::Vector;

/// Outputs of a tile along one axis.
pub const TILE: usize = 4;
/// Inputs that a tile reads along one axis.
pub const PATCH: usize = 6;
/// Products per tile and pair of channels.
pub const POINTS: usize = PATCH * PATCH;
/// Taps of the filter along one axis.
pub const TAPS: usize = 3;

const A: f32 = 2.0 / 3.0;
const B: f32 = 1.5;
const A2: f32 = (4.0 / 9.0) as f32;
const B2: f32 = 2.25;
const SUM: f32 = (4.0 / 9.0 + 2.25) as f32;
/// Divisors of the weight's values at +-a and +-b.
const DIVISOR_A: f64 = 2.0 * (4.0 / 9.0) * (4.0 / 9.0 - 2.25);
const DIVISOR_B: f64 = 2.0 * 2.25 * (2.25 - 4.0 / 9.0);

#[inline(always)]
fn input_line<S: Vector>(simd: S, d: [S::f32s; 6]) -> [S::f32s; 6] {
    let times = |factor: f32, a, b| simd.multiply_add(simd.splat_f32s(factor), a, b);
    let (even_a, odd_a) = (times(-B2, d[2], d[4]), times(-B2, d[1], d[3]));
    let (even_b, odd_b) = (times(-A2, d[2], d[4]), times(-A2, d[1], d[3]));
    [
        times(-SUM, d[2], simd.add_f32s(d[0], d[4])),
        times(A, odd_a, even_a),
        times(-A, odd_a, even_a),
        times(B, odd_b, even_b),
        times(-B, odd_b, even_b),
        times(-SUM, d[3], simd.add_f32s(d[1], d[5])),
    ]
}

/// A 6 x 6 patch of the input to its 36 values, each of which is handed to `keep` with its index.
#[inline(always)]
pub fn input<S: Vector>(simd: S, patch: impl Fn(usize, usize) -> S::f32s, mut keep: impl FnMut(usize, S::f32s)) {
    let mut half = [simd.splat_f32s(0.0); POINTS];
    for column in 0..PATCH {
        // Spelled out, here and below: a closure given to `from_fn` is not always inlined, and then lacks the instruction set.
        let mut line = [simd.splat_f32s(0.0); PATCH];
        for (row, value) in line.iter_mut().enumerate() {
            *value = patch(row, column);
        }
        let line = input_line(simd, line);
        for row in 0..PATCH {
            half[row * PATCH + column] = line[row];
        }
    }
    for row in 0..PATCH {
        let mut line = [half[row * PATCH]; PATCH];
        line.copy_from_slice(&half[row * PATCH..(row + 1) * PATCH]);
        let line = input_line(simd, line);
        for column in 0..PATCH {
            keep(row * PATCH + column, line[column]);
        }
    }
}

#[inline(always)]
fn weight_line<S: Vector>(simd: S, g: [S::f32s; TAPS]) -> [S::f32s; 6] {
    let times = |factor: f64, a, b| simd.multiply_add(simd.splat_f32s(factor as f32), a, b);
    let scaled = |factor: f64, a| simd.mul_f32s(simd.splat_f32s(factor as f32), a);
    let even_a = times(4.0 / 9.0 / DIVISOR_A, g[2], scaled(1.0 / DIVISOR_A, g[0]));
    let even_b = times(2.25 / DIVISOR_B, g[2], scaled(1.0 / DIVISOR_B, g[0]));
    let (odd_a, odd_b) = (2.0 / 3.0 / DIVISOR_A, 1.5 / DIVISOR_B);
    [g[0], times(odd_a, g[1], even_a), times(-odd_a, g[1], even_a), times(odd_b, g[1], even_b), times(-odd_b, g[1], even_b), g[2]]
}

/// A filter's 3 x 3 taps, row by row, to its 36 values, each of which is handed to `keep` with its index.
#[inline(always)]
pub fn weight<S: Vector>(simd: S, taps: [S::f32s; TAPS * TAPS], mut keep: impl FnMut(usize, S::f32s)) {
    let mut half = [[simd.splat_f32s(0.0); TAPS]; PATCH];
    for column in 0..TAPS {
        let line = weight_line(simd, [taps[column], taps[TAPS + column], taps[2 * TAPS + column]]);
        for row in 0..PATCH {
            half[row][column] = line[row];
        }
    }
    for row in 0..PATCH {
        let line = weight_line(simd, half[row]);
        for column in 0..PATCH {
            keep(row * PATCH + column, line[column]);
        }
    }
}

#[inline(always)]
fn output_line<S: Vector>(simd: S, m: [S::f32s; 6]) -> [S::f32s; TILE] {
    let times = |factor: f32, a, b| simd.multiply_add(simd.splat_f32s(factor), a, b);
    let scaled = |factor: f32, a| simd.mul_f32s(simd.splat_f32s(factor), a);
    let (even_a, odd_a) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (even_b, odd_b) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [
        simd.add_f32s(m[0], simd.add_f32s(even_a, even_b)),
        times(A, odd_a, scaled(B, odd_b)),
        times(A2, even_a, scaled(B2, even_b)),
        times(A * A2, odd_a, times(B * B2, odd_b, m[5])),
    ]
}

/// The 36 products of a tile to its 4 x 4 outputs, row by row.
#[inline(always)]
pub fn output<S: Vector>(simd: S, product: impl Fn(usize) -> S::f32s) -> [S::f32s; TILE * TILE] {
    let mut half = [[simd.splat_f32s(0.0); PATCH]; TILE];
    for column in 0..PATCH {
        let mut line = [simd.splat_f32s(0.0); PATCH];
        for (row, value) in line.iter_mut().enumerate() {
            *value = product(row * PATCH + column);
        }
        let line = output_line(simd, line);
        for row in 0..TILE {
            half[row][column] = line[row];
        }
    }
    let mut values = [simd.splat_f32s(0.0); TILE * TILE];
    for row in 0..TILE {
        values[row * TILE..(row + 1) * TILE].copy_from_slice(&output_line(simd, half[row]));
    }
    values
}
