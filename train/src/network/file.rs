//! The adapter's files: kohya's and diffusers' layout, and an existing adapter to start from.

use super::fault::StartFault;
use super::{TrainedLayer, TrainedNetwork};
use crate::options::{Options, SaveFormat, SavePrecision};
use anyhow::{Context, Result};
use candle_core::DType;
use driftless::adapter::files::{AdapterFile, Entries, Network};
use driftless::adapter::{Adapter, Factors};
use std::collections::BTreeMap;
use std::path::Path;

impl TrainedNetwork {
    /// Writes the adapter to `path`, atomically.
    ///
    /// # Errors
    /// When it holds a number that `precision` cannot, or the file cannot be written.
    pub fn write(
        &self,
        path: &Path,
        format: SaveFormat,
        precision: Option<SavePrecision>,
        metadata: &BTreeMap<String, String>,
    ) -> driftless::Result<()> {
        let dtype = precision.map(|precision| match precision {
            SavePrecision::Float => DType::F32,
            SavePrecision::Fp16 => DType::F16,
            SavePrecision::Bf16 => DType::BF16,
        });
        let entries = self.entries()?;
        match format {
            SaveFormat::Safetensors => AdapterFile::write_kohya(path, &entries, metadata, dtype),
            SaveFormat::Diffusers => AdapterFile::write_diffusers(path, &entries, metadata, dtype),
        }
    }

    fn entries(&self) -> driftless::Result<Entries> {
        self.layers.iter().map(|layer| Ok(((layer.network, layer.path.clone()), layer.snapshot()?))).collect()
    }

    /// Gives the matrices the values of the adapter at `path`.
    ///
    /// # Errors
    /// When the file is no adapter, or its layers or ranks are not those of this one.
    pub fn start_from(&self, path: &Path) -> Result<()> {
        self.fill(path, Scales::OfTheFile).context("--network_weights")
    }

    /// Gives the matrices back the values that [`TrainedNetwork::write`] wrote to `path` in float32 for a state of this run.
    ///
    /// # Errors
    /// As [`TrainedNetwork::start_from`].
    pub fn restore(&self, path: &Path) -> Result<()> {
        self.fill(path, Scales::OfThisRun)
    }

    fn fill(&self, path: &Path, scales: Scales) -> Result<()> {
        let file = AdapterFile::open(path)?;
        let mut left: BTreeMap<&(Network, String), &Adapter> = file.entries.iter().collect();
        for layer in &self.layers {
            let key = (layer.network, layer.path.clone());
            let Some(adapter) = left.remove(&key) else {
                return Err(StartFault::Lacks { path: path.to_owned(), layer: layer.name() }.into());
            };
            take(layer, adapter, scales).with_context(|| format!("{}: {}", path.display(), layer.name()))?;
        }
        match left.into_keys().next() {
            Some((network, layer)) => {
                Err(StartFault::NotTrained { path: path.to_owned(), network: *network, layer: layer.clone() }.into())
            }
            None => Ok(()),
        }
    }
}

/// Whose scale (alpha / rank) the numbers of an adapter's file go with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scales {
    /// The file's, which may differ from this run's; the change of the weights must not.
    OfTheFile,
    /// This run's: every bit of the numbers stays, though the file's alpha was rounded to float32.
    OfThisRun,
}

/// Gives one layer's matrices the values of an adapter of the same family and sizes.
fn take(layer: &TrainedLayer, adapter: &Adapter, scales: Scales) -> Result<()> {
    let ours = &layer.trainable.adapter;
    let (family, expected) = (adapter.family(), ours.family());
    if family != expected {
        return Err(StartFault::Family { expected, found: family }.into());
    }
    if let (Some(found), Some(expected)) = (adapter.factors.rank(), ours.factors.rank())
        && found != expected
    {
        return Err(StartFault::Rank { expected, found }.into());
    }
    let ratio = match scales {
        Scales::OfTheFile => adapter.scale() / ours.scale(),
        Scales::OfThisRun => 1.0,
    };
    let components = adapter.components();
    for (component, variable) in &layer.trainable.variables {
        let found = components.iter().find(|(other, _)| other == component);
        let Some((_, tensor)) = found.filter(|(_, tensor)| tensor.elem_count() == variable.elem_count()) else {
            let (component, expected) = (component.name(), variable.dims().to_vec());
            return Err(StartFault::Component { component, expected }.into());
        };
        let tensor = tensor.to_device(variable.device())?.to_dtype(DType::F32)?.reshape(variable.shape())?;
        let tensor = if ratio != 1.0 && ours.factors.is_scaled(*component) { (tensor * ratio)? } else { tensor };
        variable.set(&tensor)?;
    }
    Ok(())
}

/// `options` with the rank and alpha of the adapter that `--dim_from_weights` names.
///
/// # Errors
/// When there is no such file, or its layers have several ranks.
pub fn with_dimensions_of_file(options: &Options) -> Result<Options> {
    if !options.network.dim_from_weights {
        return Ok(options.clone());
    }
    let Some(path) = &options.network.network_weights else {
        return Err(StartFault::NoWeights.into());
    };
    let file = AdapterFile::open(path).context("--network_weights")?;
    let shape = |wide: bool| -> Result<Option<(usize, f64)>, StartFault> {
        let mut found = None;
        for ((network, layer), adapter) in &file.entries {
            let Factors::Lora(lora) = &adapter.factors else {
                return Err(StartFault::NotLora { path: path.clone(), layer: layer.clone(), found: adapter.family() });
            };
            let is_wide = lora.mid.is_some() || lora.down.dims().get(2).is_some_and(|kernel| *kernel > 1);
            let this = (lora.rank(), adapter.alpha.unwrap_or(lora.rank() as f64));
            match found {
                _ if is_wide != wide => {}
                None => found = Some(this),
                Some(first) if first == this => {}
                Some(expected) => {
                    let (path, network, layer) = (path.clone(), *network, layer.clone());
                    return Err(StartFault::SeveralRanks { path, network, layer, expected, found: this });
                }
            }
        }
        Ok(found)
    };
    let mut options = options.clone();
    if let Some((rank, alpha)) = shape(false)? {
        (options.network.network_dim, options.network.network_alpha) = (rank, alpha);
    }
    if let Some((rank, alpha)) = shape(true)? {
        let arguments = &mut options.network.network_args;
        arguments.retain(|argument| !["conv_dim", "conv_alpha"].contains(&argument.key.as_str()));
        let argument = |key: &str, value: String| crate::options::values::KeyValue { key: key.to_owned(), value };
        arguments.extend([argument("conv_dim", rank.to_string()), argument("conv_alpha", alpha.to_string())]);
    }
    Ok(options)
}
