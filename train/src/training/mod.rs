//! The training loop.
//!
//! | file | what lives there |
//! | --- | --- |
//! | [`trainer`] | the loop: epochs of steps |
//! | [`learner`] | one step: losses, gradients, the adapter's matrices moved |
//! | [`loader`] | batches prepared in the background |
//! | [`latents`], [`latent_file`] | images encoded once, before training; kept on disk |
//! | [`average`] | kohya's moving average of the loss |
//! | [`validation`] | the loss on images that do not train |
//! | [`state`] | folders from which a run goes on |

pub mod average;
pub mod latent_file;
pub mod latents;
pub mod learner;
pub mod loader;
pub mod state;
pub mod trainer;
pub mod validation;

pub use learner::{Learner, NotANumber};
pub use loader::{Prepared, Unreadable};
pub use trainer::{Hooks, Outcome, Position, Trainer};
