//! Products that several families of adapters share.

use candle_core::{DType, Tensor};

use crate::Result;

/// A factor as a float32 matrix: all axes after the first as one.
pub(super) fn matrix(factor: &Tensor) -> Result<Tensor> {
    Ok(factor.to_dtype(DType::F32)?.flatten_from(1)?)
}

/// Tucker's product with a core (LyCORIS 4.1 `rebuild_tucker`): `sum over i, j of a[i, p] core[i, j, ..] b[j, q]`.
///
/// # Shapes
/// `a` `[i, p]`, `core` `[i, j, k, k]`, `b` `[j, q]`; returns `[p, q * k * k]`, float32.
/// # Errors
/// When the shapes disagree.
pub(super) fn core_product(a: &Tensor, core: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (i, j, height, width) = core.dims4()?;
    let ((_, p), (_, q), area) = (a.dims2()?, b.dims2()?, height * width);
    let (a, b, core) = (a.to_dtype(DType::F32)?, b.to_dtype(DType::F32)?, core.to_dtype(DType::F32)?);
    // [i, area, j] times [j, q], then [p, i] times [i, area * q].
    let inner = core.reshape((i, j, area))?.transpose(1, 2)?.contiguous()?.reshape((i * area, j))?.matmul(&b)?;
    let product = a.t()?.contiguous()?.matmul(&inner.reshape((i, area * q))?)?;
    Ok(product.reshape((p, area, q))?.transpose(1, 2)?.contiguous()?.reshape((p, q * area))?)
}

/// The Kronecker product of matrices: `[a * c, b * d]` of `[a, b]` and `[c, d]`.
///
/// # Errors
/// When one is no matrix.
pub(super) fn kronecker(left: &Tensor, right: &Tensor) -> Result<Tensor> {
    let ((a, b), (c, d)) = (left.dims2()?, right.dims2()?);
    let product = left.reshape((a, 1, b, 1))?.broadcast_mul(&right.reshape((1, c, 1, d))?)?;
    Ok(product.reshape((a * c, b * d))?)
}
