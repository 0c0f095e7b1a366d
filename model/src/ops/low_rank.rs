//! A linear layer with a low-rank term (LoRA, arXiv 2106.09685) as one node of the graph, on a CPU, in float32.
//!
//! Where torch keeps the layer's output, the inner product and the term's output for the backward pass, this keeps the input alone: the
//! term is part of the layer's own sums, and the inner product, a few numbers per row, is computed again.

use candle_core::{Device, Tensor};

use super::graph::{Output, attach};
use super::linear::{self, Sizes, with_last};
use super::{Activation, Misfit, host};
use crate::Result;
use crate::kernels::activation::geglu;
use crate::kernels::gemm::{Matrix, Threads, new_product};

/// What stands between the layer and its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// GEGLU, whose output is computed again in the backward pass.
    Geglu,
}

/// A term `scale * x down^T up^T` beside a linear layer; both factors get gradients where they are tracked.
#[derive(Clone, Copy, Debug)]
pub struct LowRank<'a> {
    /// `[r, c_in]`.
    pub down: &'a Tensor,
    /// `[c_out, r]`.
    pub up: &'a Tensor,
    /// What the term is multiplied by.
    pub scale: f64,
}

/// `x W^T + bias + scale * x down^T up^T` with a frozen `weight` `[c_out, c_in]`: `x` `[.., c_in]` to `[.., c_out]`; with GEGLU in
/// between, `x` is `[.., 2 c_in]`.
///
/// Errors where shapes do not fit each other, or anything but the weight and the bias is not float32 on a CPU.
pub fn linear_low_rank(x: &Tensor, before: Before, weight: &Tensor, bias: Option<&Tensor>, term: LowRank) -> Result<Tensor> {
    let name = "linear_low_rank";
    let input = host::activation(name, x)?;
    let (down, up) = (host::activation(name, term.down)?, host::activation(name, term.up)?);
    let layer = Layer::new(name, x, before, weight, bias, [&down, &up], term.scale as f32)?;
    let output = layer.forward(&input, &down, &up)?;
    attach(name, &[x, term.down, term.up], output, move |call| {
        let [x, down, up] = [call.inputs[0].contiguous()?, call.inputs[1].contiguous()?, call.inputs[2].contiguous()?];
        layer.backward([&x, &down, &up], &call.gradient, &call.tracked)
    })
}

impl Activation {
    /// [`linear_low_rank`]. The backward pass reads the input.
    ///
    /// # Errors
    /// As [`linear_low_rank`].
    pub fn linear_low_rank(&self, before: Before, weight: &Tensor, bias: Option<&Tensor>, term: LowRank) -> Result<Self> {
        linear_low_rank(self.saved(), before, weight, bias, term).map(Self::new)
    }
}

/// What the node holds beside its inputs.
struct Layer {
    before: Before,
    weight: Tensor,
    bias: Option<Tensor>,
    sizes: Sizes,
    rank: usize,
    scale: f32,
}

impl Layer {
    fn new(
        name: &'static str,
        x: &Tensor,
        before: Before,
        weight: &Tensor,
        bias: Option<&Tensor>,
        [down, up]: [&Tensor; 2],
        scale: f32,
    ) -> Result<Self> {
        let &[outputs, inputs] = weight.dims() else {
            return Err(Misfit::Rank { expected: "a weight [c_out, c_in]", found: weight.dims().to_vec() }.of(name));
        };
        let wide = if before == Before::Geglu { 2 * inputs } else { inputs };
        let rank = down.dims().first().copied().unwrap_or(0);
        let fits = inputs * outputs > 0 && x.dims().last() == Some(&wide) && bias.is_none_or(|bias| bias.dims() == [outputs]);
        if !fits || down.dims() != [rank, inputs] || up.dims() != [outputs, rank] || !x.device().is_cpu() {
            let [x, weight, down, up] = [x, weight, down, up].map(|tensor| tensor.dims().to_vec());
            return Err(Misfit::LowRank { x, weight, down, up }.of(name));
        }
        let rows = x.dims()[..x.rank() - 1].iter().product();
        let bias = bias.map(host::weight).transpose()?;
        Ok(Self { before, weight: host::weight(weight)?, bias, sizes: Sizes { rows, inputs, outputs }, rank, scale })
    }

    /// What enters the layer itself.
    fn entering<'a>(&self, x: &'a [f32]) -> std::borrow::Cow<'a, [f32]> {
        match self.before {
            Before::Nothing => x.into(),
            Before::Geglu => geglu::forward(x, self.sizes.inputs).into(),
        }
    }

    /// `scale * x down^T`, `[rows, r]`.
    fn inner(&self, x: &[f32], down: &[f32]) -> Vec<f32> {
        let Sizes { rows, inputs, .. } = self.sizes;
        let (x, down) = (Matrix::new(x, rows, inputs, inputs), Matrix::new(down, self.rank, inputs, inputs));
        new_product(self.scale, x, down.transposed(), Threads::All)
    }

    fn forward(&self, x: &Tensor, down: &Tensor, up: &Tensor) -> Result<Output> {
        let Sizes { rows, outputs, .. } = self.sizes;
        let shape = with_last(x, outputs);
        let (x, down, up) = (host::read(x)?, host::read(down)?, host::read(up)?);
        let x = self.entering(&x);
        let inner = self.inner(&x, &down);
        let (inner, up) = (Matrix::new(&inner, rows, self.rank, self.rank), Matrix::new(&up, outputs, self.rank, self.rank));
        let out = linear::affine(&x, &self.weight, self.bias.as_ref(), Some((inner, up.transposed())), &self.sizes)?;
        Ok(Output::host(out, shape))
    }

    fn backward(&self, [x, down, up]: [&Tensor; 3], gradient: &Tensor, tracked: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (Sizes { rows, inputs, outputs }, rank) = (self.sizes, self.rank);
        let (input, down_values, up_values) = (host::read(x)?, host::read(down)?, host::read(up)?);
        let (entering, gradient) = (self.entering(&input), host::read(gradient)?);
        let slopes = Matrix::new(&gradient, rows, outputs, outputs);
        // The inner product's gradient, times the scale.
        let to_inner = new_product(self.scale, slopes, Matrix::new(&up_values, outputs, rank, rank), Threads::All);
        let inner_slopes = Matrix::new(&to_inner, rows, rank, rank);

        let mut gradients = vec![None, None, None];
        if tracked[1] {
            let entering = Matrix::new(&entering, rows, inputs, inputs);
            let to_down = new_product(1.0, inner_slopes.transposed(), entering, Threads::All);
            gradients[1] = Some(Tensor::from_vec(to_down, down.shape(), &Device::Cpu)?);
        }
        if tracked[2] {
            let inner = self.inner(&entering, &down_values);
            let to_up = new_product(1.0, slopes.transposed(), Matrix::new(&inner, rows, rank, rank), Threads::All);
            gradients[2] = Some(Tensor::from_vec(to_up, up.shape(), &Device::Cpu)?);
        }
        drop(entering);
        if tracked[0] {
            let beside = (inner_slopes, Matrix::new(&down_values, rank, inputs, inputs));
            let mut to_x = linear::through_weight(&gradient, &self.weight, Some(beside), &self.sizes)?;
            if self.before == Before::Geglu {
                to_x = geglu::backward(&input, &to_x, inputs);
            }
            gradients[0] = Some(Tensor::from_vec(to_x, x.shape(), &Device::Cpu)?);
        }
        Ok(gradients)
    }
}
