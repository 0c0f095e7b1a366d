//! Stable Diffusion 1.5 and 2 for feature extraction and LoRA training: networks, adapters, schedulers and file formats.
//!
//! Rooms; each uses only rooms below it (`testkit/tests/house.rs` compares this table with the code):
//!
//! | room | what lives there | uses |
//! | --- | --- | --- |
//! | [`pipeline`] | one model folder, whole: encode text and images, noise, denoise, extract, sample | `controlnet`, `unet`, `vae`, `text_encoder`, `weights`, `layers`, `adapter`, `model_family`, `taps`, `scheduler`, `tokenizer`, `rng`, `formats`, `error` |
//! | [`miniature`] | seeded models of random weights, and images, for tests and first steps | `controlnet`, `unet`, `vae`, `text_encoder`, `layers`, `formats`, `tokenizer`, `vision`, `rng` |
//! | [`controlnet`] | ControlNetModel | `unet`, `layers`, `taps`, `ops`, `formats`, `error` |
//! | [`unet`] | the noise predictor, with diffusers' module paths as its names | `layers`, `model_family`, `taps`, `ops`, `formats`, `error` |
//! | [`vae`] | the autoencoder, likewise | `layers`, `ops`, `formats`, `error` |
//! | [`text_encoder`] | CLIP's and OpenCLIP's text encoder, likewise | `layers`, `ops`, `formats`, `error` |
//! | [`weights`] | one door to a network's weights: any file, under the names of today's diffusers | `layers`, `model_family`, `formats`, `error` |
//! | [`layers`] | `Linear`, `Conv2d`, norms: a frozen weight plus an adapter slot | `adapter`, `ops`, `formats`, `error` |
//! | [`adapter`] | adapters: families, their terms and changes, decorators, targets, files | `model_family`, `ops`, `formats`, `rng`, `error` |
//! | [`model_family`] | what a base model is: its networks, their layers, what files call them | `formats`, `scheduler`, `error` |
//! | [`taps`] | which activations a pass keeps: names, positions and shapes of layers | `ops`, `error` |
//! | [`ops`] | autograd nodes: forward passes and hand-written backward passes | `kernels`, `error` |
//! | `kernels` | CPU arithmetic over plain slices, per instruction set | |
//! | [`formats`] | bytes to named tensors and back; files that appear whole or not at all | `error` |
//! | [`scheduler`] | noise schedules and samplers | `formats`, `error` |
//! | [`tokenizer`] | CLIP's tokenizer | `formats`, `error` |
//! | [`vision`] | images: decoding, resizing, edges | `formats`, `error` |
//! | [`rng`] | PyTorch's CPU generator | `error` |
//! | [`hub`] | files of a model hub, cached | `formats`, `error` |
//! | [`error`] | what can go wrong, with its causes as variants | |
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
