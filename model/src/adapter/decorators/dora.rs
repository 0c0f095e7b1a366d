//! DoRA (Liu et al., arXiv 2402.09353): a weight's directions are changed by an adapter, its magnitudes are trained apart:
//! `W' = m * V / |V|`, `V = W + dW`.
//!
//! Mirrors LyCORIS 4.1 `weight_decompose`: the norm is taken over everything but the output axis, or over everything but the input
//! axis (LyCORIS up to 3.0), which the magnitudes' shape tells; the machine epsilon is added to it; gradients flow through it.

use candle_core::{DType, Tensor};

use crate::Result;
use crate::adapter::component::{Component, Spelling};
use crate::adapter::stored_layer::StoredLayer;

/// The magnitudes.
pub const MAGNITUDE: Component = Component::named("dora_scale").dotted(&[
    (Spelling::Peft, ".lora_magnitude_vector.weight"),
    (Spelling::Peft, ".lora_magnitude_vector"),
    (Spelling::Own, ".lora_linear_layer.dora_scale"),
    (Spelling::Own, ".lora.dora_scale"),
    (Spelling::Peft, ".dora_scale"),
]);

/// The magnitudes of a file: LyCORIS has the weight's number of axes, PEFT one axis on linear layers and `[1, out, 1, 1]` on
/// convolutions.
pub(in crate::adapter) fn read(layer: &StoredLayer, key: &str) -> Result<Tensor> {
    let tensor = layer.numbers(key)?;
    let peft = key.contains("lora_magnitude_vector");
    let axes = if layer.kind.is_convolution() { 4 } else { 2 };
    let shape = tensor.dims().to_vec();
    let long = shape.iter().filter(|size| **size > 1).count();
    let mut wanted = vec![1; axes];
    match shape.as_slice() {
        [count] => wanted[0] = *count,
        [1, count, 1, 1] if peft => wanted[0] = *count,
        [rows, columns] | [rows, columns, 1, 1] if long <= 1 => (wanted[0], wanted[1]) = (*rows, *columns),
        _ => {
            let expected = "[out, 1] or [1, in], with further sizes of one on a convolution";
            return Err(layer.wrong_shape(key, &shape, expected));
        }
    }
    Ok(tensor.reshape(wanted)?)
}

/// `W'` of `V`, float32.
///
/// # Shapes
/// `value` `[c_out, c_in * k * k]` of a weight with `inputs` inputs; `magnitude` `[c_out, 1, ..]` or `[1, c_in, ..]`.
/// # Errors
/// When the shapes disagree.
pub(in crate::adapter) fn decompose(value: &Tensor, magnitude: &Tensor, inputs: usize) -> Result<Tensor> {
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
