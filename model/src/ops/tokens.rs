//! Feature maps as tokens and back: the exchange of the channels and the positions.

use candle_core::{Device, Tensor};

use super::graph::{Output, attach};
use super::{Activation, Misfit, host};
use crate::Result;
use crate::kernels::memory::transpose::transposed;

/// `[b, c, h, w]` to `[b, h * w, c]`.
pub fn to_tokens(x: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    exchange(x, batch, channels, height * width, vec![batch, height * width, channels])
}

/// `[b, h * w, c]` to `[b, c, h, w]`.
///
/// Errors where there are more or fewer tokens than `height * width`.
pub fn from_tokens(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (batch, tokens, channels) = x.dims3()?;
    if tokens != height * width {
        return Err(Misfit::Tokens { found: tokens, height, width }.of("from_tokens"));
    }
    exchange(x, batch, tokens, channels, vec![batch, channels, height, width])
}

/// The backward passes read no values.
impl Activation {
    /// [`to_tokens`].
    ///
    /// # Errors
    /// When it is not `[b, c, h, w]`.
    pub fn to_tokens(&self) -> Result<Self> {
        to_tokens(self.read()).map(Self::new)
    }

    /// [`from_tokens`].
    ///
    /// # Errors
    /// As [`from_tokens`].
    pub fn from_tokens(&self, height: usize, width: usize) -> Result<Self> {
        from_tokens(self.read(), height, width).map(Self::new)
    }
}

/// The transposed matrices `[rows, columns]` of a batch, in the given shape.
fn exchange(x: &Tensor, batch: usize, rows: usize, columns: usize, shape: Vec<usize>) -> Result<Tensor> {
    let input = host::activation("tokens", x)?;
    let back =
        move |y: &Tensor, rows, columns| Ok::<_, crate::Error>(y.reshape((batch, rows, columns))?.transpose(1, 2)?.contiguous()?);
    let output = if input.device().is_cpu() {
        Output::host(transposed(&host::read(&input)?, batch, rows, columns), shape)
    } else {
        back(&input, rows, columns)?.reshape(shape)?.into()
    };
    attach("tokens", &[x], output, move |call| {
        let (g, shape) = (&call.gradient, call.inputs[0].shape());
        if !g.device().is_cpu() {
            return Ok(vec![Some(back(g, columns, rows)?.reshape(shape)?)]);
        }
        Ok(vec![Some(Tensor::from_vec(transposed(&host::read(g)?, batch, columns, rows), shape, &Device::Cpu)?)])
    })
}
