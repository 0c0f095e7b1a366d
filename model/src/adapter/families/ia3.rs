//! IA3 (Liu et al., arXiv 2205.05638): a vector scales a layer's inputs or outputs, `W' = W * (1 + v)`.
//!
//! Mirrors LyCORIS 4.1 `IA3Module`.

use candle_core::{DType, Tensor};

use crate::Result;
use crate::adapter::LayerShape;
use crate::adapter::component::Component;
use crate::adapter::family::{Change, Family, fits_axis};
use crate::adapter::stored_layer::StoredLayer;
use crate::adapter::training::Training;
use crate::error::AdapterMisfit;

/// IA3's vector.
#[derive(Clone, Debug)]
pub struct Ia3 {
    /// As many numbers as the layer has inputs or outputs, in any shape.
    pub weight: Tensor,
    /// Whether inputs are scaled; outputs otherwise.
    pub on_input: bool,
}

/// The vector.
const WEIGHT: Component = Component::named("weight");
/// Whether it scales inputs.
const ON_INPUT: Component = Component::named("on_input");

impl Family for Ia3 {
    const NAME: &'static str = "IA3";
    const COMPONENTS: &'static [Component] = &[WEIGHT, ON_INPUT];
    const SCALED: &'static [Component] = &[];
    const METADATA: &'static str = "ia3";
    const TAKES_MAGNITUDES: bool = false;
    const TRAINING: Option<&'static Training> = None;

    fn read(layer: &StoredLayer) -> Result<Self> {
        let key = layer.needed(WEIGHT, ON_INPUT)?;
        let on_input = layer.needed(ON_INPUT, WEIGHT)?;
        Ok(Self { weight: layer.numbers(key)?, on_input: layer.scalar(on_input)? != 0.0 })
    }

    fn rank(&self) -> Option<usize> {
        None
    }

    fn needs_base(&self) -> bool {
        true
    }

    fn product(&self, base: &Tensor) -> Result<Tensor> {
        let base = base.to_dtype(DType::F32)?;
        let (outputs, inputs) = (base.dims()[0], base.dims()[1]);
        let vector = self.weight.to_dtype(DType::F32)?;
        let vector = vector.reshape(if self.on_input { (1, inputs, 1) } else { (outputs, 1, 1) })?;
        Ok(base.reshape((outputs, inputs, ()))?.broadcast_mul(&vector)?.flatten_from(1)?)
    }

    fn components(&self) -> Vec<(Component, &Tensor)> {
        vec![(WEIGHT, &self.weight)]
    }

    fn map(&self, change: &mut Change) -> Result<Self> {
        Ok(Self { weight: change(WEIGHT, &self.weight)?, on_input: self.on_input })
    }

    fn flags(&self) -> Vec<(Component, i64)> {
        vec![(ON_INPUT, i64::from(self.on_input))]
    }

    fn weight_shape(&self) -> Option<Vec<usize>> {
        None
    }

    fn check(&self, weight: &[usize]) -> Result<(), AdapterMisfit> {
        fits_axis(Self::NAME, "scales", self.weight.elem_count(), usize::from(self.on_input), weight)
    }

    fn fitted(&self, _kind: LayerShape) -> Result<Self, AdapterMisfit> {
        Ok(self.clone())
    }

    fn as_product(&self, _base: &Tensor, _most: usize) -> Result<Option<(Tensor, Tensor)>> {
        Ok(None)
    }
}
