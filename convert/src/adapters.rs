//! Adapters into the formats of diffusers, kohya and PEFT.

use crate::args::AdapterOptions;
use crate::fault::Fault;
use crate::model::Model;
use crate::output;
use crate::plain::Plain;
use crate::told;
use driftless::adapter::AdapterFile;
use driftless::adapter::files::{self, DIFFUSERS_WEIGHT_NAME, Network, UnknownKeys};
use driftless::formats::AtomicFolder;
use driftless::{Error, Result};
use driftless_cli::Console;
use std::collections::BTreeMap;

/// `convert kohya`.
pub fn to_kohya(options: &AdapterOptions, console: &Console) -> Result<()> {
    if !output::names_safetensors(&options.output) {
        return Err(Error::file(&options.output, Fault::NoSafetensorsName, "kohya files are written as .safetensors"));
    }
    let (mut adapter, base) = read(options, console)?;
    if options.rank.is_some() {
        plain(options, base.as_ref()).apply(&mut adapter, console)?;
        forget_network(&mut adapter.metadata);
    } else if options.drop_norms {
        plain(options, base.as_ref()).leave_out_norms(&mut adapter, console)?;
    }
    output::prepare(&options.input, &options.output)?;
    AdapterFile::write_kohya(&options.output, &adapter.entries, &adapter.metadata, options.dtype.map(|dtype| dtype.dtype()))?;
    console.result(format!("{}: {}", options.output.display(), summary(&adapter)));
    Ok(())
}

/// `convert peft`.
pub fn to_peft(options: &AdapterOptions, console: &Console) -> Result<()> {
    let (mut adapter, base) = read(options, console)?;
    let dtype = options.dtype.map(|dtype| dtype.dtype());
    let target = &options.output;
    if output::names_safetensors(target) {
        plain(options, base.as_ref()).apply(&mut adapter, console)?;
        output::prepare(&options.input, target)?;
        AdapterFile::write_diffusers(target, &adapter.entries, &adapter.metadata, dtype)?;
        console.result(format!("{}: {}", target.display(), summary(&adapter)));
        console.result("one file under PEFT's names for both networks, scale folded in; a folder's name as --output gives PEFT's own folders");
        return Ok(());
    }
    if options.rank.is_some() || options.drop_norms || !files::fits_peft(&adapter.entries) {
        plain(options, base.as_ref()).apply(&mut adapter, console)?;
    }
    output::prepare(&options.input, target)?;
    AdapterFile::write_peft(target, &adapter.entries, &adapter.metadata, dtype)?;
    for network in [Network::Unet, Network::TextEncoder] {
        if adapter.entries.keys().any(|(n, _)| *n == network) {
            console.result(format!("{}", target.join(network.name()).display()));
        }
    }
    console.result(summary(&adapter));
    Ok(())
}

/// `convert diffusers`, for an adapter.
pub fn to_diffusers(options: &AdapterOptions, console: &Console) -> Result<()> {
    let (mut adapter, base) = read(options, console)?;
    plain(options, base.as_ref()).apply(&mut adapter, console)?;
    let target = &options.output;
    output::prepare(&options.input, target)?;
    let write = |path: &std::path::Path| {
        AdapterFile::write_diffusers(path, &adapter.entries, &adapter.metadata, options.dtype.map(|dtype| dtype.dtype()))
    };
    let written = if output::names_safetensors(target) {
        write(target)?;
        target.clone()
    } else if target.is_dir() {
        write(&target.join(DIFFUSERS_WEIGHT_NAME))?;
        target.join(DIFFUSERS_WEIGHT_NAME)
    } else {
        let folder = AtomicFolder::create(target)?;
        write(&folder.path().join(DIFFUSERS_WEIGHT_NAME))?;
        folder.commit()?;
        target.join(DIFFUSERS_WEIGHT_NAME)
    };
    console.result(format!("{}: {}", written.display(), summary(&adapter)));
    Ok(())
}

fn plain<'a>(options: &AdapterOptions, base: Option<&'a Model>) -> Plain<'a> {
    Plain { rank: options.rank.map(|rank| rank as usize), base, drop_biases: options.drop_biases, drop_norms: options.drop_norms }
}

/// Removes the metadata that describes the family of the adapter before it became plain LoRA.
fn forget_network(metadata: &mut BTreeMap<String, String>) {
    metadata.retain(|key, _| !key.starts_with("ss_network_"));
}

/// Reads the adapter and, where one is given, opens the base model and checks that the adapter's layers fit it.
fn read(options: &AdapterOptions, console: &Console) -> Result<(AdapterFile, Option<Model>)> {
    let unknown = if options.allow_unknown { UnknownKeys::Collect } else { UnknownKeys::Refuse };
    let adapter = AdapterFile::open_at(&options.input, unknown)?;
    told::unknown_keys(&adapter.unknown_keys, console);
    let base = options.base.as_deref().map(|base| Model::open(base, false, console)).transpose()?;
    if let Some(base) = &base {
        adapter.check_fit(|network, path| base.weight_shape(network, path))?;
    }
    Ok((adapter, base))
}

/// Families, layers and ranks of an adapter, in one line.
pub fn summary(adapter: &AdapterFile) -> String {
    let count = |network| adapter.entries.keys().filter(|(n, _)| *n == network).count();
    let ranks: std::collections::BTreeSet<usize> = adapter.entries.values().filter_map(|layer| layer.factors.rank()).collect();
    let ranks: Vec<String> = ranks.iter().map(usize::to_string).collect();
    let networks = [(count(Network::Unet), "UNet"), (count(Network::TextEncoder), "text-encoder")];
    let layer = |(count, name): &(usize, &str)| format!("{count} {name} {}", if *count == 1 { "layer" } else { "layers" });
    let layers: Vec<String> = networks.iter().filter(|(count, _)| *count > 0).map(layer).collect();
    let ranks = if ranks.is_empty() { String::new() } else { format!(", rank {}", ranks.join(", ")) };
    format!("{}: {}{ranks}", families(adapter).join(", "), layers.join(" and "))
}

/// The families of an adapter's layers.
pub fn families(adapter: &AdapterFile) -> Vec<String> {
    let mut families: std::collections::BTreeSet<String> = adapter.entries.values().map(|layer| layer.family()).collect();
    if families.contains("LoCon") {
        // LoCon is LoRA's name where convolutions are among the layers.
        families.remove("LoRA");
    }
    families.into_iter().collect()
}
