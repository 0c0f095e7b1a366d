//! The sets that are made of others, as the settings mean them; checked.

use crate::fault::{Fault, Faults, SetFault};
use crate::ids::IdMap;
use crate::options::SetSettings;
use crate::set::{FeatureSet, Fusion};

/// The fusions among the settings' sets, made of `sets`.
///
/// # Errors
/// When one names a set that is not there, or holds options of an extraction.
pub(super) fn fusions(all: &[SetSettings], sets: &IdMap<FeatureSet, FeatureSet>) -> Result<IdMap<Fusion, Fusion>, Fault> {
    let mut faults = Faults::default();
    let mut fusions = IdMap::new();
    for set in all.iter().filter(|set| !set.fuse.is_empty()) {
        if let Some(fusion) = faults.keep(fusion(set, sets)) {
            fusions.push(fusion);
        }
    }
    faults.check()?;
    Ok(fusions)
}

fn fusion(set: &SetSettings, sets: &IdMap<FeatureSet, FeatureSet>) -> Result<Fusion, Fault> {
    let name = set.name.clone().unwrap_or_default();
    let wrong = |fault: SetFault| Fault::failure(fault).of(&format!("set `{name}`: "));
    let plain =
        SetSettings { name: set.name.clone(), fuse: set.fuse.clone(), fuse_mode: set.fuse_mode, ..SetSettings::default() };
    if *set != plain {
        return Err(wrong(SetFault::FusionWithOptions));
    }
    let id = |source: &String| {
        let found = sets.iter().find(|(_, set)| set.name.as_ref() == Some(source));
        let names = || sets.values().filter_map(|set| set.name.as_deref()).collect::<Vec<_>>().join(", ");
        found.map(|(id, _)| id).ok_or_else(|| wrong(SetFault::UnknownSource { found: source.clone(), expected: names() }))
    };
    let sources = set.fuse.iter().map(id).collect::<Result<Vec<_>, _>>()?;
    let [first, others @ ..] = &sources[..] else { return Err(wrong(SetFault::NoSource)) };
    if others.is_empty() {
        return Err(wrong(SetFault::OneSource));
    }
    if others.iter().any(|source| sets[*source].pass.model != sets[*first].pass.model) {
        return Err(wrong(SetFault::SeveralModels));
    }
    Ok(Fusion { name, first: *first, others: others.to_vec(), mode: set.fuse_mode.unwrap_or_default() })
}
