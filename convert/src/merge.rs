//! `convert merge`: adapters of any family into a model's weights.
//!
//! Every adapter changes the weight as it is in the base, and the changes add up, as they do where adapters are attached side by side;
//! computed in float32, rounded once.

use crate::args::MergeOptions;
use crate::fault::Fault;
use crate::model::Model;
use crate::pipeline_folder::{Chosen, Folder};
use crate::{adapters, checkpoint_file, output};
use candle_core::Tensor;
use driftless::adapter::files::UnknownKeys;
use driftless::adapter::{Adapter, AdapterFile, ScaledFile, merged_bias, merged_weight};
use driftless::error::AdapterCause;
use driftless::formats::require_finite;
use driftless::model_family::Network;
use driftless::weights::Component;
use driftless::{Error, Result};
use driftless_cli::Console;
use std::collections::BTreeMap;

/// Adapters of one layer, by network and module path.
type Changes = BTreeMap<(Network, String), Vec<Adapter>>;

/// Merges and writes.
pub fn run(options: &MergeOptions, console: &Console) -> Result<()> {
    let base = Model::open(&options.base, options.ema, console)?;
    let mut changes = Changes::new();
    for adapter in &options.adapters {
        add(&mut changes, adapter, &base, console)?;
    }
    for scaled in &options.adapters {
        output::prepare(&scaled.file, &options.output)?;
    }
    output::prepare(&base.path, &options.output)?;
    let transform = |network: Network, name: &str, tensor: Tensor| {
        let changed = merged(&changes, network, name, tensor)?;
        match require_finite(&changed) {
            Ok(()) => Ok(changed),
            // The base's own numbers were found finite when they were read.
            Err(_) => Err(Error::tensor(&base.path, format!("{network}.{name}"), AdapterCause::Overflow)),
        }
    };
    let dtype = options.dtype.map(|dtype| dtype.dtype());
    let present: Vec<&Component> = Network::PIPELINE.iter().filter_map(|network| base.network(*network)).collect();
    if looks_like_a_file(options) {
        checkpoint_file::refuse_other_names(&options.output)?;
        checkpoint_file::write(&options.output, &present, base.family, dtype, &transform, console)?;
    } else {
        let Some(folder) = base.folder().filter(|_| present.len() == Network::PIPELINE.len()) else {
            return Err(Error::file(
                &options.output,
                Fault::NoBaseForFolder,
                "give a complete diffusers folder as --base, or an output that ends in .safetensors",
            ));
        };
        let all = |component: &Component| component.names().map(str::to_owned).collect();
        let chosen = |component: &&Component| Chosen { names: all(component), component: (*component).clone(), origin: "merged" };
        let parts: Vec<Chosen> = present.iter().map(chosen).collect();
        Folder { base: folder, dtype, prediction: None, transform: &transform }.write(&options.output, &parts, console)?;
    }
    console.result(format!("{}: {} layers changed", options.output.display(), changes.len()));
    Ok(())
}

/// Whether the output is meant to be one file.
fn looks_like_a_file(options: &MergeOptions) -> bool {
    let extension = options.output.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["safetensors", "ckpt", "pt", "pth", "bin"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Reads an adapter and checks it against the base.
fn add(changes: &mut Changes, scaled: &ScaledFile, base: &Model, console: &Console) -> Result<()> {
    let file = AdapterFile::open_at(&scaled.file, UnknownKeys::Refuse)?;
    file.check_fit(|network, path| base.weight_shape(network, path))?;
    console.result(format!("{} at {}: {}", scaled.file.display(), scaled.scale, adapters::summary(&file)));
    for ((network, path), adapter) in file.entries {
        let has_bias = base.network(network).is_some_and(|component| component.info(&format!("{path}.bias")).is_some());
        if adapter.bias_change()?.is_some() && !has_bias {
            return Err(Error::tensor(&scaled.file, format!("{network}.{path}"), Fault::NoBias));
        }
        changes.entry((network, path)).or_default().push(adapter.scaled(scaled.scale));
    }
    Ok(())
}

/// A weight or bias with all changes, float32; others as they are.
fn merged(changes: &Changes, network: Network, name: &str, tensor: Tensor) -> Result<Tensor> {
    let Some((path, parameter)) = name.rsplit_once('.') else { return Ok(tensor) };
    let Some(adapters) = changes.get(&(network, path.to_owned())) else { return Ok(tensor) };
    match parameter {
        "weight" => merged_weight(&tensor, adapters),
        "bias" => Ok(merged_bias(Some(&tensor), adapters)?.unwrap_or(tensor)),
        _ => Ok(tensor),
    }
}
