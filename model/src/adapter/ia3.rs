//! IA3 (Liu et al., arXiv 2205.05638): a vector scales a layer's inputs or outputs, `W' = W * (1 + v)`.
//!
//! Mirrors LyCORIS 4.1 `IA3Module`.

use candle_core::{DType, Tensor};

use super::Part;
use crate::Result;

/// IA3's vector.
#[derive(Clone, Debug)]
pub struct Ia3 {
    /// As many numbers as the layer has inputs or outputs, in any shape.
    pub weight: Tensor,
    /// Whether inputs are scaled; outputs otherwise.
    pub on_input: bool,
}

impl Ia3 {
    /// The change of a base weight, float32, `[c_out, c_in * k * k]`.
    ///
    /// # Errors
    /// When the base has another number of inputs or outputs.
    pub fn product(&self, base: &Tensor) -> Result<Tensor> {
        let base = base.to_dtype(DType::F32)?;
        let (outputs, inputs) = (base.dims()[0], base.dims()[1]);
        let vector = self.weight.to_dtype(DType::F32)?;
        let vector = vector.reshape(if self.on_input { (1, inputs, 1) } else { (outputs, 1, 1) })?;
        Ok(base.reshape((outputs, inputs, ()))?.broadcast_mul(&vector)?.flatten_from(1)?)
    }

    pub(super) fn map(&self, change: &mut impl FnMut(Part, &Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self { weight: change(Part::ScaleVector, &self.weight)?, on_input: self.on_input })
    }
}
