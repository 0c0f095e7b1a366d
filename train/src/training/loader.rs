//! Batches prepared in the background: captions drawn, images decoded, while the model computes.
//!
//! What chance has for a sample depends on seed, epoch and its position in the epoch alone, so it does not matter when or where it is
//! prepared, and a run that goes on in the middle of an epoch draws the same.

use super::latents::Latents;
use crate::data::DataSet;
use crate::data::batches::{self, Batch};
use crate::data::caption::Moment;
use crate::data::pixels::{self, Draw};
use crate::model::Model;
use crate::seeds::{Purpose, generator};
use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use driftless::rng::Generator;
use driftless_cli::failure::sentence;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

/// A batch, ready for the model.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// A number that no other batch of the run has; the adapter's dropout follows from it.
    pub number: u64,
    /// `[b, ..]` on the CPU.
    pub images: Images,
    /// One per sample.
    pub captions: Vec<String>,
    /// Whether all captions are the same at every draw.
    pub captions_are_fixed: bool,
    /// Weights of the samples in the loss.
    pub weights: Vec<f64>,
}

impl Prepared {
    /// A batch of latents `[b, c, h, w]`, scaled as the predictor sees them, with one caption each.
    pub fn of_latents(number: u64, latents: Tensor, captions: &[&str]) -> Self {
        let captions: Vec<String> = captions.iter().map(|caption| (*caption).to_owned()).collect();
        let weights = vec![1.0; captions.len()];
        Self { number, images: Images::Latents(latents), captions, captions_are_fixed: true, weights }
    }

    /// The latents: those that are cached, or a sample with noise from `generator`.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn latents(&self, model: &impl Model, generator: &mut Generator) -> Result<Tensor> {
        let device = model.device();
        let pixels = match &self.images {
            Images::Latents(latents) => return Ok(latents.to_device(device)?),
            Images::Pixels(pixels) => pixels.to_device(device)?,
        };
        let (_, _, height, width) = pixels.dims4()?;
        let [channels, height, width] = model.latent_shape((width, height));
        let noise = generator.randn_tensor(&[self.captions.len(), channels, height, width], device)?;
        Ok(model.encode_images(&pixels, &noise)?)
    }
}

/// What is known of the images.
#[derive(Debug, Clone)]
pub enum Images {
    /// `[b, 3, h, w]` in -1..1.
    Pixels(Tensor),
    /// `[b, c, h / 8, w / 8]`, scaled.
    Latents(Tensor),
}

/// What came of preparing a batch.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The batch without the images that cannot be read; `None` when that is all of them.
    pub batch: Option<Prepared>,
    /// Those images.
    pub unreadable: Vec<Unreadable>,
}

/// An image that was sound when the run began and cannot be read now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its file.
    pub path: PathBuf,
    /// A sentence that names it and says why.
    pub why: String,
}

/// What batches are made from.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The data.
    pub set: &'a DataSet,
    /// Latents, when they are cached.
    pub latents: Option<&'a Latents>,
    /// Seed of the run.
    pub seed: u64,
    /// Weight of regularization images.
    pub prior_loss_weight: f64,
    /// Optimizer steps of the run.
    pub total_steps: usize,
    /// Batches whose gradients make one step.
    pub accumulation: usize,
}

/// Batches that are prepared ahead: enough that a slow image is not waited for, few enough to need no memory to speak of.
const AHEAD: usize = 4;

impl<'a> Source<'a> {
    /// Prepares the batches of `epochs` (from 0), of the first of them from the batch numbered `first` on, in a thread of `scope`.
    pub fn spawn<'scope>(self, scope: &'scope Scope<'scope, '_>, epochs: Range<usize>, first: usize) -> Receiver<Result<Loaded>>
    where
        'a: 'scope,
    {
        let (sender, receiver) = sync_channel(AHEAD);
        scope.spawn(move || {
            for epoch in epochs.clone() {
                let batches = batches::of_epoch(self.set, self.seed, epoch);
                let steps_before = epoch * batches.len().div_ceil(self.accumulation);
                let done = if epoch == epochs.start { first } else { 0 };
                for (index, batch) in batches.iter().enumerate().skip(done) {
                    let step = steps_before + index / self.accumulation;
                    let moment = Moment { epoch: epoch + 1, step, total_steps: self.total_steps };
                    // The receiver is gone when the loop ended early; then nobody wants the rest.
                    if sender.send(self.prepare(batch, index, moment)).is_err() {
                        return;
                    }
                }
            }
        });
        receiver
    }

    fn prepare(&self, batch: &Batch, index: usize, moment: Moment) -> Result<Loaded> {
        let dataset = &self.set.datasets[batch.dataset];
        let (mut images, mut captions, mut weights, mut unreadable) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut captions_are_fixed = true;
        for (position, &sample_index) in batch.samples.iter().enumerate() {
            let sample = &dataset.samples[sample_index];
            let plan = &dataset.subsets[sample.subset].plan;
            let draw_index = ((moment.epoch as u64) << 40) | ((index as u64) << 12) | position as u64;
            let mut generator = generator(self.seed, Purpose::Augmentation, draw_index);
            let caption = plan.captions.draw(&sample.caption, moment, &mut generator);
            let draw = Draw::random(sample, plan, &mut generator);
            images.push(match self.latents {
                Some(latents) => latents
                    .get(self.set, batch.dataset, sample_index, draw.flipped)
                    .cloned()
                    .with_context(|| format!("{}: has no cached latents", sample.path.display()))?,
                None => match pixels::load(sample, plan.interpolation, draw) {
                    Ok(pixels) => pixels.to_tensor(&Device::Cpu)?.squeeze(0)?,
                    Err(error) => {
                        unreadable.push(Unreadable { path: sample.path.clone(), why: sentence(error.as_ref()) });
                        continue;
                    }
                },
            });
            captions.push(caption);
            captions_are_fixed &= plan.captions.is_fixed();
            weights.push(if sample.is_reg { self.prior_loss_weight } else { 1.0 });
        }
        if images.is_empty() {
            return Ok(Loaded { batch: None, unreadable });
        }
        let stacked = Tensor::stack(&images, 0)?;
        let images = if self.latents.is_some() { Images::Latents(stacked) } else { Images::Pixels(stacked) };
        // An epoch has fewer batches than 2^32.
        let number = ((moment.epoch as u64 - 1) << 32) | index as u64;
        Ok(Loaded { batch: Some(Prepared { number, images, captions, captions_are_fixed, weights }), unreadable })
    }
}
