//! What rounding alone makes of a weight: a tuned model stored in half precision differs from its base everywhere.

use candle_core::DType;

/// The spacing of an element type's numbers between 1 and 2: 2 to the minus its number of stored digits.
pub fn step(dtype: Option<DType>) -> f64 {
    match dtype {
        Some(DType::F16) => f64::powi(2.0, -10),
        Some(DType::BF16) => f64::powi(2.0, -7),
        _ => f64::powi(2.0, -23),
    }
}

/// The spacing of numbers of this type near `value`.
fn spacing(value: f32, step: f64) -> f64 {
    // Below the smallest normal number the spacing no longer shrinks; half precision's is the largest.
    let exponent = if value == 0.0 { -14.0 } else { f64::from(value.abs()).log2().floor().max(-14.0) };
    step * exponent.exp2()
}

/// Whether `a` could be `b` rounded to a type of this step, or both roundings of one number.
pub fn rounds_to(a: f32, b: f32, step: f64) -> bool {
    let difference = (f64::from(a) - f64::from(b)).abs();
    difference <= spacing(a, step).max(spacing(b, step))
}

/// The squared Frobenius norm that rounding to a type of this step adds to a weight on average: a twelfth of the squared spacing for
/// each number.
pub fn energy(values: &[f32], step: f64) -> f64 {
    values.iter().map(|value| spacing(*value, step).powi(2) / 12.0).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};

    #[test]
    fn rounding_is_told_from_a_change() {
        let values: Vec<f32> = (1..4000).map(|i| (i as f32 * 0.7137).sin() * 0.05).collect();
        for dtype in [DType::F16, DType::BF16] {
            let tensor = Tensor::from_vec(values.clone(), values.len(), &Device::Cpu).unwrap();
            let rounded: Vec<f32> = tensor.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap();
            let step = step(Some(dtype));
            assert!(values.iter().zip(&rounded).all(|(a, b)| rounds_to(*b, *a, step)));
            assert!(values.iter().all(|a| !rounds_to(a * (1.0 + 5.0 * step as f32), *a, step) || a.abs() < 1e-3));
            let found: f64 = values.iter().zip(&rounded).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            let expected = energy(&values, step);
            assert!((found / expected - 1.0).abs() < 0.1, "{found:e} is not {expected:e}");
        }
    }
}
