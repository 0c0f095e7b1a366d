//! The loop: epochs of batches, gradients of some batches into one step, and hooks for all that is written and shown.

use super::average::LossAverage;
use super::learner::{Learner, Step};
use super::loader::{Loaded, Source, Unreadable};
use crate::model::Model;
use crate::steps::{StepReport, Steps};
use anyhow::{Context, Result};
use std::convert;
use std::ops::Range;
use std::sync::mpsc::Receiver;
use std::time::Instant;

/// A run: the learner, what it learns from, and where it stands.
pub struct Trainer<'a, M> {
    /// What takes the steps.
    pub learner: Learner<'a, M>,
    /// What batches are made from.
    pub source: Source<'a>,
    /// How long.
    pub steps: Steps,
    /// Where in the run it stands.
    pub position: Position,
    /// The moving average of the loss.
    pub average: LossAverage,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// Epochs done.
    pub epoch: usize,
    /// Batches done in the current epoch; all of them until the epoch has been measured.
    pub batch: usize,
    /// Optimizer steps done.
    pub step: usize,
}

/// What happens beside the loop: files, samples, logs.
pub trait Hooks<M> {
    /// When images of a step could not be read, before [`Hooks::after_step`]: it was done without them.
    ///
    /// # Errors
    /// Whatever ends the run.
    fn left_out(&mut self, trainer: &Trainer<M>, images: Vec<Unreadable>) -> Result<()>;

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
    /// When the loss is no number, or a hook fails.
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

    fn run_epoch(&mut self, prepared: &Receiver<Result<Loaded>>, hooks: &mut impl Hooks<M>) -> Result<Outcome> {
        let count = self.steps.batches_per_epoch;
        let mut next = self.position.batch;
        while next < count && self.position.step < self.steps.total {
            let last = (next / self.steps.accumulation + 1) * self.steps.accumulation;
            let batches = next..last.min(count);
            next = batches.end;
            let (report, unreadable) = self.step(batches, prepared)?;
            self.position = Position { batch: next, step: self.position.step + 1, ..self.position };
            if !unreadable.is_empty() {
                hooks.left_out(self, unreadable)?;
            }
            if !hooks.after_step(self, &report)? {
                return Ok(Outcome::Stopped);
            }
        }
        Ok(Outcome::Finished)
    }

    /// One optimizer step over the batches with these numbers, and the images in them that could not be read; a step without any image
    /// moves nothing. When it fails, the trainer is as it was before.
    fn step(&mut self, numbers: Range<usize>, prepared: &Receiver<Result<Loaded>>) -> Result<(StepReport, Vec<Unreadable>)> {
        let started = Instant::now();
        let (mut unreadable, mut read) = (Vec::new(), Vec::new());
        let mut batches = numbers
            .filter_map(|number| {
                let loaded = prepared.recv().context("images are no longer prepared").and_then(convert::identity);
                let batch = loaded.map(|loaded| {
                    unreadable.extend(loaded.unreadable);
                    loaded.batch.inspect(|_| read.push(number))
                });
                batch.transpose()
            })
            .peekable();
        let step = match batches.peek() {
            Some(_) => self.learner.step(self.position.step, batches)?,
            None => {
                drop(batches);
                self.learner.idle(self.position.step)
            }
        };
        let Step { losses, rates, gradient_norm } = step;
        for (number, loss) in read.into_iter().zip(&losses) {
            self.average.add(number, *loss);
        }
        let sum: f64 = losses.iter().map(|loss| f64::from(*loss)).sum();
        let report = StepReport {
            step: self.position.step + 1,
            epoch: self.position.epoch + 1,
            loss: (!losses.is_empty()).then(|| sum / losses.len() as f64),
            loss_average: self.average.average(),
            rates,
            gradient_norm,
            seconds: started.elapsed().as_secs_f64(),
        };
        Ok((report, unreadable))
    }
}
