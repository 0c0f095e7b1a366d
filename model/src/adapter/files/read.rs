//! From named tensors to adapters, with every check that needs no base model.

use super::AdapterFile;
use super::key::{self, AdapterKey, Scheme};
use super::layer::LayerParts;
use super::peft_config::Scales;
use crate::adapter::Part;
use crate::error::{Error, Result};
use crate::formats::WeightFile;
use crate::model_family::{Network, layer_kind};
use crate::weights::kind;
use crate::weights::kind::ModelKind;
use std::collections::{BTreeMap, BTreeSet};

/// What to do about keys that are not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownKeys {
    /// They are an error that lists them.
    Refuse,
    /// They are listed in [`AdapterFile::unknown_keys`] and otherwise left alone.
    Collect,
}

/// The keys of one layer's parts, and the spelling of each.
pub(super) type Layer = BTreeMap<Part, (String, Scheme)>;

/// An adapter's keys, sorted by layer.
#[derive(Default)]
struct Sorted {
    layers: BTreeMap<(Network, String), Layer>,
    schemes: BTreeSet<Scheme>,
    unknown: Vec<String>,
}

pub(super) fn read(file: &WeightFile, unknown_keys: UnknownKeys) -> Result<AdapterFile> {
    let sorted = sort_keys(file)?;
    if sorted.layers.is_empty() {
        return Err(kind::no_adapter(file));
    }
    if !sorted.unknown.is_empty() && unknown_keys == UnknownKeys::Refuse {
        return Err(kind::unknown_keys(file, &sorted.unknown));
    }
    let scales = Scales::of(file, &sorted.schemes)?;
    let mut entries = BTreeMap::new();
    for ((network, path), layer) in &sorted.layers {
        // Every path in an adapter file came out of the table of layers.
        let Some(kind) = layer_kind(*network, path) else { continue };
        let parts = LayerParts { file, network: *network, path, kind, layer };
        entries.insert((*network, path.clone()), parts.read(&scales)?);
    }
    Ok(AdapterFile {
        path: file.path().to_owned(),
        entries,
        metadata: file.metadata().clone(),
        schemes: sorted.schemes,
        unknown_keys: sorted.unknown,
    })
}

/// Sorts the file's keys by layer and part.
fn sort_keys(file: &WeightFile) -> Result<Sorted> {
    let mut sorted = Sorted::default();
    if let ModelKind::Refused(what) = kind::model_kind(file) {
        return Err(kind::refused(file, what));
    }
    for key in file.names().chain(file.not_tensors().map(|(key, _)| key)) {
        match key::parse(key) {
            AdapterKey::Part { scheme, network, path, part } => {
                sorted.schemes.insert(scheme);
                let layer = sorted.layers.entry((network, path.clone())).or_default();
                if let Some((other, _)) = layer.insert(part, (key.to_owned(), scheme)) {
                    let problem = format!("and `{other}` are both the same part of layer `{path}` of the {network}");
                    return Err(Error::tensor(file.path(), key, problem));
                }
            }
            AdapterKey::OtherType(name) => {
                let known = "LoRA, LoCon, LoHa, LoKr, DoRA, IA3 and full differences";
                let problem = format!("belongs to an adapter of type {name}; supported are {known}");
                return Err(Error::tensor(file.path(), key, problem));
            }
            AdapterKey::Refused(what) => return Err(kind::refused(file, what)),
            AdapterKey::Unknown => sorted.unknown.push(key.to_owned()),
        }
    }
    Ok(sorted)
}
