//! `convert extract-lora`: the adapter inside a merged checkpoint.
//!
//! As kohya's `extract_lora_from_models.py` each layer's difference is cut to a rank by its singular values. Deliberate differences: no
//! clamp of large entries (it costs a tenth of the change), the singular values shared evenly between both factors, convolutions and
//! the text encoder always looked at, layers left out only where rounding explains the difference, and in a report for each block how
//! much of the difference the rank holds.

mod layer;
mod noise;
mod tell;

use crate::args::ExtractOptions;
use crate::fault::Fault;
use crate::model::Model;
use crate::output;
use crate::told::LAYERS;
use candle_core::{DType, Device};
use driftless::adapter::AdapterFile;
use driftless::adapter::files::Entries;
use driftless::model_family::{LayerKind, Network, layer_kind};
use driftless::weights::Component;
use driftless::{Error, Result};
use driftless_cli::{Console, Progress};
use layer::{Layer, Outcome};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Extracts and writes.
pub fn run(options: &ExtractOptions, console: &Console) -> Result<()> {
    if !output::names_safetensors(&options.output) {
        return Err(Error::file(&options.output, Fault::NoSafetensorsName, "kohya files are written as .safetensors"));
    }
    let tuned = Model::open(&options.input, options.ema, console)?;
    let base = Model::open(&options.base, false, console)?;
    let mut work = Vec::new();
    let mut others = 0;
    for network in [Network::Unet, Network::TextEncoder] {
        let Some(own) = tuned.network(network) else {
            console.warn(format!("the tuned model has no {network}, so nothing of it is extracted"));
            continue;
        };
        let Some(reference) = base.network(network) else {
            return Err(Error::file(&base.path, Fault::BaseLacks { network }, "give a whole model as --base"));
        };
        others += compare(network, own, reference, &mut work)?;
    }
    let progress = Progress::new(console, LAYERS, work.len());
    let outcomes: Vec<Outcome> = work
        .par_iter()
        .map(|layer| {
            let outcome = layer.extract(options);
            progress.advance(1);
            outcome
        })
        .collect::<Result<_>>()?;
    drop(progress);
    let entries: Entries =
        outcomes.iter().filter_map(|outcome| Some(((outcome.network, outcome.path.clone()), outcome.adapter.clone()?))).collect();
    if entries.is_empty() {
        return Err(Error::file(&tuned.path, Fault::NoDifference, "check that it is a tuned model and not the base itself"));
    }
    output::prepare(&tuned.path, &options.output)?;
    let dtype = options.dtype.map_or(DType::F32, |dtype| dtype.dtype());
    AdapterFile::write_kohya(&options.output, &entries, &BTreeMap::new(), Some(dtype))?;
    tell::tell(&outcomes, others, options, console);
    console.result(format!("{}: {} layers", options.output.display(), entries.len()));
    Ok(())
}

/// Pairs the layers of both models; how many of the weights that LoRA cannot change differ beyond rounding.
fn compare<'a>(network: Network, tuned: &'a Component, base: &'a Component, work: &mut Vec<Layer<'a>>) -> Result<usize> {
    let mut others = 0;
    for name in base.names() {
        let (Some(wanted), Some(found)) = (base.info(name), tuned.info(name)) else {
            return Err(Error::tensor(tuned.file().path(), format!("{network}.{name}"), Fault::MissingOfBase));
        };
        if wanted.shape != found.shape {
            let fault = Fault::ShapeOfBase { expected: wanted.shape.clone(), found: found.shape.clone() };
            return Err(Error::tensor(tuned.file().path(), tuned.stored_name(name).unwrap_or(name), fault));
        }
        let path =
            name.strip_suffix(".weight").filter(|path| layer_kind(network, path).is_some_and(|kind| kind != LayerKind::Norm));
        match path {
            Some(path) => work.push(Layer { network, path: path.to_owned(), tuned, base }),
            None => {
                let read = |component: &Component| -> Result<Vec<f32>> {
                    Ok(component.tensor(name, &Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
                };
                let step = noise::step(found.tensor_dtype()).max(noise::step(wanted.tensor_dtype()));
                let differs = |(a, b): (f32, f32)| !noise::rounds_to(a, b, step);
                others += usize::from(read(tuned)?.into_iter().zip(read(base)?).any(differs));
            }
        }
    }
    Ok(others)
}
