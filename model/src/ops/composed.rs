//! The operations on devices other than a CPU, out of candle's own operations on detached tensors: same formulas and same shapes
//! as the kernels, in the input's type, with norm and softmax statistics in float32.
//!
//! Everything here runs on a CPU as well; that is how the tests check it.

use candle_core::{D, DType, Tensor};

use super::convolution::Shape;
use super::host::cast;
use super::kernels::attention::Sizes;
use crate::Result;

/// Queries per tile of scores.
const QUERIES: usize = 1024;

/// `[.., c]` as `[rows, c]`.
fn rows(x: &Tensor) -> Result<Tensor> {
    Ok(x.contiguous()?.flatten_to(D::Minus2)?)
}

fn matrix(x: &Tensor) -> Result<Tensor> {
    if x.rank() < 2 { Ok(x.unsqueeze(0)?) } else { rows(x) }
}

pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let weight = cast(weight, x)?;
    let mut shape = x.dims().to_vec();
    shape.pop();
    shape.push(weight.dim(0)?);
    let out = matrix(x)?.matmul(&weight.t()?)?;
    let out = match bias {
        Some(bias) => out.broadcast_add(&*cast(bias, x)?)?,
        None => out,
    };
    Ok(out.reshape(shape)?)
}

pub fn linear_input_gradient(gradient: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let weight = cast(weight, gradient)?;
    let mut shape = gradient.dims().to_vec();
    shape.pop();
    shape.push(weight.dim(1)?);
    Ok(matrix(gradient)?.matmul(&weight)?.reshape(shape)?)
}

pub fn linear_weight_gradient(x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    Ok(matrix(gradient)?.t()?.matmul(&matrix(x)?)?)
}

/// The image with its padding, and none left to add.
fn padded(x: &Tensor, shape: &Shape) -> Result<Tensor> {
    let padding = shape.padding;
    Ok(x.pad_with_zeros(2, padding.top, padding.bottom)?.pad_with_zeros(3, padding.left, padding.right)?)
}

pub fn conv2d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, shape: &Shape) -> Result<Tensor> {
    let weight = cast(weight, x)?;
    let padding = shape.padding;
    let same = padding.top == padding.bottom && padding.top == padding.left && padding.top == padding.right;
    let out = if same {
        x.conv2d(&weight, padding.top, shape.sizes.stride, 1, 1)?
    } else {
        padded(x, shape)?.contiguous()?.conv2d(&weight, 0, shape.sizes.stride, 1, 1)?
    };
    match bias {
        Some(bias) => Ok(out.broadcast_add(&cast(bias, x)?.reshape((1, (), 1, 1))?)?),
        None => Ok(out),
    }
}

pub fn conv2d_input_gradient(gradient: &Tensor, weight: &Tensor, shape: &Shape) -> Result<Tensor> {
    let (padding, sizes) = (shape.padding, &shape.sizes);
    // The gradient of the padded input; rows and columns behind the last patch get none.
    let reached = gradient.conv_transpose2d(&*cast(weight, gradient)?, 0, 0, sizes.stride, 1)?;
    let (_, _, height, width) = reached.dims4()?;
    let (below, right) =
        (sizes.height + padding.top + padding.bottom - height, sizes.width + padding.left + padding.right - width);
    let whole = reached.pad_with_zeros(2, 0, below)?.pad_with_zeros(3, 0, right)?;
    Ok(whole.narrow(2, padding.top, sizes.height)?.narrow(3, padding.left, sizes.width)?.contiguous()?)
}

pub fn conv2d_weight_gradient(x: &Tensor, gradient: &Tensor, shape: &Shape) -> Result<Tensor> {
    let sizes = &shape.sizes;
    // Channels as samples and samples as channels: the gradient is the kernel, its pixels a stride apart.
    let x = padded(x, shape)?.transpose(0, 1)?.contiguous()?;
    let kernel = gradient.transpose(0, 1)?.contiguous()?;
    let out = x.conv2d(&kernel, 0, 1, sizes.stride, 1)?.transpose(0, 1)?;
    Ok(out.narrow(2, 0, sizes.kernel_height)?.narrow(3, 0, sizes.kernel_width)?.contiguous()?)
}

/// Values less their mean, over the last axis, and 1 / sqrt(variance + eps), both float32.
fn standardise(x: &Tensor, eps: f64) -> Result<(Tensor, Tensor)> {
    let x = x.to_dtype(DType::F32)?;
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let scale = (centred.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?.recip()?;
    Ok((centred.broadcast_mul(&scale)?, scale))
}

/// `scale * (g - mean(g) - z mean(g z))` over the last axis.
fn standardise_gradient(z: &Tensor, scale: &Tensor, g: &Tensor) -> Result<Tensor> {
    let along = g.mul(z)?.mean_keepdim(D::Minus1)?;
    let g = g.broadcast_sub(&g.mean_keepdim(D::Minus1)?)?.sub(&z.broadcast_mul(&along)?)?;
    Ok(g.broadcast_mul(scale)?)
}

/// A per-channel vector in float32, to multiply `[b, c, h, w]` with.
fn per_channel(values: &Tensor) -> Result<Tensor> {
    Ok(values.to_dtype(DType::F32)?.reshape((1, (), 1, 1))?)
}

pub fn group_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: usize, eps: f64, activate: bool) -> Result<Tensor> {
    let (z, _) = standardise(&x.reshape((x.dim(0)?, groups, ()))?, eps)?;
    let out = z.reshape(x.shape())?.broadcast_mul(&per_channel(weight)?)?.broadcast_add(&per_channel(bias)?)?;
    let out = if activate { silu(&out)? } else { out };
    Ok(out.to_dtype(x.dtype())?)
}

pub fn group_norm_gradient(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
    activate: bool,
    gradient: &Tensor,
) -> Result<Tensor> {
    let grouped = (x.dim(0)?, groups, ());
    let (z, scale) = standardise(&x.contiguous()?.reshape(grouped)?, eps)?;
    let (weight, bias) = (per_channel(weight)?, per_channel(bias)?);
    let mut g = gradient.to_dtype(DType::F32)?;
    if activate {
        let normalised = z.reshape(x.shape())?.broadcast_mul(&weight)?.broadcast_add(&bias)?;
        g = g.mul(&silu_slope(&normalised)?)?;
    }
    let g = g.broadcast_mul(&weight)?.reshape(grouped)?;
    Ok(standardise_gradient(&z, &scale, &g)?.reshape(x.shape())?.to_dtype(x.dtype())?)
}

pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let (z, _) = standardise(x, eps)?;
    let out = z.broadcast_mul(&weight.to_dtype(DType::F32)?)?.broadcast_add(&bias.to_dtype(DType::F32)?)?;
    Ok(out.to_dtype(x.dtype())?)
}

pub fn layer_norm_gradient(x: &Tensor, weight: &Tensor, eps: f64, gradient: &Tensor) -> Result<Tensor> {
    let (z, scale) = standardise(x, eps)?;
    let g = gradient.to_dtype(DType::F32)?.broadcast_mul(&weight.to_dtype(DType::F32)?)?;
    Ok(standardise_gradient(&z, &scale, &g)?.to_dtype(x.dtype())?)
}

/// 1 / (1 + e^-x).
fn sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok((x.neg()?.exp()? + 1.0)?.recip()?)
}

/// The derivative of `x sigmoid(factor x)`.
fn sigmoid_unit_slope(x: &Tensor, factor: f64) -> Result<Tensor> {
    let s = sigmoid(&(x * factor)?)?;
    let rest = ((x * factor)?.mul(&s.affine(-1.0, 1.0)?)? + 1.0)?;
    Ok(s.mul(&rest)?)
}

pub fn silu(x: &Tensor) -> Result<Tensor> {
    Ok(x.silu()?)
}

pub fn silu_slope(x: &Tensor) -> Result<Tensor> {
    sigmoid_unit_slope(x, 1.0)
}

pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    Ok(x.mul(&sigmoid(&(x * 1.702)?)?)?)
}

pub fn quick_gelu_slope(x: &Tensor) -> Result<Tensor> {
    sigmoid_unit_slope(x, 1.702)
}

pub fn gelu(x: &Tensor) -> Result<Tensor> {
    Ok(x.gelu_erf()?)
}

pub fn gelu_slope(x: &Tensor) -> Result<Tensor> {
    let below = ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?;
    let density = (x.sqr()? * -0.5)?.exp()?;
    let along = x.mul(&density)?.affine(std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2 / 2.0, 0.0)?;
    Ok(((below * 0.5)? + along)?)
}

pub fn geglu(x: &Tensor) -> Result<Tensor> {
    let halves = x.chunk(2, D::Minus1)?;
    Ok(halves[0].mul(&gelu(&halves[1])?)?)
}

pub fn geglu_gradient(x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let halves = x.chunk(2, D::Minus1)?;
    let to_value = gradient.mul(&gelu(&halves[1])?)?;
    let to_gate = gradient.mul(&halves[0])?.mul(&gelu_slope(&halves[1])?)?;
    Ok(Tensor::cat(&[to_value, to_gate], D::Minus1)?)
}

/// `[b, n, heads * d]` to `[b, heads, n, d]`.
fn split(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, count, width) = x.dims3()?;
    Ok(x.contiguous()?.reshape((batch, count, heads, width / heads))?.transpose(1, 2)?.contiguous()?)
}

/// `[b, heads, n, d]` to `[b, n, heads * d]`.
fn join(x: &Tensor) -> Result<Tensor> {
    Ok(x.transpose(1, 2)?.contiguous()?.flatten_from(2)?)
}

/// Scores of the queries from `start` on against all keys, in float32, later keys hidden where causal.
fn scores(q: &Tensor, k: &Tensor, start: usize, sizes: &Sizes) -> Result<Tensor> {
    let scores = (q.matmul(&k.t()?)?.to_dtype(DType::F32)? * f64::from(sizes.scale()))?;
    if !sizes.causal {
        return Ok(scores);
    }
    let count = q.dim(2)?;
    let hidden = |query: usize, key: usize| if key > start + query { f32::NEG_INFINITY } else { 0.0 };
    let mask: Vec<f32> = (0..count).flat_map(|query| (0..sizes.keys).map(move |key| hidden(query, key))).collect();
    Ok(scores.broadcast_add(&Tensor::from_vec(mask, (count, sizes.keys), q.device())?)?)
}

/// The output and, `[b, heads, n, 1]`, the logarithms of the sums of the exponentials of the scores.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, sizes: &Sizes) -> Result<(Tensor, Tensor)> {
    let [q, k, v] = [split(q, sizes.heads)?, split(k, sizes.heads)?, split(v, sizes.heads)?];
    let (mut outputs, mut log_sums) = (Vec::new(), Vec::new());
    for start in (0..sizes.queries).step_by(QUERIES) {
        let q = q.narrow(2, start, QUERIES.min(sizes.queries - start))?.contiguous()?;
        let scores = scores(&q, &k, start, sizes)?;
        let greatest = scores.max_keepdim(D::Minus1)?;
        let weights = scores.broadcast_sub(&greatest)?.exp()?;
        let total = weights.sum_keepdim(D::Minus1)?;
        let weights = weights.broadcast_div(&total)?.to_dtype(v.dtype())?;
        outputs.push(weights.matmul(&v)?);
        log_sums.push(greatest.add(&total.log()?)?);
    }
    Ok((join(&Tensor::cat(&outputs, 2)?)?, Tensor::cat(&log_sums, 2)?))
}

/// The gradients of queries, keys and values.
pub fn attention_gradient(
    [q, k, v]: [&Tensor; 3],
    output: &Tensor,
    log_sums: &Tensor,
    gradient: &Tensor,
    sizes: &Sizes,
) -> Result<[Tensor; 3]> {
    let [q, k, v] = [split(q, sizes.heads)?, split(k, sizes.heads)?, split(v, sizes.heads)?];
    let [output, gradient] = [split(output, sizes.heads)?, split(gradient, sizes.heads)?];
    let scale = f64::from(sizes.scale());
    let (mut to_q, mut to_k, mut to_v) = (Vec::new(), k.zeros_like()?, v.zeros_like()?);
    for start in (0..sizes.queries).step_by(QUERIES) {
        let count = QUERIES.min(sizes.queries - start);
        let block = |x: &Tensor| -> Result<Tensor> { Ok(x.narrow(2, start, count)?.contiguous()?) };
        let (q, output, gradient, log_sums) = (block(&q)?, block(&output)?, block(&gradient)?, block(log_sums)?);
        let weights = scores(&q, &k, start, sizes)?.broadcast_sub(&log_sums)?.exp()?;
        let mean = output.to_dtype(DType::F32)?.mul(&gradient.to_dtype(DType::F32)?)?.sum_keepdim(D::Minus1)?;
        let slopes = gradient.matmul(&v.t()?)?.to_dtype(DType::F32)?.broadcast_sub(&mean)?;
        let slopes = (weights.mul(&slopes)? * scale)?.to_dtype(q.dtype())?;
        let weights = weights.to_dtype(q.dtype())?;
        to_v = to_v.add(&weights.t()?.matmul(&gradient)?)?;
        to_k = to_k.add(&slopes.t()?.matmul(&q)?)?;
        to_q.push(slopes.matmul(&k)?);
    }
    Ok([join(&Tensor::cat(&to_q, 2)?)?, join(&to_k)?, join(&to_v)?])
}

/// `[b, heads, n, m]`.
pub fn attention_probabilities(q: &Tensor, k: &Tensor, sizes: &Sizes) -> Result<Tensor> {
    let scores = scores(&split(q, sizes.heads)?, &split(k, sizes.heads)?, 0, sizes)?;
    Ok(softmax(&scores)?.to_dtype(q.dtype())?)
}

/// `[b, n, m]`, one head at a time.
pub fn attention_probabilities_mean(q: &Tensor, k: &Tensor, sizes: &Sizes) -> Result<Tensor> {
    let [q, k] = [split(q, sizes.heads)?, split(k, sizes.heads)?];
    let mut sum = Tensor::zeros((sizes.batch, sizes.queries, sizes.keys), DType::F32, q.device())?;
    for head in 0..sizes.heads {
        let [q, k] = [q.narrow(1, head, 1)?.contiguous()?, k.narrow(1, head, 1)?.contiguous()?];
        sum = sum.add(&softmax(&scores(&q, &k, 0, sizes)?)?.squeeze(1)?)?;
    }
    Ok((sum / sizes.heads as f64)?.to_dtype(q.dtype())?)
}

fn softmax(scores: &Tensor) -> Result<Tensor> {
    let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    Ok(weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?)
}
