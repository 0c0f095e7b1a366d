//! LoRA (Hu et al., arXiv 2106.09685) on linear layers and convolutions: `dW = up down`.
//!
//! Mirrors kohya's `networks/lora.py` `LoRAModule`, peft's `lora.Linear` and `lora.Conv2d`, and LyCORIS' `LoConModule`: for a
//! convolution `down` has the layer's kernel, stride and padding, and `up` is 1x1. With a core (LyCORIS, `use_tucker`) the kernel is
//! the core's: `dW[o, c, a, b] = sum over i, j of up[o, i] mid[i, j, a, b] down[j, c]`.

use candle_core::{DType, Tensor};

use super::core_product::{core_product, matrix};
use super::rebuilt::Application;
use super::{LayerKind, Part};
use crate::Result;
use crate::ops::Padding;

/// LoRA's factors. The tensors may be variables (in training) or plain.
#[derive(Clone, Debug)]
pub struct Lora {
    /// `[r, c_in]`, for a convolution `[r, c_in, k, k]`, with a core `[r, c_in, 1, 1]`.
    pub down: Tensor,
    /// `[c_out, r]`, for a convolution `[c_out, r, 1, 1]`.
    pub up: Tensor,
    /// `[r, r, k, k]`.
    pub mid: Option<Tensor>,
}

impl Lora {
    /// The rank: rows of `down`.
    pub fn rank(&self) -> usize {
        self.down.dims()[0]
    }

    /// `up down`, float32, `[c_out, c_in * k * k]`.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn product(&self) -> Result<Tensor> {
        let (up, down) = (matrix(&self.up)?, matrix(&self.down)?);
        match &self.mid {
            None => Ok(up.matmul(&down)?),
            Some(mid) => core_product(&up.t()?.contiguous()?, mid, &down),
        }
    }

    /// `down` with the core contracted into it (then in float32): exact at the same rank.
    ///
    /// # Shapes
    /// `[r, c_in]` or `[r, c_in, k, k]`.
    /// # Errors
    /// When the shapes disagree.
    pub fn down_with_core(&self) -> Result<Tensor> {
        let Some(mid) = &self.mid else { return Ok(self.down.clone()) };
        let (rank, inner, height, width) = mid.dims4()?;
        let inputs = self.down.dims()[1];
        // [i, a, b, j] times [j, c] is [i, a, b, c].
        let core = mid.to_dtype(DType::F32)?.permute((0, 2, 3, 1))?.contiguous()?.reshape((rank * height * width, inner))?;
        let contracted = core.matmul(&matrix(&self.down)?)?.reshape((rank, height, width, inputs))?;
        Ok(contracted.permute((0, 3, 1, 2))?.contiguous()?)
    }

    /// The term `up(mid(down(x)))`, without scale. `inner` changes the output of `down` (dropout), `up` is the factor to use for `up`.
    pub(super) fn term(
        &self,
        x: &Tensor,
        application: Application,
        up: &Tensor,
        inner: impl FnOnce(Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let cast = |factor: &Tensor| factor.to_dtype(x.dtype());
        let pointwise = application.pointwise();
        let down = cast(&self.down)?;
        let hidden = match &self.mid {
            None => application.apply(x, &down)?,
            Some(mid) => application.apply(&pointwise.apply(x, &down)?, &cast(mid)?)?,
        };
        pointwise.apply(&inner(hidden)?, &cast(up)?)
    }

    pub(super) fn parts(&self) -> Vec<(Part, &Tensor)> {
        let factors = [(Part::Down, Some(&self.down)), (Part::Up, Some(&self.up)), (Part::Mid, self.mid.as_ref())];
        factors.into_iter().filter_map(|(part, tensor)| Some((part, tensor?))).collect()
    }

    pub(super) fn map(&self, change: &mut impl FnMut(Part, &Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self {
            down: change(Part::Down, &self.down)?,
            up: change(Part::Up, &self.up)?,
            mid: self.mid.as_ref().map(|mid| change(Part::Mid, mid)).transpose()?,
        })
    }

    /// The factors in the shapes that a layer of `kind` computes with; published files keep those of 1x1 convolutions and linear
    /// layers in each other's shape.
    pub(super) fn fitted(&self, kind: LayerKind) -> Result<Self, String> {
        let (mut down, up) = kind.lora_shapes(self.rank());
        let mut mid = None;
        if let (Some(core), LayerKind::Conv2d { kernel, .. }) = (&self.mid, kind) {
            down[2..].fill(1);
            mid = Some(fit("mid", core, &[self.rank(), self.rank(), kernel, kernel])?);
        } else if self.mid.is_some() {
            return Err("has a core, which linear layers do not take".into());
        }
        Ok(Self { down: fit("down", &self.down, &down)?, up: fit("up", &self.up, &up)?, mid })
    }
}

/// `tensor` in `shape`, where both differ in sizes of one alone.
pub(super) fn fit(name: &str, tensor: &Tensor, shape: &[usize]) -> Result<Tensor, String> {
    if tensor.dims() == shape {
        return Ok(tensor.clone());
    }
    let plain = |dims: &[usize]| dims.iter().copied().filter(|&d| d != 1).collect::<Vec<_>>();
    if plain(tensor.dims()) == plain(shape) {
        return tensor.reshape(shape).map_err(|error| error.to_string());
    }
    Err(format!("`{name}` has shape {:?}, this layer needs {shape:?}", tensor.dims()))
}

/// How convolutions pad around 1x1 kernels: not at all.
pub(super) const NO_PADDING: Padding = Padding { top: 0, bottom: 0, left: 0, right: 0 };
