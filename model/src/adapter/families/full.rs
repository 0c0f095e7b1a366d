//! The difference itself: LyCORIS' `full` (4.1 `FullModule`), kohya's differences of full fine-tuning.

use candle_core::{DType, Tensor};

use super::Factors;
use crate::Result;
use crate::adapter::LayerShape;
use crate::adapter::component::{BIAS_DIFFERENCE, Component};
use crate::adapter::family::{Change, Family, fits};
use crate::adapter::stored_layer::StoredLayer;
use crate::adapter::training::Training;
use crate::error::AdapterMisfit;

/// A difference of the layer's weight.
#[derive(Clone, Debug)]
pub struct Full {
    /// Of the weight's shape.
    pub difference: Tensor,
}

const DIFFERENCE: Component = Component::named("diff");

impl Family for Full {
    const NAME: &'static str = "full difference";
    const COMPONENTS: &'static [Component] = &[DIFFERENCE];
    const SCALED: &'static [Component] = &[];
    const METADATA: &'static str = "full";
    const TAKES_MAGNITUDES: bool = false;
    const TRAINING: Option<&'static Training> = Some(&Training {
        algorithms: &["full"],
        arguments: &[],
        has_scale: false,
        with_bias: true,
        takes_magnitudes: Self::TAKES_MAGNITUDES,
        first_values: |draw| Ok(Factors::Full(Self { difference: draw.zeros(&draw.kind.weight_shape())? })),
    });

    fn read(layer: &StoredLayer) -> Result<Self> {
        Ok(Self { difference: layer.weight(layer.needed(DIFFERENCE, BIAS_DIFFERENCE)?)? })
    }

    fn rank(&self) -> Option<usize> {
        None
    }

    fn product(&self, _base: &Tensor) -> Result<Tensor> {
        Ok(self.difference.to_dtype(DType::F32)?.flatten_from(1)?)
    }

    fn components(&self) -> Vec<(Component, &Tensor)> {
        vec![(DIFFERENCE, &self.difference)]
    }

    fn map(&self, change: &mut Change) -> Result<Self> {
        Ok(Self { difference: change(DIFFERENCE, &self.difference)? })
    }

    fn weight_shape(&self) -> Option<Vec<usize>> {
        Some(self.difference.dims().to_vec())
    }

    fn check(&self, weight: &[usize]) -> Result<(), AdapterMisfit> {
        fits(self.difference.dims(), weight)
    }

    fn fitted(&self, _kind: LayerShape) -> Result<Self, AdapterMisfit> {
        Ok(self.clone())
    }

    fn as_product(&self, _base: &Tensor, _most: usize) -> Result<Option<(Tensor, Tensor)>> {
        Ok(None)
    }
}
