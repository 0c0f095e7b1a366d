//! Plain LoRA in place of any family, for programs that know no other.
//!
//! | family | as LoRA |
//! | --- | --- |
//! | LoRA with a core | exact at its own rank |
//! | LoHa | exact at rank r * r |
//! | LoKr | exact at the product of its factors' ranks |
//! | full difference, IA3, DoRA | the rank of the change, which is found |
//!
//! Where a family's exact rank is above the smaller side of the weight, or above the rank that was asked for, the change itself is
//! decomposed; cut to a rank, the result is the best there is of that rank, and its error is told.

use candle_core::{DType, Tensor};

use super::low_rank::Spectrum;
use super::{Adapter, Factors, Lora};
use crate::error::ArgumentCause;
use crate::{Error, Result};

/// A change counts as held exactly below this relative error: float32's own, over sums.
pub const EXACT: f64 = 1e-6;

/// A layer's adapter as plain LoRA.
#[derive(Clone, Debug)]
pub struct Plain {
    /// The LoRA; where it is another than the one given, float32 and of scale 1.
    pub adapter: Adapter,
    /// The Frobenius norm of what is missing from the change, over that of the change; 0 where nothing is.
    pub error: f64,
}

impl Adapter {
    /// This adapter as plain LoRA of at most `rank`, or exact without. `weight` is the layer's weight in the base model, or where the
    /// change does not depend on it, anything of its shape. A difference of the bias is left out: it is the caller's to tell.
    ///
    /// # Errors
    /// When the shapes disagree, or the change is one of a norm.
    pub fn to_plain(&self, weight: &Tensor, rank: Option<usize>) -> Result<Plain> {
        self.check(weight.dims()).map_err(|misfit| Error::argument("adapter", misfit))?;
        if self.factors.is_norm() {
            return Err(Error::argument("adapter", ArgumentCause::NormAsLora));
        }
        let smaller = weight.dims()[0].min(weight.elem_count() / weight.dims()[0].max(1));
        let most = rank.unwrap_or(usize::MAX).min(smaller).max(1);
        if let Factors::Lora(lora) = &self.factors
            && self.magnitude.is_none()
            && rank.is_none_or(|rank| lora.rank() <= rank)
        {
            let lora = Lora { down: lora.down_with_core()?, up: lora.up.clone(), mid: None };
            return Ok(Plain { adapter: Self { factors: Factors::Lora(lora), bias: None, ..self.clone() }, error: 0.0 });
        }
        if let Some((up, down)) = self.exact_product(weight, most)? {
            return Ok(Plain { adapter: lora_of((up * self.scale())?, down, weight.dims())?, error: 0.0 });
        }
        let spectrum = Spectrum::of(&self.delta(weight)?.flatten_from(1)?)?;
        let exact = spectrum.rank_within(EXACT).max(1);
        let rank = exact.min(most);
        let (up, down) = spectrum.factors(rank)?;
        let error = if rank < exact { spectrum.error(rank) } else { 0.0 };
        Ok(Plain { adapter: lora_of(up, down, weight.dims())?, error })
    }

    /// The change as one product, without scale, where the family's form shows one of at most this rank.
    fn exact_product(&self, weight: &Tensor, most: usize) -> Result<Option<(Tensor, Tensor)>> {
        if self.magnitude.is_some() || self.strength != 1.0 {
            return Ok(None);
        }
        self.factors.as_product(weight, most)
    }
}

/// `up down` as the LoRA of a layer with a weight of this shape, of scale 1.
///
/// # Shapes
/// `up` `[c_out, r]`, `down` `[r, c_in * k * k]`.
/// # Errors
/// When the shapes disagree.
pub fn lora_of(up: Tensor, down: Tensor, weight: &[usize]) -> Result<Adapter> {
    let rank = up.dims()[1];
    let (up, down) = match weight {
        [_, _] => (up, down),
        [outputs, rest @ ..] => (up.reshape((*outputs, rank, 1, 1))?, down.reshape([&[rank], rest].concat())?),
        [] => return Err(Error::argument("weight", ArgumentCause::Scalar)),
    };
    Ok(Adapter::lora(down.to_dtype(DType::F32)?, up.to_dtype(DType::F32)?, 1.0))
}
