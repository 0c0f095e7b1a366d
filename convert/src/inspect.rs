//! `convert inspect`: what a file is.

use crate::adapters::{families, summary};
use driftless::Result;
use driftless::adapter::AdapterFile;
use driftless::adapter::files::{UnknownKeys, is_adapter};
use driftless::formats::WeightFile;
use driftless::model_family::recognition::{ModelKind, model_kind, of_adapter, of_shapes};
use driftless::model_family::sd15;
use driftless::weights::{LdmCheckpoint, UnetWeights};
use driftless_cli::escape::one_line;
use driftless_cli::{Console, output};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Looks at the file and prints what it is.
pub fn run(path: &Path, as_json: bool, console: &Console) -> Result<()> {
    let file = Arc::new(WeightFile::open(path)?);
    let found = describe(&file)?;
    if as_json {
        output::print_json(&Value::Object(found));
        return Ok(());
    }
    let mut lines = Vec::new();
    for (name, value) in &found {
        match value {
            Value::Null | Value::Array(_) if name == "keys" => {}
            Value::String(text) => lines.push(format!("{name}: {}", one_line(text))),
            Value::Object(entries) => {
                lines.push(format!("{name}:"));
                for (key, value) in entries {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    let short: String = text.chars().take(200).collect();
                    lines.push(format!("  {}: {}", one_line(key), one_line(&short)));
                }
            }
            value => lines.push(format!("{name}: {value}")),
        }
    }
    if console.logging().verbose {
        lines.extend(file.names().map(|key| format!("  {}", one_line(key))));
    }
    lines.iter().for_each(|line| output::print(&format!("{line}\n")));
    Ok(())
}

/// All that is known of the file.
fn describe(file: &Arc<WeightFile>) -> Result<Map<String, Value>> {
    let kind = model_kind(file);
    let mut found = Map::new();
    found.insert("file".into(), file.path().display().to_string().into());
    let (name, description, family) = match kind {
        ModelKind::LdmCheckpoint(family) => ("checkpoint", kind.to_string(), Some(family)),
        // An autoencoder or a text encoder alone does not tell; the default family's have the same names.
        ModelKind::Component(network) => (network.name(), kind.to_string(), Some(of_shapes(file).unwrap_or(&sd15::FAMILY))),
        ModelKind::Unknown if is_adapter(file) => ("adapter", "an adapter".into(), Some(of_adapter(file))),
        ModelKind::Refused(_) => ("unsupported", kind.to_string(), None),
        ModelKind::Empty => ("empty", kind.to_string(), None),
        ModelKind::Unknown => ("unknown", kind.to_string(), None),
    };
    found.insert("kind".into(), name.into());
    found.insert("description".into(), description.into());
    found.insert("architecture".into(), family.map_or(Value::Null, |family| family.architecture.into()));
    found.insert("container".into(), file.format().to_string().into());
    match kind {
        ModelKind::Unknown if name == "adapter" => describe_adapter(file, &mut found),
        ModelKind::LdmCheckpoint(_) => {
            found.insert("format".into(), "LDM".into());
            let checkpoint = LdmCheckpoint::from_weights(file.clone(), UnetWeights::Trained)?;
            let count = |component: &driftless::weights::Component| component.names().len();
            let (unet, vae, text_encoder) = (count(&checkpoint.unet), count(&checkpoint.vae), count(&checkpoint.text_encoder));
            found.insert("weights".into(), json!({ "unet": unet, "vae": vae, "text_encoder": text_encoder }));
            found.insert("left_out".into(), checkpoint.dropped.len().into());
            found.insert("not_understood".into(), json!(checkpoint.unknown));
        }
        ModelKind::Component(_) => {
            found.insert("format".into(), "diffusers".into());
        }
        ModelKind::Refused(_) | ModelKind::Empty | ModelKind::Unknown => {}
    }
    let mut dtypes: BTreeMap<String, usize> = BTreeMap::new();
    let mut keys = Vec::new();
    for name in file.names() {
        if let Some(info) = file.info(name) {
            *dtypes.entry(format!("{:?}", info.dtype)).or_default() += 1;
            keys.push(json!({ "name": name, "dtype": format!("{:?}", info.dtype), "shape": info.shape }));
        }
    }
    found.insert("tensors".into(), keys.len().into());
    found.insert("dtypes".into(), json!(dtypes));
    found.insert("metadata".into(), json!(file.metadata()));
    found.insert("keys".into(), Value::Array(keys));
    Ok(found)
}

/// Adds what an adapter is; one that cannot be converted says why.
fn describe_adapter(file: &WeightFile, found: &mut Map<String, Value>) {
    let adapter = match AdapterFile::from_weights(file, UnknownKeys::Collect) {
        Ok(adapter) => adapter,
        Err(error) => {
            found.insert("problem".into(), error.to_string().into());
            return;
        }
    };
    let schemes: Vec<String> = adapter.schemes.iter().map(ToString::to_string).collect();
    let ranks: BTreeSet<usize> = adapter.entries.values().filter_map(|layer| layer.factors.rank()).collect();
    let mut alphas: Vec<f64> = adapter.entries.values().filter_map(|layer| layer.alpha).collect();
    alphas.sort_by(f64::total_cmp);
    alphas.dedup();
    found.insert("format".into(), schemes.join(", ").into());
    found.insert("type".into(), families(&adapter).join(", ").into());
    found.insert("layers".into(), summary(&adapter).into());
    found.insert("rank".into(), one_or_all(ranks.into_iter().map(Value::from).collect()));
    found.insert("alpha".into(), one_or_all(alphas.into_iter().map(Value::from).collect()));
    found.insert("not_understood".into(), json!(adapter.unknown_keys));
}

/// The one value, or all of several, or null for none.
fn one_or_all(mut values: Vec<Value>) -> Value {
    match values.len() {
        0 => Value::Null,
        1 => values.remove(0),
        _ => Value::Array(values),
    }
}
