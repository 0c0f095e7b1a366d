//! LoRA (Hu et al., arXiv 2106.09685) on linear layers and convolutions: `delta W = scale * up down`, `scale = alpha / r`.
//!
//! Mirrors kohya's `networks/lora.py` `LoRAModule` and peft's `lora.Linear`/`lora.Conv2d`: for a convolution `down` has the layer's
//! kernel, stride and padding, and `up` is 1x1. Initialisation is kohya's: `down` uniform (Kaiming, a = sqrt 5), `up` zero.

use candle_core::{DType, Device, Tensor, Var};

use super::LayerKind;
use crate::ops::{self, Padding};
use crate::rng::Generator;
use crate::{Error, Result};

/// One layer's LoRA matrices. The tensors may be [`Var`]s (in training) or plain (in use).
#[derive(Clone, Debug)]
pub struct Lora {
    /// `[r, c_in]`, or `[r, c_in, kernel, kernel]` for a convolution.
    pub down: Tensor,
    /// `[c_out, r]`, or `[c_out, r, 1, 1]` for a convolution.
    pub up: Tensor,
    /// What the product is multiplied with: `alpha / r`, times the strength asked for.
    pub scale: f64,
}

/// A [`Lora`] in training: the two variables and the layer they belong to.
#[derive(Clone, Debug)]
pub struct TrainableLora {
    /// `down` as a variable.
    pub down: Var,
    /// `up` as a variable.
    pub up: Var,
    /// See [`Lora::scale`].
    pub scale: f64,
}

impl TrainableLora {
    /// A fresh adapter that changes nothing yet: `down` uniform in plus/minus `1 / sqrt(fan_in)`, `up` zero.
    ///
    /// # Errors
    /// When the device has no memory for the matrices.
    pub fn init(kind: LayerKind, rank: usize, alpha: f64, generator: &mut Generator, device: &Device) -> Result<Self> {
        let (down_shape, up_shape) = kind.lora_shapes(rank);
        let fan_in: usize = down_shape[1..].iter().product();
        let bound = 1.0 / (fan_in as f32).sqrt();
        let uniform: Vec<f32> = generator.rand(&down_shape).into_iter().map(|u| (2.0 * u - 1.0) * bound).collect();
        let down = Tensor::from_vec(uniform, down_shape, device)?;
        Ok(Self { down: Var::from_tensor(&down)?, up: Var::zeros(up_shape, DType::F32, device)?, scale: alpha / rank as f64 })
    }

    /// The adapter that a layer computes with; it shares the variables.
    pub fn lora(&self) -> Lora {
        Lora { down: self.down.as_tensor().clone(), up: self.up.as_tensor().clone(), scale: self.scale }
    }
}

impl Lora {
    /// The rank: rows of `down`.
    pub fn rank(&self) -> usize {
        self.down.dims()[0]
    }

    /// LoRA's term for a linear layer, `scale * (x down^T) up^T`.
    ///
    /// # Shapes
    /// `x` `[.., c_in]`; returns `[.., c_out]`.
    /// # Errors
    /// When the shapes disagree.
    pub fn linear(&self, x: &Tensor) -> Result<Tensor> {
        let inner = ops::linear_trainable(x, &cast(&self.down, x)?)?;
        // The scale goes onto the thin inner product, which is smaller than the output.
        let inner = (inner * self.scale)?;
        ops::linear_trainable(&inner, &cast(&self.up, x)?)
    }

    /// LoRA's term for a convolution: `scale * up(down(x))`, `down` with the layer's stride and padding.
    ///
    /// # Shapes
    /// `x` `[b, c_in, h, w]`; returns `[b, c_out, h', w']`.
    /// # Errors
    /// When the shapes disagree.
    pub fn conv2d(&self, x: &Tensor, stride: usize, padding: Padding) -> Result<Tensor> {
        let inner = ops::conv2d_trainable(x, &cast(&self.down, x)?, stride, padding)?;
        let inner = (inner * self.scale)?;
        ops::conv2d_trainable(&inner, &cast(&self.up, x)?, 1, Padding::same(0))
    }

    /// The change of the layer's weight, float32, `[c_out, c_in * kernel * kernel]`.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn delta(&self) -> Result<Tensor> {
        let rank = self.rank();
        let up = self.up.detach().to_dtype(DType::F32)?.reshape(((), rank))?;
        let down = self.down.detach().to_dtype(DType::F32)?.reshape((rank, ()))?;
        Ok((up.matmul(&down)? * self.scale)?)
    }

    /// The same adapter at another strength.
    pub fn scaled(&self, strength: f64) -> Self {
        Self { scale: self.scale * strength, ..self.clone() }
    }

    /// The adapter with its matrices in the shapes that a layer of `kind` computes with; published files keep the factors of 1x1
    /// convolutions and linear layers in each other's shape.
    pub(crate) fn fitted(mut self, kind: LayerKind) -> Result<Self, String> {
        let rank = self.rank();
        let (down, up) = kind.lora_shapes(rank);
        let fit = |name: &str, tensor: &Tensor, shape: &[usize]| -> Result<Tensor, String> {
            if tensor.dims() == shape {
                return Ok(tensor.clone());
            }
            let plain = |dims: &[usize]| dims.iter().copied().filter(|&d| d != 1).collect::<Vec<_>>();
            if plain(tensor.dims()) == plain(shape) {
                return tensor.reshape(shape).map_err(|error| error.to_string());
            }
            Err(format!("`{name}` has shape {:?}, this layer needs {shape:?}", tensor.dims()))
        };
        self.down = fit("down", &self.down, &down)?;
        self.up = fit("up", &self.up, &up)?;
        Ok(self)
    }
}

/// Adapters stay float32 while they train; a half-precision network sees them rounded (and the gradient goes back in float32).
fn cast(matrix: &Tensor, x: &Tensor) -> Result<Tensor> {
    if matrix.dtype() == x.dtype() { Ok(matrix.clone()) } else { matrix.to_dtype(x.dtype()).map_err(Error::from) }
}
