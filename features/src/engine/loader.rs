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
                images.push(self.timings.measure(Stage::ReadImage, || ReadImage::of(self.plan, &self.kinds, sample)));
            }
            if out.send(images).is_err() {
                return;
            }
        }
    }
}

impl ReadImage {
    /// Reads everything that belongs to one image alone: for all sets, and for the ControlNets of these `kinds`.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn of(plan: &RunPlan, kinds: &[&str], sample: &Sample) -> Result<Self> {
        let image = images::read(sample, plan.img_size)?;
        let prompts = plan.sets.try_map(|_, set| set.pass.prompt.prompt(sample))?;
        let conditions = conditions(plan, kinds.iter().copied(), sample, &image, &Rgb::clone)?;
        Ok(Self { image, prompts, conditions })
    }

    /// The same of the image as it is when it is `change`d, and its ready-made condition images with it.
    ///
    /// # Errors
    /// When a condition image cannot be read.
    pub fn changed(&self, plan: &RunPlan, sample: &Sample, change: &dyn Fn(&Rgb) -> Rgb) -> Result<Self> {
        let image = change(&self.image);
        let conditions = conditions(plan, self.conditions.keys().map(String::as_str), sample, &image, change)?;
        Ok(Self { image, prompts: self.prompts.clone(), conditions })
    }
}

fn conditions<'a>(
    plan: &RunPlan,
    kinds: impl Iterator<Item = &'a str>,
    sample: &Sample,
    image: &Rgb,
    change: &dyn Fn(&Rgb) -> Rgb,
) -> Result<HashMap<String, Tensor>> {
    let condition = |kind: &str| images::condition(&plan.controls[kind].source, sample, image, change);
    kinds.map(|kind| Ok((kind.to_owned(), condition(kind)?))).collect()
}
