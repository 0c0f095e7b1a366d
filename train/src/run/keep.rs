//! What is saved of a run that ends early, by an interruption or an error: the adapter as it stands, and a state to resume from.

use super::hooks::Files;
use crate::model::StableDiffusion;
use crate::output::When;
use crate::training::Trainer;
use anyhow::Result;
use driftless_cli::failure::sentence;
use std::fmt;
use std::path::{Path, PathBuf};

/// What there was to keep.
#[derive(Debug)]
pub enum Kept {
    /// The first step was not done yet.
    Nothing,
    /// The adapter is not finite.
    Spoilt {
        /// The step that spoilt it.
        step: usize,
    },
    /// The adapter and the state after a step.
    Saved {
        /// Optimizer steps done.
        step: usize,
        /// The adapter's file.
        adapter: Result<PathBuf>,
        /// The state's folder; `None` when the optimizer does not tell its state.
        state: Option<Result<PathBuf>>,
    },
}

impl Kept {
    /// Whether nothing that was trained is lost.
    pub fn is_whole(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Spoilt { .. } => false,
            Self::Saved { adapter, state, .. } => adapter.is_ok() && state.as_ref().is_none_or(Result::is_ok),
        }
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing was trained yet"),
            Self::Spoilt { step } => {
                write!(f, "the adapter is spoilt by step {step} already; files that were saved before it are as they were")
            }
            Self::Saved { step, adapter, state } => {
                write!(f, "the adapter as it was after step {step} ")?;
                match adapter {
                    Ok(path) => write!(f, "is {}", path.display())?,
                    Err(error) => write!(f, "could not be saved: {}", sentence(error.as_ref()))?,
                }
                match (state, adapter) {
                    (Some(Ok(folder)), _) => write!(f, "; to go on: --resume {}", folder.display()),
                    (Some(Err(error)), _) => {
                        write!(f, "; the state to go on from could not be saved: {}", sentence(error.as_ref()))
                    }
                    (None, Ok(path)) => write!(
                        f,
                        "; this optimizer does not tell its state, so a run can only start from it: --network_weights {}",
                        path.display()
                    ),
                    (None, Err(_)) => Ok(()),
                }
            }
        }
    }
}

impl Files<'_> {
    /// Saves the adapter as it stands and a state, whether states were asked for or not: each whole, or not at all.
    pub fn keep(&mut self, trainer: &Trainer<StableDiffusion>) -> Kept {
        self.console.finish();
        let step = trainer.position.step;
        if step == 0 {
            return Kept::Nothing;
        }
        if !self.parts.network.is_finite().unwrap_or(false) {
            return Kept::Spoilt { step };
        }
        let when = When::Step(step);
        let state = trainer.learner.optimizer.state().map(|_| self.save_state(trainer, when));
        let folder = || self.parts.plan.names.state(when);
        let state = state.map(|saved| saved.map(|()| folder()));
        Kept::Saved { step, adapter: self.save_adapter_somewhere(trainer, when, trainer.position.epoch + 1), state }
    }

    /// Saves the adapter to its place, or, where it cannot be written, elsewhere: what took days must not be lost to a full disk.
    fn save_adapter_somewhere(&mut self, trainer: &Trainer<StableDiffusion>, when: When, epoch: usize) -> Result<PathBuf> {
        let step = trainer.position.step;
        let Err(error) = self.save_adapter(when, step, epoch) else { return Ok(self.parts.plan.names.adapter(when)) };
        let path = elsewhere(&self.parts.plan.names.adapter(when));
        match self.write_adapter(&path, step, epoch) {
            Ok(()) => {
                self.console.warn(format!("the adapter could not be saved where it belongs: {}", sentence(error.as_ref())));
                Ok(path)
            }
            Err(_) => Err(error),
        }
    }

    /// The error for an adapter that cannot be written to its place at the end; the message says where it is instead.
    pub(super) fn save_elsewhere(&mut self, error: anyhow::Error, trainer: &Trainer<StableDiffusion>) -> anyhow::Error {
        let plan = self.parts.plan;
        let path = elsewhere(&plan.names.adapter(When::End));
        match self.write_adapter(&path, trainer.position.step, plan.steps.epochs) {
            Ok(()) => error.context(format!("the adapter could not be saved where it belongs and is {} instead", path.display())),
            Err(_) => error.context("the adapter could not be saved"),
        }
    }
}

/// A name for the file in the system's folder for temporary files that no other run has.
fn elsewhere(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    std::env::temp_dir().join(format!("train-{}-{name}", std::process::id()))
}
