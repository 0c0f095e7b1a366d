//! What the parity tests share: the miniature model, fixtures, and the error measure.
#![allow(dead_code)] // every test binary uses its own part

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};
use driftless::checkpoint::WeightFile;
use driftless::miniature::{Size, write_model};
use driftless::pipeline::{ModelOptions, Pipeline};

/// The seed-0 miniature model, written once per test binary.
pub fn miniature() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        write_model(folder.path(), Size::Miniature, DType::F32, 0).unwrap();
        folder
    });
    folder.path()
}

pub fn pipeline() -> Pipeline {
    Pipeline::load(miniature(), &ModelOptions::default()).unwrap()
}

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

/// Tensors and metadata of a fixture.
pub struct Fixture(pub WeightFile);

impl Fixture {
    pub fn open(name: &str) -> Self {
        Self(WeightFile::open(fixture(name)).unwrap())
    }

    pub fn get(&self, name: &str) -> Tensor {
        self.0.tensor(name, &Device::Cpu).unwrap()
    }

    pub fn names(&self) -> Vec<String> {
        self.0.names().map(str::to_owned).collect()
    }
}

/// `|ours - theirs| / |theirs|`, Euclidean, in float64.
pub fn relative_error(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.dims(), theirs.dims(), "shapes differ");
    let values = |tensor: &Tensor| -> Vec<f64> { tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap() };
    let (ours, theirs) = (values(ours), values(theirs));
    let difference: f64 = ours.iter().zip(&theirs).map(|(a, b)| (a - b) * (a - b)).sum();
    let norm: f64 = theirs.iter().map(|b| b * b).sum();
    assert!(norm > 0.0, "the reference is zero everywhere");
    (difference / norm).sqrt()
}

/// Asserts `relative_error(..) <= limit` and prints the figure.
pub fn assert_close(what: &str, ours: &Tensor, theirs: &Tensor, limit: f64) {
    let error = relative_error(ours, theirs);
    println!("{what}: relative error {error:.1e}");
    assert!(error <= limit, "{what}: relative error {error:e}, at most {limit:e} allowed");
}
