//! The items of work that are timed, by criterion (`benches/networks.rs`) and beside PyTorch (`examples/bench_step.rs`).

use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use driftless::adapter::targets::UnetTargets;
use driftless::adapter::{Algorithm, Trainable, TrainableOptions};
use driftless::controlnet::ControlNet;
use driftless::ops::GradientSink;
use driftless::pipeline::{ModelFiles, ModelOptions};
use driftless::rng::Generator;
use driftless::text_encoder::TextEncoder;
use driftless::unet::{TextContext, Unet, UnetInput};
use driftless::vae::Vae;
use driftless::{Error, Result};

/// Names of the items.
pub const ITEMS: [&str; 6] = ["unet", "vae", "text", "controlnet", "lora_step", "lora_step_checkpointed"];

/// One item, ready to be repeated.
pub type Work = Box<dyn FnMut() -> Result<()>>;

/// Loads what an item needs and nothing else; `size` is the picture's side in pixels.
pub fn prepare(item: &str, model: &Path, controlnet: Option<&Path>, size: usize) -> Result<Work> {
    let options = ModelOptions::default();
    let files = ModelFiles::open(model, None, false)?;
    let mut generator = Generator::manual_seed(0);
    let mut draw = |shape: &[usize]| generator.randn_tensor(shape, &Device::Cpu);
    let latents = draw(&[1, 4, size / 8, size / 8])?;
    Ok(match item {
        "unet" => {
            let unet = Unet::open(&files, &options)?;
            let states = draw(&[1, 77, unet.config().cross_attention_dim])?;
            Box::new(move || {
                let context = TextContext::new(states.clone());
                unet.forward(&UnetInput { sample: &latents, timesteps: &[50.0], context: &context, residuals: None }).map(drop)
            })
        }
        "vae" => {
            let vae = Vae::open(&files, &options)?;
            let picture = draw(&[1, 3, size, size])?.clamp(-1f32, 1f32)?;
            Box::new(move || vae.encode(&picture).map(drop))
        }
        "text" => {
            let text_encoder = TextEncoder::open(&files, &options)?;
            Box::new(move || text_encoder.forward(&[vec![1; 77]], 1).map(drop))
        }
        "controlnet" => {
            let beside = model.join("controlnet-canny");
            let network = ControlNet::open(controlnet.unwrap_or(&beside), &options)?;
            let width =
                driftless::unet::UnetConfig::from_file(&files.config(driftless::pipeline::Part::Unet))?.cross_attention_dim;
            let states = draw(&[1, 77, width])?;
            let condition = draw(&[1, 3, size, size])?;
            Box::new(move || {
                let context = TextContext::new(states.clone());
                let hint = network.hint(&condition)?;
                network.forward(&latents, &[50.0], &context, &hint, 1.0).map(drop)
            })
        }
        "lora_step" | "lora_step_checkpointed" => {
            let unet = Unet::open(&files, &options)?;
            let states = draw(&[1, 77, unet.config().cross_attention_dim])?;
            let noise = draw(&[1, 4, size / 8, size / 8])?;
            let variables = attach_lora(&unet, 64)?;
            let mut optimiser = AdamW::new(variables.clone(), ParamsAdamW { lr: 1e-4, ..ParamsAdamW::default() })?;
            let sink = (item == "lora_step_checkpointed").then(|| GradientSink::new(variables));
            Box::new(move || lora_step(&unet, &latents, &noise, &states, sink.as_ref(), &mut optimiser))
        }
        _ => return Err(Error::unknown("item", item, ITEMS)),
    })
}

/// LoRA of a rank on kohya's UNet targets.
fn attach_lora(unet: &Unet, rank: usize) -> Result<Vec<Var>> {
    let mut generator = Generator::manual_seed(1);
    let mut variables = Vec::new();
    for (path, slot) in unet.slots().all() {
        if UnetTargets::Transformers.matches(&path) {
            let options =
                TrainableOptions { algorithm: Algorithm::Lora, rank, alpha: rank as f64 / 2.0, tucker: false, dora: None };
            let lora = Trainable::init(slot.kind(), &slot.weight(), false, &options, &mut generator, &Device::Cpu)?;
            slot.attach(&path, lora.adapter)?;
            variables.extend(lora.variables.into_iter().map(|(_, variable)| variable));
        }
    }
    Ok(variables)
}

fn lora_step(
    unet: &Unet,
    latents: &Tensor,
    noise: &Tensor,
    states: &Tensor,
    sink: Option<&GradientSink>,
    optimiser: &mut AdamW,
) -> Result<()> {
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
    Ok(optimiser.step(&gradients)?)
}
