//! Stable Diffusion 1.5 for feature extraction and LoRA training: networks, adapters, schedulers and file formats.
//!
//! Rooms, from the ground floor up; a room knows only rooms below it:
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`pipeline`] | one model folder, whole: encode text and images, noise, denoise, extract, sample |
//! | [`controlnet`] | ControlNetModel |
//! | [`text_encoder`], [`vae`], [`unet`] | the networks, with diffusers' module paths as their names |
//! | [`layers`] | `Linear`, `Conv2d`: a frozen weight plus an adapter slot |
//! | [`adapter`] | LoRA: forward term, merge, initialization, target selection, files |
//! | [`weights`] | one door to a network's weights: any file, under the names of today's diffusers |
//! | [`model_family`] | what a base model is: its networks, their layers, what files call them |
//! | [`formats`] | bytes to named tensors and back; files that appear whole or not at all |
//! | [`ops`], [`taps`], [`scheduler`], [`tokenizer`], [`vision`], [`rng`], [`hub`] | know nothing of each other |
//!
//! Shape letters used throughout: `b` batch, `c` channels, `h` height, `w` width, `n` tokens, `k` heads, `d` head size, `r` rank.

pub mod adapter;
pub mod controlnet;
pub mod error;
pub mod formats;
pub mod hub;
mod kernels;
pub mod layers;
pub mod miniature;
pub mod model_family;
pub mod ops;
pub mod pipeline;
pub mod rng;
pub mod scheduler;
pub mod taps;
pub mod text_encoder;
pub mod tokenizer;
pub mod unet;
pub mod vae;
pub mod vision;
pub mod weights;

pub use error::{Error, Result};
