//! One layer's adapter: its family's factors, its scale, and what it adds to the layer.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::component::{BIAS_DIFFERENCE, Component};
use super::decorators::Dropout;
use super::decorators::dora::{self, decompose, per_input};
use super::family::ThinTerm;
use super::rebuilt::{self, Application};
use super::{Factors, LayerShape, Lora};
use crate::Result;
use crate::error::AdapterMisfit;
use crate::ops::Padding;

/// The adapter of one layer. In a file it has strength 1 and tensors as stored; in a layer its tensors may be variables.
///
/// It changes the weight by `strength * scale * product`. With magnitudes (DoRA) it moves the weight `W` by `strength` of the way to
/// `W'`: other programs disagree on what strengths other than 0 and 1 mean there.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// What the change is made of.
    pub factors: Factors,
    /// Over the rank, the scale of the change; finite, and not zero where there is a rank. Without it the scale is 1.
    pub alpha: Option<f64>,
    /// DoRA's magnitudes: `[c_out, 1(, 1, 1)]`, or `[1, c_in(, 1, 1)]` where norms are those of inputs.
    pub magnitude: Option<Tensor>,
    /// A change of the bias, `[c_out]`; it is not scaled.
    pub bias: Option<Tensor>,
    /// How much of the change is used.
    pub strength: f64,
    /// In training.
    pub dropout: Option<Arc<Dropout>>,
}

impl From<Factors> for Adapter {
    fn from(factors: Factors) -> Self {
        Self { factors, alpha: None, magnitude: None, bias: None, strength: 1.0, dropout: None }
    }
}

impl Adapter {
    /// A plain LoRA with `scale = alpha / r`.
    pub fn lora(down: Tensor, up: Tensor, scale: f64) -> Self {
        let lora = Lora { down, up, mid: None };
        let alpha = Some(scale * lora.rank() as f64);
        Self { alpha, ..Factors::Lora(lora).into() }
    }

    /// `alpha / r`; 1 without alpha, and for families in which alpha means nothing.
    pub fn scale(&self) -> f64 {
        match (self.alpha, self.factors.rank()) {
            (Some(alpha), Some(rank)) => alpha / rank as f64,
            _ => 1.0,
        }
    }

    /// The family's name, `DoRA` with magnitudes.
    pub fn family(&self) -> String {
        match &self.magnitude {
            Some(_) => format!("{} with DoRA", self.factors.family()),
            None => self.factors.family().to_owned(),
        }
    }

    /// The factors of a plain LoRA, one without core, magnitudes and bias; `None` for anything else.
    pub fn as_plain_lora(&self) -> Option<&Lora> {
        match &self.factors {
            Factors::Lora(lora) if lora.mid.is_none() && self.magnitude.is_none() && self.bias.is_none() => Some(lora),
            _ => None,
        }
    }

    /// `down`, `up` and the whole scale of a term on a linear layer that is nothing but `scale * x down^T up^T`, float32 on a CPU;
    /// `None` for anything else.
    pub(crate) fn as_plain_term(&self, x: &Tensor) -> Option<(&Tensor, &Tensor, f64)> {
        let lora = self.as_plain_lora().filter(|_| self.dropout.is_none())?;
        let fits = |tensor: &Tensor| tensor.dtype() == DType::F32 && tensor.device().is_cpu() && tensor.rank() == 2;
        [x.dtype() == DType::F32 && x.device().is_cpu(), fits(&lora.down), fits(&lora.up)]
            .into_iter()
            .all(|fits| fits)
            .then(|| (&lora.down, &lora.up, self.scale() * self.strength))
    }

    /// Whether the change can only be told beside the base model's weight.
    pub fn needs_base(&self) -> bool {
        self.magnitude.is_some() || self.factors.needs_base()
    }

    /// The adapter at `strength` times its strength.
    pub fn scaled(&self, strength: f64) -> Self {
        Self { strength: self.strength * strength, ..self.clone() }
    }

    /// The change of the layer's bias, at this strength.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn bias_change(&self) -> Result<Option<Tensor>> {
        Ok(match self.bias.as_ref().or(self.factors.bias_change()) {
            Some(bias) => Some((bias * self.strength)?),
            None => None,
        })
    }

    /// The stored tensors, without alpha.
    pub fn components(&self) -> Vec<(Component, &Tensor)> {
        let mut components = self.factors.components();
        components.extend(self.bias.as_ref().map(|bias| (BIAS_DIFFERENCE, bias)));
        components.extend(self.magnitude.as_ref().map(|magnitude| (dora::MAGNITUDE, magnitude)));
        components
    }

    /// The same with every tensor replaced, in the order of [`Adapter::components`].
    ///
    /// # Errors
    /// Those of `change`.
    pub fn map(&self, mut change: impl FnMut(Component, &Tensor) -> Result<Tensor>) -> Result<Self> {
        let factors = self.factors.map(&mut change)?;
        let bias = self.bias.as_ref().map(|bias| change(BIAS_DIFFERENCE, bias)).transpose()?;
        let magnitude = self.magnitude.as_ref().map(|magnitude| change(dora::MAGNITUDE, magnitude)).transpose()?;
        Ok(Self { factors, bias, magnitude, ..self.clone() })
    }

    /// The adapter on `device`.
    ///
    /// # Errors
    /// When there is no memory there.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        self.map(|_, tensor| Ok(tensor.to_device(device)?))
    }

    /// The change of a base weight, float32, of the weight's shape.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn delta(&self, weight: &Tensor) -> Result<Tensor> {
        Ok(self.change(&weight.detach(), None)?.reshape(weight.shape())?)
    }

    /// The change `[c_out, c_in * k * k]`, with a mask over rows of the product.
    fn change(&self, weight: &Tensor, rows: Option<&Tensor>) -> Result<Tensor> {
        let mut product = (self.factors.product(weight)? * self.scale())?;
        if let Some(rows) = rows {
            product = product.broadcast_mul(&rows.to_dtype(DType::F32)?)?;
        }
        let change = match &self.magnitude {
            None => product,
            Some(magnitude) => {
                let inputs = weight.dims()[1];
                let weight = weight.to_dtype(DType::F32)?.flatten_from(1)?;
                (decompose(&(&weight + product)?, magnitude, inputs)? - weight)?
            }
        };
        Ok(if self.strength == 1.0 { change } else { (change * self.strength)? })
    }

    /// What the adapter adds to a linear layer's output; `None` when dropout leaves it out.
    ///
    /// # Shapes
    /// `x` `[.., c_in]`, `weight` the layer's; returns `[.., c_out]`.
    /// # Errors
    /// When the shapes disagree.
    pub fn linear(&self, x: &Tensor, weight: &Tensor) -> Result<Option<Tensor>> {
        self.term(x, weight, Application::Linear)
    }

    /// What the adapter adds to a convolution's output; `None` when dropout leaves it out.
    ///
    /// # Shapes
    /// `x` `[b, c_in, h, w]`, `weight` the layer's; returns `[b, c_out, h', w']`.
    /// # Errors
    /// When the shapes disagree.
    pub fn conv2d(&self, x: &Tensor, weight: &Tensor, stride: usize, padding: Padding) -> Result<Option<Tensor>> {
        self.term(x, weight, Application::Conv2d { stride, padding })
    }

    fn term(&self, x: &Tensor, weight: &Tensor, application: Application) -> Result<Option<Tensor>> {
        if self.dropout.as_ref().is_some_and(|dropout| dropout.skips()) {
            return Ok(None);
        }
        let rows = match (&self.dropout, self.factors.components().first()) {
            (Some(dropout), Some((_, like))) => dropout.rows(like, weight.dims()[0])?,
            _ => None,
        };
        let inner = |hidden: Tensor| {
            let hidden = match &self.dropout {
                Some(dropout) => dropout.inner(hidden, application.channels_first())?,
                None => hidden,
            };
            // The scale goes onto the thin inner product, which is smaller than the output.
            Ok((hidden * (self.scale() * self.strength))?)
        };
        let thin = match &self.magnitude {
            None => self.factors.thin_term(&ThinTerm { x, application, rows: rows.as_ref(), inner: &inner })?,
            Some(_) => None,
        };
        let mut term = match thin {
            Some(term) => term,
            None => self.rebuilt_term(x, weight, application, rows)?,
        };
        if let Some(bias) = self.bias.as_ref().or(self.factors.bias_change()) {
            let bias = (bias.to_dtype(x.dtype())? * self.strength)?;
            let bias = if application.channels_first() { bias.reshape((1, (), 1, 1))? } else { bias };
            term = term.broadcast_add(&bias)?;
        }
        Ok(Some(term))
    }

    /// Through the rebuilt change of the weight.
    fn rebuilt_term(&self, x: &Tensor, weight: &Tensor, application: Application, rows: Option<Tensor>) -> Result<Tensor> {
        let tensors: Vec<Tensor> = self.components().into_iter().map(|(_, tensor)| tensor.clone()).collect();
        let (this, weight) = (self.map(|_, tensor| Ok(tensor.detach()))?, weight.clone());
        rebuilt::term(x, &tensors, application, move |tensors| {
            let mut next = tensors.iter();
            // As many as there are components, so the fallback is never used.
            let this = this.map(|_, old| Ok(next.next().unwrap_or(old).clone()))?;
            Ok(this.change(&weight, rows.as_ref())?.reshape(weight.shape())?)
        })
    }

    /// Whether the adapter fits a layer with a weight of this shape.
    ///
    /// # Errors
    /// What it expects of the layer, and what the layer has.
    pub fn check(&self, weight: &[usize]) -> Result<(), AdapterMisfit> {
        if let Some(magnitude) = &self.magnitude {
            let expected = weight.get(usize::from(per_input(magnitude))).copied().unwrap_or(0);
            if magnitude.elem_count() != expected {
                return Err(AdapterMisfit::Magnitude { expected, found: magnitude.dims().to_vec() });
            }
        }
        let expected = weight.first().copied().unwrap_or(0);
        if let Some(bias) = self.bias.as_ref().filter(|bias| bias.dims() != [expected]) {
            return Err(AdapterMisfit::Bias { expected, found: bias.dims().to_vec() });
        }
        self.factors.check(weight)
    }

    /// The adapter in the shapes that a layer of `kind` computes with.
    pub(crate) fn fitted(&self, kind: LayerShape) -> Result<Self, AdapterMisfit> {
        self.check(&kind.weight_shape())?;
        Ok(Self { factors: self.factors.fitted(kind)?, ..self.clone() })
    }
}
