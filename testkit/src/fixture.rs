//! Fixtures: numbers that the scripts in `tests/reference` took from the reference implementations.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use driftless::formats::WeightFile;

/// The path of a file under `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

/// Tensors and metadata of a fixture in safetensors.
pub struct Fixture(pub WeightFile);

impl Fixture {
    /// Opens a file under `tests/fixtures`.
    pub fn open(name: &str) -> Self {
        Self(WeightFile::open(fixture(name)).unwrap())
    }

    /// A tensor in its stored type.
    pub fn get(&self, name: &str) -> Tensor {
        self.0.tensor(name, &Device::Cpu).unwrap()
    }

    /// The tensors' names, sorted.
    pub fn names(&self) -> Vec<String> {
        self.0.names().map(str::to_owned).collect()
    }
}
