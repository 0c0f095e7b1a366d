//! From named tensors to adapters, with every check that needs no base model.

use super::AdapterFile;
use super::key::{self, AdapterKey, Scheme};
use super::layer;
use super::nameless::{self, Named};
use super::peft_config::Scales;
use crate::adapter::families::{self, DOWN};
use crate::adapter::stored_layer::{Keys, StoredLayer};
use crate::error::{AdapterCause, Error, ModelFileCause, Result};
use crate::formats::{WeightFile, shown, unknown_keys_error};
use crate::model_family::recognition::{self, ModelKind};
use crate::model_family::{ModelFamily, Network, refused, sd15};
use std::collections::{BTreeMap, BTreeSet};

/// What to do about keys that are not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownKeys {
    /// They are an error that lists them.
    Refuse,
    /// They are listed in [`AdapterFile::unknown_keys`] and otherwise left alone.
    Collect,
}

/// An adapter's keys, sorted by layer.
#[derive(Default)]
struct Sorted {
    layers: BTreeMap<(Network, String), Keys>,
    schemes: BTreeSet<Scheme>,
    unknown: Vec<String>,
}

pub(super) fn read(file: &WeightFile, unknown_keys: UnknownKeys) -> Result<AdapterFile> {
    let sorted = sort_keys(file)?;
    if sorted.layers.is_empty() {
        return Err(no_adapter(file));
    }
    if !sorted.unknown.is_empty() && unknown_keys == UnknownKeys::Refuse {
        return Err(unknown_keys_error(file.path(), &sorted.unknown));
    }
    let family = family(file, &sorted);
    let scales = Scales::of(file, &sorted.schemes)?;
    let mut entries = BTreeMap::new();
    for ((network, path), keys) in &sorted.layers {
        // Every path in an adapter file came out of the table of layers.
        let Some(kind) = family.layer_kind(*network, path) else { continue };
        let stored = StoredLayer { file, network: *network, path, kind, keys };
        entries.insert((*network, path.clone()), layer::read(&stored, &scales)?);
    }
    Ok(AdapterFile {
        path: file.path().to_owned(),
        family,
        entries,
        metadata: file.metadata().clone(),
        schemes: sorted.schemes,
        unknown_keys: sorted.unknown,
    })
}

/// What the adapter is for: what its metadata and names say, or where there are none, the width of cross-attention's inputs.
fn family(file: &WeightFile, sorted: &Sorted) -> &'static ModelFamily {
    if !sorted.schemes.contains(&Scheme::Nameless) {
        return recognition::of_adapter(file);
    }
    let of_text = sorted.layers.iter().find(|((_, path), _)| path.ends_with("attn2.to_k")).and_then(|(_, keys)| keys.get(&DOWN));
    let width = of_text.and_then(|(key, _)| file.info(key)?.shape.get(1));
    recognition::of_text_width(width.copied()).unwrap_or(&sd15::FAMILY)
}

/// Sorts the file's keys by layer and component.
fn sort_keys(file: &WeightFile) -> Result<Sorted> {
    let mut sorted = Sorted::default();
    if let Some(kind) = refused::in_weights(file) {
        return Err(refused::error(file, kind));
    }
    if let Some((named, others)) = nameless::names(file)? {
        for Named { key, network, path, component } in named {
            sorted.layers.entry((network, path)).or_default().insert(component, (key, Scheme::Nameless));
        }
        return Ok(Sorted { schemes: BTreeSet::from([Scheme::Nameless]), unknown: others, ..sorted });
    }
    for key in file.names().chain(file.not_tensors().map(|(key, _)| key)) {
        match key::parse(key) {
            AdapterKey::Component { scheme, network, path, component } => {
                sorted.schemes.insert(scheme);
                let keys = sorted.layers.entry((network, path.clone())).or_default();
                if let Some((other, _)) = keys.insert(component, (key.to_owned(), scheme)) {
                    let cause = AdapterCause::TwoSpellings { other, layer: path, network: network.name() };
                    return Err(Error::tensor(file.path(), key, cause));
                }
            }
            AdapterKey::OtherType(name) => {
                let known: Vec<&str> = families::names().collect();
                let cause = AdapterCause::Type { found: name.to_string(), supported: known.join(", ") };
                return Err(Error::tensor(file.path(), key, cause));
            }
            AdapterKey::Refused(kind) => return Err(refused::error(file, kind)),
            AdapterKey::Unknown => sorted.unknown.push(key.to_owned()),
        }
    }
    Ok(sorted)
}

/// Whether the file has a key of an adapter, of a supported kind or not.
pub fn is_adapter(file: &WeightFile) -> bool {
    nameless::is_nameless(file)
        || file.names().any(|key| match key::parse(key) {
            AdapterKey::Component { .. } | AdapterKey::OtherType(_) => true,
            AdapterKey::Refused(_) | AdapterKey::Unknown => false,
        })
}

/// The error for a file without a key of an adapter.
fn no_adapter(file: &WeightFile) -> Error {
    let advice = "give a LoRA in kohya, diffusers or PEFT naming";
    match (recognition::model_kind(file), file.names().next()) {
        (ModelKind::Refused(kind), _) => refused::error(file, kind),
        (ModelKind::Unknown, Some(key)) => Error::file(file.path(), ModelFileCause::NoAdapterKey { first: shown(key) }, advice),
        (kind, _) => Error::file(file.path(), ModelFileCause::NotAnAdapter { kind: kind.to_string() }, advice),
    }
}
