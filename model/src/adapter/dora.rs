//! DoRA (Liu et al., arXiv 2402.09353): a weight's directions are changed by an adapter, its magnitudes are trained apart:
//! `W' = m * V / |V|`, `V = W + dW`.
//!
//! Mirrors LyCORIS 4.1 `weight_decompose`: the norm is taken over everything but the output axis, or over everything but the input
//! axis (LyCORIS up to 3.0), which the magnitudes' shape tells; the machine epsilon is added to it; gradients flow through it.

use candle_core::{DType, Tensor};

use crate::Result;

/// `W'` of `V`, float32.
///
/// # Shapes
/// `value` `[c_out, c_in * k * k]` of a weight with `inputs` inputs; `magnitude` `[c_out, 1, ..]` or `[1, c_in, ..]`.
/// # Errors
/// When the shapes disagree.
pub(super) fn decompose(value: &Tensor, magnitude: &Tensor, inputs: usize) -> Result<Tensor> {
    let (outputs, columns) = value.dims2()?;
    let magnitude = magnitude.to_dtype(DType::F32)?;
    let value = value.reshape((outputs, inputs, columns / inputs.max(1)))?;
    let square = value.sqr()?;
    let (squares, magnitude) = if per_input(&magnitude) {
        (square.sum_keepdim(0)?.sum_keepdim(2)?, magnitude.reshape((1, inputs, 1))?)
    } else {
        (square.sum_keepdim(1)?.sum_keepdim(2)?, magnitude.reshape((outputs, 1, 1))?)
    };
    let norm = (squares.sqrt()? + f64::from(f32::EPSILON))?;
    Ok(value.broadcast_mul(&(magnitude / norm)?)?.reshape((outputs, columns))?)
}

/// Whether magnitudes are those of inputs. One output and one input look alike, and are.
pub fn per_input(magnitude: &Tensor) -> bool {
    magnitude.dims().len() > 1 && magnitude.dims()[0] == 1 && magnitude.dims()[1] > 1
}

/// The magnitudes of a weight, with which DoRA starts: norms per output, or per input.
///
/// # Shapes
/// `weight` `[c_out, c_in]` or `[c_out, c_in, k, k]`; returns `[c_out, 1(, 1, 1)]` or `[1, c_in(, 1, 1)]`, float32.
/// # Errors
/// When a tensor operation fails.
pub fn magnitudes(weight: &Tensor, per_output: bool) -> Result<Tensor> {
    let mut square = weight.to_dtype(DType::F32)?.sqr()?;
    for axis in (0..weight.dims().len()).filter(|axis| *axis != usize::from(!per_output)) {
        square = square.sum_keepdim(axis)?;
    }
    Ok(square.sqrt()?)
}
