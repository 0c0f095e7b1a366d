//! One batch of images through all feature sets of a model: everything that the networks do.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use candle_core::Tensor;
use driftless::taps::LayerId;

use crate::ids::IdMap;
use crate::inputs::Sample;
use crate::set::FeatureSet;
use crate::set::SetId;
use crate::{Observer, Result};

use super::forward::{Encoded, Forward};
use super::loader::{ReadBatch, ReadImage};
use super::passes::Pass;
use super::writer::{Job, Readable};
use super::{Batch, Selection};

/// The images of a batch that could be read, and what is made of them once for all sets.
struct Prepared<'a> {
    images: Arc<Readable<'a>>,
    encoded: Encoded<'a>,
}

/// The networks at work.
pub struct Computing<'a> {
    pub selections: &'a IdMap<FeatureSet, Selection>,
    pub passes: &'a [Pass<'a>],
    pub forward: Forward<'a>,
    pub observer: &'a dyn Observer,
}

impl Computing<'_> {
    /// Computes what is missing of a batch and hands it to the writer. Returns whether to go on: not when the user stops the run, nor
    /// when the writer has given up.
    ///
    /// # Errors
    /// When a network fails.
    pub fn batch<'a>(&mut self, batch: &Batch<'a>, read: ReadBatch, out: &SyncSender<Job<'a>>) -> Result<bool> {
        let mut images = Vec::with_capacity(read.len());
        for (position, image) in read.into_iter().enumerate() {
            match image {
                Ok(image) => images.push((position, image)),
                Err(problem) if batch.missing.has(position) => {
                    if out.send(Job::Failed(batch.samples[position], problem)).is_err() {
                        return Ok(false);
                    }
                }
                // Done by an earlier run, when it could still be read.
                Err(_) => {}
            }
        }
        if images.iter().any(|(position, _)| batch.missing.has(*position)) {
            let mut prepared = self.prepare(batch, images)?;
            if !self.sets(&mut prepared, out)? {
                return Ok(false);
            }
        }
        Ok(out.send(Job::Done(batch.pending_images())).is_ok())
    }

    /// Every pass that something is missing of.
    fn sets<'a>(&mut self, prepared: &mut Prepared<'a>, out: &SyncSender<Job<'a>>) -> Result<bool> {
        let passes = self.passes;
        for pass in passes {
            let images = prepared.images.clone();
            let wanted = |set: &&SetId| images.missing.sets[**set].contains(&true) || images.is_source(**set, self.forward.plan);
            let wanted: Vec<SetId> = pass.sets.iter().filter(wanted).copied().collect();
            if wanted.is_empty() {
                continue;
            }
            if self.observer.wants_stop() {
                return Ok(false);
            }
            let groups = self.forward.draw(pass, &mut prepared.encoded, 0, false)?.features;
            for set in wanted {
                let layers = &self.selections[set].layers;
                let of_set =
                    |group: &Vec<(LayerId, Tensor)>| group.iter().filter(|(id, _)| layers.contains(id)).cloned().collect();
                let features = groups.iter().map(of_set).collect();
                if out.send(Job::Features { set, batch: images.clone(), features }).is_err() {
                    return Ok(false);
                }
            }
        }
        Ok(out.send(Job::Fusions(prepared.images.clone())).is_ok())
    }

    /// Makes of the images what all sets need.
    fn prepare<'a>(&self, batch: &Batch<'a>, images: Vec<(usize, ReadImage)>) -> Result<Prepared<'a>> {
        let (positions, images): (Vec<usize>, Vec<ReadImage>) = images.into_iter().unzip();
        let samples: Vec<&Sample> = positions.iter().map(|position| batch.samples[*position]).collect();
        let encoded = self.forward.encode(samples.clone(), &images)?;
        Ok(Prepared { images: Arc::new(Readable { samples, missing: batch.missing.at(&positions) }), encoded })
    }
}
