//! Seeded models in diffusers layout: a miniature Stable Diffusion 1.5 for tests and the quickstart, and a full-size one with random
//! weights for benchmarks. Both have the true block types; neither has learnt anything.
//!
//! Weights come from [`crate::rng`]'s uniform draws and exact float32 arithmetic, so that every machine writes the same bytes.

mod folder;
mod images;
mod source;

pub use folder::{Size, write_model};
pub use images::{write_dataset, write_images};
