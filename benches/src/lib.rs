//! The items of work that are timed, by criterion (`benches/networks.rs`) and beside PyTorch (`examples/bench_step.rs`).

use std::path::Path;
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use driftless::controlnet::ControlNet;
use driftless::error::ArgumentCause;
use driftless::layers::Slots;
use driftless::model_family::Network;
use driftless::pipeline::{ModelFiles, ModelOptions};
use driftless::rng::Generator;
use driftless::text_encoder::TextEncoder;
use driftless::unet::{TextContext, Unet, UnetConfig, UnetInput};
use driftless::vae::{Posterior, Vae};
use driftless::{Error, Result};
use driftless_train::model::{Denoiser, Model};
use driftless_train::network::TrainedNetwork;
use driftless_train::options::Options;
use driftless_train::training::{Learner, Prepared};

/// Names of the items.
pub const ITEMS: [&str; 9] = [
    "unet",
    "vae",
    "text",
    "controlnet",
    "denoising_step",
    "lora_step",
    "lora_step_checkpointed",
    "unet_bfloat16",
    "lora_step_bfloat16",
];
/// One item, ready to be repeated.
pub type Work = Box<dyn FnMut() -> Result<()>>;

/// How much goes through at once.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    /// Images.
    pub batch: usize,
    /// An image's side in pixels.
    pub size: usize,
}

/// Loads what an item needs and nothing else, for an amount of images; `text` takes one prompt whatever that is. A name that ends in
/// `_bfloat16` holds the networks' weights in that type.
///
/// # Errors
/// When the item is unknown, or the model or ControlNet folder cannot be read.
pub fn prepare(item: &str, model: &Path, controlnet: Option<&Path>, amount: Amount) -> Result<Work> {
    let dtype = if item.ends_with("_bfloat16") { DType::BF16 } else { DType::F32 };
    let options = ModelOptions { dtype, ..ModelOptions::default() };
    let files = ModelFiles::open(model, None, false)?;
    let mut generator = Generator::manual_seed(0);
    let mut draw = |shape: &[usize]| generator.randn_tensor(shape, &Device::Cpu);
    let Amount { batch, size } = amount;
    let latents = draw(&[batch, 4, size / 8, size / 8])?;
    let width = UnetConfig::from_file(&files.config(Network::Unet))?.cross_attention_dim;
    let states = draw(&[batch, 77, width])?;
    let unet = || Unet::open(&files, &options);
    let controlnet = || ControlNet::open(controlnet.unwrap_or(&model.join("controlnet-canny")), &options);
    Ok(match item {
        "unet" | "unet_bfloat16" => {
            let unet = unet()?;
            Box::new(move || {
                let context = TextContext::new(states.clone());
                unet.forward(&UnetInput { sample: &latents, timesteps: &[50.0], context: &context, residuals: None }).map(drop)
            })
        }
        "vae" => {
            let vae = Vae::open(&files, &options)?;
            let image = draw(&[batch, 3, size, size])?.clamp(-1f32, 1f32)?;
            Box::new(move || vae.encode(&image).map(drop))
        }
        "text" => {
            let text_encoder = TextEncoder::open(&files, &options)?;
            Box::new(move || text_encoder.forward(&[vec![1; 77]], 1).map(drop))
        }
        "controlnet" => {
            let (network, condition) = (controlnet()?, draw(&[batch, 3, size, size])?);
            Box::new(move || {
                let context = TextContext::new(states.clone());
                network.forward(&latents, &[50.0], &context, &network.hint(&condition)?, 1.0).map(drop)
            })
        }
        "denoising_step" => {
            let (network, unet, condition) = (controlnet()?, unet()?, draw(&[batch, 3, size, size])?);
            Box::new(move || {
                let context = TextContext::new(states.clone());
                let residuals =
                    network.forward(&latents, &[50.0], &TextContext::new(states.clone()), &network.hint(&condition)?, 1.0)?;
                let residuals = Some(&residuals);
                unet.forward(&UnetInput { sample: &latents, timesteps: &[50.0], context: &context, residuals }).map(drop)
            })
        }
        "lora_step" | "lora_step_checkpointed" | "lora_step_bfloat16" => {
            let (batch, checkpointed) = (Prepared::of_latents(0, latents, &vec![""; batch]), item == "lora_step_checkpointed");
            lora_step(Arc::new(unet()?), batch, states, checkpointed)
                .map_err(|error| Error::argument("lora_step", ArgumentCause::Above(error.into())))?
        }
        _ => return Err(Error::unknown("item", item, ITEMS)),
    })
}

/// The trainer's own step: a LoRA of rank 64 on kohya's UNet targets, AdamW, gradients clipped to a norm of 1.
fn lora_step(unet: Arc<Unet>, batch: Prepared, states: Tensor, checkpointed: bool) -> anyhow::Result<Work> {
    let settings = ["--network_dim=64", "--network_alpha=32", "--network_train_unet_only", "--unet_lr=1e-4", "--max_grad_norm=1"];
    let options = Options::from_arguments(settings.into_iter().chain(checkpointed.then_some("--gradient_checkpointing")))?;
    let network = TrainedNetwork::attach(&options, 1, unet.slots(), &Slots::default(), &Device::Cpu)?;
    // A benchmark's work lives as long as its process.
    let model = Box::leak(Box::new(UnetAlone { denoiser: Denoiser::new(unet, DType::F32, &options, &network), states }));
    let mut learner = Learner::new(&*model, network.groups(), &options, options.optimization.max_train_steps, 0)?;
    let mut steps = 0;
    Ok(Box::new(move || {
        let step = learner.step(steps, [Ok(batch.clone())]);
        steps += 1;
        step.map(drop).map_err(|error| Error::argument("lora_step", ArgumentCause::Above(error.into())))
    }))
}

/// What a step needs of a model where latents and text states are there already.
struct UnetAlone {
    denoiser: Denoiser,
    /// `[b, n, c]`.
    states: Tensor,
}

impl Model for UnetAlone {
    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn latent_shape(&self, (width, height): (usize, usize)) -> [usize; 3] {
        [4, height / 8, width / 8]
    }

    fn posterior(&self, _images: &Tensor) -> Result<Posterior> {
        Err(Error::argument("images", ArgumentCause::Missing))
    }

    fn latent_scale(&self) -> f64 {
        1.0
    }

    fn encode_captions(&self, captions: &[&str]) -> Result<Tensor> {
        Ok(self.states.narrow(0, 0, captions.len())?)
    }

    fn trains_text_encoder(&self) -> bool {
        false
    }

    fn predict(&self, noisy: &Tensor, timesteps: &[usize], text: &Tensor) -> Result<Tensor> {
        self.denoiser.predict(noisy, timesteps, text)
    }

    fn denoiser(&self) -> &Denoiser {
        &self.denoiser
    }

    fn backward(&self, loss: &Tensor) -> Result<GradStore> {
        self.denoiser.backward(loss)
    }
}
