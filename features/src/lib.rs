//! Features of a Stable Diffusion model for images: what is to be kept of which pass of the network, the pass over the images, and the
//! files. No command line, and nothing is printed: a run tells an [`Observer`].
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`set`] | what a feature set is: what decides a pass of the network, and what is kept of it |
//! | [`plan`], [`inputs`], [`ids`] | what is meant: sets, models, images and their names; all faults before any work |
//! | [`engine`] | the pass over the images, whatever several sets share computed once |
//! | [`stores`] | pooling, aggregation, layouts, files |
//! | [`projection`] | principal components of a feature |
//! | [`timings`], [`observer`] | how long each stage took; what a run tells |

pub mod engine;
mod error;
pub mod ids;
pub mod inputs;
pub mod observer;
pub mod plan;
pub mod projection;
pub mod set;
pub mod stores;
pub mod timings;

pub use error::{Error, Result};
pub use observer::{Event, Observer, Silent};
