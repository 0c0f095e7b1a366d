//! The linear layer (`torch.nn.functional.linear`), with a frozen or a trainable weight.

use candle_core::{Device, Tensor};

use super::graph::{Output, attach};
use super::{Activation, Misfit, composed, host};
use crate::Result;
use crate::kernels::gemm::{Epilogue, Matrix, MatrixMut, Threads, new_product, new_sum, sum};

/// `x W^T + bias` with a frozen `weight` `[c_out, c_in]` and `bias` `[c_out]`: `x` `[.., c_in]` to `[.., c_out]`.
///
/// The backward pass gives the input gradient alone. Errors where shapes do not fit each other.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let sizes = Sizes::new("linear", x, weight)?;
    if let Some(bias) = bias.filter(|bias| bias.dims() != [sizes.outputs]) {
        return Err(Misfit::Bias { expected: sizes.outputs, found: bias.dims().to_vec() }.of("linear"));
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

impl Activation {
    /// [`linear`]. The backward pass reads the weight alone.
    ///
    /// # Errors
    /// As [`linear`].
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        linear(self.read(), weight, bias).map(Self::new)
    }
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
            let found = [x.dims().to_vec(), weight.dims().to_vec()];
            return Err(Misfit::Ranks { expected: "[.., c_in] and [c_out, c_in]", found }.of(name));
        };
        if width != *inputs {
            return Err(Misfit::Channels { weight: "weight", expected: *inputs, found: width }.of(name));
        }
        if *inputs == 0 || *outputs == 0 {
            return Err(Misfit::EmptyWeight { found: weight.dims().to_vec() }.of(name));
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
    Ok(Output::host(affine(&host::read(x)?, weight, bias, None, sizes)?, shape))
}

/// `x W^T + bias` on a CPU, and the product of the pair `beside`: `[rows, r]` and `[r, outputs]`, the latter by columns.
pub(super) fn affine(
    x: &[f32],
    weight: &Tensor,
    bias: Option<&Tensor>,
    beside: Option<(Matrix, Matrix)>,
    sizes: &Sizes,
) -> Result<Vec<f32>> {
    let &Sizes { rows, inputs, outputs } = sizes;
    let bias = host::read_optional(bias)?;
    let x = Matrix::new(x, rows, inputs, inputs);
    let mut out = Vec::new();
    host::read_rows(weight, inputs, |first, weight| {
        let count = weight.len() / inputs;
        let mut factors = vec![(x, Matrix::new(weight, count, inputs, inputs).transposed())];
        factors.extend(beside.map(|(a, b)| (a, b.some_columns(first..first + count))));
        let bias = bias.as_deref().map(|bias| &bias[first..first + count]);
        if count == outputs {
            out = new_sum(bias, 1.0, &factors, Threads::All);
        } else {
            out.resize(rows * outputs, 0.0);
            let part = MatrixMut::new(&mut out[first..], rows, count, outputs);
            sum(part, Epilogue::bias(bias), 1.0, &factors, Threads::All);
        }
    })?;
    Ok(out)
}

/// `gradient W` on a CPU, `[rows, inputs]`, and the product of the pair `beside`: `[rows, r]` and `[r, inputs]`.
pub(super) fn through_weight(
    gradient: &[f32],
    weight: &Tensor,
    beside: Option<(Matrix, Matrix)>,
    sizes: &Sizes,
) -> Result<Vec<f32>> {
    let &Sizes { rows, inputs, outputs } = sizes;
    let mut out = Vec::new();
    host::read_rows(weight, inputs, |first, weight| {
        let count = weight.len() / inputs;
        let own = (Matrix::new(&gradient[first..], rows, count, outputs), Matrix::new(weight, count, inputs, inputs));
        if first == 0 {
            let factors: Vec<_> = [own].into_iter().chain(beside).collect();
            out = new_sum(None, 1.0, &factors, Threads::All);
        } else {
            sum(MatrixMut::new(&mut out, rows, inputs, inputs), Epilogue::Accumulate, 1.0, &[own], Threads::All);
        }
    })?;
    Ok(out)
}

fn input_gradient(gradient: &Tensor, weight: &Tensor, sizes: &Sizes, x: &Tensor) -> Result<Tensor> {
    if !gradient.device().is_cpu() {
        return composed::linear_input_gradient(gradient, weight);
    }
    Ok(Tensor::from_vec(through_weight(&host::read(gradient)?, weight, None, sizes)?, x.shape(), &Device::Cpu)?)
}

fn weight_gradient(x: &Tensor, gradient: &Tensor, sizes: &Sizes) -> Result<Tensor> {
    if !gradient.device().is_cpu() {
        return composed::linear_weight_gradient(x, gradient);
    }
    let &Sizes { rows, inputs, outputs } = sizes;
    let (gradient, x) = (host::read(gradient)?, host::read(x)?);
    let (gradient, x) = (Matrix::new(&gradient, rows, outputs, outputs), Matrix::new(&x, rows, inputs, inputs));
    let out = new_product(1.0, gradient.transposed(), x, Threads::All);
    Ok(Tensor::from_vec(out, (outputs, inputs), &Device::Cpu)?)
}
