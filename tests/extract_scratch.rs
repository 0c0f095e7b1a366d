//! What the tests of the `extract` command share: the seeded miniature model with images, the binary, and how its results are read.
#![allow(dead_code)] // every test binary uses its own part

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};
use driftless::formats::WeightFile;
use driftless::miniature::{Size, write_images, write_model};
use testkit::{Program, message};

pub const LAYERS: &str = r#"{"up-level1-upsampler-out": true, "up-level1-repeat1-vit-block0-cross-q": true}"#;

/// A folder with `model/` and `images/`, made once.
pub fn world() -> &'static Path {
    static WORLD: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = WORLD.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        write_model(&folder.path().join("model"), Size::Miniature, DType::F32, 0).unwrap();
        write_images(&folder.path().join("images"), 0, 5, 96).unwrap();
        folder
    });
    folder.path()
}

/// The binary with these arguments and nothing from the environment that could lead to a hub.
pub fn bare(arguments: &[&str], folder: &Path) -> Output {
    Program(env!("CARGO_BIN_EXE_extract")).run(folder, arguments)
}

/// An extraction at t = 50 from 64 px images into `OUT` of `folder`; `more` may override.
pub fn extract(folder: &Path, more: &[&str]) -> Output {
    let model = world().join("model").display().to_string();
    let images = world().join("images/*.png").display().to_string();
    let mut arguments = vec!["--model", &model, "--output_dir", "OUT", "--device", "cpu", "--quiet"];
    let given = |option: &str| more.contains(&option);
    if !given("--config") {
        arguments.extend(["--t", "50"]);
        for (option, value) in [("--img_size", "64"), ("--input_dir", images.as_str())] {
            if !given(option) {
                arguments.extend([option, value]);
            }
        }
        if !given("--prompt_csv") && !given("--prompt_file") && !given("--caption_dir") && !given("--prompt") {
            arguments.extend(["--prompt", "a red circle"]);
        }
        if !given("--layer") {
            std::fs::write(folder.join("layers.json"), LAYERS).unwrap();
            arguments.extend(["--layer", "layers.json"]);
        }
    }
    arguments.extend(more);
    bare(&arguments, folder)
}

/// The files of a folder without `extract.json` and its lock, which say what made the others.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = testkit::files(folder);
    files.retain(|name, _| !name.ends_with("extract.json") && !name.ends_with(".extract.lock"));
    files
}

/// The names of [`files`].
pub fn names(folder: &Path) -> Vec<String> {
    files(folder).into_keys().collect()
}

#[track_caller]
pub fn succeeded(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", message(output));
}

/// Failed with this status, saying all of `parts`, and wrote no feature.
#[track_caller]
pub fn refused(folder: &Path, output: &Output, status: i32, parts: &[&str]) {
    let message = message(output);
    assert_eq!(output.status.code(), Some(status), "{message}");
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
    assert!(files(&folder.join("OUT")).is_empty());
}

pub fn tensor(path: &Path, key: &str) -> Tensor {
    WeightFile::open(path).unwrap().tensor(key, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap()
}
