//! What is left to do: batches of images, with what of each is missing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use driftless::taps::LayerId;

use crate::inputs::Sample;
use crate::plan::{FeatureSet, Fusion, RunPlan};

use super::Selection;

/// Images that are computed together. Which ones these are depends on their numbers alone.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// The images, done ones included.
    pub samples: Vec<&'a Sample>,
    /// Per set, per image: whether files are missing.
    pub pending: Vec<Vec<bool>>,
    /// The same of sets made of others.
    pub pending_fusions: Vec<Vec<bool>>,
}

impl Batch<'_> {
    /// Images with something missing.
    pub fn pending_images(&self) -> usize {
        (0..self.samples.len()).filter(|image| self.is_pending(*image)).count()
    }

    /// What is missing of the sets that one model computes, and of what is made of them; `None` when that is nothing.
    pub fn of_model(&self, sets: &[usize], fusions: &[Fusion]) -> Option<Self> {
        let mut mine = self.clone();
        for (_, pending) in mine.pending.iter_mut().enumerate().filter(|(number, _)| !sets.contains(number)) {
            pending.fill(false);
        }
        for (_, pending) in fusions.iter().zip(&mut mine.pending_fusions).filter(|(fusion, _)| !sets.contains(&fusion.of[0])) {
            pending.fill(false);
        }
        (mine.pending_images() > 0).then_some(mine)
    }

    /// Whether something of an image is missing.
    pub fn is_pending(&self, image: usize) -> bool {
        self.pending.iter().chain(&self.pending_fusions).any(|set| set[image])
    }
}

/// All batches in which something is missing.
pub fn batches<'a>(plan: &'a RunPlan, selections: &[Selection]) -> Vec<Batch<'a>> {
    let groups = plan.samples.chunk_by(|a, b| a.index / plan.batch_size == b.index / plan.batch_size);
    let missing = |name: Option<&str>, layers: &[LayerId], sample: &Sample| {
        plan.overwrite || !plan.output.is_done(name, &sample.name, layers)
    };
    let set = |(set, selection): (&FeatureSet, &Selection), samples: &[Sample]| -> Vec<bool> {
        samples.iter().map(|sample| set.written && missing(set.name.as_deref(), &selection.layers, sample)).collect()
    };
    let fusion = |fusion: &Fusion, samples: &[Sample]| -> Vec<bool> {
        let layers = &selections[fusion.of[0]].layers;
        samples.iter().map(|sample| missing(Some(&fusion.name), layers, sample)).collect()
    };
    let batch = |samples: &'a [Sample]| Batch {
        pending: plan.sets.iter().zip(selections).map(|pair| set(pair, samples)).collect(),
        pending_fusions: plan.fusions.iter().map(|one| fusion(one, samples)).collect(),
        samples: samples.iter().collect(),
    };
    groups.map(batch).filter(|batch| batch.pending_images() > 0).collect()
}

/// The folders that missing files go to, as far as they exist.
pub fn folders(plan: &RunPlan, selections: &[Selection], batches: &[Batch]) -> BTreeSet<PathBuf> {
    let sets = plan.sets.iter().zip(selections).filter(|(set, _)| set.written);
    let sets = sets.map(|(set, selection)| (set.name.as_deref(), &selection.layers));
    let fusions = plan.fusions.iter().map(|fusion| (Some(fusion.name.as_str()), &selections[fusion.of[0]].layers));
    let mut folders = BTreeSet::from([plan.output.dir.clone()]);
    for (name, layers) in sets.chain(fusions) {
        for sample in batches.iter().flat_map(|batch| &batch.samples) {
            let files = plan.output.files(name, &sample.name, layers);
            folders.extend(files.iter().filter_map(|file| file.parent()).map(Path::to_owned));
        }
    }
    folders.retain(|folder| folder.is_dir());
    folders
}
