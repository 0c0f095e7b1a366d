//! Exponential, error function and sigmoid in plain arithmetic, so that loops over them become vector instructions.
//!
//! Coefficients and error figures come from `tests/reference/ops_polynomials.py` (Remez fits of the relative error): the
//! exponential is within 1 unit in the last place, the error function within 7e-8. Not-a-number stays not-a-number.
//! No fused multiply-add: it would be a function call on processors without one. [`exp_vector`], which is written in vectors, leaves
//! the choice to the instruction set.

use super::Vector;

// Without closures and branches; `inline(always)` because a loop vectorizes for the processor at hand only when the whole body is
// inside the function that `pulp` compiled for it.

/// Adding 1.5 * 2^23 leaves no place for a fraction: the sum's low bits are the other summand rounded to an integer.
const ROUND: f32 = 12_582_912.0;
/// The natural logarithm of 2 in two parts, the first of few bits.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// `(e^r - 1 - r) / r^2` between -ln 2 / 2 and ln 2 / 2, highest power first.
const COEFFICIENTS: [f32; 5] = [1.381_446_7e-3, 8.368_781e-3, 4.166_839_3e-2, 1.666_652e-1, 4.999_999_4e-1];

/// e^x. Below -87.3 (where float32 loses precision) 0; above 88.7 infinity.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Comparisons rather than clamp or min and max: these let not-a-number through.
    let y = if x < -87.3 { -87.3 } else { x };
    let y = if y > 88.8 { 88.8 } else { y };
    let shifted = y * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = y - n * LN_2_HIGH - n * LN_2_LOW;
    let [a, b, c, d, e] = COEFFICIENTS;
    let p = (((a * r + b) * r + c) * r + d) * r + e;
    let p = p * r * r + r + 1.0;
    // 2^n in two factors: at 88.7 n is 128, one more than an exponent holds.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits());
    let half = ((n as i32) >> 1) as u32;
    let first = f32::from_bits(half.wrapping_add(127) << 23);
    let second = f32::from_bits(n.wrapping_sub(half).wrapping_add(127) << 23);
    let result = p * first * second;
    if x < -87.3 { 0.0 } else { result }
}

/// e^x for x up to 88, in vectors, with fused multiplications and additions where the processor has them: as exact as [`exp`] in half
/// its instructions. Towards -88, where float32 loses precision, it goes to 0.
#[inline(always)]
pub fn exp_vector<S: Vector>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |value| simd.splat_f32s(value);
    let fused = |a, b, c| simd.multiply_add(a, b, c);
    // A comparison rather than a maximum, which would not let not-a-number through. At -88 the power of two below is 0.
    let y = simd.select_f32s(simd.less_than_f32s(x, splat(-88.0)), splat(-88.0), x);
    let shifted = fused(y, splat(std::f32::consts::LOG2_E), splat(ROUND));
    let n = simd.sub_f32s(shifted, splat(ROUND));
    let r = fused(n, splat(-LN_2_LOW), fused(n, splat(-LN_2_HIGH), y));
    let mut p = splat(COEFFICIENTS[0]);
    for coefficient in &COEFFICIENTS[1..] {
        p = fused(p, r, splat(*coefficient));
    }
    let p = simd.add_f32s(fused(simd.mul_f32s(p, r), r, r), splat(1.0));
    // The bits of the shifted number but for the lowest nine, which are n, leave on the left.
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    let power = simd.add_u32s(exponent, simd.splat_u32s(1f32.to_bits()));
    simd.mul_f32s(p, simd.transmute_f32s_u32s(power))
}

/// `erf(x) / x - 1` for small arguments, in powers of their squares, highest first.
const SMALL: [f32; 7] =
    [8.836_257e-5, -8.244_291_5e-4, 5.209_299e-3, -2.686_248_2e-2, 1.128_374_7e-1, -3.761_263_8e-1, 1.283_791_7e-1];
/// `ln(1 - erf(x))` for the others, highest power first.
const LARGE: [f32; 9] = [
    1.661_035_5e-6,
    -4.646_153_3e-5,
    5.996_038_7e-4,
    -4.769_773_7e-3,
    2.644_145_1e-2,
    -1.101_003_2e-1,
    -6.318_213_3e-1,
    -1.130_226_3,
    3.159_502e-4,
];
/// Where the small arguments of the error function end, and where it rounds to 1.
const SMALL_END: f32 = 0.85;
const ONE_FROM: f32 = 4.0;

/// The error function, 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let a = x.abs();
    let s = x * x;
    let mut p = SMALL[0];
    for coefficient in &SMALL[1..] {
        p = p * s + coefficient;
    }
    let small = p * x + x;
    let t = if a > ONE_FROM { ONE_FROM } else { a };
    let mut q = LARGE[0];
    for coefficient in &LARGE[1..] {
        q = q * t + coefficient;
    }
    let large = (1.0 - exp(q)).copysign(x);
    if a < SMALL_END { small } else { large }
}

/// [`erf`] in vectors, as [`exp_vector`].
#[inline(always)]
pub fn erf_vector<S: Vector>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |value| simd.splat_f32s(value);
    let a = simd.abs_f32s(x);
    let s = simd.mul_f32s(x, x);
    let mut p = splat(SMALL[0]);
    for coefficient in &SMALL[1..] {
        p = simd.multiply_add(p, s, splat(*coefficient));
    }
    let small = simd.multiply_add(p, x, x);
    let t = simd.select_f32s(simd.less_than_f32s(splat(ONE_FROM), a), splat(ONE_FROM), a);
    let mut q = splat(LARGE[0]);
    for coefficient in &LARGE[1..] {
        q = simd.multiply_add(q, t, splat(*coefficient));
    }
    let large = simd.sub_f32s(splat(1.0), exp_vector(simd, q));
    let sign = simd.and_u32s(simd.transmute_u32s_f32s(x), simd.splat_u32s(1 << 31));
    let large = simd.transmute_f32s_u32s(simd.or_u32s(simd.transmute_u32s_f32s(large), sign));
    simd.select_f32s(simd.less_than_f32s(a, splat(SMALL_END)), small, large)
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use pulp::Simd;

    use super::*;
    use crate::kernels::isa::{Isa, Kernel, MAX_LANES, available, dispatch};

    /// float32 arguments from `low` to `high`, by steps of the bit pattern so that small ones are covered too.
    fn arguments(low: f32, high: f32) -> impl Iterator<Item = f32> {
        let top = low.abs().max(high).to_bits();
        (0..top).step_by(997).map(f32::from_bits).flat_map(|x| [x, -x]).filter(move |x| (low..=high).contains(x))
    }

    #[test]
    fn the_exponential_is_within_one_unit_in_the_last_place() {
        for x in arguments(-87.3, 88.72) {
            let expected = f64::from(x).exp();
            let unit = f64::from((expected as f32).to_bits().wrapping_add(1)).max(0.0);
            let unit = f64::from(f32::from_bits(unit as u32)) - f64::from(expected as f32);
            let error = (f64::from(exp(x)) - expected).abs() / unit;
            assert!(error <= 1.0, "exp({x}) is {} instead of {expected}: {error} units", exp(x));
        }
    }

    /// Vectors of arguments become the exponentials, or the error function's values.
    struct Values<'a>(&'a mut [f32], bool);

    impl Kernel for Values<'_> {
        type Output = ();

        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            let simd = isa.simd();
            for value in I::Simd::as_mut_simd_f32s(self.0).0 {
                *value = if self.1 { erf_vector(simd, *value) } else { exp_vector(simd, *value) };
            }
        }
    }

    #[test]
    fn vectors_of_the_error_function_are_as_exact() {
        for (name, set) in available() {
            let mut x: Vec<f32> = arguments(-6.0, 6.0).chain([f32::NAN; MAX_LANES]).collect();
            x.drain(..x.len() % MAX_LANES);
            let mut found = x.clone();
            dispatch(set, Values(&mut found, true));
            for (x, found) in x.into_iter().zip(found) {
                let expected = erf(x);
                let close = found.is_nan() && x.is_nan() || (found - expected).abs() <= 2e-7 * expected.abs();
                assert!(close, "{name}: erf({x}) is {found} instead of {expected}");
            }
        }
    }

    #[test]
    fn vectors_of_exponentials_are_as_exact() {
        for (name, set) in available() {
            let mut x: Vec<f32> = arguments(-88.0, 88.0).collect();
            x.truncate(x.len() / MAX_LANES * MAX_LANES);
            let mut found = x.clone();
            dispatch(set, Values(&mut found, false));
            for (x, found) in x.into_iter().zip(found) {
                let expected = f64::from(x).exp();
                // Below the smallest normal number nothing is promised but that it is near 0.
                let limit = if x < -87.3 { 1.2e-38 } else { 1.2e-7 * expected };
                assert!((f64::from(found) - expected).abs() <= limit, "{name}: exp({x}) is {found} instead of {expected}");
            }
            let mut special = [0.0; MAX_LANES];
            special[..5].copy_from_slice(&[0.0, f32::NEG_INFINITY, -1e9, f32::NAN, -89.0]);
            dispatch(set, Values(&mut special, false));
            assert_eq!((special[0], special[1], special[2], special[4]), (1.0, 0.0, 0.0, 0.0));
            assert!(special[3].is_nan());
        }
    }

    #[test]
    fn the_exponential_keeps_the_special_values() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1e9), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(100.0), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        assert!(erf(f32::NAN).is_nan());
    }

    #[test]
    fn the_error_function_agrees_with_the_series_and_the_continued_fraction() {
        // erf in double precision: Maclaurin series up to 3, beyond it 1 - erfc by its continued fraction (Abramowitz and Stegun
        // 7.1.5 and 7.1.14).
        fn reference(x: f64) -> f64 {
            if x.abs() < 3.0 {
                let mut term = x;
                let mut sum = x;
                for n in 1..120 {
                    term *= -x * x / f64::from(n);
                    sum += term / f64::from(2 * n + 1);
                }
                return sum * std::f64::consts::FRAC_2_SQRT_PI;
            }
            let a = x.abs();
            let mut fraction = a;
            for n in (1..60).rev() {
                fraction = a + f64::from(n) / 2.0 / fraction;
            }
            x.signum() * (1.0 - (-a * a).exp() / fraction / std::f64::consts::PI.sqrt())
        }
        for x in arguments(-7.0, 7.0) {
            let error = (f64::from(erf(x)) - reference(f64::from(x))).abs();
            assert!(error <= 8e-8, "erf({x}) is {} instead of {}", erf(x), reference(f64::from(x)));
        }
    }
}
