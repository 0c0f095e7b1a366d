//! The operations on devices other than a CPU, out of candle's own operations on detached tensors: same formulas and same shapes
//! as the kernels, in the input's type, with norm and softmax statistics in float32.
//!
//! Everything here runs on a CPU as well; that is how the tests check it.

mod attention;
#[cfg(test)]
mod tests;

use candle_core::{D, DType, Tensor};

use super::convolution::Shape;
use super::host::cast;
use super::upsample::sources;
use crate::Result;

pub use attention::{attention, attention_gradient, attention_probabilities, attention_probabilities_mean};

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
    let out = match bias.map(|bias| cast(bias, x)).transpose()? {
        Some(bias) => out.broadcast_add(&bias)?,
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
    let weight = cast(weight, gradient)?;
    let reached = gradient.conv_transpose2d(&weight, 0, 0, sizes.stride, 1)?;
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
fn standardize(x: &Tensor, eps: f64) -> Result<(Tensor, Tensor)> {
    let x = x.to_dtype(DType::F32)?;
    let centered = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let scale = (centered.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?.recip()?;
    Ok((centered.broadcast_mul(&scale)?, scale))
}

/// `scale * (g - mean(g) - z mean(g z))` over the last axis.
fn standardize_gradient(z: &Tensor, scale: &Tensor, g: &Tensor) -> Result<Tensor> {
    let along = g.mul(z)?.mean_keepdim(D::Minus1)?;
    let g = g.broadcast_sub(&g.mean_keepdim(D::Minus1)?)?.sub(&z.broadcast_mul(&along)?)?;
    Ok(g.broadcast_mul(scale)?)
}

/// A per-channel vector in float32, to multiply `[b, c, h, w]` with.
fn per_channel(values: &Tensor) -> Result<Tensor> {
    Ok(values.to_dtype(DType::F32)?.reshape((1, (), 1, 1))?)
}

pub fn group_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: usize, eps: f64, activate: bool) -> Result<Tensor> {
    let (z, _) = standardize(&x.reshape((x.dim(0)?, groups, ()))?, eps)?;
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
    let (z, scale) = standardize(&x.contiguous()?.reshape(grouped)?, eps)?;
    let (weight, bias) = (per_channel(weight)?, per_channel(bias)?);
    let mut g = gradient.to_dtype(DType::F32)?;
    if activate {
        let normalized = z.reshape(x.shape())?.broadcast_mul(&weight)?.broadcast_add(&bias)?;
        g = g.mul(&silu_slope(&normalized)?)?;
    }
    let g = g.broadcast_mul(&weight)?.reshape(grouped)?;
    Ok(standardize_gradient(&z, &scale, &g)?.reshape(x.shape())?.to_dtype(x.dtype())?)
}

pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let (z, _) = standardize(x, eps)?;
    let out = z.broadcast_mul(&weight.to_dtype(DType::F32)?)?.broadcast_add(&bias.to_dtype(DType::F32)?)?;
    Ok(out.to_dtype(x.dtype())?)
}

pub fn layer_norm_gradient(x: &Tensor, weight: &Tensor, eps: f64, gradient: &Tensor) -> Result<Tensor> {
    let (z, scale) = standardize(x, eps)?;
    let g = gradient.to_dtype(DType::F32)?.broadcast_mul(&weight.to_dtype(DType::F32)?)?;
    Ok(standardize_gradient(&z, &scale, &g)?.to_dtype(x.dtype())?)
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

/// The pixels that each row or column of an upsampled image takes, as indices on `like`'s device.
fn pixels(from: usize, to: usize, like: &Tensor) -> Result<Tensor> {
    let sources: Vec<u32> = sources(from, to).into_iter().map(|source| source as u32).collect();
    Ok(Tensor::new(sources, like.device())?)
}

pub fn upsample_nearest(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (_, _, in_height, in_width) = x.dims4()?;
    Ok(x.index_select(&pixels(in_height, height, x)?, 2)?.index_select(&pixels(in_width, width, x)?, 3)?)
}

pub fn upsample_nearest_gradient(gradient: &Tensor, in_height: usize, in_width: usize) -> Result<Tensor> {
    let (batch, channels, height, width) = gradient.dims4()?;
    let zeros = Tensor::zeros((batch, channels, height, in_width), gradient.dtype(), gradient.device())?;
    let narrow = zeros.index_add(&pixels(in_width, width, gradient)?, gradient, 3)?;
    let zeros = Tensor::zeros((batch, channels, in_height, in_width), gradient.dtype(), gradient.device())?;
    Ok(zeros.index_add(&pixels(in_height, height, gradient)?, &narrow, 2)?)
}
