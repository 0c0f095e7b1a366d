//! Group and layer normalization (`torch.nn.functional.group_norm` and `layer_norm`) with frozen affine parameters.
//!
//! Difference from torch: group normalization can apply the SiLU that follows it almost everywhere in Stable Diffusion, in one pass.

use candle_core::{Device, Tensor};

use super::graph::{Output, attach};
use super::{Activation, Misfit, composed, host};
use crate::Result;
use crate::kernels::norm::{self as kernel, Groups};

/// Normalizes `x` `[b, c, h, w]` over each of `groups` groups of channels, scales and shifts channels by `weight` and `bias` `[c]`,
/// and applies SiLU where `silu`.
///
/// Statistics are good to float32 precision on every device. The backward pass gives the input gradient alone. Errors where shapes
/// do not fit or `groups` does not divide the channels.
pub fn group_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: usize, eps: f64, silu: bool) -> Result<Tensor> {
    let &[_, channels, height, width] = x.dims() else {
        return Err(Misfit::Rank { expected: "[b, c, h, w]", found: x.dims().to_vec() }.of("group_norm"));
    };
    if groups == 0 || channels % groups != 0 {
        return Err(Misfit::Division { name: "groups", count: groups, channels }.of("group_norm"));
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
        return Err(Misfit::Scalar { expected: "[.., c]" }.of("layer_norm"));
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
    Err(Misfit::Affine { expected: channels, found: [weight.dims().to_vec(), bias.dims().to_vec()] }.of(name))
}
