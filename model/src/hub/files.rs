//! Which files of a repository a model needs, decided on a list of names: the hub's listing or a cached snapshot.
//!
//! Names follow diffusers 0.32 (`variant_compatible_siblings`) and transformers 4.49 (`_add_variant`).

use crate::error::{Error, FileCause, Result};
use crate::formats::{FileKind, read_bounded};
use std::collections::BTreeSet;
use std::path::Path;

/// More shards than any model has.
const MOST_SHARDS: usize = 1000;

/// A kind of repository: the weights and the files beside them that are read.
pub struct Needs {
    /// What it is, for messages.
    pub kind: &'static str,
    /// Folder (with a slash, or empty) and stem of each weight file.
    weights: &'static [(&'static str, &'static str)],
    required: &'static [&'static str],
    optional: &'static [&'static str],
}

/// A Stable Diffusion pipeline without safety checker and feature extractor.
pub const PIPELINE: Needs = Needs {
    kind: "a Stable Diffusion pipeline",
    weights: &[("unet/", "diffusion_pytorch_model"), ("vae/", "diffusion_pytorch_model"), ("text_encoder/", "model")],
    required: &REQUIRED,
    optional: &OPTIONAL,
};

/// A Stable Diffusion pipeline's configurations and tokenizer: what a checkpoint in one file lacks.
pub const CONFIGURATION: Needs =
    Needs { kind: "a Stable Diffusion pipeline", weights: &[], required: &REQUIRED, optional: &OPTIONAL };

const REQUIRED: [&str; 7] = [
    "model_index.json",
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "scheduler/scheduler_config.json",
];

const OPTIONAL: [&str; 4] = [
    "tokenizer/tokenizer_config.json",
    "tokenizer/special_tokens_map.json",
    "tokenizer/added_tokens.json",
    "tokenizer/tokenizer.json",
];

/// A diffusers ControlNet.
pub const CONTROLNET: Needs =
    Needs { kind: "a ControlNet", weights: &[("", "diffusion_pytorch_model")], required: &["config.json"], optional: &[] };

/// What was chosen out of a list of names.
#[derive(Debug, Default)]
pub struct Selection {
    /// Files other than weights.
    pub small: Vec<String>,
    /// Whole weight files.
    pub whole: Vec<String>,
    /// Indexes of weights in several files; [`shards`] reads these.
    pub indexes: Vec<String>,
    /// What is not there.
    pub missing: Vec<String>,
    /// Whether all weights are of the preferred precision.
    pub preferred: bool,
}

impl Needs {
    /// Chooses among `names`; plain weights before fp16 ones, or the other way round with `half`.
    pub fn select(&self, names: &BTreeSet<String>, half: bool) -> Selection {
        let mut selection = Selection { preferred: true, ..Selection::default() };
        for name in self.required {
            let list = if names.contains(*name) { &mut selection.small } else { &mut selection.missing };
            list.push((*name).to_owned());
        }
        let found = self.optional.iter().filter(|name| names.contains(**name));
        selection.small.extend(found.map(|name| (*name).to_owned()));
        for (folder, stem) in self.weights {
            selection.add_weights(names, &format!("{folder}{stem}"), half);
        }
        selection
    }
}

impl Selection {
    fn add_weights(&mut self, names: &BTreeSet<String>, stem: &str, half: bool) {
        let plain = (format!("{stem}.safetensors"), format!("{stem}.safetensors.index.json"));
        let fp16 = (format!("{stem}.fp16.safetensors"), format!("{stem}.safetensors.index.fp16.json"));
        let expected = plain.0.clone();
        let order = if half { [fp16, plain] } else { [plain, fp16] };
        for (rank, (whole, index)) in order.into_iter().enumerate() {
            let list = match (names.contains(&whole), names.contains(&index)) {
                (true, _) => &mut self.whole,
                (_, true) => &mut self.indexes,
                _ => continue,
            };
            list.push(if names.contains(&whole) { whole } else { index });
            self.preferred &= rank == 0;
            return;
        }
        self.missing.push(expected);
    }
}

/// The weight files that an index names, as paths inside the repository, `index` being the index's own.
///
/// # Errors
/// [`Error::File`] when the file at `path` is no index, or names anything but files beside it.
pub fn shards(path: &Path, index: &str) -> Result<Vec<String>> {
    let wrong = |cause: FileCause| Error::file(path, cause, "remove it from the cache and fetch it again");
    let bytes = read_bounded(path, FileKind::Configuration)?;
    let json: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|source| wrong(FileCause::Json { expected: "JSON", source }))?;
    let map = json.get("weight_map").and_then(serde_json::Value::as_object).ok_or_else(|| wrong(FileCause::NoWeightMap))?;
    let mut names = BTreeSet::new();
    for name in map.values() {
        let name = name.as_str().filter(|name| is_plain_name(name) && name.ends_with(".safetensors"));
        names.insert(name.ok_or_else(|| wrong(FileCause::NotAShard))?);
    }
    if names.is_empty() || names.len() > MOST_SHARDS {
        return Err(wrong(FileCause::ShardCount { found: names.len() }));
    }
    let folder = index.rfind('/').map_or("", |slash| &index[..=slash]);
    Ok(names.into_iter().map(|name| format!("{folder}{name}")).collect())
}

/// Whether `name` is one path component made of letters, digits, `.`, `_` and `-` that hides nothing.
pub fn is_plain_name(name: &str) -> bool {
    let ordinary = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=255).contains(&name.len()) && !name.starts_with('.') && name.chars().all(ordinary)
}

/// Whether `path` is a relative path of plain names.
pub fn is_plain_path(path: &str) -> bool {
    path.split('/').all(is_plain_name)
}
