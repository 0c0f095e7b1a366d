//! Features as images: `extract pca`, the original's `feature_visualization.py` with its settings as options.
//!
//! Differences: all components are exact and computed in float64; folders of features and safetensors files are drawn, too; several
//! inputs are put side by side in a sheet; cross-attention is laid over the images as well; features that are not square keep their shape.

mod common;
mod drawing;
mod fit;
mod heat;
mod image;
mod label;
mod names;
mod photos;
mod pieces;
mod sheet;
mod sources;

use anyhow::Result;
use driftless_cli::Console;
use features::fault::{Fault, RequestFault};

use crate::args::PcaArgs;

/// A feature that cannot be drawn; its fault goes on behind its name.
#[derive(Debug, thiserror::Error)]
#[error("{name} {fault}")]
struct NotDrawn {
    name: String,
    fault: Box<dyn std::error::Error + Send + Sync>,
}

/// Draws all inputs, or makes bases of them.
///
/// # Errors
/// When an input is no feature, or a file cannot be written.
pub fn draw(args: &PcaArgs, console: &Console) -> Result<()> {
    let check = |option, found, most, unit| match (1..=most).contains(&found) {
        true => Ok(()),
        false => Err(Fault::usage(RequestFault::OutOfRange { option, found, least: 1, most, unit })),
    };
    check("--size", args.size, 8192, "pixels")?;
    check("--sheet-rows", args.sheet_rows, 512, "rows")?;
    let sources = sources::find(&args.inputs)?;
    if let Some(place) = &args.fit {
        fit::fit(&sources, place, args.pca_dims, console)?;
    }
    match &args.output {
        Some(output) => drawing::draw(args, output, &sources, console),
        None => Ok(()),
    }
}
