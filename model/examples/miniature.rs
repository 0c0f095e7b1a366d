//! Writes a seeded model, training images and test images, so that everything runs without a download:
//!
//! ```text
//! cargo run --release -p driftless --example miniature -- FOLDER [--full | --sd2] [--float16] [--seed N] [--images]
//! ```
//!
//! `FOLDER` becomes a diffusers pipeline folder with `controlnet-canny/` beside the usual components. With `--images`, `FOLDER/train`
//! gets 30 captioned images in the three groups of the paper's recipe, and `FOLDER/images` four images to extract from.

use std::path::PathBuf;
use std::process::ExitCode;

use candle_core::DType;
use driftless::error::ArgumentCause;
use driftless::miniature::{Size, write_dataset, write_images, write_model};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> driftless::Result<()> {
    let (mut folder, mut size, mut dtype, mut seed, mut images) = (None, Size::Miniature, DType::F32, 0, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--full" => size = Size::Full,
            "--sd2" => size = Size::MiniatureSd2,
            "--float16" => dtype = DType::F16,
            "--images" | "--pictures" => images = true,
            "--seed" => {
                let value = arguments.next().and_then(|value| value.parse().ok());
                seed = value.ok_or_else(|| driftless::Error::argument("--seed", ArgumentCause::NotAWholeNumber))?;
            }
            option if option.starts_with('-') => {
                let options = ["--full", "--sd2", "--float16", "--images", "--seed"];
                return Err(driftless::Error::unknown("option", option, options));
            }
            path => folder = Some(PathBuf::from(path)),
        }
    }
    let folder =
        folder.ok_or_else(|| driftless::Error::argument("FOLDER, where the model is to be written,", ArgumentCause::Missing))?;
    write_model(&folder, size, dtype, seed)?;
    if images {
        write_dataset(&folder.join("train"), 30, 128)?;
        write_images(&folder.join("images"), 1000, 4, 128)?;
    }
    println!("wrote {}", folder.display());
    Ok(())
}
