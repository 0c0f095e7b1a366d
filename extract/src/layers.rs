//! `extract layers` and `--show_all_layers`: every layer id with its shape. Nothing is computed for it (the original runs a batch).

use anyhow::{Context, Result};
use driftless::formats::write_atomically;
use driftless::taps::{AttentionCategory, LayerId, TapPlan};
use driftless::unet::UnetConfig;
use driftless_cli::{Console, output};
use features::engine::{pass_sizes, shape_text};
use features::fault::{Fault, RequestFault};
use features::plan;
use serde_json::{Map, Value, json};

use crate::args::{ExtractArgs, LayersArgs};
use crate::model::unet_config_of;

/// Where `--show_all_layers` writes its list, as the original does.
const RECORD: &str = "layer_record.json";
/// The original's default for its default model; ours is Stable Diffusion 1.5's.
const DEFAULT_IMG_SIZE: usize = 512;

/// `extract layers`.
///
/// # Errors
/// When the model has no readable configuration, or the image size is out of range.
pub fn list(args: &LayersArgs, console: &Console) -> Result<()> {
    let config = match &args.model {
        Some(model) => unet_config_of(model, console)?,
        None => UnetConfig::of_family(plan::family(args.version.as_deref())?),
    };
    let layers = layers(&config, args.img_size, &args.attention)?;
    if args.json {
        let object: Map<String, Value> = layers.into_iter().map(|(id, shape)| (id.to_string(), json!(shape))).collect();
        output::print_json(&Value::Object(object));
    } else {
        output::print(&table(&layers));
    }
    Ok(())
}

/// `--show_all_layers`.
///
/// # Errors
/// As [`list`], and when the record cannot be written.
pub fn show_all(args: &ExtractArgs, console: &Console) -> Result<()> {
    let run = &args.run.settings;
    let config = match (&run.model, &run.command.offline_lora, &run.command.offline_lora_filename) {
        (_, Some(merged), None) if merged.is_dir() => unet_config_of(&merged.to_string_lossy(), console)?,
        (Some(model), ..) => unet_config_of(model, console)?,
        _ => UnetConfig::of_family(plan::family(run.version.as_deref())?),
    };
    let attention = args.set.set.attention.iter().map(|name| name.parse()).collect::<driftless::Result<Vec<_>>>()?;
    let layers = layers(&config, run.input.img_size.unwrap_or(DEFAULT_IMG_SIZE), &attention)?;
    output::print(&table(&layers));
    let record: Map<String, Value> = layers.iter().map(|(id, _)| (id.to_string(), Value::Bool(true))).collect();
    let text = serde_json::to_string(&record)?;
    write_atomically(RECORD, |file| file.write_bytes(text.as_bytes())).context("--show-all-layers")
}

fn layers(config: &UnetConfig, img_size: usize, attention: &[AttentionCategory]) -> Result<Vec<(LayerId, [usize; 3])>> {
    if !(8..=8192).contains(&img_size) {
        return Err(Fault::usage(RequestFault::OutOfRange {
            option: "--img-size",
            found: img_size,
            least: 8,
            most: 8192,
            unit: "pixels",
        })
        .into());
    }
    let layout = config.layout();
    let sizes = pass_sizes(img_size);
    // Attention without maps is reported here as in a run.
    TapPlan::new(&layout, [], attention, sizes.latents)?;
    Ok(layout.shapes(&sizes, attention))
}

fn table(layers: &[(LayerId, [usize; 3])]) -> String {
    let width = layers.iter().map(|(id, _)| id.to_string().len()).max().unwrap_or(0);
    layers.iter().map(|(id, shape)| format!("{:width$}  {}\n", id.to_string(), shape_text(*shape))).collect()
}
