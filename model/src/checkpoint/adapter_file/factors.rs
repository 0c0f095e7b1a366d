//! What stands on one layer.

use crate::error::Result;
use candle_core::{DType, Device, Tensor};

/// The adapter of one layer. Other types than LoRA are refused when a file is read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Factors {
    /// LoRA; on convolutions also called LoCon.
    Lora(LoraFactors),
}

impl Factors {
    /// The two factors and the scale of the plain form `dW = scale * up x down`, on `device` and in the stored element type; a
    /// core is contracted into `down`, in float32.
    ///
    /// # Shapes
    /// `down` `[r, in]` or `[r, in, k, k]`, `up` `[out, r]` or `[out, r, 1, 1]`.
    /// # Errors
    /// [`crate::Error::Tensors`] when the device has no memory left.
    pub fn lora(&self, device: &Device) -> Result<(Tensor, Tensor, f64)> {
        let Self::Lora(factors) = self;
        let down = factors.down_with_core()?.to_device(device)?;
        Ok((down, factors.up.to_device(device)?, factors.scale()))
    }

    /// The rank of the change.
    pub fn rank(&self) -> usize {
        let Self::Lora(factors) = self;
        factors.rank()
    }

    /// Alpha, where the file has one.
    pub fn alpha(&self) -> Option<f64> {
        let Self::Lora(factors) = self;
        factors.alpha
    }

    /// Whether the layer is a convolution with a kernel larger than 1x1.
    pub fn is_convolution(&self) -> bool {
        let Self::Lora(factors) = self;
        let shape = factors.mid.as_ref().unwrap_or(&factors.down).dims();
        shape[2..].iter().any(|side| *side > 1)
    }
}

/// LoRA's factors (arXiv 2106.09685) as stored: `dW = (alpha / r) * up x down`, for convolutions with `down` as
/// `[r, in * k * k]`. With a core (LyCORIS' LoCon with Tucker decomposition)
/// `dW[o, c, a, b] = (alpha / r) * sum over i, j of up[o, i] * mid[i, j, a, b] * down[j, c]`.
#[derive(Debug, Clone)]
pub struct LoraFactors {
    /// `lora_down`, `lora_A`: `[r, in]`, for convolutions `[r, in, k, k]`, with a core `[r, in, 1, 1]`.
    pub down: Tensor,
    /// `lora_up`, `lora_B`: `[out, r]`, for convolutions `[out, r, 1, 1]`.
    pub up: Tensor,
    /// `lora_mid`: `[r, r, k, k]`.
    pub mid: Option<Tensor>,
    /// Finite and not zero; without it the scale is 1.
    pub alpha: Option<f64>,
}

impl LoraFactors {
    /// Rows of `down`.
    pub fn rank(&self) -> usize {
        self.down.dims()[0]
    }

    /// `alpha / r`, or 1 without alpha.
    pub fn scale(&self) -> f64 {
        self.alpha.map_or(1.0, |alpha| alpha / self.rank() as f64)
    }

    /// `down`, with the core contracted into it (then in float32): exact at the same rank.
    ///
    /// # Errors
    /// [`crate::Error::Tensors`] when the device has no memory left.
    pub fn down_with_core(&self) -> Result<Tensor> {
        let Some(mid) = &self.mid else { return Ok(self.down.clone()) };
        let (rank, _, height, width) = mid.dims4()?;
        let inputs = self.down.dims()[1];
        // [i, a, b, j] times [j, c] is [i, a, b, c].
        let core = mid.to_dtype(DType::F32)?.permute((0, 2, 3, 1))?.contiguous()?.reshape((rank * height * width, rank))?;
        let down = self.down.to_dtype(DType::F32)?.reshape((rank, inputs))?;
        let contracted = core.matmul(&down)?.reshape((rank, height, width, inputs))?;
        Ok(contracted.permute((0, 3, 1, 2))?.contiguous()?)
    }
}
