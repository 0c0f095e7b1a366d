//! Agreement with a reference: linear centered kernel alignment over positions.
//!
//! Source: S. Kornblith, M. Norouzi, H. Lee, G. Hinton, "Similarity of Neural Network Representations Revisited", arXiv 1905.00414.

use candle_core::{Device, Tensor};
use features::stores::Feature;

use super::{ScoreFault, same_shape};

/// `||X^T Y||^2 / (||X^T X|| ||Y^T Y||)` in Frobenius norms, with positions as rows, channels as columns, columns centered: 0 to 1. `None`
/// where one of the two does not vary.
///
/// # Errors
/// When the shapes differ.
pub fn cka(feature: &Feature, reference: &Feature) -> Result<Option<f64>, ScoreFault> {
    same_shape(feature, reference)?;
    let [cross, x_norm, y_norm] = products(feature, reference)?;
    let norms = (x_norm * y_norm).sqrt();
    Ok((norms > 0.0).then(|| cross / norms))
}

/// `||X^T Y||^2`, `||X^T X||^2` and `||Y^T Y||^2`: sums over pairs of channels, or, which is the same, of products of two Gram matrices of
/// positions. The smaller matrices are taken.
fn products(feature: &Feature, reference: &Feature) -> candle_core::Result<[f64; 3]> {
    let (x, y) = (centered(feature)?, centered(reference)?);
    let sum = |a: &Tensor, b: &Tensor| (a * b)?.sum_all()?.to_scalar::<f64>();
    let [channels, height, width] = feature.shape;
    if channels <= height * width {
        let square = |a: &Tensor, b: &Tensor| a.matmul(&b.t()?).and_then(|product| sum(&product, &product));
        return Ok([square(&x, &y)?, square(&x, &x)?, square(&y, &y)?]);
    }
    let (x, y) = (x.t()?.matmul(&x)?, y.t()?.matmul(&y)?);
    Ok([sum(&x, &y)?, sum(&x, &x)?, sum(&y, &y)?])
}

/// `[channels, positions]`, channels without their means.
fn centered(feature: &Feature) -> candle_core::Result<Tensor> {
    let [channels, height, width] = feature.shape;
    let rows =
        Tensor::from_slice(&feature.values, (channels, height * width), &Device::Cpu)?.to_dtype(candle_core::DType::F64)?;
    rows.broadcast_sub(&rows.mean_keepdim(1)?)
}
