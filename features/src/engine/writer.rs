//! Writing: a thread that splits, fuses and writes finished features while the networks compute the next.
//!
//! It gets what to do in one order, so that the list of failures and the progress do not depend on which thread was faster.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use candle_core::{DType, Tensor};
use driftless::error::ArgumentCause;
use driftless::taps::LayerId;

use crate::inputs::Sample;
use crate::plan::RunPlan;
use crate::projection::Projection;
use crate::set::SetId;
use crate::stores::{Feature, ImageFeatures, group_of, image_of_batch};
use crate::timings::{Stage, Timings};
use crate::{Error, Event, Observer, Result};

use super::door::Door;
use super::failures::Failures;
use super::fuse::fuse;
use super::work::Missing;

/// Features of a set on the CPU: groups of images that went through the network together, each `[images, c, h, w]` per layer.
pub type SetFeatures = Vec<Vec<(LayerId, Tensor)>>;

/// The images of a batch that could be read.
pub struct Readable<'a> {
    /// The images.
    pub samples: Vec<&'a Sample>,
    /// What of them is missing.
    pub missing: Missing,
}

impl Readable<'_> {
    /// Whether some fusion of this batch is made of a set.
    pub fn is_source(&self, set: SetId, plan: &RunPlan) -> bool {
        let mut wanted = self.missing.fusions.iter().filter(|(_, images)| images.contains(&true));
        wanted.any(|(fusion, _)| plan.fusions[fusion].sources().any(|source| source == set))
    }
}

/// Something to do for the writer.
pub enum Job<'a> {
    /// Note that an image failed.
    Failed(&'a Sample, Error),
    /// Write what is missing of a set.
    Features { set: SetId, batch: Arc<Readable<'a>>, features: SetFeatures },
    /// Write what is made of several sets.
    Fusions(Arc<Readable<'a>>),
    /// So many images are through.
    Done(usize),
}

/// The thread's tools.
pub struct Writer<'a, 'b> {
    pub plan: &'b RunPlan,
    pub door: &'b Door<'b>,
    pub timings: &'b Timings,
    pub failures: &'b mut Failures,
    pub observer: &'b dyn Observer,
    /// Features of the batch in hand that fusions are made of, by set.
    pub sources: HashMap<SetId, SetFeatures>,
    /// Whether an image's features were written.
    pub wrote: bool,
    /// Failures before the batch in hand.
    pub failed_before: usize,
    pub jobs: Receiver<Job<'a>>,
}

impl Writer<'_, '_> {
    /// Works until no more jobs come. A file that cannot be written makes its image one that failed, unless the trouble is the disk's.
    ///
    /// # Errors
    /// When the disk is full or refuses to be written to, or features cannot be fused.
    pub fn run(mut self) -> Result<()> {
        while let Ok(job) = self.jobs.recv() {
            match job {
                Job::Failed(sample, problem) => self.fail(sample, &problem.to_string())?,
                Job::Features { set, batch, features } => {
                    self.write_set(set, &batch, &features)?;
                    if batch.is_source(set, self.plan) {
                        self.sources.insert(set, features);
                    }
                }
                Job::Fusions(batch) => self.write_fusions(&batch)?,
                Job::Done(images) => {
                    let failed = self.failures.count() - self.failed_before;
                    self.observer.event(Event::Advanced { images, failed });
                    self.failed_before = self.failures.count();
                }
            }
        }
        Ok(())
    }

    fn fail(&mut self, sample: &Sample, problem: &str) -> driftless::Result<()> {
        if self.failures.add(sample, problem)? {
            self.observer.event(Event::Failed(problem));
        }
        Ok(())
    }

    fn write_set(&mut self, set: SetId, batch: &Readable, features: &SetFeatures) -> Result<()> {
        let plan = self.plan;
        for (image, missing) in batch.missing.sets[set].iter().enumerate() {
            if *missing {
                let written = self.image_of(set, image, features)?;
                self.write_image(plan.sets[set].name.as_deref(), batch.samples[image], &written)?;
            }
        }
        Ok(())
    }

    fn write_fusions(&mut self, batch: &Readable) -> Result<()> {
        let plan = self.plan;
        let sources = std::mem::take(&mut self.sources);
        for (fusion, missing) in batch.missing.fusions.iter() {
            let fusion = &plan.fusions[fusion];
            for image in (0..missing.len()).filter(|image| missing[*image]) {
                let parts = fusion.sources().filter_map(|set| Some((set, sources.get(&set)?)));
                let parts = parts.map(|(set, features)| self.image_of(set, image, features));
                let parts: Vec<ImageFeatures> = parts.collect::<driftless::Result<_>>()?;
                let fused = fuse(fusion.mode, &parts.iter().collect::<Vec<_>>())?;
                self.write_image(Some(&fusion.name), batch.samples[image], &fused)?;
            }
        }
        Ok(())
    }

    /// One image's features of a set.
    fn image_of(&self, set: SetId, image: usize, groups: &SetFeatures) -> driftless::Result<ImageFeatures> {
        let Some((group, image)) = group_of(groups, image)? else { return Ok(Vec::new()) };
        let features = image_of_batch(group, image, self.plan.sets[set].keep.feature_resize)?;
        match &self.plan.projection {
            Some(projection) => projected(features, projection),
            None => Ok(features),
        }
    }

    fn write_image(&mut self, set: Option<&str>, sample: &Sample, features: &ImageFeatures) -> Result<()> {
        let output = &self.plan.output;
        if let Some((layer, _)) = features.iter().find(|(_, feature)| feature.overflows(DType::F32)) {
            let problem = Error::NotFinite { image: sample.path.clone(), layer: *layer };
            // With nothing finite so far, the next image would fare no better.
            return if self.wrote { Ok(self.fail(sample, &problem.to_string())?) } else { Err(problem) };
        }
        let metadata = self.door.metadata(set, sample);
        warn_of_overflow(sample, features, output.dtype, self.observer);
        match self.timings.measure(Stage::Write, || output.write_with(set, &sample.name, features, &metadata)) {
            Ok(()) => {
                self.wrote = true;
                self.observer.event(Event::Wrote { image: &sample.path, layers: features.len() });
            }
            Err(error) if is_the_disks(&error) => return Err(error.into()),
            Err(error) => self.fail(sample, &error.to_string())?,
        }
        Ok(())
    }
}

/// Features along the axes of their layers' bases.
fn projected(features: ImageFeatures, projection: &Projection) -> driftless::Result<ImageFeatures> {
    let of = |(layer, feature): (LayerId, Feature)| {
        let [channels, height, width] = feature.shape;
        // Selections were checked, so that every layer has a basis.
        let values = projection.apply(layer, &feature.values, channels);
        let values = values.map_err(|fault| driftless::Error::argument("--pca", ArgumentCause::above(fault)))?;
        Ok((layer, Feature { shape: [projection.dims(), height, width], values }))
    };
    features.into_iter().map(of).collect()
}

/// Whether the next file would fare no better.
fn is_the_disks(error: &driftless::Error) -> bool {
    use ErrorKind::{Interrupted, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let kinds = [Interrupted, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull];
    matches!(error, driftless::Error::Io { source, .. } if kinds.contains(&source.kind()))
}

fn warn_of_overflow(sample: &Sample, features: &ImageFeatures, dtype: DType, observer: &dyn Observer) {
    if let Some((layer, _)) = features.iter().find(|(_, feature)| feature.overflows(dtype)) {
        let advice = if dtype == DType::F16 { "; try --output-dtype float32" } else { "" };
        let problem =
            format!("{}: `{layer}` holds numbers that are not finite in its file's type{advice}", sample.path.display());
        observer.event(Event::Warning(&problem));
    }
}
