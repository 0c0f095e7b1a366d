//! The training loop.
//!
//! | file | what lives there |
//! | --- | --- |
//! | [`trainer`] | the loop itself: epochs, batches, steps |
//! | [`loader`] | batches prepared in the background |
//! | [`latents`] | pictures encoded once, before training |
//! | [`average`] | kohya's moving average of the loss |
//! | [`state`] | folders from which a run goes on |

pub mod average;
pub mod latents;
pub mod loader;
pub mod state;
pub mod trainer;

pub use trainer::{Hooks, Outcome, Position, StepReport, Trainer};
