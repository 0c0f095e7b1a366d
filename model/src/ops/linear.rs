//! The linear layer (`torch.nn.functional.linear`), with a frozen or a trainable weight.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::graph::{Output, attach};
use super::kernels::product::{Destination, Matrix, MatrixMut, Threads, product};
use super::{composed, host};
use crate::{Error, Result};

/// `x W^T + bias` with a frozen `weight` `[c_out, c_in]` and `bias` `[c_out]`: `x` `[.., c_in]` to `[.., c_out]`.
///
/// The backward pass gives the input gradient alone. Errors where shapes do not fit each other.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let sizes = Sizes::new("linear", x, weight)?;
    if let Some(bias) = bias.filter(|bias| bias.dims() != [sizes.outputs]) {
        let problem = format!("the bias has shape {:?}, expected [{}]", bias.dims(), sizes.outputs);
        return Err(Error::argument("linear", problem));
    }
    let (input, weight) = (host::activation("linear", x)?, host::weight(weight)?);
    let bias = bias.map(host::weight).transpose()?;
    let output = forward(&input, &weight, bias.as_ref(), &sizes)?;
    attach("linear", &[x], output, move |call| Ok(vec![Some(input_gradient(&call.gradient, &weight, &sizes, &call.inputs[0])?)]))
}

/// `x W^T` with a `weight` `[c_out, c_in]` that may be a variable: both get gradients. `x` `[.., c_in]` to `[.., c_out]`.
///
/// On a CPU both are float32. Errors where shapes do not fit each other.
pub fn linear_trainable(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let name = "linear_trainable";
    let sizes = Sizes::new(name, x, weight)?;
    let output = forward(&host::activation(name, x)?, &host::activation(name, weight)?, None, &sizes)?;
    attach(name, &[x, weight], output, move |call| {
        let (x, weight) = (call.inputs[0].contiguous()?, call.inputs[1].contiguous()?);
        let to_x = call.tracked[0].then(|| input_gradient(&call.gradient, &weight, &sizes, &x)).transpose()?;
        let to_weight = call.tracked[1].then(|| weight_gradient(&x, &call.gradient, &sizes)).transpose()?;
        Ok(vec![to_x, to_weight])
    })
}

/// `rows` vectors of `inputs` numbers to as many of `outputs`.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub rows: usize,
    pub inputs: usize,
    pub outputs: usize,
}

impl Sizes {
    fn new(name: &'static str, x: &Tensor, weight: &Tensor) -> Result<Self> {
        let (Some(&width), [outputs, inputs]) = (x.dims().last(), weight.dims()) else {
            let problem = format!("expected [.., c_in] and [c_out, c_in], got {:?} and {:?}", x.dims(), weight.dims());
            return Err(Error::argument(name, problem));
        };
        if width != *inputs {
            return Err(Error::argument(name, format!("the input has {width} channels, the weight {inputs}")));
        }
        let rows = x.dims()[..x.rank() - 1].iter().product();
        Ok(Self { rows, inputs: *inputs, outputs: *outputs })
    }
}

/// The shape of `like` with another last axis.
pub(super) fn with_last(like: &Tensor, last: usize) -> Vec<usize> {
    let mut shape = like.dims().to_vec();
    if let Some(end) = shape.last_mut() {
        *end = last;
    }
    shape
}

fn forward(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, sizes: &Sizes) -> Result<Output> {
    let shape = with_last(x, sizes.outputs);
    if !x.device().is_cpu() {
        return Ok(composed::linear(x, weight, bias)?.into());
    }
    Ok(Output::host(affine(&host::read(x)?, weight, bias, sizes)?, shape))
}

/// `x W^T + bias` on a CPU.
pub(super) fn affine(x: &[f32], weight: &Tensor, bias: Option<&Tensor>, sizes: &Sizes) -> Result<Vec<f32>> {
    let &Sizes { rows, inputs, outputs } = sizes;
    let bias = host::read_optional(bias)?;
    let mut out = vec![0.0; rows * outputs];
    let mut destination = Destination::Replace;
    if let Some(bias) = bias.filter(|_| outputs > 0) {
        out.par_chunks_mut(outputs).for_each(|row| row.copy_from_slice(&bias));
        destination = Destination::Add;
    }
    if rows == 0 || inputs == 0 {
        return Ok(out);
    }
    let x = Matrix::new(x, rows, inputs, inputs);
    host::read_rows(weight, inputs, |first, weight| {
        let count = weight.len() / inputs;
        let weight = Matrix::new(weight, count, inputs, inputs);
        product(MatrixMut::new(&mut out[first..], rows, count, outputs), destination, 1.0, x, weight.transposed(), Threads::All);
    })?;
    Ok(out)
}

/// `gradient W` on a CPU, `[rows, inputs]`.
pub(super) fn through_weight(gradient: &[f32], weight: &Tensor, sizes: &Sizes) -> Result<Vec<f32>> {
    let &Sizes { rows, inputs, outputs } = sizes;
    let mut out = vec![0.0; rows * inputs];
    if rows == 0 || inputs == 0 {
        return Ok(out);
    }
    host::read_rows(weight, inputs, |first, weight| {
        let count = weight.len() / inputs;
        let destination = if first == 0 { Destination::Replace } else { Destination::Add };
        let gradient = Matrix::new(gradient.get(first..).unwrap_or(&[]), rows, count, outputs);
        let weight = Matrix::new(weight, count, inputs, inputs);
        product(MatrixMut::new(&mut out, rows, inputs, inputs), destination, 1.0, gradient, weight, Threads::All);
    })?;
    Ok(out)
}

fn input_gradient(gradient: &Tensor, weight: &Tensor, sizes: &Sizes, x: &Tensor) -> Result<Tensor> {
    if !gradient.device().is_cpu() {
        return composed::linear_input_gradient(gradient, weight);
    }
    Ok(Tensor::from_vec(through_weight(&host::read(gradient)?, weight, sizes)?, x.shape(), &Device::Cpu)?)
}

fn weight_gradient(x: &Tensor, gradient: &Tensor, sizes: &Sizes) -> Result<Tensor> {
    if !gradient.device().is_cpu() {
        return composed::linear_weight_gradient(x, gradient);
    }
    let &Sizes { rows, inputs, outputs } = sizes;
    let (gradient, x) = (host::read(gradient)?, host::read(x)?);
    let mut out = vec![0.0; outputs * inputs];
    let (gradient, x) = (Matrix::new(&gradient, rows, outputs, outputs), Matrix::new(&x, rows, inputs, inputs));
    product(MatrixMut::new(&mut out, outputs, inputs, inputs), Destination::Replace, 1.0, gradient.transposed(), x, Threads::All);
    Ok(Tensor::from_vec(out, (outputs, inputs), &Device::Cpu)?)
}
