//! What a run found out about itself: of this the records of options are made, and not of what was typed. A prompt is the same whether it
//! was typed or read from a file, and a model whatever its folder is called.

use std::collections::BTreeMap;

use candle_core::{DType, DeviceLocation};
use driftless::taps::LayerId;
use serde_json::Value;

use crate::set::FeatureSet;
use crate::stores::OutputRule;

/// Facts of a run.
#[derive(Debug)]
pub struct RunFacts<'a> {
    /// Side of the images in pixels.
    pub img_size: usize,
    /// Compute type.
    pub dtype: DType,
    /// Where it computes.
    pub device: DeviceLocation,
    /// Images computed together.
    pub batch_size: usize,
    /// How files are laid out and what their numbers are.
    pub output: &'a OutputRule,
    /// What features are projected on.
    pub pca: Option<PcaFacts<'a>>,
}

/// Facts of a projection.
#[derive(Clone, Copy, Debug)]
pub struct PcaFacts<'a> {
    /// The hash of its bases.
    pub contents: &'a str,
    /// Components that are written.
    pub dims: usize,
}

/// Facts of a set that is extracted.
#[derive(Debug)]
pub struct SetFacts<'a> {
    /// The set.
    pub set: &'a FeatureSet,
    /// Its layers, in the order of the store.
    pub layers: &'a [LayerId],
    /// What its model's files hold: hashes by name.
    pub model: &'a Value,
    /// What its adapters' files hold: hashes in their order; an object by folder where `{folder}` stands in the name.
    pub adapters: &'a [Value],
    /// What each kind's ControlNet holds: hashes by name.
    pub controls: &'a BTreeMap<String, Value>,
}

/// PyTorch's name of a type.
pub fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
        DType::F32 => "float32",
        other => other.as_str(),
    }
}

/// A device as `--device` names it.
pub fn device_name(device: DeviceLocation) -> String {
    match device {
        DeviceLocation::Cpu => "cpu".to_owned(),
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        DeviceLocation::Metal { .. } => "metal".to_owned(),
    }
}
