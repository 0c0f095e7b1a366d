//! The families of adapters, behind one type.

use candle_core::{DType, Tensor};

use super::{Ia3, LayerKind, Loha, Lokr, Lora, Part};
use crate::Result;

/// The matrices that one layer's change is made of.
#[derive(Clone, Debug)]
pub enum Factors {
    /// LoRA; on convolutions also called LoCon.
    Lora(Lora),
    /// LoHa.
    Loha(Loha),
    /// LoKr.
    Lokr(Lokr),
    /// The difference itself: `diff` (LyCORIS' `full`, kohya's full fine-tuning deltas), of the weight's shape.
    Full(Tensor),
    /// IA3.
    Ia3(Ia3),
}

impl Factors {
    /// The family's name.
    pub fn family(&self) -> &'static str {
        match self {
            Self::Lora(lora) if lora.down.dims().get(2).is_some_and(|k| *k > 1) || lora.mid.is_some() => "LoCon",
            Self::Lora(_) => "LoRA",
            Self::Loha(_) => "LoHa",
            Self::Lokr(_) => "LoKr",
            Self::Full(_) => "full difference",
            Self::Ia3(_) => "IA3",
        }
    }

    /// The rank that alpha is divided by; `None` where alpha means nothing.
    pub fn rank(&self) -> Option<usize> {
        match self {
            Self::Lora(lora) => Some(lora.rank()),
            Self::Loha(loha) => Some(loha.rank()),
            Self::Lokr(lokr) => lokr.rank(),
            Self::Full(_) | Self::Ia3(_) => None,
        }
    }

    /// The change of the weight before it is scaled, float32, `[c_out, c_in * k * k]`; IA3's depends on the `base` weight.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn product(&self, base: &Tensor) -> Result<Tensor> {
        match self {
            Self::Lora(lora) => lora.product(),
            Self::Loha(loha) => loha.product(),
            Self::Lokr(lokr) => lokr.product(),
            Self::Full(difference) => Ok(difference.to_dtype(DType::F32)?.flatten_from(1)?),
            Self::Ia3(ia3) => ia3.product(base),
        }
    }

    /// The stored tensors, by part.
    pub fn parts(&self) -> Vec<(Part, &Tensor)> {
        match self {
            Self::Lora(lora) => lora.parts(),
            Self::Loha(loha) => loha.parts(),
            Self::Lokr(lokr) => lokr.parts(),
            Self::Full(difference) => vec![(Part::Difference, difference)],
            Self::Ia3(ia3) => vec![(Part::ScaleVector, &ia3.weight)],
        }
    }

    /// The same with every tensor replaced, in the order of [`Factors::parts`].
    ///
    /// # Errors
    /// Those of `change`.
    pub fn map(&self, change: &mut impl FnMut(Part, &Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(match self {
            Self::Lora(lora) => Self::Lora(lora.map(change)?),
            Self::Loha(loha) => Self::Loha(loha.map(change)?),
            Self::Lokr(lokr) => Self::Lokr(lokr.map(change)?),
            Self::Full(difference) => Self::Full(change(Part::Difference, difference)?),
            Self::Ia3(ia3) => Self::Ia3(ia3.map(change)?),
        })
    }

    /// The shape of the weight that is changed, as far as the factors tell: on convolutions (`kernel` set) four sizes, of which the
    /// kernel's are taken to be `kernel` where the factors hold it as a part of the inputs. `None` when that does not divide, and for
    /// IA3.
    pub fn weight_shape(&self, kernel: Option<usize>) -> Option<Vec<usize>> {
        let shape = match self {
            Self::Lora(lora) => {
                let whole = lora.mid.as_ref().unwrap_or(&lora.down);
                [&[lora.up.dims()[0], lora.down.dims()[1]], whole.dims().get(2..).unwrap_or_default()].concat()
            }
            Self::Loha(loha) => loha.change_shape(),
            Self::Lokr(lokr) => lokr.change_shape(),
            Self::Full(difference) => difference.dims().to_vec(),
            Self::Ia3(_) => return None,
        };
        match (kernel, shape.as_slice()) {
            (Some(kernel), [outputs, inputs]) => {
                let area = kernel.checked_mul(kernel).filter(|area| *area > 0 && inputs.is_multiple_of(*area))?;
                Some(vec![*outputs, inputs / area, kernel, kernel])
            }
            _ => Some(shape),
        }
    }

    /// Whether the change fits a weight of this shape; in words what it would fit.
    ///
    /// # Errors
    /// The problem, in words.
    pub fn check(&self, weight: &[usize]) -> Result<(), String> {
        let unit = |shape: &[usize]| shape.strip_suffix(&[1, 1]).filter(|rest| rest.len() == 2).unwrap_or(shape).to_vec();
        if let Self::Ia3(ia3) = self {
            let (axis, name) = if ia3.on_input { (1, "inputs") } else { (0, "outputs") };
            let count = ia3.weight.elem_count();
            if weight.get(axis) == Some(&count) {
                return Ok(());
            }
            return Err(format!("scales {count} {name}, the weight has shape {weight:?}"));
        }
        let change = self.weight_shape(None).unwrap_or_default();
        let (mut change, weight) = (unit(&change), unit(weight));
        let flat: usize = weight.iter().skip(1).product();
        if !matches!(self, Self::Lora(_) | Self::Full(_)) && change.len() == 2 && weight.len() == 4 && change[1] == flat {
            // Where no core holds the kernel, it is part of the matrix.
            change.clone_from(&weight);
        }
        if change == weight { Ok(()) } else { Err(format!("changes a weight of shape {change:?}, the layer's has {weight:?}")) }
    }

    /// The factors in the shapes that a layer of `kind` computes with.
    pub(super) fn fitted(&self, kind: LayerKind) -> Result<Self, String> {
        match self {
            Self::Lora(lora) => Ok(Self::Lora(lora.fitted(kind)?)),
            other => Ok(other.clone()),
        }
    }
}
