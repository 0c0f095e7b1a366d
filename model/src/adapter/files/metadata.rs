//! The metadata of kohya files (sd-scripts `library/train_util.py`, `library/sai_model_spec.py`) and what becomes of it.

use super::peft_config::DIFFUSERS_ENTRY;
use super::{Entries, files_at};
use crate::error::{Error, ModelFileCause, Result};
use crate::formats::{Hashes, WeightFile, hash_tensors, shown};
use crate::model_family::{LayerKind, layer_kind};
use candle_core::Tensor;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The entry of an adapter that was trained on clean latents (`train --objective cleandift`): the timestep that the UNet was told, a number
/// between 0 and 999.
pub const CLEAN_TIMESTEP: &str = "ss_cleandift_timestep";

/// The timestep at which an adapter, a file or a folder, takes clean latents; `None` where it was not trained on such.
///
/// # Errors
/// When it cannot be read, or the entry is no number in that range.
pub fn clean_timestep(path: &Path) -> Result<Option<f64>> {
    for path in files_at(path)? {
        let file = WeightFile::open(&path)?;
        if let Some(text) = file.metadata().get(CLEAN_TIMESTEP) {
            let number = text.parse::<f64>().ok().filter(|number| (0.0..=999.0).contains(number));
            let cause = || ModelFileCause::CleanTimestep { entry: CLEAN_TIMESTEP, found: shown(text) };
            return number.map(Some).ok_or_else(|| Error::file(&path, cause(), "train the adapter again, or give --t"));
        }
    }
    Ok(None)
}

/// Entries that describe the very tensors and are wrong once these change.
const TENSOR_ENTRIES: [&str; 4] = ["sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256", DIFFUSERS_ENTRY];

/// Entries that say how rank and alpha are to be read, and mean nothing outside of kohya's format.
const NETWORK_ENTRIES: [&str; 4] = ["ss_network_module", "ss_network_dim", "ss_network_alpha", "ss_network_args"];

/// The metadata without entries that describe the tensors they came with.
pub(super) fn without_tensor_entries(metadata: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut kept = metadata.clone();
    kept.retain(|key, _| !TENSOR_ENTRIES.contains(&key.as_str()));
    kept
}

/// The metadata for a format that holds scale and rank elsewhere.
pub(super) fn without_network_entries(metadata: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut kept = without_tensor_entries(metadata);
    kept.retain(|key, _| !NETWORK_ENTRIES.contains(&key.as_str()));
    kept.insert("format".into(), "pt".into());
    kept
}

/// The two hashes under which web interfaces know a file: `sshs_model_hash`, SHA-256 of the tensor data, and `sshs_legacy_hash`,
/// eight digits of SHA-256 over the 64 KiB at 0x100000 of an image that has only the `ss_` metadata.
///
/// # Errors
/// [`crate::Error::Tensor`] for a type that cannot be stored.
pub fn tensor_hashes(tensors: &BTreeMap<String, Tensor>, metadata: &BTreeMap<String, String>) -> Result<(String, String)> {
    let training: BTreeMap<_, _> =
        metadata.iter().filter(|(key, _)| key.starts_with("ss_")).map(|(k, v)| (k.clone(), v.clone())).collect();
    let Hashes { data, window } = hash_tensors(tensors, &training, 0x100000..0x110000)?;
    Ok((data, window.chars().take(8).collect()))
}

/// kohya's least metadata for an adapter, without replacing entries that are there: module, rank and alpha (`Dynamic` when they
/// differ by layer), for SD1.5.
pub fn kohya_metadata(entries: &Entries, metadata: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut filled = without_tensor_entries(metadata);
    let (mut linear, mut convolution) = (Summary::default(), Summary::default());
    let (mut algorithms, mut core, mut magnitudes, mut norms) = (BTreeSet::new(), false, false, false);
    for ((network, path), adapter) in entries {
        // kohya counts 1x1 convolutions with the linear layers.
        let wide = layer_kind(*network, path) == Some(LayerKind::Convolution);
        if let Some(rank) = adapter.factors.rank() {
            let summary = if wide { &mut convolution } else { &mut linear };
            summary.add(rank, adapter.alpha.unwrap_or(rank as f64));
        }
        if adapter.factors.is_norm() {
            norms = true;
            continue;
        }
        algorithms.insert(adapter.factors.metadata());
        core |= adapter.factors.has_core();
        magnitudes |= adapter.magnitude.is_some();
    }
    let plain = !core && !magnitudes && !norms && algorithms.iter().all(|name| *name == "locon");
    let mut arguments = serde_json::Map::new();
    if !convolution.ranks.is_empty() {
        arguments.insert("conv_dim".into(), convolution.rank().into());
        arguments.insert("conv_alpha".into(), convolution.alpha().into());
    }
    if !plain {
        arguments.insert("algo".into(), algorithms.first().copied().unwrap_or("locon").into());
    }
    for (given, name) in [(core, "use_tucker"), (magnitudes, "dora_wd"), (norms, "train_norm")] {
        if given {
            arguments.insert(name.into(), "True".into());
        }
    }
    let main = if linear.ranks.is_empty() { &convolution } else { &linear };
    let module = if plain { "networks.lora" } else { "lycoris.kohya" };
    let least = [
        ("ss_v2", "False".to_owned()),
        ("ss_base_model_version", "sd_v1".to_owned()),
        ("ss_network_module", module.to_owned()),
        ("ss_network_dim", main.rank()),
        ("ss_network_alpha", main.alpha()),
        ("ss_network_args", serde_json::Value::Object(arguments).to_string()),
    ];
    for (key, value) in least {
        filled.entry(key.to_owned()).or_insert(value);
    }
    filled
}

/// The ranks and alphas of some layers.
#[derive(Default)]
struct Summary {
    ranks: BTreeSet<usize>,
    alphas: Vec<f64>,
}

impl Summary {
    fn add(&mut self, rank: usize, alpha: f64) {
        self.ranks.insert(rank);
        if !self.alphas.contains(&alpha) {
            self.alphas.push(alpha);
        }
    }

    fn rank(&self) -> String {
        match self.ranks.first() {
            Some(rank) if self.ranks.len() == 1 => rank.to_string(),
            _ => "Dynamic".to_owned(),
        }
    }

    /// As Python prints a float.
    fn alpha(&self) -> String {
        match self.alphas.as_slice() {
            [alpha] => format!("{alpha:?}"),
            _ => "Dynamic".to_owned(),
        }
    }
}
