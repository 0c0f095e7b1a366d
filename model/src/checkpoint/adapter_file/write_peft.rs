//! PEFT's format: a folder for each network, with each layer's own rank and alpha in `adapter_config.json`.

use super::super::atomic::{AtomicFolder, write_atomically};
use super::super::elements::cast;
use super::super::safetensors::write_safetensors;
use super::metadata::without_network_entries;
use super::peft_config::CONFIG_FILE;
use super::{AdapterFile, Factors, LoraFactors, Network};
use crate::error::{Error, Result};
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
        entries: &BTreeMap<(Network, String), Factors>,
        metadata: &BTreeMap<String, String>,
        dtype: Option<DType>,
    ) -> Result<()> {
        let staging = AtomicFolder::create(folder)?;
        for network in [Network::Unet, Network::TextEncoder] {
            let layers: BTreeMap<&str, &LoraFactors> = entries
                .iter()
                .filter(|((n, _), _)| *n == network)
                .map(|((_, path), Factors::Lora(lora))| (path.as_str(), lora))
                .collect();
            if layers.is_empty() {
                continue;
            }
            let folder = staging.path().join(network.name());
            std::fs::create_dir(&folder).map_err(Error::io(&folder))?;
            write_weights(&folder.join(WEIGHT_NAME), &layers, metadata, dtype)?;
            let config = serde_json::to_string_pretty(&config(&layers)).unwrap_or_default();
            write_atomically(folder.join(CONFIG_FILE), |file| file.write_bytes(config.as_bytes()))?;
        }
        staging.commit()
    }
}

fn write_weights(
    path: &Path,
    layers: &BTreeMap<&str, &LoraFactors>,
    metadata: &BTreeMap<String, String>,
    dtype: Option<DType>,
) -> Result<()> {
    let mut tensors = BTreeMap::new();
    for (layer, lora) in layers {
        let dtype = dtype.unwrap_or(lora.down.dtype());
        for (part, tensor) in [("lora_A", lora.down_with_core()?), ("lora_B", lora.up.clone())] {
            let key = format!("base_model.model.{layer}.{part}.weight");
            let tensor = cast(&tensor, dtype).map_err(|problem| Error::tensor(path, &key, problem))?;
            tensors.insert(key, tensor);
        }
    }
    write_safetensors(path, tensors, &without_network_entries(metadata))
}

/// The configuration: the most frequent rank and alpha for all, the others layer by layer.
fn config(layers: &BTreeMap<&str, &LoraFactors>) -> Value {
    let rank = |lora: &LoraFactors| number(lora.rank() as f64);
    let alpha = |lora: &LoraFactors| number(lora.alpha.unwrap_or(lora.rank() as f64));
    let r = most_frequent(layers.values().map(|lora| rank(lora)));
    let lora_alpha = most_frequent(layers.values().map(|lora| alpha(lora)));
    // Keys are whole module paths, which peft matches at the end of a path: no path of SD1.5's networks ends in another whole one.
    let exceptions = |of: &dyn Fn(&LoraFactors) -> Value, usual: &Value| -> Map<String, Value> {
        layers.iter().map(|(path, lora)| ((*path).to_owned(), of(lora))).filter(|(_, value)| value != usual).collect()
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
        "use_dora": false,
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
