//! One layer of an adapter file: which family its components are of, and what goes with any family.

use super::peft_config::Scales;
use crate::adapter::component::{ALPHA, BIAS_DIFFERENCE};
use crate::adapter::decorators::dora;
use crate::adapter::families::{DOWN, REGISTRY, Row};
use crate::adapter::stored_layer::StoredLayer;
use crate::adapter::{Adapter, Factors};
use crate::error::{AdapterCause, Result};
use crate::model_family::LayerKind;

/// More elements than any layer's weight has: SD1.5's largest has 29.5 million. A Kronecker product of small factors may claim more
/// than memory holds.
const LARGEST_WEIGHT: usize = 1 << 26;

/// Reads and checks a layer.
pub(super) fn read(layer: &StoredLayer, scales: &Scales) -> Result<Adapter> {
    let row = family(layer)?;
    if row.on_norms != (layer.kind == LayerKind::Norm) {
        let key = row.components.iter().find_map(|component| layer.key(*component)).unwrap_or(layer.path);
        let found = if row.on_norms { "no norm" } else { "a norm" };
        return Err(layer.wrong(key, AdapterCause::LayerKind { family: row.name, layer: layer.path.to_owned(), found }));
    }
    let factors = (row.read)(layer)?;
    let changed = factors.weight_shape(None).unwrap_or_default();
    let elements = changed.iter().try_fold(1usize, |count, size| count.checked_mul(*size));
    if elements.is_none_or(|count| count > LARGEST_WEIGHT) {
        return Err(layer.wrong(layer.any_key(), AdapterCause::TooLarge { found: changed }));
    }
    let alpha = alpha(layer, &factors, scales)?;
    let bias = layer.key(BIAS_DIFFERENCE).map(|key| layer.vector(key)).transpose()?;
    if let (Some(key), Some(_)) = (layer.key(BIAS_DIFFERENCE), factors.bias_change()) {
        return Err(layer.wrong(key, AdapterCause::TwoBiases { family: row.name }));
    }
    let magnitude = layer.key(dora::MAGNITUDE).map(|key| dora::read(layer, key)).transpose()?;
    if let (Some(key), false) = (layer.key(dora::MAGNITUDE), row.takes_magnitudes) {
        return Err(layer.wrong(key, AdapterCause::Magnitude { family: row.name }));
    }
    Ok(Adapter { alpha, bias, magnitude, ..factors.into() })
}

/// The family of which the layer has components.
fn family(layer: &StoredLayer) -> Result<&'static Row> {
    let mut found: Option<(&Row, &str)> = None;
    for row in REGISTRY {
        let Some(key) = row.components.iter().find_map(|component| layer.key(*component)) else { continue };
        if let Some((other, other_key)) = found {
            let (family, other_family) = (row.name, other.name);
            return Err(layer.wrong(key, AdapterCause::TwoFamilies { family, other: other_key.to_owned(), other_family }));
        }
        found = Some((row, key));
    }
    match (found, layer.key(BIAS_DIFFERENCE)) {
        (Some((row, _)), _) => Ok(row),
        (None, Some(key)) => Err(layer.wrong(key, AdapterCause::PartnerMissing { component: "diff".to_owned() })),
        (None, None) => Err(layer.wrong(layer.any_key(), AdapterCause::NoFactors)),
    }
}

fn alpha(layer: &StoredLayer, factors: &Factors, scales: &Scales) -> Result<Option<f64>> {
    let stored = layer.key(ALPHA);
    let Some(rank) = factors.rank() else {
        // Alpha is no scale here; programs store whatever they like.
        return stored.map(|key| layer.scalar(key)).transpose().map(|alpha| alpha.filter(|a| a.is_finite()));
    };
    let (alpha, key) = match stored {
        Some(key) => (Some(layer.scalar(key)?), key),
        // What stands beside the tensors is the scale of a LoRA.
        None => match layer.keys.get(&DOWN) {
            Some((key, scheme)) => (scales.alpha(*scheme, layer.network, layer.path, rank)?, key.as_str()),
            None => (None, layer.path),
        },
    };
    if let Some(alpha) = alpha
        && (!alpha.is_finite() || alpha == 0.0)
    {
        let cause = if alpha == 0.0 { AdapterCause::ZeroAlpha } else { AdapterCause::Alpha { found: alpha } };
        return Err(layer.wrong(key, cause));
    }
    Ok(alpha)
}
