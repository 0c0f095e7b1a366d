//! The loop: epochs of batches, gradients of some batches into one step, and hooks for all that is written and shown.

use super::average::LossAverage;
use super::loader::{Prepared, Source};
use crate::model::Model;
use crate::objective::Objective;
use crate::optimizer::schedule::Schedule;
use crate::optimizer::{Gradients, Group, Optimizer};
use crate::steps::Steps;
use anyhow::{Context, Result, anyhow};
use candle_core::Tensor;
use driftless::rng::Generator;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::mpsc::Receiver;
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
    pub optimizer: Box<dyn Optimizer>,
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
    /// Batches done of the epoch in hand; all of them until the epoch has been measured.
    pub batch: usize,
    /// Optimizer steps done.
    pub step: usize,
}

/// What is known after a step.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// Optimizer steps done, this one included.
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
    /// After every optimizer step; answers whether to go on.
    ///
    /// # Errors
    /// Whatever ends the run.
    fn after_step(&mut self, trainer: &Trainer<M>, report: &StepReport) -> Result<bool>;

    /// When the last step of the epoch numbered `epoch` (from 1) is done, and the trainer still stands in it; answers whether to go
    /// on. A run that stops here and goes on later comes here again.
    ///
    /// # Errors
    /// Whatever ends the run.
    fn measure_epoch(&mut self, trainer: &Trainer<M>, epoch: usize) -> Result<bool>;

    /// After that, when the trainer stands at the beginning of the next epoch; or still in this one, if the run's steps ended before
    /// the epoch did.
    ///
    /// # Errors
    /// Whatever ends the run.
    fn after_epoch(&mut self, trainer: &Trainer<M>, epoch: usize) -> Result<()>;
}

/// The loss or its gradient is infinite or no number: whatever step followed would spoil the adapter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NotANumber {
    what: &'static str,
    value: f64,
    step: usize,
}

impl std::fmt::Display for NotANumber {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, value, step } = self;
        write!(
            formatter,
            "the {what} of step {step} is {value}, so the run stops; lower the learning rate, or use --mixed_precision no"
        )
    }
}

impl std::error::Error for NotANumber {}

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
    /// When an image cannot be read, the loss is no number, or a hook fails.
    pub fn run(&mut self, hooks: &mut impl Hooks<M>) -> Result<Outcome> {
        let (source, from) = (self.source, self.position);
        std::thread::scope(|scope| {
            // One thread for the whole run, so that the first images of an epoch are ready when the last of the one before are done.
            let prepared = source.spawn(scope, from.epoch..self.steps.epochs, from.batch);
            // A run may have stopped after an epoch's last step, with what belongs to the epoch's end still to be done.
            while self.position.step < self.steps.total || self.position.batch > 0 {
                let epoch = self.position.epoch + 1;
                if self.run_epoch(&prepared, hooks)? == Outcome::Stopped || !hooks.measure_epoch(self, epoch)? {
                    return Ok(Outcome::Stopped);
                }
                // Steps that end within an epoch leave the rest of it to a longer run that goes on from here.
                let whole = self.position.batch == self.steps.batches_per_epoch;
                if whole {
                    self.position = Position { epoch, batch: 0, ..self.position };
                }
                hooks.after_epoch(self, epoch)?;
                if !whole {
                    break;
                }
            }
            Ok(Outcome::Finished)
        })
    }

    fn run_epoch(&mut self, prepared: &Receiver<Result<Prepared>>, hooks: &mut impl Hooks<M>) -> Result<Outcome> {
        let count = self.steps.batches_per_epoch;
        let mut next = self.position.batch;
        while next < count && self.position.step < self.steps.total {
            let last = (next / self.steps.accumulation + 1) * self.steps.accumulation;
            let batches = next..last.min(count);
            let report = self.step_or_nothing(batches.clone(), prepared)?;
            next = batches.end;
            self.position = Position { batch: next, step: self.position.step + 1, ..self.position };
            if !hooks.after_step(self, &report)? {
                return Ok(Outcome::Stopped);
            }
        }
        Ok(Outcome::Finished)
    }

    /// A step; when it fails, the trainer is as it was before, so that it can be saved.
    fn step_or_nothing(&mut self, numbers: Range<usize>, prepared: &Receiver<Result<Prepared>>) -> Result<StepReport> {
        let before = (self.generator.clone(), self.average.clone());
        let report =
            self.step(numbers, || prepared.recv().context("images are no longer prepared").and_then(std::convert::identity));
        if report.is_err() {
            (self.generator, self.average) = before;
        }
        report
    }

    /// One optimizer step over the batches with these numbers.
    fn step(&mut self, numbers: Range<usize>, mut prepared: impl FnMut() -> Result<Prepared>) -> Result<StepReport> {
        let started = Instant::now();
        let mut gradients = Gradients::new(&self.groups);
        let (mut sum, count) = (0.0, numbers.len());
        for number in numbers {
            // An epoch has fewer batches than 2^32.
            self.model.begin_batch(((self.position.epoch as u64) << 32) | number as u64);
            let loss = self.loss(&prepared()?)?;
            let value = loss.to_scalar::<f32>()?;
            if !value.is_finite() {
                return Err(NotANumber { what: "loss", value: value.into(), step: self.position.step + 1 }.into());
            }
            self.average.add(number, value);
            sum += f64::from(value);
            // Divided by the full number even where an epoch's last step has fewer batches, as in accelerate.
            let mut store = self.model.backward(&(loss / self.steps.accumulation as f64)?)?;
            gradients.add(&self.groups, &mut store)?;
        }
        let gradient_norm = gradients.clip(self.max_grad_norm)?;
        if !gradient_norm.is_finite() {
            return Err(NotANumber { what: "gradient", value: gradient_norm, step: self.position.step + 1 }.into());
        }
        let factor = self.schedule.factor(self.position.step);
        let rates: Vec<f64> = self.groups.iter().map(|group| group.rate * factor).collect();
        self.optimizer.step(&gradients, &rates)?;
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
        let latents = batch.latents(self.model, &mut self.generator)?;
        let text = self.text(batch)?;
        let noised = self.objective.noised(&latents, &mut self.generator)?;
        let prediction = self.model.predict(&noised.noisy, &noised.timesteps, &text)?;
        Ok(self.objective.loss(&prediction, &noised, &batch.weights)?)
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
}
