//! Moving the adapter's matrices: gradients, optimizers, learning rates.
//!
//! | file | what lives there |
//! | --- | --- |
//! | [`gradients`] | adding up, averaging and clipping gradients |
//! | [`adamw`] | AdamW, whose state can be read and restored |
//! | [`library`] | the optimizers of `candle-optimisers` |
//! | [`choice`] | `--optimizer_type` and `--optimizer_args` |
//! | [`schedule`] | the course of the learning rate |

pub mod adamw;
pub mod choice;
pub mod gradients;
pub mod library;
pub mod schedule;

pub use gradients::Gradients;

use candle_core::{Tensor, Var};
use driftless::Result;

/// One trained matrix.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its name in the adapter's file.
    pub key: String,
    /// Its values, float32.
    pub var: Var,
}

/// Matrices that share a learning rate.
#[derive(Debug, Clone)]
pub struct Group {
    /// kohya's name for its rate in logs: `textencoder`, `unet`, with ` plus` for LoRA+.
    pub name: String,
    /// Learning rate before the schedule.
    pub rate: f64,
    /// The matrices.
    pub parameters: Vec<Parameter>,
}

/// What moves the matrices along their gradients.
pub trait Optimizer {
    /// One step: the gradients as [`Gradients`] collected them, and each group's rate at this step.
    ///
    /// # Errors
    /// When a tensor operation fails.
    fn step(&mut self, gradients: &Gradients, rates: &[f64]) -> Result<()>;

    /// What is to be saved to go on later; `None` when this optimizer does not tell.
    fn state(&self) -> Option<State>;

    /// Takes back what [`Optimizer::state`] gave.
    ///
    /// # Errors
    /// When the state belongs to other matrices or another optimizer.
    fn restore(&mut self, state: State) -> Result<()>;

    /// Name and settings, as in kohya's metadata: `AdamW(weight_decay=0.01,...)`.
    fn description(&self) -> String;
}

/// An optimizer's memory.
#[derive(Debug, Clone)]
pub struct State {
    /// Steps taken.
    pub steps: usize,
    /// Tensors by name.
    pub tensors: Vec<(String, Tensor)>,
}
