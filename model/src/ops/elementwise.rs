//! Activation functions (`torch.nn.functional.silu` and `gelu`; `GEGLU` of diffusers; `quick_gelu` of transformers' CLIP), each one
//! node of the graph.

use candle_core::{Device, Tensor};

use super::graph::{Output, attach};
use super::{Activation, Misfit, composed, host};
use crate::Result;
use crate::kernels::activation::{self as kernel, Gelu, QuickGelu, Silu, geglu};

/// `x sigmoid(x)`, any shape.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    apply::<Silu>("silu", x, composed::silu, composed::silu_slope)
}

/// `x Phi(x)` with the normal distribution function by erf (torch's `approximate="none"`), any shape.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    apply::<Gelu>("gelu", x, composed::gelu, composed::gelu_slope)
}

/// `x sigmoid(1.702 x)`, any shape.
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    apply::<QuickGelu>("quick_gelu", x, composed::quick_gelu, composed::quick_gelu_slope)
}

/// `[.., 2c]` to `[.., c]`: the first half times the GELU of the second (Shazeer 2020, arXiv 2002.05202).
///
/// Errors where the last axis is odd or missing.
pub fn geglu(x: &Tensor) -> Result<Tensor> {
    let width = match x.dims().last() {
        Some(&double) if double % 2 == 0 => double / 2,
        _ => return Err(Misfit::Rank { expected: "[.., 2c]", found: x.dims().to_vec() }.of("geglu")),
    };
    let input = host::activation("geglu", x)?;
    let output = if input.device().is_cpu() {
        let mut shape = x.dims().to_vec();
        shape.pop();
        shape.push(width);
        Output::host(geglu::forward(&host::read(&input)?, width), shape)
    } else {
        composed::geglu(&input)?.into()
    };
    attach("geglu", &[x], output, move |call| {
        let x = call.inputs[0].contiguous()?;
        if !x.device().is_cpu() {
            return Ok(vec![Some(composed::geglu_gradient(&x, &call.gradient)?)]);
        }
        let values = geglu::backward(&host::read(&x)?, &host::read(&call.gradient)?, width);
        Ok(vec![Some(Tensor::from_vec(values, x.shape(), &Device::Cpu)?)])
    })
}

/// The backward passes read the input.
impl Activation {
    /// [`silu`].
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn silu(&self) -> Result<Self> {
        silu(self.saved()).map(Self::new)
    }

    /// [`gelu`].
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn gelu(&self) -> Result<Self> {
        gelu(self.saved()).map(Self::new)
    }

    /// [`quick_gelu`].
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn quick_gelu(&self) -> Result<Self> {
        quick_gelu(self.saved()).map(Self::new)
    }

    /// [`geglu`].
    ///
    /// # Errors
    /// Where the last axis is odd.
    pub fn geglu(&self) -> Result<Self> {
        geglu(self.saved()).map(Self::new)
    }
}

fn apply<A: kernel::Activation>(
    name: &'static str,
    x: &Tensor,
    value: fn(&Tensor) -> Result<Tensor>,
    slope: fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let input = host::activation(name, x)?;
    let output = if input.device().is_cpu() {
        Output::host(kernel::forward::<A>(&host::read(&input)?), input.shape().clone())
    } else {
        value(&input)?.into()
    };
    attach(name, &[x], output, move |call| {
        let x = call.inputs[0].contiguous()?;
        if !x.device().is_cpu() {
            return Ok(vec![Some(slope(&x)?.mul(&call.gradient)?)]);
        }
        let values = kernel::backward::<A>(&host::read(&x)?, &host::read(&call.gradient)?);
        Ok(vec![Some(Tensor::from_vec(values, x.shape(), &Device::Cpu)?)])
    })
}
