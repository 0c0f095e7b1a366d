//! What is left to do: batches of images, with what of each is missing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use driftless::taps::LayerId;

use super::Selection;
use crate::ids::IdMap;
use crate::inputs::Sample;
use crate::plan::RunPlan;
use crate::set::ModelId;
use crate::set::{FeatureSet, Fusion};

/// Which files are missing: for every set and for every image of a batch, by its position in it.
#[derive(Clone, Debug)]
pub struct Missing {
    /// Of sets that are extracted.
    pub sets: IdMap<FeatureSet, Vec<bool>>,
    /// Of sets that are made of these.
    pub fusions: IdMap<Fusion, Vec<bool>>,
}

impl Missing {
    /// Whether something of an image is missing.
    pub fn has(&self, position: usize) -> bool {
        self.sets.values().chain(self.fusions.values()).any(|images| images[position])
    }

    /// What is missing of the images at these positions alone.
    pub fn at(&self, positions: &[usize]) -> Self {
        let there = |images: &Vec<bool>| positions.iter().map(|position| images[*position]).collect();
        Self { sets: self.sets.map(|_, images| there(images)), fusions: self.fusions.map(|_, images| there(images)) }
    }
}

/// Images that are computed together. Which ones these are depends on their numbers alone.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// The images, done ones included.
    pub samples: Vec<&'a Sample>,
    /// What of them is missing.
    pub missing: Missing,
}

impl Batch<'_> {
    /// Images with something missing.
    pub fn pending_images(&self) -> usize {
        (0..self.samples.len()).filter(|position| self.missing.has(*position)).count()
    }

    /// What is missing of the sets that one model computes, and of what is made of them; `None` when that is nothing.
    pub fn of_model(&self, model: ModelId, plan: &RunPlan) -> Option<Self> {
        let mut mine = self.clone();
        for (_, images) in mine.missing.sets.iter_mut().filter(|(set, _)| plan.sets[*set].pass.model != model) {
            images.fill(false);
        }
        let is_of_another = |fusion: &Fusion| plan.sets[fusion.first].pass.model != model;
        for (_, images) in mine.missing.fusions.iter_mut().filter(|(fusion, _)| is_of_another(&plan.fusions[*fusion])) {
            images.fill(false);
        }
        (mine.pending_images() > 0).then_some(mine)
    }
}

/// All batches in which something is missing.
pub fn batches<'a>(plan: &'a RunPlan, selections: &IdMap<FeatureSet, Selection>) -> Vec<Batch<'a>> {
    let groups = plan.samples.chunk_by(|a, b| a.index / plan.batch_size == b.index / plan.batch_size);
    let is_missing = |name: Option<&str>, layers: &[LayerId], sample: &Sample| {
        plan.overwrite || !plan.output.is_done(name, &sample.name, layers)
    };
    let batch = |samples: &'a [Sample]| {
        let sets = plan.sets.map(|id, set| {
            let layers = &selections[id].layers;
            let missing = |sample| set.keep.written && is_missing(set.name.as_deref(), layers, sample);
            samples.iter().map(missing).collect()
        });
        let fusions = plan.fusions.map(|_, fusion| {
            let layers = &selections[fusion.first].layers;
            samples.iter().map(|sample| is_missing(Some(&fusion.name), layers, sample)).collect()
        });
        Batch { samples: samples.iter().collect(), missing: Missing { sets, fusions } }
    };
    groups.map(batch).filter(|batch| batch.pending_images() > 0).collect()
}

/// The folders that missing files go to, as far as they exist.
pub fn folders(plan: &RunPlan, selections: &IdMap<FeatureSet, Selection>, batches: &[Batch]) -> BTreeSet<PathBuf> {
    let sets = plan.sets.iter().filter(|(_, set)| set.keep.written);
    let sets = sets.map(|(id, set)| (set.name.as_deref(), &selections[id].layers));
    let fusions = plan.fusions.values().map(|fusion| (Some(fusion.name.as_str()), &selections[fusion.first].layers));
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
