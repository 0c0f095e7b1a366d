//! Features of a Stable Diffusion model for images: what is to be kept of which pass of the network, the pass over the images, and the
//! files. No command line, and nothing is printed: a run tells an [`Observer`].
//!
//! | room | what lives there | uses |
//! | --- | --- | --- |
//! | [`engine`] | the pass over the images, whatever several sets share computed once | `manifest`, `plan`, `projection`, `options`, `set`, `inputs`, `stores`, `ids`, `fault`, `timings` |
//! | [`plan`] | what is meant: sets, models, images, output; all faults before any work | `manifest`, `projection`, `options`, `set`, `inputs`, `stores`, `ids`, `fault` |
//! | [`options`] | the options of a run and of a feature set, a row each: names, what they are for, what they change | `set`, `inputs`, `stores`, `fault` |
//! | [`set`] | what a feature set is: what decides a pass of the network, and what is kept of it | `inputs`, `ids`, `fault` |
//! | [`inputs`] | images with their names, prompts and condition images | `fault` |
//! | [`stores`] | pooling, aggregation, layouts, files | |
//! | [`projection`] | principal components of a feature, and features as images; bases of layers, and features projected on them | `stores`, `fault` |
//! | [`ids`] | typed ids, by which the parts of a plan refer to each other | |
//! | [`manifest`] | `extract.json`: what made the files of an output folder, and whether a run goes on with it | `options`, `set`, `inputs`, `stores`, `ids`, `fault` |
//! | `error` | what can go wrong in a run | `fault` |
//! | [`fault`] | what is wrong with a request | |
//! | [`timings`] | how long each stage took | |
//! | [`observer`] | what a run reports | |
//!
//! Two layers of one image under an adapter, with a seeded miniature instead of Stable Diffusion:
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use driftless::miniature::{Size, write_images, write_model};
//! use driftless::pipeline::ModelOptions;
//! use features::Silent;
//! use features::engine::{LocalModel, Run};
//! use features::options::{LayerSetting, SetSettings};
//! use features::plan::{RunPlan, Settings};
//! use features::stores::read_npy;
//! use features::timings::Timings;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let here = |name: &str| folder.path().join(name);
//! # let lora = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/training/lora.safetensors");
//! write_model(&here("model"), Size::Miniature, candle_core::DType::F32, 0)?;
//! write_images(&here("images"), 0, 1, 64)?;
//!
//! let mut settings = Settings::of_set(SetSettings {
//!     prompt: Some("a red circle".to_owned()),
//!     t: Some(50.into()),
//!     layer: Some(LayerSetting::Ids(vec!["mid-vit-out".to_owned(), "up-level1-upsampler-out".to_owned()])),
//!     lora: vec![format!("{lora}:0.5").parse()?],
//!     ..SetSettings::default()
//! });
//! settings.input.images = vec![here("images")];
//! settings.input.img_size = Some(64);
//! settings.output.dir = Some(here("out"));
//!
//! let plan = RunPlan::new(&settings)?; // every fault of the request at once
//! let models = plan.models.map(|_, _| LocalModel { path: here("model"), base: None, unet: None }); // or a folder that `driftless::hub` finds
//! let options = ModelOptions::default();
//! let run = Run::new(&plan, &models, &options)?; // every layer is known; nothing is loaded yet
//! let outcome = run.execute(&BTreeMap::new(), &Timings::begin(), &Silent)?;
//!
//! assert_eq!((outcome.images, outcome.failed), (1, 0));
//! let middle = read_npy(&here("out/mid-vit-out/train0.npy"))?.feature;
//! let level = read_npy(&here("out/up-level1-upsampler-out/train0.npy"))?.feature;
//! assert_eq!((middle.shape, level.shape), ([64, 1, 1], [64, 4, 4]));
//! # Ok(())
//! # }
//! ```

pub mod engine;
mod error;
pub mod fault;
pub mod ids;
pub mod inputs;
pub mod manifest;
pub mod observer;
pub mod options;
pub mod plan;
pub mod projection;
pub mod set;
pub mod stores;
pub mod timings;

pub use error::{Error, Result};
pub use observer::{Event, Observer, Silent};
