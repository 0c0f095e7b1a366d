//! `convert diffusers`: a whole checkpoint becomes a pipeline folder, an adapter diffusers' LoRA file.

use crate::args::DiffusersOptions;
use crate::fault::Fault;
use crate::{adapters, pipeline_folder};
use driftless::formats::WeightFile;
use driftless::model_family::recognition::{ModelKind, model_kind};
use driftless::{Error, Result};
use driftless_cli::Console;
use std::sync::Arc;

/// Recognizes the input and converts it.
pub fn run(options: &DiffusersOptions, console: &Console) -> Result<()> {
    let input = &options.adapter.input;
    if input.is_dir() {
        if input.join("model_index.json").is_file() {
            return Err(Error::file(input, Fault::IsPipeline, "give a whole LDM checkpoint or an adapter"));
        }
        return adapter(options, console);
    }
    let file = Arc::new(WeightFile::open(input)?);
    match model_kind(&file) {
        ModelKind::LdmCheckpoint(_) => pipeline_folder::run(file, options, console),
        ModelKind::Component(network) => {
            Err(Error::file(input, Fault::IsDiffusers { network }, "give a whole LDM checkpoint or an adapter"))
        }
        ModelKind::Refused(_) | ModelKind::Empty | ModelKind::Unknown => adapter(options, console),
    }
}

/// Converts an adapter; options for whole checkpoints are refused.
fn adapter(options: &DiffusersOptions, console: &Console) -> Result<()> {
    let given = [
        (options.text_encoder.is_some(), "--text-encoder"),
        (options.ema, "--ema"),
        (options.prediction_type.is_some(), "--prediction-type"),
    ];
    for (given, option) in given {
        if given {
            return Err(Error::argument(option, Fault::ForWholeCheckpoints));
        }
    }
    adapters::to_diffusers(&options.adapter, console)
}
