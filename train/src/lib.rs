//! LoRA training for Stable Diffusion 1 and 2 with kohya's options, folders and files; the `train` command is a shell around [`PROGRAM`].
//!
//! A [`training::Learner`] takes steps by itself, for programs that bring their own images and loop:
//!
//! ```
//! use candle_core::{DType, Device};
//! use driftless::miniature::{Size, write_model};
//! use driftless::pipeline::{ModelOptions, Pipeline};
//! use driftless::rng::Generator;
//! use driftless::vision::Rgb;
//! use driftless_train::model::{Model, StableDiffusion};
//! use driftless_train::network::TrainedNetwork;
//! use driftless_train::options::{Options, SaveFormat};
//! use driftless_train::training::{Learner, Prepared};
//!
//! # fn main() -> anyhow::Result<()> {
//! // A model of random weights; any diffusers folder or checkpoint file does.
//! let folder = tempfile::tempdir()?;
//! write_model(folder.path(), Size::Miniature, DType::F32, 0)?;
//! let pipeline = Pipeline::load(folder.path(), &ModelOptions::default())?;
//!
//! // Options are those of the command line.
//! let options = Options::from_arguments(["--network_dim=4", "--network_alpha=2", "--learning_rate=1e-4"])?;
//! let seed = 0;
//! let network = TrainedNetwork::attach(&options, seed, pipeline.unet.slots(), pipeline.text_encoder.slots(), &Device::Cpu)?;
//! let model = StableDiffusion::new(pipeline, &options, &network);
//! let steps = 2;
//! let mut learner = Learner::new(&model, network.groups(), &options, steps, seed)?;
//!
//! let pixels = Rgb::filled(64, 64, [200, 80, 40]).to_tensor(&Device::Cpu)?;
//! let noise = Generator::manual_seed(seed).randn_tensor(&[1, 4, 8, 8], &Device::Cpu)?;
//! let latents = model.encode_images(&pixels, &noise)?;
//! for done in 0..steps {
//!     let batch = Prepared::of_latents(done as u64, latents.clone(), &["a photo of a street"]);
//!     let step = learner.step(done, [Ok(batch)])?;
//!     println!("loss {:?}, gradient norm {}", step.losses, step.gradient_norm);
//!     assert!(step.gradient_norm > 0.0);
//! }
//! network.write(&folder.path().join("lora.safetensors"), SaveFormat::Safetensors, None, &Default::default())?;
//! # Ok(())
//! # }
//! ```
//!
//! | room | what lives there | uses |
//! | --- | --- | --- |
//! | `command` | from the command line to a run and its exit status | `run`, `monitor`, `options` |
//! | [`run`] | a run from options to files | `training`, `alignment`, `samples`, `output`, `model`, `network`, `monitor`, `objective`, `optimizer`, `data`, `steps`, `options`, `faults` |
//! | [`training`] | the loop, the step, latents, states | `alignment`, `model`, `objective`, `optimizer`, `data`, `steps`, `options`, `seeds` |
//! | [`alignment`] | CleanDIFT's objective: features instead of noise | `model`, `optimizer`, `options`, `seeds` |
//! | `samples` | sample images | `model`, `network`, `monitor`, `options`, `seeds` |
//! | `output` | names, metadata | `model`, `monitor`, `data`, `steps`, `options`, `seeds` |
//! | [`model`] | what the loop needs of a model | `network`, `monitor`, `options`, `faults` |
//! | [`network`] | the adapter in training | `optimizer`, `options`, `seeds` |
//! | [`monitor`] | console, metrics, TensorBoard | `steps`, `options` |
//! | [`objective`] | noise and loss | `options` |
//! | [`optimizer`] | gradients and steps | `options` |
//! | [`data`] | images, captions, buckets, batches | `options`, `seeds`, `faults` |
//! | [`steps`] | how long a run is | `options` |
//! | [`options`] | what was asked for | |
//! | [`seeds`] | random numbers by purpose | |
//! | [`faults`] | faults that are reported together | |

pub mod alignment;
mod command;
pub mod data;
pub mod faults;
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

pub use command::PROGRAM;
