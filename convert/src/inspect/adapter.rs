//! The numbers of an adapter: families, ranks, alphas, how large its changes are, and the tags of what it was trained on.

use candle_core::{DType, Device, Tensor};
use driftless::Result;
use driftless::adapter::{Adapter, AdapterFile};
use driftless::model_family::layer_kind;
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Counts of layers by family, rank and alpha, and the norms of the changes.
pub fn numbers(adapter: &AdapterFile) -> Map<String, Value> {
    let (mut families, mut ranks) = (BTreeMap::<String, usize>::new(), BTreeMap::<usize, usize>::new());
    let mut alphas: Vec<f64> = adapter.entries.values().filter_map(|layer| layer.alpha).collect();
    let mut networks = BTreeMap::<String, usize>::new();
    for ((network, _), layer) in &adapter.entries {
        *networks.entry(network.name().to_owned()).or_default() += 1;
        *families.entry(layer.family()).or_default() += 1;
        if let Some(rank) = layer.factors.rank() {
            *ranks.entry(rank).or_default() += 1;
        }
    }
    alphas.sort_by(f64::total_cmp);
    alphas.dedup();
    let distinct: BTreeSet<usize> = ranks.keys().copied().collect();
    let mut found = Map::new();
    found.insert("rank".into(), one_or_all(distinct.into_iter().map(Value::from).collect()));
    found.insert("alpha".into(), one_or_all(alphas.into_iter().map(Value::from).collect()));
    found.insert("layers_by_network".into(), json!(networks));
    found.insert("layers_by_family".into(), json!(families));
    let ranks: Vec<Value> = ranks.into_iter().map(|(rank, layers)| json!({ "rank": rank, "layers": layers })).collect();
    found.insert("layers_by_rank".into(), Value::Array(ranks));
    found.insert("norms".into(), norms(adapter));
    found
}

/// Mean and largest of the Frobenius norms of the changes of weights; null where all depend on the base.
fn norms(adapter: &AdapterFile) -> Value {
    let layers: Vec<_> = adapter.entries.iter().collect();
    let norms: Vec<(f64, String)> = layers
        .par_iter()
        .filter_map(|((network, path), layer)| {
            let kernel = layer_kind(*network, path).is_some_and(|kind| kind.is_convolution()).then_some(1);
            Some((norm(layer, kernel).ok()??, format!("{network}.{path}")))
        })
        .collect();
    let Some((largest, layer)) = norms.iter().max_by(|a, b| a.0.total_cmp(&b.0)) else { return Value::Null };
    let mean = norms.iter().map(|(norm, _)| norm).sum::<f64>() / norms.len() as f64;
    json!({ "layers": norms.len(), "mean": mean, "largest": largest, "layer": layer })
}

/// The Frobenius norm of a layer's change, with its scale; `None` where it depends on the base weight.
fn norm(layer: &Adapter, kernel: Option<usize>) -> Result<Option<f64>> {
    if layer.needs_base() {
        return Ok(None);
    }
    let square = match layer.as_plain_lora() {
        // |up down|^2 is the sum of the products of both Gram matrices, which are of the rank's size.
        Some(lora) => {
            let matrix = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.flatten_from(1);
            let (up, down) = (matrix(&lora.up)?, matrix(&lora.down)?);
            let of_up = up.t()?.contiguous()?.matmul(&up)?;
            let of_down = down.matmul(&down.t()?.contiguous()?)?;
            f64::from((of_up * of_down)?.sum_all()?.to_scalar::<f32>()?).max(0.0) * layer.scale().powi(2)
        }
        None => {
            let Some(shape) = layer.factors.weight_shape(kernel) else { return Ok(None) };
            let change = layer.delta(&Tensor::zeros(shape, DType::F32, &Device::Cpu)?)?;
            f64::from(change.sqr()?.sum_all()?.to_scalar::<f32>()?)
        }
    };
    Ok(Some(square.sqrt()))
}

/// The tags of the captions that an adapter was trained on, the most frequent first (kohya's `ss_tag_frequency`: a count for each tag of
/// each data set).
pub fn tags(metadata: &BTreeMap<String, String>) -> Vec<(String, u64)> {
    let sets: Map<String, Value> =
        metadata.get("ss_tag_frequency").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let mut counts = BTreeMap::<String, u64>::new();
    for (tag, count) in sets.values().filter_map(Value::as_object).flatten() {
        let total = counts.entry(tag.trim().to_owned()).or_default();
        *total = total.saturating_add(count.as_u64().unwrap_or(0));
    }
    let mut counts: Vec<(String, u64)> = counts.into_iter().filter(|(tag, _)| !tag.is_empty()).collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts
}

/// The one value, or all of several, or null for none.
fn one_or_all(mut values: Vec<Value>) -> Value {
    match values.len() {
        0 => Value::Null,
        1 => values.remove(0),
        _ => Value::Array(values),
    }
}
