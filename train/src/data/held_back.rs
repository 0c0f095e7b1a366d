//! Which images are held back from training for validation (`--validation_split`).
//!
//! sd-scripts 48d368f (`train_util.split_train_val`) splits every folder by itself. Deliberate difference: images are chosen by their
//! names without extension, over all folders of a dataset that are split alike together, so that an image that is in several caption groups is on the
//! same side in all of them; and without a `--validation_seed` the choice follows from the run's seed.

use super::images_in;
use super::plan::{DataPlan, SubsetPlan};
use crate::seeds::{Purpose, generator};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// File names without extension.
pub type Stems = BTreeSet<OsString>;

/// For each subset of each dataset of `plan` the images that are held back. Regularization images never are.
///
/// # Errors
/// When a folder cannot be read.
pub fn choose(plan: &DataPlan, seed: u64) -> Result<Vec<Vec<Stems>>> {
    let by_dataset = plan.datasets.iter().map(|dataset| dataset.subsets.iter().map(stems_of).collect::<Result<Vec<_>>>());
    let by_dataset: Vec<Vec<Stems>> = by_dataset.collect::<Result<_>>()?;
    let all: Stems = by_dataset.iter().flatten().flatten().cloned().collect();
    let chosen = plan.datasets.iter().zip(&by_dataset).map(|(dataset, stems)| {
        let subsets = dataset.subsets.iter().zip(stems);
        subsets
            .clone()
            .map(|(subset, own)| {
                // Together with all subsets that are split alike: where one lacks an image, the others must not be cut elsewhere.
                let alike = subsets.clone().filter(|(other, _)| is_split_like(other, subset));
                let union: Stems = alike.flat_map(|(_, stems)| stems).cloned().collect();
                let held = last(&all, union, subset.validation_split, subset.validation_seed.unwrap_or(seed));
                own.intersection(&held).cloned().collect()
            })
            .collect()
    });
    Ok(chosen.collect())
}

fn is_split_like(a: &SubsetPlan, b: &SubsetPlan) -> bool {
    (a.validation_split, a.validation_seed) == (b.validation_split, b.validation_seed)
}

/// That share of `stems` that comes last when `all` are shuffled.
fn last(all: &Stems, stems: Stems, share: f64, seed: u64) -> Stems {
    let ranks = ranks(all, seed);
    let count = (stems.len() as f64 * share).round() as usize;
    let mut stems: Vec<OsString> = stems.into_iter().collect();
    stems.sort_by_key(|stem| ranks[stem.as_os_str()]);
    stems.into_iter().rev().take(count).collect()
}

/// The name by which an image is chosen.
pub fn stem(image: &Path) -> &OsStr {
    image.file_stem().unwrap_or_default()
}

fn stems_of(subset: &SubsetPlan) -> Result<Stems> {
    if subset.validation_split == 0.0 || subset.is_reg || subset.repeats == 0 {
        return Ok(Stems::new());
    }
    let folder = &subset.image_dir;
    let images = images_in(folder).with_context(|| format!("image folder {}", folder.display()))?;
    Ok(images.iter().map(|image| stem(image).to_owned()).collect())
}

/// A shuffled order, the same for all datasets with the same seed.
fn ranks(all: &Stems, seed: u64) -> BTreeMap<&OsStr, usize> {
    let order = generator(seed, Purpose::Validation, 0).randperm(all.len());
    all.iter().map(OsString::as_os_str).zip(order).collect()
}
