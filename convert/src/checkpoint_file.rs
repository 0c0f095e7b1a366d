//! A diffusers pipeline folder as one LDM file, the inverse of the pipeline folder.

use crate::args::CheckpointOptions;
use crate::output;
use crate::pipeline_folder::Transform;
use crate::report::Report;
use candle_core::{DType, Device, Tensor};
use driftless::formats::{TensorSpec, cast, require_finite, write_safetensors_streaming, write_torch_streaming};
use driftless::model_family::naming::ldm::Part;
use driftless::model_family::naming::{ldm, vae_attention};
use driftless::weights::{Component, kind};
use driftless::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// Converts the folder.
pub fn run(options: &CheckpointOptions, report: &Report) -> Result<()> {
    if !options.input.is_dir() {
        return Err(Error::file(&options.input, "is no folder", "give a diffusers pipeline folder"));
    }
    refuse_other_names(&options.output)?;
    let components = Part::ALL.into_iter().map(|part| Component::open(part, &options.input)).collect::<Result<Vec<_>>>()?;
    output::prepare(&options.input, &options.output)?;
    let dtype = options.dtype.map(|dtype| dtype.dtype());
    let count = write(&options.output, &components.iter().collect::<Vec<_>>(), dtype, &|_, _, tensor| Ok(tensor), report)?;
    report.say(format!("{}: {count} weights", options.output.display()));
    Ok(())
}

/// LDM files are written as safetensors, or as torch's pickles, which older programs want.
pub fn refuse_other_names(output: &Path) -> Result<()> {
    if output::names_safetensors(output) || output::names_ckpt(output) {
        return Ok(());
    }
    Err(Error::file(output, "ends neither in .safetensors nor in .ckpt", "LDM files are written in these two forms"))
}

/// Writes networks as one LDM file; how many weights there are.
pub fn write(
    output: &Path,
    components: &[&Component],
    dtype: Option<DType>,
    transform: &Transform,
    report: &Report,
) -> Result<usize> {
    let mut specs = Vec::new();
    let mut sources = BTreeMap::new();
    for component in components {
        let part = component.part();
        let path = component.file().path();
        let pairs = ldm::table_to_ldm(component.names(), part).map_err(|unknown| kind::unknown_keys_error(path, &unknown))?;
        for (name, stored) in pairs {
            let Some((info, own)) = component.info(&name).and_then(|info| Some((info, info.tensor_dtype()?))) else {
                return Err(Error::tensor(path, name, "has a type that is not supported"));
            };
            let mut shape = info.shape.clone();
            if part == Part::Vae && vae_attention::is_projection_weight(&name) {
                shape.resize(4, 1);
            }
            specs.push(TensorSpec { name: stored.clone(), dtype: dtype.unwrap_or(own), shape });
            sources.insert(stored, (*component, name));
        }
    }
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let count = specs.len();
    let progress = report.progress("weights", count);
    let mut produce = |spec: &TensorSpec| -> Result<Tensor> {
        let (component, name) = &sources[&spec.name];
        let wrong = |problem| Error::tensor(component.file().path(), name, problem);
        let tensor = component.tensor(name, &Device::Cpu)?;
        require_finite(&tensor).map_err(wrong)?;
        let tensor = transform(component.part(), name, tensor)?;
        progress.advance();
        Ok(cast(&tensor, spec.dtype).map_err(wrong)?.reshape(spec.shape.as_slice())?)
    };
    if output::names_ckpt(output) {
        specs.sort_by(|left, right| left.name.cmp(&right.name));
        write_torch_streaming(output, &specs, &mut produce)?;
    } else {
        write_safetensors_streaming(output, specs, &metadata, &mut produce)?;
    }
    Ok(count)
}
