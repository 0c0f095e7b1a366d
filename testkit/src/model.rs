//! The seed-0 miniature models of [`driftless::miniature`], and the one that has learnt something.

use std::path::Path;
use std::sync::OnceLock;

use candle_core::DType;
use driftless::miniature::{Size, write_model};
use driftless::pipeline::{ModelOptions, Pipeline};
use tempfile::TempDir;

/// The folder of the miniature Stable Diffusion 1.5, written once per test program; no test may change it.
pub fn miniature() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    written(&FOLDER, Size::Miniature)
}

/// The same of the miniature Stable Diffusion 2.1, which predicts velocity.
pub fn miniature_sd2() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    written(&FOLDER, Size::MiniatureSd2)
}

/// The folder of the learnt miniature in `assets/`: Stable Diffusion 1.5's block types, trained on photos of [`crate::scenes`] by
/// `tests/reference/learn_miniature.py`.
pub fn learnt_miniature() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/miniature"))
}

fn written(folder: &'static OnceLock<TempDir>, size: Size) -> &'static Path {
    let folder = folder.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        write_model(folder.path(), size, DType::F32, 0).unwrap();
        folder
    });
    folder.path()
}

/// [`miniature`], loaded in float32 on the CPU.
pub fn pipeline() -> Pipeline {
    Pipeline::load(miniature(), &ModelOptions::default()).unwrap()
}

/// [`miniature_sd2`], loaded in float32 on the CPU.
pub fn pipeline_sd2() -> Pipeline {
    Pipeline::load(miniature_sd2(), &ModelOptions::default()).unwrap()
}
