//! Adapters into the formats of diffusers, kohya and PEFT.

use crate::args::AdapterOptions;
use crate::output;
use crate::report::Report;
use driftless::checkpoint::adapter_file::{DIFFUSERS_WEIGHT_NAME, Network, UnknownKeys};
use driftless::checkpoint::naming::ldm::Part;
use driftless::checkpoint::{AdapterFile, AtomicFolder, Component, WeightFile};
use driftless::{Error, Result};

/// `convert kohya`.
pub fn to_kohya(options: &AdapterOptions, report: &Report) -> Result<()> {
    if !output::names_safetensors(&options.output) {
        return Err(Error::file(&options.output, "does not end in .safetensors", "kohya files are written as .safetensors"));
    }
    let adapter = read(&WeightFile::open(&options.input)?, options, report)?;
    output::prepare(&options.input, &options.output)?;
    AdapterFile::write_kohya(&options.output, &adapter.entries, &adapter.metadata, options.dtype.map(|dtype| dtype.dtype()))?;
    report.say(format!("{}: {}", options.output.display(), summary(&adapter)));
    Ok(())
}

/// `convert peft`.
pub fn to_peft(options: &AdapterOptions, report: &Report) -> Result<()> {
    if output::names_safetensors(&options.output) {
        return Err(Error::file(
            &options.output,
            "names a file; PEFT's format is a folder for each network",
            "give the name of a folder",
        ));
    }
    let adapter = read(&WeightFile::open(&options.input)?, options, report)?;
    output::prepare(&options.input, &options.output)?;
    AdapterFile::write_peft(&options.output, &adapter.entries, &adapter.metadata, options.dtype.map(|dtype| dtype.dtype()))?;
    for (network, folder) in [(Network::Unet, "unet"), (Network::TextEncoder, "text_encoder")] {
        if adapter.entries.keys().any(|(n, _)| *n == network) {
            report.say(format!("{}", options.output.join(folder).display()));
        }
    }
    report.say(summary(&adapter));
    Ok(())
}

/// `convert diffusers`, for an adapter.
pub fn to_diffusers(file: &WeightFile, options: &AdapterOptions, report: &Report) -> Result<()> {
    let adapter = read(file, options, report)?;
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
    report.say(format!("{}: {}", written.display(), summary(&adapter)));
    Ok(())
}

/// Reads the adapter, with the base model's layers at hand where one is given.
fn read(file: &WeightFile, options: &AdapterOptions, report: &Report) -> Result<AdapterFile> {
    let unknown = if options.allow_unknown { UnknownKeys::Collect } else { UnknownKeys::Refuse };
    let adapter = AdapterFile::from_weights(file, unknown)?;
    report.unknown_keys(&adapter.unknown_keys);
    if let Some(base) = &options.base {
        let has = |network| adapter.entries.keys().any(|(n, _)| *n == network);
        let open = |network, part| if has(network) { Component::open(part, base).map(Some) } else { Ok(None) };
        let unet = open(Network::Unet, Part::Unet)?;
        let text_encoder = open(Network::TextEncoder, Part::TextEncoder)?;
        adapter.check_fit(|network, path| {
            let component = if network == Network::Unet { &unet } else { &text_encoder };
            Some(component.as_ref()?.info(&format!("{path}.weight"))?.shape.clone())
        })?;
    }
    Ok(adapter)
}

/// One line on what an adapter holds.
pub fn summary(adapter: &AdapterFile) -> String {
    let count = |network| adapter.entries.keys().filter(|(n, _)| *n == network).count();
    let ranks: std::collections::BTreeSet<usize> = adapter.entries.values().map(|factors| factors.rank()).collect();
    let ranks: Vec<String> = ranks.iter().map(usize::to_string).collect();
    let networks = [(count(Network::Unet), "UNet"), (count(Network::TextEncoder), "text-encoder")];
    let layers: Vec<String> = networks.iter().filter(|(n, _)| *n > 0).map(|(n, name)| format!("{n} {name} layers")).collect();
    format!("{}, rank {}", layers.join(" and "), ranks.join(", "))
}
