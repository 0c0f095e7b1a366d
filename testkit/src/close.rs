//! The error measure of all parity tests: `|ours - theirs| / |theirs|`, Euclidean, summed in float64.

use candle_core::{DType, Tensor};

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The Euclidean norm of all numbers.
pub fn norm(tensor: &Tensor) -> f64 {
    values(tensor).iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// The relative error; a reference of zeros is a fault of the test.
#[track_caller]
pub fn relative_error(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.dims(), theirs.dims(), "shapes differ");
    let difference: f64 = values(ours).iter().zip(values(theirs)).map(|(a, b)| (a - b) * (a - b)).sum();
    let norm = norm(theirs);
    assert!(norm > 0.0, "the reference is zero everywhere");
    difference.sqrt() / norm
}

/// Asserts that the relative error is at most `limit`, and prints it.
#[track_caller]
pub fn assert_close(context: &str, ours: &Tensor, theirs: &Tensor, limit: f64) {
    let error = relative_error(ours, theirs);
    println!("{context}: relative error {error:.1e}");
    assert!(error <= limit, "{context}: relative error {error:e}, at most {limit:e} allowed");
}
