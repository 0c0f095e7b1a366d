//! Options of extracting.
//!
//! Those that a `--config` file can hold as well are `Option`s, so that what was typed can be told from what was not.

use std::path::PathBuf;

use clap::Args;
use driftless::taps::AttentionCategory;
use features::plan::Shard;
use features::stores::{OutputFormat, OutputPrecision};

use super::{ModelArgs, Named, NamedNumber, non_empty_path};

/// Options of extracting.
#[derive(Debug, Args)]
pub struct ExtractArgs {
    /// Which model, where and how.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Version of Stable Diffusion; 1-5 is the one there is [default: 1-5]
    #[arg(long, value_name = "VERSION", help_heading = "Model")]
    pub version: Option<String>,
    /// Alone: a merged model (folder or checkpoint) that takes the model's place. With --offline-lora-filename: the folder of an adapter
    #[arg(long, value_name = "DIR", value_parser = non_empty_path, help_heading = "Model")]
    pub offline_lora: Option<PathBuf>,
    /// The adapter's file in --offline-lora; used at full strength
    #[arg(long, value_name = "NAME", requires = "offline_lora", help_heading = "Model")]
    pub offline_lora_filename: Option<String>,

    /// JSON file of layers: {"id": true, ...} or ["id", ...] [default: all layers]
    #[arg(long, value_name = "FILE", value_parser = non_empty_path, help_heading = "What to extract")]
    pub layer: Option<PathBuf>,
    /// Noise level, 0 to 999; needed
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u32).range(0..=999), help_heading = "What to extract")]
    pub t: Option<u32>,
    /// Start at this noise level and denoise down to --t
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u32).range(1..=999), help_heading = "What to extract")]
    pub denoising_from: Option<u32>,
    /// Noise the image by inverting the sampler instead of adding random noise
    #[arg(long, help_heading = "What to extract")]
    pub use_ddim_inversion: bool,
    /// Aggregated attention maps as one more layer, `attn`: down_cross mid_cross up_cross down_self mid_self up_self
    #[arg(long, num_args = 1.., value_name = "CATEGORY", help_heading = "What to extract")]
    pub attention: Vec<AttentionCategory>,
    /// Average features over squares of this many pixels [default: 1]
    #[arg(long, value_name = "N", help_heading = "What to extract")]
    pub feature_resize: Option<usize>,
    /// Side in pixels to which images are resized [default: 512]
    #[arg(long, value_name = "PIXELS", help_heading = "What to extract")]
    pub img_size: Option<usize>,
    /// Image number i draws its noise from this + i [default: 0]
    #[arg(long, value_name = "N", help_heading = "What to extract")]
    pub seed: Option<u64>,

    /// One prompt for all images; {folder} in it stands for the name of the folder that an image is in
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["prompt_file", "caption_dir", "prompt_csv"], help_heading = "Prompt and ControlNet")]
    pub prompt: Option<String>,
    /// File that holds the one prompt [default: prompt.txt]
    #[arg(long, value_name = "FILE", value_parser = non_empty_path, conflicts_with_all = ["caption_dir", "prompt_csv"], help_heading = "Prompt and ControlNet")]
    pub prompt_file: Option<PathBuf>,
    /// Folder with a prompt per image, NAME.txt
    #[arg(long, value_name = "DIR", value_parser = non_empty_path, help_heading = "Prompt and ControlNet")]
    pub caption_dir: Option<PathBuf>,
    /// Table of prompts, with a header line: one column `image` (path, file name, or file name without extension), one `prompt`
    #[arg(long, value_name = "FILE", value_parser = non_empty_path, conflicts_with = "caption_dir", help_heading = "Prompt and ControlNet")]
    pub prompt_csv: Option<PathBuf>,
    /// ControlNets to steer with: canny, depth, or any name that --controlnet-model and --control-image-dir explain
    #[arg(long, num_args = 1.., value_name = "KIND", help_heading = "Prompt and ControlNet")]
    pub control: Vec<String>,
    /// Where a kind's ControlNet is [default: lllyasviel/sd-controlnet-canny, lllyasviel/sd-controlnet-depth]; repeatable
    #[arg(long, value_name = "KIND=DIR|ID", help_heading = "Prompt and ControlNet")]
    pub controlnet_model: Vec<Named>,
    /// Strength of a kind's ControlNet [default: 1]; repeatable
    #[arg(long, value_name = "KIND=SCALE", help_heading = "Prompt and ControlNet")]
    pub control_scale: Vec<NamedNumber>,
    /// Share of the denoising steps after which a kind's ControlNet begins to steer [default: 0]; repeatable
    #[arg(long, value_name = "KIND=SHARE", help_heading = "Prompt and ControlNet")]
    pub control_start: Vec<NamedNumber>,
    /// Share of the denoising steps after which a kind's ControlNet no longer steers [default: 1]; repeatable
    #[arg(long, value_name = "KIND=SHARE", help_heading = "Prompt and ControlNet")]
    pub control_end: Vec<NamedNumber>,
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
