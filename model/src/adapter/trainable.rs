//! Adapters in training: the variables behind them.

use candle_core::{DType, Device, Tensor, Var};

use super::component::Component;
use super::decorators::dora;
use super::training::{FirstValues, TrainableOptions};
use super::{Adapter, LayerShape};
use crate::error::ArgumentCause;
use crate::rng::Generator;
use crate::{Error, Result};

/// An adapter with its variables.
#[derive(Clone, Debug)]
pub struct Trainable {
    /// What a layer computes with; it shares the variables.
    pub adapter: Adapter,
    /// The trained tensors, float32.
    pub variables: Vec<(Component, Var)>,
}

impl Trainable {
    /// An adapter that changes nothing yet, for a layer with this weight, and a bias or none.
    ///
    /// # Errors
    /// When the layer is a norm, or the device has no memory for it.
    pub fn init(
        kind: LayerShape,
        weight: &Tensor,
        has_bias: bool,
        options: &TrainableOptions,
        generator: &mut Generator,
        device: &Device,
    ) -> Result<Self> {
        if let LayerShape::Norm { channels } = kind {
            return Err(Error::argument("adapter", ArgumentCause::NormTraining { channels }));
        }
        let (algorithm, rank) = (&options.algorithm, options.rank);
        let mut draw = FirstValues { kind, rank, options, generator, device };
        let factors = algorithm.first_values(&mut draw)?;
        // Where alpha means nothing, files hold the rank.
        let alpha = if factors.rank().is_some() { options.alpha } else { rank as f64 };
        let mut adapter = Adapter { alpha: algorithm.has_scale().then_some(alpha), ..factors.into() };
        if algorithm.with_bias() && has_bias {
            adapter.bias = Some(draw.zeros(&[kind.features().1])?);
        }
        if let Some(per_output) = options.dora.filter(|_| algorithm.takes_magnitudes()) {
            adapter.magnitude = Some(dora::magnitudes(&weight.to_device(device)?, per_output)?);
        }
        Self::of(&adapter)
    }

    /// An adapter whose tensors become variables.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn of(adapter: &Adapter) -> Result<Self> {
        let mut variables = Vec::new();
        let adapter = adapter.map(|component, tensor| {
            let variable = Var::from_tensor(&tensor.to_dtype(DType::F32)?.contiguous()?)?;
            variables.push((component, variable.clone()));
            Ok(variable.as_tensor().clone())
        })?;
        Ok(Self { adapter, variables })
    }
}
