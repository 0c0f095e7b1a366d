//! The loop: epochs of batches, gradients of some batches into one step, and hooks for all that is written and shown.

use super::average::LossAverage;
use super::loader::{Pictures, Prepared, Source};
use crate::data::batches;
use crate::model::Model;
use crate::objective::Objective;
use crate::optimise::schedule::Schedule;
use crate::optimise::{Gradients, Group, Optimiser};
use crate::steps::Steps;
use anyhow::{Context, Result, anyhow, bail};
use candle_core::Tensor;
use driftless::rng::Generator;
use std::collections::HashMap;
use std::time::Instant;

/// Everything that training changes, and what it needs to do so.
pub struct Trainer<'a, M> {
    /// The model with the adapter in it.
    pub model: &'a M,
    /// What batches are made from.
    pub source: Source<'a>,
    /// What is learnt.
    pub objective: Objective,
    /// How long.
    pub steps: Steps,
    /// The course of the learning rate.
    pub schedule: Schedule,
    /// The adapter's matrices.
    pub groups: Vec<Group>,
    /// What moves them.
    pub optimiser: Box<dyn Optimiser>,
    /// Largest norm of all gradients; 0: no limit.
    pub max_grad_norm: f64,
    /// Noise, timesteps, and latents that are not cached.
    pub generator: Generator,
    /// Where in the run it stands.
    pub position: Position,
    /// The loss of late.
    pub average: LossAverage,
    /// States of captions, while they do not change.
    pub texts: HashMap<String, Tensor>,
}

/// A place in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// Epochs done.
    pub epoch: usize,
    /// Batches done of the epoch in hand.
    pub batch: usize,
    /// Optimiser steps done.
    pub step: usize,
}

/// What is known after a step.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// Optimiser steps done, this one included.
    pub step: usize,
    /// Epoch in hand, from 1.
    pub epoch: usize,
    /// Mean loss of the step's batches.
    pub loss: f64,
    /// The moving average.
    pub loss_average: f64,
    /// Rate of each group at this step.
    pub rates: Vec<(String, f64)>,
    /// Norm of all gradients before clipping.
    pub gradient_norm: f64,
    /// How long the step took.
    pub seconds: f64,
}

/// What happens beside the loop: files, samples, logs.
pub trait Hooks<M> {
    /// After every optimiser step; answers whether to go on.
    ///
    /// # Errors
    /// Whatever ends the run.
    fn after_step(&mut self, trainer: &Trainer<M>, report: &StepReport) -> Result<bool>;

    /// After the epoch numbered `epoch`, from 1.
    ///
    /// # Errors
    /// Whatever ends the run.
    fn after_epoch(&mut self, trainer: &Trainer<M>, epoch: usize) -> Result<()>;
}

/// How the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// A hook said to stop.
    Stopped,
}

impl<M: Model> Trainer<'_, M> {
    /// Trains until all steps are done or a hook says to stop.
    ///
    /// # Errors
    /// When a picture cannot be read, the loss is no number, or a hook fails.
    pub fn run(&mut self, hooks: &mut impl Hooks<M>) -> Result<Outcome> {
        while self.position.step < self.steps.total {
            if self.run_epoch(hooks)? == Outcome::Stopped {
                return Ok(Outcome::Stopped);
            }
            self.position = Position { epoch: self.position.epoch + 1, batch: 0, ..self.position };
            hooks.after_epoch(self, self.position.epoch)?;
        }
        Ok(Outcome::Finished)
    }

    fn run_epoch(&mut self, hooks: &mut impl Hooks<M>) -> Result<Outcome> {
        let (source, epoch) = (self.source, self.position.epoch);
        let order = batches::of_epoch(source.set, source.seed, epoch);
        let (count, first) = (order.len(), self.position.batch);
        std::thread::scope(|scope| {
            let prepared = source.spawn(scope, order, epoch, epoch * self.steps.per_epoch, first);
            let mut next = first;
            while next < count && self.position.step < self.steps.total {
                let last = (next / self.steps.accumulation + 1) * self.steps.accumulation;
                let batches = next..last.min(count);
                let report = self.step(batches.clone(), || {
                    prepared.recv().context("pictures are no longer prepared").and_then(std::convert::identity)
                })?;
                next = batches.end;
                self.position = Position { batch: next, step: self.position.step + 1, ..self.position };
                if !hooks.after_step(self, &report)? {
                    return Ok(Outcome::Stopped);
                }
            }
            Ok(Outcome::Finished)
        })
    }

    /// One optimiser step over the batches with these numbers.
    fn step(&mut self, numbers: std::ops::Range<usize>, mut prepared: impl FnMut() -> Result<Prepared>) -> Result<StepReport> {
        let started = Instant::now();
        let mut gradients = Gradients::new(&self.groups);
        let (mut sum, count) = (0.0, numbers.len());
        for number in numbers {
            // An epoch has fewer batches than 2^32.
            self.model.begin_batch(((self.position.epoch as u64) << 32) | number as u64);
            let loss = self.loss(&prepared()?)?;
            let value = loss.to_scalar::<f32>()?;
            if !value.is_finite() {
                bail!("{}", self.not_a_number(value));
            }
            self.average.add(number, value);
            sum += f64::from(value);
            // Divided by the full number even where an epoch's last step has fewer batches, as in accelerate.
            let mut store = self.model.backward(&(loss / self.steps.accumulation as f64)?)?;
            gradients.add(&self.groups, &mut store)?;
        }
        let gradient_norm = gradients.clip(self.max_grad_norm)?;
        if !gradient_norm.is_finite() {
            bail!("{}", self.not_a_number(gradient_norm as f32));
        }
        let factor = self.schedule.factor(self.position.step);
        let rates: Vec<f64> = self.groups.iter().map(|group| group.rate * factor).collect();
        self.optimiser.step(&gradients, &rates)?;
        Ok(StepReport {
            step: self.position.step + 1,
            epoch: self.position.epoch + 1,
            loss: sum / count as f64,
            loss_average: self.average.average(),
            rates: self.groups.iter().map(|group| group.name.clone()).zip(rates).collect(),
            gradient_norm,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    fn loss(&mut self, batch: &Prepared) -> Result<Tensor> {
        let latents = self.latents(batch)?;
        let text = self.text(batch)?;
        let noised = self.objective.noised(&latents, &mut self.generator)?;
        let prediction = self.model.predict(&noised.noisy, &noised.timesteps, &text)?;
        Ok(self.objective.loss(&prediction, &noised, &batch.weights)?)
    }

    fn latents(&mut self, batch: &Prepared) -> Result<Tensor> {
        let device = self.model.device();
        let pixels = match &batch.pictures {
            Pictures::Latents(latents) => return Ok(latents.to_device(device)?),
            Pictures::Pixels(pixels) => pixels.to_device(device)?,
        };
        let [channels, height, width] = self.model.latent_shape(batch.size);
        let noise = self.generator.randn_tensor(&[batch.captions.len(), channels, height, width], device)?;
        Ok(self.model.encode_pictures(&pixels, &noise)?)
    }

    /// States of the captions. They are kept where neither captions nor the text encoder change.
    fn text(&mut self, batch: &Prepared) -> Result<Tensor> {
        let captions: Vec<&str> = batch.captions.iter().map(String::as_str).collect();
        if self.model.trains_text_encoder() || !batch.captions_are_fixed {
            return Ok(self.model.encode_captions(&captions)?);
        }
        for caption in captions {
            if !self.texts.contains_key(caption) {
                let states = self.model.encode_captions(&[caption])?;
                self.texts.insert(caption.to_owned(), states);
            }
        }
        let states =
            batch.captions.iter().map(|caption| self.texts.get(caption).ok_or_else(|| anyhow!("{caption}: was not encoded")));
        Ok(Tensor::cat(&states.collect::<Result<Vec<_>>>()?, 0)?)
    }

    fn not_a_number(&self, value: f32) -> String {
        format!(
            "the loss of step {} is {value}; the run stops here, and the adapter is as it was after step {}. Lower the learning rate, or \
             use --mixed_precision no",
            self.position.step + 1,
            self.position.step
        )
    }
}
