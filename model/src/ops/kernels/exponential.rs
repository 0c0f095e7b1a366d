//! Exponential, error function and sigmoid in plain arithmetic, so that loops over them become vector instructions.
//!
//! Coefficients and error figures come from `tests/reference/ops_polynomials.py` (Remez fits of the relative error): the
//! exponential is within 1 unit in the last place, the error function within 7e-8. Not-a-number stays not-a-number.
//! No fused multiply-add: it would be a function call on processors without one, and differ from those with.

// Without closures and branches; `inline(always)` because a loop vectorises for the processor at hand only when the whole body is
// inside the function that `pulp` compiled for it.

/// e^x. Below -87.3 (where float32 loses precision) 0; above 88.7 infinity.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 leaves no place for a fraction: the sum's low bits are x / ln 2 rounded to an integer.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Comparisons rather than clamp or min and max: these let not-a-number through.
    let y = if x < -87.3 { -87.3 } else { x };
    let y = if y > 88.8 { 88.8 } else { y };
    let shifted = y * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = y - n * LN_2_HIGH - n * LN_2_LOW;
    let p = 1.381_446_7e-3;
    let p = p * r + 8.368_781e-3;
    let p = p * r + 4.166_839_3e-2;
    let p = p * r + 1.666_652e-1;
    let p = p * r + 4.999_999_4e-1;
    let p = p * r * r + r + 1.0;
    // 2^n in two factors: at 88.7 n is 128, one more than an exponent holds.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits());
    let half = ((n as i32) >> 1) as u32;
    let first = f32::from_bits(half.wrapping_add(127) << 23);
    let second = f32::from_bits(n.wrapping_sub(half).wrapping_add(127) << 23);
    let result = p * first * second;
    if x < -87.3 { 0.0 } else { result }
}

/// The error function, 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let a = x.abs();
    let s = x * x;
    let p = 8.836_257e-5;
    let p = p * s - 8.244_291_5e-4;
    let p = p * s + 5.209_299e-3;
    let p = p * s - 2.686_248_2e-2;
    let p = p * s + 1.128_374_7e-1;
    let p = p * s - 3.761_263_8e-1;
    let p = p * s + 1.283_791_7e-1;
    let small = p * x + x;
    // Beyond 4 the result rounds to 1.
    let t = if a > 4.0 { 4.0 } else { a };
    let q = 1.661_035_5e-6;
    let q = q * t - 4.646_153_3e-5;
    let q = q * t + 5.996_038_7e-4;
    let q = q * t - 4.769_773_7e-3;
    let q = q * t + 2.644_145_1e-2;
    let q = q * t - 1.101_003_2e-1;
    let q = q * t - 6.318_213_3e-1;
    let q = q * t - 1.130_226_3;
    let q = q * t + 3.159_502e-4;
    let large = (1.0 - exp(q)).copysign(x);
    if a < 0.85 { small } else { large }
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

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
