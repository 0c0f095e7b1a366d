//! How much memory a run will take, about, before anything is loaded.
//!
//! Weights, adapter, gradients and optimizer are counted; what the forward pass keeps for the backward pass is estimated by a formula in
//! the UNet's sizes, whose factors were set by measuring full-size runs (the figures stand in its tests).

use super::plan::Plan;
use crate::data::buckets::Size;
use crate::model::place;
use crate::network::TrainedNetwork;
use crate::options::{Options, Precision};
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use driftless::formats::WeightFile;
use driftless::layers::{TensorSource, WeightType, Weights};
use driftless::text_encoder::{TextEncoder, TextEncoderConfig};
use driftless::unet::{Unet, UnetConfig};
use driftless::vae::{Vae, VaeConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Frozen weights of all three networks.
    pub weights: usize,
    /// Adapter, its gradients, and the optimizer's memory.
    pub adapter: usize,
    /// What is kept for the backward pass, or takes part in encoding images, whichever is more.
    pub activations: usize,
}

/// Weights that take no memory: all zero, of whatever shape is asked for. Counts them.
#[derive(Default)]
struct Hollow {
    elements: AtomicUsize,
}

impl TensorSource for Hollow {
    fn tensor(&self, _: &str, shape: &[usize], device: &Device) -> driftless::Result<Tensor> {
        self.elements.fetch_add(shape.iter().product(), Ordering::Relaxed);
        Ok(Tensor::zeros((), DType::F32, device)?.broadcast_as(shape)?)
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("(sizes alone)")
    }
}

/// The estimate for a run.
///
/// # Errors
/// When the model folder's configuration is damaged, or the adapter does not fit it.
pub fn estimate(plan: &Plan) -> Result<Estimate> {
    let (options, device) = (&plan.options, Device::Cpu);
    let folder = Path::new(&options.model.pretrained_model_name_or_path);
    let config = |part: &str| folder.join(part).join("config.json");
    let here = config("unet").is_file();
    let unet_config = match here {
        true => UnetConfig::from_file(&config("unet"))?,
        false => UnetConfig::of_family(place::family(&options.model)),
    };
    let vae_config = if here { VaeConfig::from_file(&config("vae"))? } else { VaeConfig::stable_diffusion_1_5() };
    let text_config = match (here, options.model.v2) {
        (true, _) => TextEncoderConfig::from_file(&config("text_encoder"))?,
        (false, false) => TextEncoderConfig::stable_diffusion_1_5(),
        (false, true) => TextEncoderConfig::stable_diffusion_2_1(),
    };
    let source = Arc::new(Hollow::default());
    let weights = || Weights::new(source.clone(), &device, WeightType { storage: None, compute: DType::F32 });
    let unet = Unet::load(unet_config.clone(), weights())?;
    let text_encoder = TextEncoder::load(text_config, weights())?;
    Vae::load(vae_config.clone(), weights())?;
    let network = TrainedNetwork::attach(options, plan.seed, unet.slots(), text_encoder.slots(), &device)?;
    // Value, gradient, and the two moments of the Adam family, all float32.
    let adapter = network.parameter_count() * 16;
    let weights = source.elements.load(Ordering::Relaxed) * bytes_per_weight(options, here.then_some(folder));
    let training = largest_batch(plan).map_or(0, |(size, batch)| {
        let latent = [size.0 / vae_config.downscale(), size.1 / vae_config.downscale()];
        batch * kept(&unet_config, latent, options.optimization.gradient_checkpointing)
    });
    let encoding =
        largest_batch(plan).map_or(0, |(size, _)| vae_config.block_out_channels[0] * size.0 * size.1 * ENCODER_TENSORS * 4);
    Ok(Estimate { weights, adapter, activations: training.max(encoding) })
}

/// Tensors of the autoencoder's first level that are alive at once.
const ENCODER_TENSORS: usize = 5;

/// The bucket and batch with the most pixels.
fn largest_batch(plan: &Plan) -> Option<(Size, usize)> {
    let batches =
        plan.data.datasets.iter().flat_map(|dataset| {
            dataset.buckets.iter().map(|(size, entries)| (*size, entries.len().min(dataset.plan.batch_size)))
        });
    batches.max_by_key(|((width, height), batch)| width * height * batch)
}

fn bytes_per_weight(options: &Options, folder: Option<&Path>) -> usize {
    let stored_in_half = || {
        let file = WeightFile::open(folder?.join("unet/diffusion_pytorch_model.safetensors")).ok()?;
        let name = file.names().next()?.to_owned();
        Some(file.info(&name)?.tensor_dtype()? != DType::F32)
    };
    let half = options.model.mixed_precision != Precision::No || stored_in_half().unwrap_or(false);
    if half { 2 } else { 4 }
}

/// Float32 numbers that a residual block keeps, per input and per output channel and position.
const RESNET: (usize, usize) = (2, 5);
/// Numbers that a transformer block with an adapter on every linear layer keeps, per channel and position.
const TRANSFORMER: usize = 76;

/// Bytes that the forward pass of one image keeps; `latent` is its width and height.
fn kept(config: &UnetConfig, latent: [usize; 2], checkpointed: bool) -> usize {
    let mut blocks: Vec<usize> = Vec::new();
    let mut borders = 0;
    let levels = config.block_out_channels.len();
    let positions = |level: usize| latent[0].div_ceil(1 << level) * latent[1].div_ceil(1 << level);
    let mut block = |c_in: usize, c_out: usize, level: usize, attends: bool| {
        let numbers = RESNET.0 * c_in + RESNET.1 * c_out + if attends { TRANSFORMER * c_out } else { 0 };
        blocks.push(numbers * positions(level));
        borders += c_in * positions(level);
    };
    let widths = &config.block_out_channels;
    let attends = |level: usize| level + 1 < levels;
    let mut skips = vec![widths[0]];
    let mut current = widths[0];
    for (level, &width) in widths.iter().enumerate() {
        for _ in 0..config.layers_per_block {
            block(current, width, level, attends(level));
            (current, _) = (width, skips.push(width));
        }
        if level + 1 < levels {
            skips.push(width);
        }
    }
    for attends in [true, false] {
        block(current, current, levels - 1, attends);
    }
    for (level, &width) in widths.iter().enumerate().rev() {
        for _ in 0..=config.layers_per_block {
            block(current + skips.pop().unwrap_or(width), width, level, attends(level));
            current = width;
        }
    }
    let most = blocks.iter().copied().max().unwrap_or(0);
    4 * if checkpointed { borders + most } else { blocks.iter().sum() }
}

/// `1.2 GiB`, `345 MiB`.
pub fn shown(bytes: usize) -> String {
    let mebibytes = bytes as f64 / (1 << 20) as f64;
    if mebibytes >= 1024.0 { format!("{:.1} GiB", mebibytes / 1024.0) } else { format!("{mebibytes:.0} MiB") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpointing_and_smaller_images_take_less() {
        let config = UnetConfig::stable_diffusion_1_5();
        let whole = kept(&config, [64, 64], false);
        assert!(kept(&config, [64, 64], true) * 4 < whole);
        let ratio = whole as f64 / kept(&config, [32, 32], false) as f64;
        assert!((3.9..4.1).contains(&ratio), "{ratio}");
        assert_eq!(shown(3 << 30), "3.0 GiB");
        assert_eq!(shown(345 << 20), "345 MiB");
    }

    // Peaks of resident memory of `train` on full-size SD1.5 weights in float32, one 512x512 image, rank 64 on the UNet, cached latents:
    // 8 457 547 776 bytes, and 5 314 564 096 with --gradient_checkpointing. Weights, adapter and optimizer are 4.2 GiB of it.
    #[test]
    fn full_size_runs_took_about_as_much() {
        let config = UnetConfig::stable_diffusion_1_5();
        let rest = 4.2 * f64::from(1 << 30);
        for (checkpointed, peak, tolerance) in [(false, 8_457_547_776.0, 0.05), (true, 5_314_564_096.0, 0.1)] {
            let estimate = rest + kept(&config, [64, 64], checkpointed) as f64;
            assert!((estimate / peak - 1.0).abs() < tolerance, "{checkpointed}: {estimate:e}, not {peak:e}");
        }
    }

    #[test]
    fn sizes_are_counted_without_memory() {
        let source = Arc::new(Hollow::default());
        let weights = Weights::new(source.clone(), &Device::Cpu, WeightType { storage: None, compute: DType::F32 });
        Unet::load(UnetConfig::stable_diffusion_1_5(), weights).unwrap();
        // diffusers 0.32: sum(p.numel() for p in UNet2DConditionModel.from_config(SD1.5).parameters()).
        assert_eq!(source.elements.load(Ordering::Relaxed), 859_520_964);
    }
}
