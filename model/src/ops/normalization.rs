//! Group and layer normalization (`torch.nn.functional.group_norm` and `layer_norm`) with frozen affine parameters.
//!
//! Difference from torch: group normalization can apply the SiLU that follows it almost everywhere in Stable Diffusion, in one pass.

use candle_core::{Device, Tensor};

use super::graph::{Output, attach};
use super::{Activation, composed, host};
use crate::kernels::norm::{self as kernel, Groups};
use crate::{Error, Result};

/// Normalizes `x` `[b, c, h, w]` over each of `groups` groups of channels, scales and shifts channels by `weight` and `bias` `[c]`,
/// and applies SiLU where `silu`.
///
/// Statistics are good to float32 precision on every device. The backward pass gives the input gradient alone. Errors where shapes
/// do not fit or `groups` does not divide the channels.
pub fn group_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: usize, eps: f64, silu: bool) -> Result<Tensor> {
    let &[_, channels, height, width] = x.dims() else {
        return Err(Error::argument("group_norm", format!("expected [b, c, h, w], got {:?}", x.dims())));
    };
    if groups == 0 || channels % groups != 0 {
        return Err(Error::argument("group_norm", format!("{groups} groups do not divide {channels} channels")));
    }
    check_affine("group_norm", channels, weight, bias)?;
    let (input, weight, bias) = (host::activation("group_norm", x)?, host::weight(weight)?, host::weight(bias)?);
    if !input.device().is_cpu() {
        let output = composed::group_norm(&input, &weight, &bias, groups, eps, silu)?;
        return attach("group_norm", &[x], output.into(), move |call| {
            let gradient = composed::group_norm_gradient(&call.inputs[0], &weight, &bias, groups, eps, silu, &call.gradient)?;
            Ok(vec![Some(gradient)])
        });
    }
    let sizes = Groups { groups, channels: channels / groups, space: height * width };
    let (values, statistics) =
        kernel::group_forward(&host::read(&input)?, &host::read(&weight)?, &host::read(&bias)?, sizes, eps, silu);
    attach("group_norm", &[x], Output::host(values, x.shape().clone()), move |call| {
        let x = call.inputs[0].contiguous()?;
        let (input, gradient) = (host::read(&x)?, host::read(&call.gradient)?);
        let (weight, bias) = (host::read(&weight)?, host::read(&bias)?);
        let values = kernel::group_backward(&input, &weight, &bias, sizes, silu, &statistics, &gradient);
        Ok(vec![Some(Tensor::from_vec(values, x.shape(), &Device::Cpu)?)])
    })
}

/// Normalizes `x` `[.., c]` over its last axis, then scales and shifts it by `weight` and `bias` `[c]`.
///
/// Statistics are good to float32 precision on every device. The backward pass gives the input gradient alone. Errors where shapes
/// do not fit.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let Some(&channels) = x.dims().last() else {
        return Err(Error::argument("layer_norm", "expected [.., c], got a scalar"));
    };
    check_affine("layer_norm", channels, weight, bias)?;
    let (input, weight, bias) = (host::activation("layer_norm", x)?, host::weight(weight)?, host::weight(bias)?);
    if !input.device().is_cpu() {
        let output = composed::layer_norm(&input, &weight, &bias, eps)?;
        return attach("layer_norm", &[x], output.into(), move |call| {
            Ok(vec![Some(composed::layer_norm_gradient(&call.inputs[0], &weight, eps, &call.gradient)?)])
        });
    }
    let (values, statistics) = kernel::layer_forward(&host::read(&input)?, &host::read(&weight)?, &host::read(&bias)?, eps);
    attach("layer_norm", &[x], Output::host(values, x.shape().clone()), move |call| {
        let x = call.inputs[0].contiguous()?;
        let (input, gradient) = (host::read(&x)?, host::read(&call.gradient)?);
        let values = kernel::layer_backward(&input, &host::read(&weight)?, &statistics, &gradient);
        Ok(vec![Some(Tensor::from_vec(values, x.shape(), &Device::Cpu)?)])
    })
}

/// The backward passes read the input.
impl Activation {
    /// [`group_norm`].
    ///
    /// # Errors
    /// As [`group_norm`].
    pub fn group_norm(&self, weight: &Tensor, bias: &Tensor, groups: usize, eps: f64, silu: bool) -> Result<Self> {
        group_norm(self.saved(), weight, bias, groups, eps, silu).map(Self::new)
    }

    /// [`layer_norm`].
    ///
    /// # Errors
    /// As [`layer_norm`].
    pub fn layer_norm(&self, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Self> {
        layer_norm(self.saved(), weight, bias, eps).map(Self::new)
    }
}

fn check_affine(name: &'static str, channels: usize, weight: &Tensor, bias: &Tensor) -> Result<()> {
    if weight.dims() == [channels] && bias.dims() == [channels] {
        return Ok(());
    }
    let problem = format!("weight and bias have shapes {:?} and {:?}, expected [{channels}]", weight.dims(), bias.dims());
    Err(Error::argument(name, problem))
}
