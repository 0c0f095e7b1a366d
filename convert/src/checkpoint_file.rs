//! A diffusers pipeline folder as one LDM file, the inverse of the pipeline folder.

use crate::args::CheckpointOptions;
use crate::output;
use crate::report::Report;
use candle_core::Device;
use driftless::checkpoint::naming::{ldm, ldm::Part, vae_attention};
use driftless::checkpoint::{Component, TensorSpec, cast, kind, require_finite, write_safetensors_streaming};
use driftless::{Error, Result};
use std::collections::BTreeMap;

/// Converts the folder.
pub fn run(options: &CheckpointOptions, report: &Report) -> Result<()> {
    if !options.input.is_dir() {
        return Err(Error::file(&options.input, "is no folder", "give a diffusers pipeline folder"));
    }
    if !output::names_safetensors(&options.output) {
        return Err(Error::file(&options.output, "does not end in .safetensors", "LDM files are written as .safetensors"));
    }
    let mut components = BTreeMap::new();
    let mut specs = Vec::new();
    let mut sources = BTreeMap::new();
    for part in Part::ALL {
        let component = Component::open(part, &options.input)?;
        let path = component.file().path().to_owned();
        let pairs = ldm::table_to_ldm(component.names(), part).map_err(|unknown| kind::unknown_keys_error(&path, &unknown))?;
        for (name, stored) in pairs {
            let Some((info, dtype)) = component.info(&name).and_then(|info| Some((info, info.tensor_dtype()?))) else {
                return Err(Error::tensor(&path, name, "has a type that is not supported"));
            };
            let mut shape = info.shape.clone();
            if part == Part::Vae && vae_attention::is_projection_weight(&name) {
                shape.resize(4, 1);
            }
            let dtype = options.dtype.map_or(dtype, |dtype| dtype.dtype());
            specs.push(TensorSpec { name: stored.clone(), dtype, shape });
            sources.insert(stored, (part, name));
        }
        components.insert(part, component);
    }
    output::prepare(&options.input, &options.output)?;
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let count = specs.len();
    write_safetensors_streaming(&options.output, specs, &metadata, |spec| {
        let (part, name) = &sources[&spec.name];
        let component = &components[part];
        let wrong = |problem| Error::tensor(component.file().path(), name, problem);
        let tensor = component.tensor(name, &Device::Cpu)?;
        require_finite(&tensor).map_err(wrong)?;
        Ok(cast(&tensor, spec.dtype).map_err(wrong)?.reshape(spec.shape.as_slice())?)
    })?;
    report.say(format!("{}: {count} weights", options.output.display()));
    Ok(())
}
