//! The loss on images that do not train, with the same noise at the same timesteps every time, so that epochs compare.
//!
//! Mirrors the validation loop of sd-scripts 48d368f `train_network.py`: every batch at four timesteps spread over those that train, the
//! random numbers from a fixed seed. Deliberate differences: the seed draws the noise alone, from a generator of its own, and the timesteps can
//! be chosen.

use super::loader::{Source, Unreadable};
use crate::model::Model;
use crate::objective::Objective;
use anyhow::{Context, Result};
use driftless::rng::Generator;
use std::collections::BTreeMap;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Validation<'a> {
    /// Images that do not train. Its seed is that of the validation.
    pub source: Source<'a>,
    /// Batches that are looked at.
    pub batches: usize,
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The mean loss over batches and timesteps; `None` when no image could be read.
    pub loss: Option<f64>,
    /// The mean loss over batches at each timestep.
    pub by_timestep: BTreeMap<usize, f64>,
    /// Images that could not be read.
    pub unreadable: Vec<Unreadable>,
}

impl Validation<'_> {
    /// Measures the loss; `None` when `stop`, which is asked before each prediction, said so.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn loss(&self, model: &impl Model, objective: &Objective, stop: impl Fn() -> bool) -> Result<Option<Measured>> {
        let mut generator = Generator::manual_seed(self.source.seed);
        let source = self.source;
        std::thread::scope(|scope| {
            let prepared = source.spawn(scope, 0..1, 0);
            let (mut sum, mut count, mut unreadable) = (0.0, 0_usize, Vec::new());
            let mut sums: BTreeMap<usize, f64> = BTreeMap::new();
            for _ in 0..self.batches {
                let loaded = prepared.recv().context("images are no longer prepared").and_then(std::convert::identity)?;
                unreadable.extend(loaded.unreadable);
                let Some(batch) = loaded.batch else { continue };
                let latents = batch.latents(model, &mut generator)?;
                let captions: Vec<&str> = batch.captions.iter().map(String::as_str).collect();
                let text = model.encode_captions(&captions)?;
                for &timestep in objective.validation_timesteps() {
                    if stop() {
                        return Ok(None);
                    }
                    let noised = objective.noised_at(&latents, timestep, &mut generator)?;
                    let prediction = model.predict(&noised.noisy, &noised.timesteps, &text)?;
                    let loss = objective.loss(&prediction, &noised, &batch.weights)?;
                    let loss = f64::from(loss.to_scalar::<f32>()?);
                    sum += loss;
                    count += 1;
                    *sums.entry(timestep).or_default() += loss;
                }
            }
            let batches = count as f64 / objective.validation_timesteps().len() as f64;
            let by_timestep = sums.into_iter().map(|(timestep, sum)| (timestep, sum / batches)).collect();
            Ok(Some(Measured { loss: (count > 0).then(|| sum / count as f64), by_timestep, unreadable }))
        })
    }
}
