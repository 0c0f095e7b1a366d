//! The seed-0 miniature model of [`driftless::miniature`].

use std::path::Path;
use std::sync::OnceLock;

use candle_core::DType;
use driftless::miniature::{Size, write_model};
use driftless::pipeline::{ModelOptions, Pipeline};
use tempfile::TempDir;

/// The model's folder, written once per test program; no test may change it.
pub fn miniature() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        write_model(folder.path(), Size::Miniature, DType::F32, 0).unwrap();
        folder
    });
    folder.path()
}

/// The model, loaded in float32 on the CPU.
pub fn pipeline() -> Pipeline {
    Pipeline::load(miniature(), &ModelOptions::default()).unwrap()
}
