//! Feature sets made of other sets: the suppressed feature of the paper is such a one.

use serde::Deserialize;

use super::settings::SetSettings;
use super::{Fault, Faults, FeatureSet};

/// How features of several sets become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FusionMode {
    /// Their mean.
    #[default]
    Mean,
    /// Their channels behind each other, in the order of the names.
    Concat,
}

/// A set made of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fusion {
    /// Its folder in the output.
    pub name: String,
    /// Numbers of the sets that it is made of.
    pub of: Vec<usize>,
    /// How.
    pub mode: FusionMode,
}

/// The fusions among the settings' sets, made of `sets`.
///
/// # Errors
/// When one names a set that is not there, or holds options of an extraction.
pub(super) fn fusions(all: &[SetSettings], sets: &[FeatureSet]) -> Result<Vec<Fusion>, Fault> {
    let mut faults = Faults::default();
    let wanted = all.iter().filter(|set| !set.fuse.is_empty());
    let fusions = wanted.filter_map(|set| faults.keep(fusion(set, sets))).collect();
    faults.check()?;
    Ok(fusions)
}

fn fusion(set: &SetSettings, sets: &[FeatureSet]) -> Result<Fusion, Fault> {
    let name = set.name.clone().unwrap_or_default();
    let wrong = |problem: String| Fault::failure(format!("set `{name}`: {problem}"));
    let plain =
        SetSettings { name: set.name.clone(), fuse: set.fuse.clone(), fuse_mode: set.fuse_mode, ..SetSettings::default() };
    if *set != plain {
        return Err(wrong("is made of other sets by `fuse` and takes nothing else but `name` and `fuse_mode`".to_owned()));
    }
    let names: Vec<&str> = sets.iter().filter_map(|set| set.name.as_deref()).collect();
    let number = |source: &String| {
        let found = names.iter().position(|name| name == source);
        found.ok_or_else(|| wrong(format!("fuse names `{source}`; expected sets that are extracted: {}", names.join(", "))))
    };
    let of = set.fuse.iter().map(number).collect::<Result<Vec<_>, _>>()?;
    if of.len() < 2 {
        return Err(wrong("fuse names one set; expected two or more".to_owned()));
    }
    if of.iter().any(|source| sets[*source].model != sets[of[0]].model) {
        let advice = "make adapters of the merged models with `convert extract-lora`, or fuse the files of two runs";
        return Err(wrong(format!("fuses sets of different models, of which one is loaded at a time; {advice}")));
    }
    Ok(Fusion { name, of, mode: set.fuse_mode.unwrap_or_default() })
}
