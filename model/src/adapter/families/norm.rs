//! Trained norms: differences of scale and shift of group and layer normalizations.
//!
//! Mirrors LyCORIS 4.1 `NormModule` (`train_norm`). They have no rank and no LoRA form.

use candle_core::{DType, Tensor};

use crate::Result;
use crate::adapter::LayerShape;
use crate::adapter::component::Component;
use crate::adapter::family::{Change, Family};
use crate::adapter::stored_layer::StoredLayer;
use crate::adapter::training::Training;
use crate::error::AdapterMisfit;

/// Differences of a normalization's parameters.
#[derive(Clone, Debug)]
pub struct Norm {
    /// Of the scale, `[c]`.
    pub weight: Tensor,
    /// Of the shift, `[c]`.
    pub bias: Option<Tensor>,
}

/// The difference of the scale.
const WEIGHT: Component = Component::named("w_norm");
/// The difference of the shift.
const BIAS: Component = Component::named("b_norm");

impl Family for Norm {
    const NAME: &'static str = "trained norm";
    const COMPONENTS: &'static [Component] = &[WEIGHT, BIAS];
    const SCALED: &'static [Component] = &[];
    const METADATA: &'static str = "norm";
    const ON_NORMS: bool = true;
    const TAKES_MAGNITUDES: bool = false;
    const TRAINING: Option<&'static Training> = None;

    fn read(layer: &StoredLayer) -> Result<Self> {
        let key = layer.needed(WEIGHT, BIAS)?;
        let weight = layer.vector(key)?;
        let bias = match layer.key(BIAS) {
            Some(bias_key) => {
                let bias = layer.vector(bias_key)?;
                layer.agree((bias_key, &bias), 0, (key, &weight), 0)?;
                Some(bias)
            }
            None => None,
        };
        Ok(Self { weight, bias })
    }

    fn rank(&self) -> Option<usize> {
        None
    }

    fn product(&self, _base: &Tensor) -> Result<Tensor> {
        Ok(self.weight.to_dtype(DType::F32)?)
    }

    fn components(&self) -> Vec<(Component, &Tensor)> {
        [Some((WEIGHT, &self.weight)), self.bias.as_ref().map(|bias| (BIAS, bias))].into_iter().flatten().collect()
    }

    fn map(&self, change: &mut Change) -> Result<Self> {
        let weight = change(WEIGHT, &self.weight)?;
        Ok(Self { weight, bias: self.bias.as_ref().map(|bias| change(BIAS, bias)).transpose()? })
    }

    fn bias_change(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    fn weight_shape(&self) -> Option<Vec<usize>> {
        Some(self.weight.dims().to_vec())
    }

    fn check(&self, weight: &[usize]) -> Result<(), AdapterMisfit> {
        if weight == self.weight.dims() {
            return Ok(());
        }
        Err(AdapterMisfit::Weight { expected: self.weight.dims().to_vec(), found: weight.to_vec() })
    }

    fn fitted(&self, _kind: LayerShape) -> Result<Self, AdapterMisfit> {
        Ok(self.clone())
    }

    fn as_product(&self, _base: &Tensor, _most: usize) -> Result<Option<(Tensor, Tensor)>> {
        Ok(None)
    }
}
