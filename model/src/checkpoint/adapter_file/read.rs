//! From named tensors to factors, with every check that needs no base model.

use super::super::kind::{self, ModelKind};
use super::super::naming::adapter_key::{self, AdapterKey, Part, Scheme};
use super::super::naming::{LayerKind, Network, layer_kind};
use super::super::weight_file::WeightFile;
use super::peft_config::Scales;
use super::{AdapterFile, Factors, LoraFactors};
use crate::error::{Error, Result};
use candle_core::{Device, Tensor};
use std::collections::{BTreeMap, BTreeSet};

/// What to do about keys that are not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownKeys {
    /// They are an error that lists them.
    Refuse,
    /// They are listed in [`AdapterFile::unknown_keys`] and otherwise left alone.
    Collect,
}

/// The keys of one layer's parts, and the spelling of each.
type Layer = BTreeMap<Part, (String, Scheme)>;

/// An adapter's keys, sorted by layer.
#[derive(Default)]
struct Sorted {
    layers: BTreeMap<(Network, String), Layer>,
    schemes: BTreeSet<Scheme>,
    unknown: Vec<String>,
}

pub(super) fn read(file: &WeightFile, unknown_keys: UnknownKeys) -> Result<AdapterFile> {
    let sorted = sort_keys(file)?;
    if sorted.layers.is_empty() {
        return Err(kind::no_adapter(file));
    }
    if !sorted.unknown.is_empty() && unknown_keys == UnknownKeys::Refuse {
        return Err(kind::unknown_keys(file, &sorted.unknown));
    }
    let scales = Scales::of(file, &sorted.schemes)?;
    let mut entries = BTreeMap::new();
    for ((network, path), layer) in &sorted.layers {
        let factors = read_layer(file, *network, path, layer, &scales)?;
        entries.insert((*network, path.clone()), Factors::Lora(factors));
    }
    Ok(AdapterFile {
        path: file.path().to_owned(),
        entries,
        metadata: file.metadata().clone(),
        schemes: sorted.schemes,
        unknown_keys: sorted.unknown,
    })
}

/// Sorts the file's keys by layer and part.
fn sort_keys(file: &WeightFile) -> Result<Sorted> {
    let mut sorted = Sorted::default();
    if let ModelKind::Refused(what) = kind::model_kind(file) {
        return Err(kind::refused(file, what));
    }
    for key in file.names().chain(file.not_tensors().map(|(key, _)| key)) {
        match adapter_key::parse(key) {
            AdapterKey::Part { scheme, network, path, part } => {
                sorted.schemes.insert(scheme);
                let layer = sorted.layers.entry((network, path.clone())).or_default();
                if let Some((other, _)) = layer.insert(part, (key.to_owned(), scheme)) {
                    let problem = format!("and `{other}` are both the same part of layer `{path}` of the {network}");
                    return Err(Error::tensor(file.path(), key, problem));
                }
            }
            AdapterKey::OtherType(name) => {
                let problem = format!("belongs to an adapter of type {name}; supported are LoRA and LoCon");
                return Err(Error::tensor(file.path(), key, problem));
            }
            AdapterKey::Refused(what) => return Err(kind::refused(file, what)),
            AdapterKey::Unknown => sorted.unknown.push(key.to_owned()),
        }
    }
    Ok(sorted)
}

/// Reads and checks one layer's factors.
fn read_layer(file: &WeightFile, network: Network, path: &str, layer: &Layer, scales: &Scales) -> Result<LoraFactors> {
    let key = |part| layer.get(&part).map(|(key, _)| key.as_str());
    let (down_key, up_key) = match (key(Part::Down), key(Part::Up), key(Part::Alpha).or(key(Part::Mid))) {
        (Some(down), Some(up), _) => (down, up),
        (Some(one), None, _) => {
            return Err(Error::tensor(file.path(), one, "its partner, the up factor (lora_up, lora_B), is missing"));
        }
        (None, Some(one), _) => {
            return Err(Error::tensor(file.path(), one, "its partner, the down factor (lora_down, lora_A), is missing"));
        }
        (None, None, other) => {
            return Err(Error::tensor(file.path(), other.unwrap_or(path), "stands without the factors it belongs to"));
        }
    };
    // Every path in an adapter file came out of the table of layers.
    let kind = layer_kind(network, path).unwrap_or(LayerKind::Linear);
    let mid_key = key(Part::Mid);
    let shapes = Shapes { file, kind, has_core: mid_key.is_some() };
    let down = shapes.down(down_key)?;
    let up = shapes.up(up_key)?;
    let mid = mid_key.map(|key| shapes.core(key)).transpose()?;
    let rank = down.dims()[0];
    if up.dims()[1] != rank {
        let problem = format!("has rank {} ({:?}), `{down_key}` has rank {rank} ({:?})", up.dims()[1], up.dims(), down.dims());
        return Err(Error::tensor(file.path(), up_key, problem));
    }
    if let (Some(mid), Some(key)) = (&mid, mid_key)
        && mid.dims()[..2] != [rank, rank]
    {
        return Err(Error::tensor(
            file.path(),
            key,
            format!("has shape {:?}; its first two sizes must be the rank, {rank}", mid.dims()),
        ));
    }
    let alpha = match layer.get(&Part::Alpha) {
        Some((key, _)) => Some(file.scalar(key)?),
        None => scales.alpha(layer[&Part::Down].1, network, path, rank)?,
    };
    if let Some(alpha) = alpha
        && (!alpha.is_finite() || alpha == 0.0)
    {
        let key = key(Part::Alpha).unwrap_or(down_key);
        let why = if alpha == 0.0 { "programs read it as no change or as alpha = rank" } else { "it must be a finite number" };
        return Err(Error::tensor(file.path(), key, format!("alpha is {alpha}; {why}")));
    }
    Ok(LoraFactors { down, up, mid, alpha })
}

/// Brings factors to the form of their layer's kind.
struct Shapes<'a> {
    file: &'a WeightFile,
    kind: LayerKind,
    has_core: bool,
}

impl Shapes<'_> {
    fn down(&self, key: &str) -> Result<Tensor> {
        let tensor = read_numbers(self.file, key)?;
        let shape = tensor.dims().to_vec();
        let wide_kernel = self.kind == LayerKind::Convolution && !self.has_core;
        match (self.kind, shape.as_slice()) {
            (LayerKind::Linear, [_, _]) => Ok(tensor),
            (LayerKind::Linear, &[rank, inputs, 1, 1]) => Ok(tensor.reshape((rank, inputs))?),
            (_, [_, _, 1, 1]) => Ok(tensor),
            (_, [_, _, _, _]) if wide_kernel => Ok(tensor),
            (_, &[rank, inputs]) if !wide_kernel => Ok(tensor.reshape((rank, inputs, 1, 1))?),
            _ => Err(self.wrong(key, &shape, if wide_kernel { "[rank, in, k, k]" } else { "[rank, in]" })),
        }
    }

    fn up(&self, key: &str) -> Result<Tensor> {
        let tensor = read_numbers(self.file, key)?;
        let shape = tensor.dims().to_vec();
        match (self.kind, shape.as_slice()) {
            (LayerKind::Linear, [_, _]) => Ok(tensor),
            (LayerKind::Linear, &[outputs, rank, 1, 1]) => Ok(tensor.reshape((outputs, rank))?),
            (_, [_, _, 1, 1]) => Ok(tensor),
            (_, &[outputs, rank]) => Ok(tensor.reshape((outputs, rank, 1, 1))?),
            _ => Err(self.wrong(key, &shape, "[out, rank]")),
        }
    }

    fn core(&self, key: &str) -> Result<Tensor> {
        let tensor = read_numbers(self.file, key)?;
        match tensor.dims() {
            [_, _, _, _] if self.kind == LayerKind::Convolution => Ok(tensor),
            shape => Err(self.wrong(key, shape, "[rank, rank, k, k] on a convolution")),
        }
    }

    fn wrong(&self, key: &str, shape: &[usize], expected: &str) -> Error {
        let kind = match self.kind {
            LayerKind::Linear => "linear layer",
            LayerKind::PointwiseConvolution => "1x1 convolution",
            LayerKind::Convolution => "convolution",
        };
        Error::tensor(self.file.path(), key, format!("has shape {shape:?} on a {kind}, expected {expected}"))
    }
}

/// Reads a factor: floating-point, not empty, every number finite.
fn read_numbers(file: &WeightFile, key: &str) -> Result<Tensor> {
    if let Some(info) = file.info(key) {
        if info.shape.contains(&0) || info.shape.is_empty() {
            return Err(Error::tensor(
                file.path(),
                key,
                format!("is empty or a single number (shape {:?}); a matrix is expected", info.shape),
            ));
        }
        if !info.tensor_dtype().is_some_and(|dtype| dtype.is_float()) {
            let problem = format!("has elements of type {:?}; floating-point numbers are expected", info.dtype);
            return Err(Error::tensor(file.path(), key, problem));
        }
    }
    let tensor = file.tensor(key, &Device::Cpu)?;
    super::super::elements::require_finite(&tensor).map_err(|problem| Error::tensor(file.path(), key, problem))?;
    Ok(tensor)
}
