//! The items of work that are timed, by criterion (`benches/networks.rs`) and beside PyTorch (`examples/bench_step.rs`).

use std::path::Path;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use driftless::adapter::targets::UnetTargets;
use driftless::adapter::{Algorithm, Trainable, TrainableOptions};
use driftless::controlnet::ControlNet;
use driftless::model_family::Network;
use driftless::ops::{AdamW, GradientSink};
use driftless::pipeline::{ModelFiles, ModelOptions};
use driftless::rng::Generator;
use driftless::text_encoder::TextEncoder;
use driftless::unet::{TextContext, Unet, UnetConfig, UnetInput};
use driftless::vae::Vae;
use driftless::{Error, Result};

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
/// Rank of the adapter in the LoRA steps.
const RANK: usize = 64;
/// The optimizer's rate.
const RATE: f64 = 1e-4;
/// What the norm of all gradients is clipped to.
const MAX_NORM: f64 = 1.0;

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
            let unet = unet()?;
            let noise = draw(&[batch, 4, size / 8, size / 8])?;
            let variables = attach_lora(&unet)?;
            let moment = |variable: &Var| Var::zeros(variable.shape(), DType::F32, &Device::Cpu);
            let moments = |variable| Ok((moment(variable)?, moment(variable)?));
            let moments = variables.iter().map(moments).collect::<Result<Vec<_>>>()?;
            let mut steps = 0;
            let sink = (item == "lora_step_checkpointed").then(|| GradientSink::new(variables.clone()));
            Box::new(move || {
                let mut gradients = gradients(&unet, &latents, &noise, &states, sink.as_ref())?;
                clip(&mut gradients, &variables)?;
                steps += 1;
                let step = AdamW::new((0.9, 0.999), 1e-8, 0.01, RATE, steps);
                for (variable, (mean, square)) in variables.iter().zip(&moments) {
                    let gradient =
                        gradients.get(variable).ok_or_else(|| Error::argument("lora_step", "a matrix has no gradient"))?;
                    step.step(variable, mean, square, gradient)?;
                }
                Ok(())
            })
        }
        _ => return Err(Error::unknown("item", item, ITEMS)),
    })
}

/// A LoRA on kohya's UNet targets.
fn attach_lora(unet: &Unet) -> Result<Vec<Var>> {
    let mut generator = Generator::manual_seed(1);
    let mut variables = Vec::new();
    for (path, slot) in unet.slots().all() {
        if UnetTargets::Transformers.matches(&path) {
            let options =
                TrainableOptions { algorithm: Algorithm::Lora, rank: RANK, alpha: RANK as f64 / 2.0, tucker: false, dora: None };
            let lora = Trainable::init(slot.kind(), &slot.weight(), false, &options, &mut generator, &Device::Cpu)?;
            slot.attach(&path, lora.adapter)?;
            variables.extend(lora.variables.into_iter().map(|(_, variable)| variable));
        }
    }
    Ok(variables)
}

/// The gradients of a step's loss, with gradient checkpointing if there is a sink for what the blocks find.
fn gradients(unet: &Unet, latents: &Tensor, noise: &Tensor, states: &Tensor, sink: Option<&GradientSink>) -> Result<GradStore> {
    let context = TextContext::uncached(states.clone());
    let noisy = ((latents + noise)? * 0.5f64.sqrt())?.to_dtype(DType::F32)?;
    let prediction = match sink {
        Some(sink) => {
            // Gradient checkpointing needs a tracked input.
            let noisy = Var::from_tensor(&noisy)?;
            let input = UnetInput { sample: noisy.as_tensor(), timesteps: &[500.0], context: &context, residuals: None };
            unet.forward_checkpointed(&input, sink)?
        }
        None => unet.forward(&UnetInput { sample: &noisy, timesteps: &[500.0], context: &context, residuals: None })?,
    };
    let loss = (prediction - noise)?.sqr()?.mean_all()?;
    let mut gradients = loss.backward()?;
    if let Some(sink) = sink {
        sink.merge_into(&mut gradients)?;
    }
    Ok(gradients)
}

/// Scales all gradients so that their common norm is at most [`MAX_NORM`].
fn clip(gradients: &mut GradStore, variables: &[Var]) -> Result<()> {
    let mut squares = 0.0;
    for gradient in variables.iter().filter_map(|variable| gradients.get(variable)) {
        squares += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    let scale = (MAX_NORM / (squares.sqrt() + 1e-6)).min(1.0);
    for variable in variables {
        if let Some(gradient) = gradients.remove(variable) {
            gradients.insert(variable, (gradient * scale)?);
        }
    }
    Ok(())
}
