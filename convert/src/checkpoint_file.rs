//! A diffusers pipeline folder as one LDM file, the inverse of the pipeline folder.

use crate::args::CheckpointOptions;
use crate::fault::Fault;
use crate::output;
use crate::pipeline_folder::Transform;
use crate::told::WEIGHTS;
use candle_core::{DType, Device, Tensor};
use driftless::formats::{
    TensorSpec, cast, require_finite, unknown_keys_error, write_safetensors_streaming, write_torch_streaming,
};
use driftless::model_family::naming::ldm::{self, Filler, Filling, Packing, Renaming};
use driftless::model_family::naming::vae_attention;
use driftless::model_family::{ModelFamily, Network};
use driftless::weights::{Component, ModelWeights};
use driftless::{Error, Result};
use driftless_cli::{Console, Progress};
use std::collections::BTreeMap;
use std::path::Path;

/// Converts the folder.
pub fn run(options: &CheckpointOptions, console: &Console) -> Result<()> {
    if !options.input.is_dir() {
        return Err(Error::file(&options.input, Fault::NotAFolder, "give a diffusers pipeline folder"));
    }
    refuse_other_names(&options.output)?;
    let model = ModelWeights::open_folder(&options.input)?;
    let components = Network::PIPELINE.into_iter().map(|network| model.component(network, false)).collect::<Result<Vec<_>>>()?;
    output::prepare(&options.input, &options.output)?;
    let dtype = options.dtype.map(|dtype| dtype.dtype());
    let components: Vec<&Component> = components.iter().collect();
    let count = write(&options.output, &components, model.family(), dtype, &|_, _, tensor| Ok(tensor), console)?;
    console.result(format!("{}: {count} weights", options.output.display()));
    Ok(())
}

/// LDM files are written as safetensors, or as torch's pickles, which older programs want.
pub fn refuse_other_names(output: &Path) -> Result<()> {
    if output::names_safetensors(output) || output::names_ckpt(output) {
        return Ok(());
    }
    Err(Error::file(output, Fault::NoLdmName, "LDM files are written in these two forms"))
}

/// What is written under one name of an LDM file.
enum Source<'a> {
    /// Weights of a network, by their diffusers names: one, or several that are packed row after row.
    Weights(&'a Component, Vec<String>),
    /// An entry of the text encoder that nothing uses, as the file has it that the component was read from.
    Unused(&'a Component, String),
    /// The numbers of another entry.
    CopyOf(String),
    /// Ones, for an entry that nothing uses.
    Ones,
}

/// The entries of an LDM file, in the order in which they were added, and where each comes from.
#[derive(Default)]
struct Entries<'a> {
    specs: Vec<TensorSpec>,
    sources: BTreeMap<String, Source<'a>>,
}

impl<'a> Entries<'a> {
    /// Adds a network's weights.
    fn add(&mut self, component: &'a Component, family: &ModelFamily, dtype: Option<DType>) -> Result<()> {
        let network = component.network();
        let path = component.file().path();
        let table = ldm::table_to_ldm(component.names(), family, network).map_err(|keys| unknown_keys_error(path, &keys))?;
        // Packed weights lie in the order of their thirds, whatever the order of their names.
        let mut packed: BTreeMap<String, BTreeMap<usize, String>> = BTreeMap::new();
        for Renaming { name, stored, packing } in table {
            let Some((info, own)) = component.info(&name).and_then(|info| Some((info, info.tensor_dtype()?))) else {
                return Err(Error::tensor(path, name, Fault::ElementType));
            };
            let mut shape = info.shape.clone();
            let dtype = dtype.unwrap_or(own);
            match packing {
                Packing::Whole => {
                    if network == Network::Vae && vae_attention::is_projection_weight(&name) {
                        shape.resize(4, 1);
                    }
                    self.insert(TensorSpec { name: stored, dtype, shape }, Source::Weights(component, vec![name]));
                }
                Packing::Third(third) => {
                    let names = packed.entry(stored.clone()).or_default();
                    names.insert(third, name);
                    if names.len() == 3 {
                        if let Some(rows) = shape.first_mut() {
                            *rows *= 3;
                        }
                        let names = names.values().cloned().collect();
                        self.insert(TensorSpec { name: stored, dtype, shape }, Source::Weights(component, names));
                    }
                }
            }
        }
        if let Some((stored, names)) = packed.iter().find(|(_, names)| names.len() != 3) {
            let name = names.values().next().map_or(stored.as_str(), String::as_str);
            return Err(Error::tensor(path, name, Fault::NotPacked));
        }
        if network == Network::TextEncoder { self.fill(component, family) } else { Ok(()) }
    }

    /// Adds what programs look for beside the text encoder's weights in use.
    fn fill(&mut self, component: &'a Component, family: &ModelFamily) -> Result<()> {
        let prefix = family.text_encoder.prefix;
        let names: Vec<&str> = self.specs.iter().filter_map(|spec| spec.name.strip_prefix(prefix)).collect();
        let fillers = (family.text_encoder.fillers)(&names);
        let Some(widest) = component.info(TOKEN_EMBEDDING).and_then(|info| Some((*info.shape.get(1)?, info.tensor_dtype()?)))
        else {
            return Ok(());
        };
        for Filler { stored, filling } in fillers {
            let name = format!("{prefix}{stored}");
            if let Some(info) = component.file().info(&name)
                && let Some(dtype) = info.tensor_dtype()
            {
                let spec = TensorSpec { name: name.clone(), dtype, shape: info.shape.clone() };
                self.insert(spec, Source::Unused(component, name));
                continue;
            }
            let (width, dtype) = widest;
            let spec = |shape| TensorSpec { name: name.clone(), dtype, shape };
            match filling {
                Filling::CopyOf(other) => {
                    let other = format!("{prefix}{other}");
                    if let Some(found) = self.specs.iter().find(|spec| spec.name == other) {
                        let spec = TensorSpec { name: name.clone(), dtype: found.dtype, shape: found.shape.clone() };
                        self.insert(spec, Source::CopyOf(other));
                    }
                }
                Filling::SquareOfOnes => self.insert(spec(vec![width, width]), Source::Ones),
                Filling::One => self.insert(spec(Vec::new()), Source::Ones),
            }
        }
        Ok(())
    }

    fn insert(&mut self, spec: TensorSpec, source: Source<'a>) {
        self.sources.insert(spec.name.clone(), source);
        self.specs.push(spec);
    }

    /// The numbers of an entry, in the type and shape of its spec.
    fn produce(&self, spec: &TensorSpec, transform: &Transform) -> Result<Tensor> {
        let mut source = &self.sources[&spec.name];
        while let Source::CopyOf(other) = source {
            source = &self.sources[other];
        }
        let tensor = match source {
            Source::Weights(component, names) => {
                let read = |name: &String| -> Result<Tensor> {
                    let tensor = finite(component, name, component.tensor(name, &Device::Cpu)?)?;
                    let tensor = transform(component.network(), name, tensor)?;
                    cast(&tensor, spec.dtype).map_err(|cause| Error::tensor(component.file().path(), name, cause))
                };
                let mut tensors = names.iter().map(read).collect::<Result<Vec<_>>>()?;
                if tensors.len() == 1 { tensors.remove(0) } else { Tensor::cat(&tensors, 0)? }
            }
            Source::Unused(component, name) => finite(component, name, component.file().tensor(name, &Device::Cpu)?)?,
            Source::CopyOf(_) | Source::Ones => Tensor::ones(spec.shape.as_slice(), spec.dtype, &Device::Cpu)?,
        };
        Ok(tensor.reshape(spec.shape.as_slice())?)
    }
}

/// The text encoder's table of tokens, whose width is the encoder's.
const TOKEN_EMBEDDING: &str = "text_model.embeddings.token_embedding.weight";

/// The tensor, when it has neither NaN nor infinities.
fn finite(component: &Component, name: &str, tensor: Tensor) -> Result<Tensor> {
    require_finite(&tensor).map_err(|cause| Error::tensor(component.file().path(), name, cause))?;
    Ok(tensor)
}

/// Writes networks of a family's model as one LDM file; how many entries there are.
pub fn write(
    output: &Path,
    components: &[&Component],
    family: &ModelFamily,
    dtype: Option<DType>,
    transform: &Transform,
    console: &Console,
) -> Result<usize> {
    let mut entries = Entries::default();
    for component in components {
        entries.add(component, family, dtype)?;
    }
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut specs = entries.specs.clone();
    let count = specs.len();
    let progress = Progress::new(console, WEIGHTS, count);
    let mut produce = |spec: &TensorSpec| -> Result<Tensor> {
        let tensor = entries.produce(spec, transform)?;
        progress.advance(1);
        Ok(tensor)
    };
    if output::names_ckpt(output) {
        specs.sort_by(|left, right| left.name.cmp(&right.name));
        write_torch_streaming(output, &specs, &mut produce)?;
    } else {
        write_safetensors_streaming(output, specs, &metadata, &mut produce)?;
    }
    Ok(count)
}
