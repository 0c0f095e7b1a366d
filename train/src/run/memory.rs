//! How much memory a run will take, about, before anything is loaded.
//!
//! Weights, adapter, gradients and optimizer are counted; what the forward pass keeps for the backward pass is estimated by a formula in
//! the UNet's sizes, whose factors were set by measuring full-size runs (the figures stand in its tests).

use super::fault::RunFault;
use super::plan::Plan;
use crate::alignment::Alignment;
use crate::data::buckets::Size;
use crate::model::skeleton::Skeleton;
use crate::network::{NetworkSettings, TrainedNetwork};
use crate::options::{ObjectiveKind, Precision};
use anyhow::Result;
use candle_core::Device;
use driftless::unet::UnetConfig;

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

/// The estimate for a run.
///
/// # Errors
/// When the adapter does not fit the model.
pub fn estimate(plan: &Plan) -> Result<Estimate> {
    let (options, skeleton) = (&plan.options, &plan.skeleton);
    let device = Device::Cpu;
    let network = TrainedNetwork::attach(options, plan.seed, skeleton.unet.slots(), skeleton.text_encoder.slots(), &device)?;
    let heads = match options.objective.objective {
        ObjectiveKind::Diffusion => 0,
        ObjectiveKind::Cleandift => Alignment::parameter_count(&skeleton.unet_config)?,
    };
    let adapter = (network.parameter_count() + heads) * BYTES_PER_PARAMETER;
    let half = options.model.mixed_precision != Precision::No || skeleton.is_half;
    let weights = skeleton.elements * if half { 2 } else { 4 };
    let downscale = skeleton.vae_config.downscale();
    let training = largest_batch(plan).map_or(0, |(size, batch)| {
        let latent = [size.0 / downscale, size.1 / downscale];
        batch * kept(&skeleton.unet_config, latent, options.optimization.gradient_checkpointing)
    });
    let width = skeleton.vae_config.block_out_channels[0];
    let encoding = largest_batch(plan).map_or(0, |(size, _)| width * size.0 * size.1 * ENCODER_TENSORS * 4);
    Ok(Estimate { weights, adapter, activations: training.max(encoding) })
}

/// Value, gradient, and the two moments of the Adam family, all float32.
const BYTES_PER_PARAMETER: usize = 16;

/// Memory that no machine has; the limit where the system does not say how much there is.
const NO_MACHINE: u64 = 1 << 42;

/// That the adapter's matrices and the optimizer's memory could fit into this machine, told from the ranks and the layers' shapes before
/// anything is allocated.
///
/// # Errors
/// When they could not.
pub fn ensure_possible(settings: &NetworkSettings, skeleton: &Skeleton) -> Result<(), RunFault> {
    let slots = skeleton.unet.slots().all().into_iter().chain(skeleton.text_encoder.slots().all());
    let parameters = slots.filter_map(|(_, slot)| {
        let shape = slot.kind();
        let (c_in, c_out) = shape.features();
        let across = c_in.saturating_mul(shape.kernel().pow(2)).saturating_add(c_out);
        settings.for_layer(shape).map(|layer| across.saturating_mul(layer.rank))
    });
    let needed = parameters.fold(0_usize, usize::saturating_add).saturating_mul(BYTES_PER_PARAMETER);
    let there = driftless_cli::memory::installed_bytes().unwrap_or(NO_MACHINE);
    if needed as u64 <= there {
        return Ok(());
    }
    Err(RunFault::TooLarge { rank: settings.linear.rank, needed, there: there as usize })
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
    // 8 457 547 776 bytes, and 5 314 564 096 with --gradient_checkpointing. Weights, adapter and optimizer are 4.2 GiB of it. Taken
    // before the kernels were rebuilt, which since then take about 0.25 GiB less in a pass of the UNet without gradients; runs have not
    // been measured anew, so an estimate may be that much too high.
    #[test]
    fn full_size_runs_took_about_as_much() {
        let config = UnetConfig::stable_diffusion_1_5();
        let rest = 4.2 * f64::from(1 << 30);
        for (checkpointed, peak, tolerance) in [(false, 8_457_547_776.0, 0.05), (true, 5_314_564_096.0, 0.1)] {
            let estimate = rest + kept(&config, [64, 64], checkpointed) as f64;
            assert!((estimate / peak - 1.0).abs() < tolerance, "{checkpointed}: {estimate:e}, not {peak:e}");
        }
    }
}
