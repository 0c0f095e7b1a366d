//! What is left to do: batches of images, with what of each is missing.

use crate::inputs::Sample;
use crate::plan::RunPlan;

use super::Selection;

/// Images that are computed together. Which ones these are depends on their numbers alone.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The images, done ones included.
    pub samples: Vec<&'a Sample>,
    /// Per set, per image: whether files are missing.
    pub pending: Vec<Vec<bool>>,
}

impl Batch<'_> {
    /// Images with something missing.
    pub fn pending_images(&self) -> usize {
        (0..self.samples.len()).filter(|image| self.is_pending(*image)).count()
    }

    /// Whether something of an image is missing.
    pub fn is_pending(&self, image: usize) -> bool {
        self.pending.iter().any(|set| set[image])
    }
}

/// All batches in which something is missing.
pub fn batches<'a>(plan: &'a RunPlan, selections: &[Selection]) -> Vec<Batch<'a>> {
    let groups = plan.samples.chunk_by(|a, b| a.index / plan.batch_size == b.index / plan.batch_size);
    let missing = |set: usize, sample: &Sample| {
        let name = plan.sets[set].name.as_deref();
        plan.overwrite || !plan.output.is_done(name, &sample.name, &selections[set].layers)
    };
    let batch = |samples: &'a [Sample]| Batch {
        pending: (0..selections.len()).map(|set| samples.iter().map(|sample| missing(set, sample)).collect()).collect(),
        samples: samples.iter().collect(),
    };
    groups.map(batch).filter(|batch| batch.pending_images() > 0).collect()
}
