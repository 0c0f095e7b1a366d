//! Reading ahead: a thread that decodes and resizes the next images while the networks compute.

use std::collections::HashMap;
use std::sync::mpsc::SyncSender;

use candle_core::Tensor;
use driftless::vision::Rgb;

use crate::ids::IdMap;
use crate::inputs::{Prompt, Sample};
use crate::plan::RunPlan;
use crate::set::FeatureSet;
use crate::timings::{Stage, Timings};
use crate::{Observer, Result};

use super::{Batch, images};

/// Batches that are read ahead, beside the one being read.
pub const READ_AHEAD: usize = 1;

/// What was read of an image.
pub struct ReadImage {
    /// The image, resized.
    pub image: Rgb,
    /// Prompts by set.
    pub prompts: IdMap<FeatureSet, Prompt>,
    /// Condition images `[1, 3, h, w]` by kind.
    pub conditions: HashMap<String, Tensor>,
}

/// The images of a batch in their order, or why one could not be read.
pub type ReadBatch = Vec<Result<ReadImage>>;

/// Reads the images of a run.
pub struct Loader<'a> {
    pub plan: &'a RunPlan,
    /// The ControlNets that need condition images.
    pub kinds: Vec<&'a str>,
    pub timings: &'a Timings,
    pub observer: &'a dyn Observer,
}

impl Loader<'_> {
    /// Reads batch after batch until all are read, nobody takes them any more, or the user stops the run.
    pub fn run(&self, batches: &[Batch], out: &SyncSender<ReadBatch>) {
        for batch in batches {
            let mut images = Vec::with_capacity(batch.samples.len());
            for sample in &batch.samples {
                if self.observer.wants_stop() {
                    return;
                }
                images.push(self.timings.measure(Stage::ReadImage, || self.read(sample)));
            }
            if out.send(images).is_err() {
                return;
            }
        }
    }

    /// Reads everything that belongs to one image alone.
    fn read(&self, sample: &Sample) -> Result<ReadImage> {
        let image = images::read(sample, self.plan.img_size)?;
        let prompts = self.plan.sets.try_map(|_, set| set.pass.prompt.prompt(sample))?;
        let conditions = self.kinds.iter().map(|kind| {
            let condition = images::condition(&self.plan.controls[*kind].source, sample, &image);
            Ok(((*kind).to_owned(), condition?))
        });
        let conditions = conditions.collect::<Result<_>>()?;
        Ok(ReadImage { image, prompts, conditions })
    }
}
