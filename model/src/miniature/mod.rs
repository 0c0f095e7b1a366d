//! Seeded models in diffusers layout: a miniature Stable Diffusion 1.5 and 2.1 for tests, and a full-size Stable Diffusion 1.5 with random
//! weights for benchmarks. All have the true block types; none has learnt anything (the one in `assets/miniature` has).
//!
//! Weights come from [`crate::rng`]'s uniform draws and exact float32 arithmetic, so that every machine writes the same bytes.

mod folder;
mod images;
mod source;

pub use folder::{Size, write_model};
pub use images::{write_dataset, write_images};
