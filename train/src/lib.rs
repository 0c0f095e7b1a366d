//! LoRA training for Stable Diffusion 1.5 with kohya's options, folders and files; the `train` command is a shell around [`run`].
//!
//! | room | what lives there | knows about |
//! | --- | --- | --- |
//! | [`run`] | a run from options to files | all below |
//! | [`training`] | the loop, latents, states | `model`, `data`, `objective`, `optimizer` |
//! | `samples` | sample images | `model`, `network` |
//! | `output`, [`monitor`] | names, metadata, logs | `data`, `steps` |
//! | [`network`] | the adapter in training | `optimizer` |
//! | [`model`] | what the loop needs of a model | |
//! | [`objective`], [`optimizer`] | noise and loss; gradients and steps | |
//! | [`data`] | images, captions, buckets, batches | |
//! | [`options`], [`steps`], [`seeds`] | what was asked for | |

pub mod data;
pub mod interrupt;
pub mod model;
pub mod monitor;
pub mod network;
pub mod objective;
pub mod optimizer;
pub mod options;
mod output;
pub mod run;
mod samples;
pub mod seeds;
pub mod steps;
pub mod training;
