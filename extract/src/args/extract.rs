//! Options of extracting.
//!
//! Those of a feature set are [`SetArgs`]. The others that a `--config` file can hold as well are `Option`s, so that what was typed can be told from what was not.

use std::path::PathBuf;

use clap::Args;
use features::plan::Shard;
use features::stores::{OutputFormat, OutputPrecision};

use super::{ModelArgs, Named, SetArgs, non_empty_path};

/// Options of extracting.
#[derive(Debug, Args)]
pub struct ExtractArgs {
    /// Which model, where and how.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Version of Stable Diffusion, which is the model where --model names none: 1-5 or 2-1 [default: 1-5]
    #[arg(long, value_name = "VERSION", help_heading = "Model")]
    pub version: Option<String>,
    /// Alone: a merged model (folder or checkpoint) that takes the model's place. With --offline-lora-filename: the folder of an adapter
    #[arg(long, value_name = "DIR", value_parser = non_empty_path, help_heading = "Model")]
    pub offline_lora: Option<PathBuf>,
    /// The adapter's file in --offline-lora; used at full strength
    #[arg(long, value_name = "NAME", requires = "offline_lora", help_heading = "Model")]
    pub offline_lora_filename: Option<String>,

    /// The feature set.
    #[command(flatten)]
    pub set: SetArgs,
    /// Side in pixels to which images are resized [default: 512]
    #[arg(long, value_name = "PIXELS", help_heading = "What to extract")]
    pub img_size: Option<usize>,

    /// Where a kind's ControlNet is [default: lllyasviel/sd-controlnet-canny, lllyasviel/sd-controlnet-depth]; repeatable
    #[arg(long, value_name = "KIND=DIR|ID", help_heading = "Prompt and ControlNet")]
    pub controlnet_model: Vec<Named>,
    /// Ready-made condition images of a kind, NAME.png for the image NAME; repeatable
    #[arg(long, value_name = "KIND=DIR", help_heading = "Prompt and ControlNet")]
    pub control_image_dir: Vec<Named>,

    /// Images: a pattern ("data/**/*.jpg", quoted), a folder, or one file
    #[arg(long, value_name = "PATTERN", help_heading = "Input")]
    pub input_dir: Option<String>,
    /// Put the parent folder's name into the names of outputs
    #[arg(long, help_heading = "Input")]
    pub nested_input_dir: bool,
    /// Part I of N (I from 0): every N-th batch of the images
    #[arg(long, value_name = "I/N", help_heading = "Input")]
    pub shard: Option<Shard>,
    /// Several feature sets in one pass over the images
    #[arg(long, value_name = "FILE.toml", value_parser = non_empty_path, help_heading = "Input")]
    pub config: Option<PathBuf>,

    /// Folder of the features [default: ./output/]
    #[arg(long, value_name = "DIR", value_parser = non_empty_path, help_heading = "Output")]
    pub output_dir: Option<PathBuf>,
    /// One file per image: all layers enlarged to the largest and joined over channels
    #[arg(long, help_heading = "Output")]
    pub aggregate_output: bool,
    /// Name outputs after the image's file instead of SPLIT and number
    #[arg(long, help_heading = "Output")]
    pub use_original_filename: bool,
    /// First part of numbered names [default: train]
    #[arg(long, value_name = "NAME", help_heading = "Output")]
    pub split: Option<String>,
    /// NAME/LAYER.npy instead of LAYER/NAME.npy
    #[arg(long, help_heading = "Output")]
    pub sample_name_first: bool,
    /// Type of the numbers in files [default: float16]
    #[arg(long, value_name = "float16|float32", help_heading = "Output")]
    pub output_dtype: Option<OutputPrecision>,
    /// npy: a file per layer; safetensors: a file per image [default: npy]
    #[arg(long, value_name = "npy|safetensors", help_heading = "Output")]
    pub output_format: Option<OutputFormat>,
    /// Make images anew whose files are there already
    #[arg(long, help_heading = "Output")]
    pub overwrite: bool,
    /// List all layers with their shapes, write layer_record.json, extract nothing
    #[arg(long, help_heading = "Output")]
    pub show_all_layers: bool,

    /// Images computed together [default: 2]
    #[arg(long, short = 'b', value_name = "N", help_heading = "Running")]
    pub batch_size: Option<usize>,
    /// Write how long each stage took, as JSON
    #[arg(long, value_name = "FILE", value_parser = non_empty_path, help_heading = "Running")]
    pub timings: Option<PathBuf>,
}
