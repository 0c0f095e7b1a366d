//! `train check`: what a run would do, in words.

use super::memory;
use super::plan::Plan;
use crate::data::scan::Dataset;
use anyhow::Result;
use driftless_cli::Unit;
use std::fmt::Write;

const IMAGES: Unit = Unit::new("image", "images");
const REPEATS: Unit = Unit::new("repeat", "repeats");
const BATCHES: Unit = Unit::new("batch", "batches");

/// The plan as text for standard output.
///
/// # Errors
/// When the model folder's configuration is damaged, or the adapter does not fit it.
pub fn report(plan: &Plan) -> Result<String> {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(plan, &mut text);
    let memory::Estimate { weights, adapter, activations } = memory::estimate(plan)?;
    let total = memory::shown(weights + adapter + activations);
    let [weights, adapter, activations] = [weights, adapter, activations].map(memory::shown);
    let _ = writeln!(
        text,
        "memory              about {total}: weights {weights}, adapter and optimizer {adapter}, activations {activations}"
    );
    Ok(text)
}

fn write(plan: &Plan, out: &mut String) -> std::fmt::Result {
    let (data, steps, options) = (&plan.data, &plan.steps, &plan.options);
    for (number, dataset) in data.datasets.iter().enumerate() {
        if data.datasets.len() > 1 {
            writeln!(out, "data set {}", number + 1)?;
        }
        describe(dataset, out)?;
    }
    writeln!(out, "images x repeats  {}", data.num_train_images())?;
    if data.num_reg_images() > 0 {
        writeln!(out, "regularization      {}", data.num_reg_images())?;
    }
    if data.num_validation_images() > 0 {
        writeln!(out, "held back           {} for validation", IMAGES.of(data.num_validation_images()))?;
    }
    writeln!(out, "batches per epoch   {}", steps.batches_per_epoch)?;
    writeln!(out, "batches per step    {}", steps.accumulation)?;
    writeln!(out, "steps per epoch     {}", steps.per_epoch)?;
    writeln!(out, "epochs              {}", steps.epochs)?;
    writeln!(out, "steps in all        {}", steps.total)?;
    let network = &options.network;
    writeln!(
        out,
        "adapter             {}, rank {}, alpha {}",
        network.network_module, network.network_dim, network.network_alpha
    )?;
    let rates = &options.optimization;
    let text_rate = rates.text_encoder_lr.first().copied().unwrap_or(rates.learning_rate);
    let unet_rate = rates.unet_lr.unwrap_or(rates.learning_rate);
    writeln!(out, "learning rates      UNet {unet_rate:e}, text encoder {text_rate:e}, {}", rates.lr_scheduler)?;
    writeln!(out, "output              {}", plan.names.adapter(crate::output::When::End).display())
}

fn describe(dataset: &Dataset, out: &mut String) -> std::fmt::Result {
    for subset in &dataset.subsets {
        let kind = if subset.plan.is_reg { "regularization, " } else { "" };
        writeln!(
            out,
            "{}: {kind}{} x {}; captions: {} found, {} missing",
            subset.plan.image_dir.display(),
            IMAGES.of(subset.images),
            REPEATS.of(subset.plan.repeats),
            subset.captions,
            subset.without_caption.len()
        )?;
    }
    let kind = match dataset.plan.buckets.enable {
        true => "buckets",
        false => "one size",
    };
    writeln!(out, "{kind} (batches of {}):", dataset.plan.batch_size)?;
    for ((width, height), entries) in &dataset.buckets {
        let batches = entries.len().div_ceil(dataset.plan.batch_size);
        writeln!(out, "  {width:>4} x {height:<4}  {:>6} with repeats, {}", IMAGES.of(entries.len()), BATCHES.of(batches))?;
    }
    if dataset.plan.buckets.enable {
        writeln!(out, "  mean difference of aspect ratios {:.4}", dataset.mean_aspect_error())?;
    }
    Ok(())
}
