//! Which pictures do not train, because the loss on them is to be measured (`--validation_split`).
//!
//! sd-scripts 48d368f (`train_util.split_train_val`) splits every folder by itself. Deliberate difference: pictures are chosen by their
//! names without extension, over all folders of a data set together, so that a picture that stands in several caption groups is on the
//! same side in all of them; and without a `--validation_seed` the choice follows from the run's seed.

use super::pictures_in;
use super::plan::{DataPlan, DatasetPlan};
use crate::seeds::{Purpose, generator};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// File names without extension.
pub type Stems = BTreeSet<OsString>;

/// For each dataset of `plan` the pictures that are held back. Regularisation pictures never are.
///
/// # Errors
/// When a folder cannot be read.
pub fn choose(plan: &DataPlan, seed: u64) -> Result<Vec<Stems>> {
    let by_dataset = plan.datasets.iter().map(stems_of).collect::<Result<Vec<_>>>()?;
    let all: Stems = by_dataset.iter().flatten().cloned().collect();
    let chosen = plan.datasets.iter().zip(by_dataset).map(|(dataset, stems)| {
        let ranks = ranks(&all, dataset.validation_seed.unwrap_or(seed));
        let count = (stems.len() as f64 * dataset.validation_split).round() as usize;
        let mut stems: Vec<OsString> = stems.into_iter().collect();
        stems.sort_by_key(|stem| ranks[stem.as_os_str()]);
        stems.into_iter().rev().take(count).collect()
    });
    Ok(chosen.collect())
}

/// The name that decides for a picture.
pub fn stem(picture: &Path) -> &OsStr {
    picture.file_stem().unwrap_or_default()
}

fn stems_of(dataset: &DatasetPlan) -> Result<Stems> {
    let mut stems = Stems::new();
    if dataset.validation_split > 0.0 {
        for subset in dataset.subsets.iter().filter(|subset| !subset.is_reg && subset.repeats > 0) {
            let pictures =
                pictures_in(&subset.image_dir).with_context(|| format!("picture folder {}", subset.image_dir.display()))?;
            stems.extend(pictures.iter().map(|picture| stem(picture).to_owned()));
        }
    }
    Ok(stems)
}

/// A shuffled order, the same for all datasets with the same seed.
fn ranks(all: &Stems, seed: u64) -> BTreeMap<&OsStr, usize> {
    let order = generator(seed, Purpose::Validation, 0).randperm(all.len());
    all.iter().map(OsString::as_os_str).zip(order).collect()
}
