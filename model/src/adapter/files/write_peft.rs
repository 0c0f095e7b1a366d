//! PEFT's format: a folder for each network, with each layer's own rank and alpha in `adapter_config.json`.

use super::metadata::without_network_entries;
use super::peft_config::CONFIG_FILE;
use super::{AdapterFile, Entries, Network};
use crate::adapter::decorators::dora::per_input;
use crate::adapter::{Adapter, Factors, Lora};
use crate::error::{AdapterCause, Error, Result};
use crate::formats::cast;
use crate::formats::write_safetensors;
use crate::formats::{AtomicFolder, write_atomically};
use candle_core::DType;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// The weight file's customary name.
const WEIGHT_NAME: &str = "adapter_model.safetensors";

impl AdapterFile {
    /// Writes PEFT's format: `folder/unet` and `folder/text_encoder` (those that the adapter changes), each with
    /// `adapter_model.safetensors` and `adapter_config.json`, as `PeftModel.from_pretrained` loads them. Nothing or an empty
    /// folder may stand at `folder`.
    ///
    /// # Errors
    /// [`Error::File`] when something stands there, [`Error::Tensor`] for a number that `dtype` cannot hold, [`Error::Io`] when
    /// a file cannot be written; no folder is left then.
    pub fn write_peft(
        folder: impl AsRef<Path>,
        entries: &Entries,
        metadata: &BTreeMap<String, String>,
        dtype: Option<DType>,
    ) -> Result<()> {
        let staging = AtomicFolder::create(folder)?;
        for network in [Network::Unet, Network::TextEncoder] {
            let of_network = entries.iter().filter(|((n, _), _)| *n == network);
            let layers: Layers = of_network.map(|((_, path), adapter)| (path.as_str(), adapter)).collect();
            if layers.is_empty() {
                continue;
            }
            let folder = staging.path().join(network.name());
            if let Some(layer) = peft_misfit(&layers) {
                let cause = AdapterCause::NotInPeft { found: layers[layer].family() };
                return Err(Error::tensor(&folder, layer, cause));
            }
            std::fs::create_dir(&folder).map_err(Error::io(&folder))?;
            write_weights(&folder.join(WEIGHT_NAME), &layers, metadata, dtype)?;
            let config = serde_json::to_string_pretty(&config(&layers)).unwrap_or_default();
            write_atomically(folder.join(CONFIG_FILE), |file| file.write_bytes(config.as_bytes()))?;
        }
        staging.commit()
    }
}

/// Whether PEFT's folders hold these adapters as they are: LoRA throughout, and in each network DoRA's magnitudes per output on all
/// layers or on none.
pub fn fits_peft(entries: &Entries) -> bool {
    [Network::Unet, Network::TextEncoder].into_iter().all(|network| {
        let of_network = entries.iter().filter(|((n, _), _)| *n == network);
        peft_misfit(&of_network.map(|((_, path), adapter)| (path.as_str(), adapter)).collect()).is_none()
    })
}

/// Layers of one network by path.
type Layers<'a> = BTreeMap<&'a str, &'a Adapter>;

/// A layer that a `LoraConfig` cannot hold together with the others: PEFT has LoRA, with DoRA's magnitudes per output on all of a
/// network's layers or on none.
fn peft_misfit<'a>(layers: &Layers<'a>) -> Option<&'a str> {
    let dora = layers.values().next().is_some_and(|adapter| adapter.magnitude.is_some());
    let fits = |adapter: &Adapter| {
        let magnitude = adapter.magnitude.as_ref();
        matches!(adapter.factors, Factors::Lora(_))
            && adapter.bias.is_none()
            && magnitude.is_some() == dora
            && !magnitude.is_some_and(per_input)
    };
    layers.iter().find(|(_, adapter)| !fits(adapter)).map(|(path, _)| *path)
}

/// The LoRA that [`peft_misfit`] found the layer to be.
fn lora_of(adapter: &Adapter) -> Option<&Lora> {
    match &adapter.factors {
        Factors::Lora(lora) => Some(lora),
        _ => None,
    }
}

fn write_weights(path: &Path, layers: &Layers, metadata: &BTreeMap<String, String>, dtype: Option<DType>) -> Result<()> {
    let mut tensors = BTreeMap::new();
    for (layer, adapter) in layers {
        let Some(lora) = lora_of(adapter) else { continue };
        let (down, up) = (lora.down.dtype(), lora.up.dtype());
        let mut components = vec![("lora_A.weight", lora.down_with_core()?, down), ("lora_B.weight", lora.up.clone(), up)];
        if let Some(magnitude) = &adapter.magnitude {
            let count = magnitude.elem_count();
            let shape = if lora.down.dims().len() == 4 { vec![1, count, 1, 1] } else { vec![count] };
            components.push(("lora_magnitude_vector", magnitude.reshape(shape)?, magnitude.dtype()));
        }
        for (component, tensor, stored) in components {
            let key = format!("base_model.model.{layer}.{component}");
            let tensor = cast(&tensor, dtype.unwrap_or(stored)).map_err(|cause| Error::tensor(path, &key, cause))?;
            tensors.insert(key, tensor);
        }
    }
    write_safetensors(path, tensors, &without_network_entries(metadata))
}

/// The configuration: the most frequent rank and alpha for all, the others layer by layer.
fn config(layers: &Layers) -> Value {
    let rank = |adapter: &Adapter| number(adapter.factors.rank().unwrap_or(1) as f64);
    let alpha = |adapter: &Adapter| adapter.alpha.map_or_else(|| rank(adapter), number);
    let r = most_frequent(layers.values().map(|adapter| rank(adapter)));
    let lora_alpha = most_frequent(layers.values().map(|adapter| alpha(adapter)));
    // Keys are whole module paths, which peft matches at the end of a path: no path of SD1.5's networks ends in another whole one.
    let exceptions = |of: &dyn Fn(&Adapter) -> Value, usual: &Value| -> Map<String, Value> {
        layers.iter().map(|(path, adapter)| ((*path).to_owned(), of(adapter))).filter(|(_, value)| value != usual).collect()
    };
    json!({
        "peft_type": "LORA",
        "task_type": null,
        "base_model_name_or_path": null,
        "inference_mode": true,
        "r": r,
        "lora_alpha": lora_alpha,
        "rank_pattern": exceptions(&rank, &r),
        "alpha_pattern": exceptions(&alpha, &lora_alpha),
        "target_modules": layers.keys().collect::<Vec<_>>(),
        "modules_to_save": null,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": false,
        "use_rslora": false,
        "use_dora": layers.values().any(|adapter| adapter.magnitude.is_some()),
    })
}

/// A whole number without a fraction, as PEFT writes ranks.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}

/// The value that occurs most often; the first of several.
fn most_frequent(values: impl Iterator<Item = Value>) -> Value {
    let mut counts: Vec<(Value, usize)> = Vec::new();
    for value in values {
        match counts.iter_mut().find(|(seen, _)| *seen == value) {
            Some((_, count)) => *count += 1,
            None => counts.push((value, 1)),
        }
    }
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map_or(Value::Null, |(value, _)| value)
}
