//! Taps: which activations of a forward pass are kept, under which names, and how deep the pass has to run for them.
//!
//! Names, order and shapes are the original extractor's (generic-diffusion-feature, model version `1-5`). Differences: an unknown id
//! is an error that names the nearest one, and the pass stops once the last wanted activation is there.

mod attention;
mod layer_id;
mod layout;
mod stop;
mod store;

pub use attention::AttentionCategory;
pub use layer_id::{BlockTap, LayerId, Position};
pub use layout::{Layout, Level, PassSizes};
pub(crate) use stop::Stop;
pub use store::{TapPlan, Taps};
