//! `convert inspect`: what a file or a folder is.
//!
//! What is found is one JSON object, which `--json` prints whole and [`tell`] puts into words.

mod adapter;
mod tell;

use crate::adapters::{families, summary};
use driftless::adapter::AdapterFile;
use driftless::adapter::files::{self, UnknownKeys, is_adapter};
use driftless::formats::{WeightFile, read_config};
use driftless::model_family::recognition::{ModelKind, model_kind, of_shapes};
use driftless::model_family::{Network, sd15};
use driftless::weights::{Component, LdmCheckpoint, ModelWeights, UnetWeights};
use driftless::{Error, Result};
use driftless_cli::{Console, output};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Describes the file or folder on standard output.
pub fn run(path: &Path, as_json: bool, console: &Console) -> Result<()> {
    let found = look(path)?;
    if as_json {
        output::print_json(&Value::Object(found));
    } else {
        tell::tell(&found, console.logging().verbose);
    }
    Ok(())
}

/// All that is known of a file or folder.
fn look(path: &Path) -> Result<Map<String, Value>> {
    if !path.is_dir() {
        return describe(&Arc::new(WeightFile::open(path)?));
    }
    if path.join("model_index.json").is_file() {
        return pipeline(path);
    }
    let adapter = match files::files_at(path) {
        Ok(files) => return adapter_folder(path, &files),
        Err(error) => error,
    };
    match network_of_folder(path)? {
        Some(network) => describe(Component::open(network, path, false)?.file()),
        None if path.join("unet").is_dir() => pipeline(path),
        None => Err(adapter),
    }
}

/// The network whose weights are in the folder; a ControlNet's have the names of a UNet's.
fn network_of_folder(path: &Path) -> Result<Option<Network>> {
    let entries = std::fs::read_dir(path).map_err(Error::io(path))?;
    let names: Vec<String> = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    let has = |stem: &str| names.iter().any(|name| name.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.')));
    let networks = [Network::Unet, Network::TextEncoder];
    Ok(networks.into_iter().find(|network| has(network.stem()) || has(network.pickle_stem())))
}

/// A pipeline, network by network.
fn pipeline(path: &Path) -> Result<Map<String, Value>> {
    let model = ModelWeights::open_folder(path)?;
    let family = model.family();
    let (mut sum, mut networks) = (Contents::default(), Map::new());
    for network in Network::PIPELINE.into_iter().filter(|network| model.has(*network)) {
        let component = model.component(network, false)?;
        let mut own = Contents::default();
        own.add(component.file());
        let names =
            json!({ "file": component.file().path().display().to_string(), "container": component.file().format().to_string() });
        let Value::Object(mut entry) = names else { continue };
        entry.extend(own.counts());
        networks.insert(network.name().to_owned(), Value::Object(entry));
        sum.add(component.file());
    }
    let mut found = head(path, "pipeline", format!("a {family} pipeline in diffusers' layout"), Some(family.architecture));
    found.insert("container".into(), "folder".into());
    found.insert("format".into(), "diffusers".into());
    found.insert("networks".into(), Value::Object(networks));
    sum.finish(&mut found, &BTreeMap::new());
    Ok(found)
}

/// An adapter's folder, or a training state.
fn adapter_folder(path: &Path, files: &[std::path::PathBuf]) -> Result<Map<String, Value>> {
    let files: Vec<WeightFile> = files.iter().map(WeightFile::open).collect::<Result<_>>()?;
    let mut contents = Contents::default();
    files.iter().for_each(|file| contents.add(file));
    let record = path.join("state.json");
    let (kind, description) = if record.is_file() { ("state", "a state of a training run") } else { ("adapter", "an adapter") };
    let read = AdapterFile::open_at(path, UnknownKeys::Collect);
    let architecture = read.as_ref().ok().map(|adapter| adapter.family.architecture);
    let mut found = head(path, kind, description.to_owned(), architecture);
    found.insert("container".into(), "folder".into());
    found.insert("files".into(), files.iter().map(|file| file.path().display().to_string()).collect());
    if record.is_file() {
        let record: Value = read_config(&record)?;
        for name in ["epoch", "step"] {
            found.insert(name.to_owned(), record[name].clone());
        }
    }
    let metadata = read.as_ref().map(|adapter| adapter.metadata.clone()).unwrap_or_default();
    describe_adapter(read, &mut found);
    contents.finish(&mut found, &metadata);
    Ok(found)
}

/// The first entries of what is found.
fn head(path: &Path, kind: &str, description: String, architecture: Option<&str>) -> Map<String, Value> {
    let mut found = Map::new();
    found.insert("file".into(), path.display().to_string().into());
    found.insert("kind".into(), kind.into());
    found.insert("description".into(), description.into());
    found.insert("architecture".into(), architecture.map_or(Value::Null, Value::from));
    found
}

/// All that is known of a file.
fn describe(file: &Arc<WeightFile>) -> Result<Map<String, Value>> {
    let kind = model_kind(file);
    let is_adapter = kind == ModelKind::Unknown && is_adapter(file);
    let read = is_adapter.then(|| AdapterFile::from_weights(file, UnknownKeys::Collect));
    let (name, description, family) = match kind {
        ModelKind::LdmCheckpoint(family) => ("checkpoint", kind.to_string(), Some(family)),
        // An autoencoder or a text encoder alone does not tell; the default family's have the same names.
        ModelKind::Component(network) => (network.name(), kind.to_string(), Some(of_shapes(file).unwrap_or(&sd15::FAMILY))),
        ModelKind::Unknown if is_adapter => {
            let family = read.as_ref().and_then(|read| read.as_ref().ok()).map(|adapter| adapter.family);
            ("adapter", "an adapter".into(), Some(family.unwrap_or(&sd15::FAMILY)))
        }
        ModelKind::Refused(_) => ("unsupported", kind.to_string(), None),
        ModelKind::Empty => ("empty", kind.to_string(), None),
        ModelKind::Unknown => ("unknown", kind.to_string(), None),
    };
    let mut found = head(file.path(), name, description, family.map(|family| family.architecture));
    found.insert("container".into(), file.format().to_string().into());
    if let Some(read) = read {
        describe_adapter(read, &mut found);
    }
    match kind {
        ModelKind::LdmCheckpoint(_) => {
            found.insert("format".into(), "LDM".into());
            let checkpoint = LdmCheckpoint::from_weights(file.clone(), UnetWeights::Trained)?;
            let count = |component: &Component| component.names().len();
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
    let mut contents = Contents::default();
    contents.add(file);
    contents.finish(&mut found, file.metadata());
    Ok(found)
}

/// Adds what an adapter is; one that cannot be converted says why.
fn describe_adapter(read: Result<AdapterFile>, found: &mut Map<String, Value>) {
    match read {
        Ok(adapter) => {
            let schemes: Vec<String> = adapter.schemes.iter().map(ToString::to_string).collect();
            found.insert("format".into(), schemes.join(", ").into());
            found.insert("type".into(), families(&adapter).join(", ").into());
            found.insert("layers".into(), summary(&adapter).into());
            found.extend(adapter::numbers(&adapter));
            found.insert("not_understood".into(), json!(adapter.unknown_keys));
        }
        Err(error) => {
            found.insert("problem".into(), error.to_string().into());
        }
    }
}

/// The tensors of some files.
#[derive(Default)]
struct Contents {
    parameters: u64,
    bytes: u64,
    dtypes: BTreeMap<String, usize>,
    keys: Vec<Value>,
}

impl Contents {
    fn add(&mut self, file: &WeightFile) {
        for (name, info) in file.names().filter_map(|name| Some((name, file.info(name)?))) {
            // The file holds them, so the products fit.
            let count = info.shape.iter().map(|size| *size as u64).product::<u64>();
            let dtype = format!("{:?}", info.dtype);
            self.parameters += count;
            self.bytes += count * info.dtype.bitsize() as u64 / 8;
            self.keys.push(json!({ "name": name, "dtype": dtype, "shape": info.shape }));
            *self.dtypes.entry(dtype).or_default() += 1;
        }
    }

    /// Numbers of tensors, parameters and bytes, and the element types.
    fn counts(&self) -> Map<String, Value> {
        let counts =
            json!({ "tensors": self.keys.len(), "parameters": self.parameters, "bytes": self.bytes, "dtypes": self.dtypes });
        if let Value::Object(counts) = counts { counts } else { Map::new() }
    }

    /// Adds what was counted, the metadata and the keys.
    fn finish(self, found: &mut Map<String, Value>, metadata: &BTreeMap<String, String>) {
        found.extend(self.counts());
        let tags = adapter::tags(metadata);
        if !tags.is_empty() {
            found.insert("tags".into(), tags.into_iter().map(|(tag, count)| json!({ "tag": tag, "count": count })).collect());
        }
        found.insert("metadata".into(), json!(metadata));
        found.insert("keys".into(), Value::Array(self.keys));
    }
}
