//! What goes with any family: DoRA's magnitudes, and dropout in training.

pub mod dora;
mod dropout;

pub use dropout::{BatchClock, Dropout, DropoutRates, DropoutStyle};

use super::component::{ALPHA, BIAS_DIFFERENCE, Component};

/// Components that stand beside those of any family.
pub(super) const COMPONENTS: [Component; 3] = [ALPHA, BIAS_DIFFERENCE, dora::MAGNITUDE];
