//! Options: files that come out, samples, logs, and how the program behaves.

use std::path::PathBuf;

/// Saving and resuming.
#[derive(Debug, Clone, clap::Args)]
#[command(rename_all = "snake_case", next_help_heading = "Output")]
pub struct OutputOptions {
    /// Folder for the adapter, metrics.jsonl and samples
    #[arg(long, value_name = "DIR", default_value = "output")]
    pub output_dir: PathBuf,

    /// Name of the adapter's files without extension
    #[arg(long, value_name = "NAME")]
    pub output_name: Option<String>,

    /// Save after every N-th epoch
    #[arg(long, value_name = "N")]
    pub save_every_n_epochs: Option<usize>,

    /// Save after every N-th step
    #[arg(long, value_name = "N")]
    pub save_every_n_steps: Option<usize>,

    /// Save at least N files over the run
    #[arg(long, value_name = "N")]
    pub save_n_epoch_ratio: Option<usize>,

    /// Keep files of the last N epochs only
    #[arg(long, value_name = "N")]
    pub save_last_n_epochs: Option<usize>,

    /// Keep files of the last N steps only
    #[arg(long, value_name = "N")]
    pub save_last_n_steps: Option<usize>,

    /// Keep states of the last N epochs only
    #[arg(long, value_name = "N")]
    pub save_last_n_epochs_state: Option<usize>,

    /// Keep states of the last N steps only
    #[arg(long, value_name = "N")]
    pub save_last_n_steps_state: Option<usize>,

    /// safetensors: NAME.safetensors with kohya's keys; diffusers: a folder NAME with pytorch_lora_weights.safetensors
    #[arg(long, value_enum, default_value = "safetensors")]
    pub save_model_as: SaveFormat,

    /// Type of the saved numbers (default: float32, as they are trained)
    #[arg(long, value_enum)]
    pub save_precision: Option<SavePrecision>,

    /// Save a state to resume from with every file, at the end, and when interrupted
    #[arg(long)]
    pub save_state: bool,

    /// Save a state to resume from at the end
    #[arg(long)]
    pub save_state_on_train_end: bool,

    /// Go on from a state folder
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,

    /// Leave training metadata out of the adapter's file
    #[arg(long)]
    pub no_metadata: bool,

    /// Write when training began and ended into the adapter's file; equal runs then give files that differ
    #[arg(long)]
    pub metadata_times: bool,

    /// Free text for the metadata
    #[arg(long, value_name = "TEXT")]
    pub training_comment: Option<String>,

    /// Title for the metadata (default: the output name)
    #[arg(long, value_name = "TEXT")]
    pub metadata_title: Option<String>,

    /// Author for the metadata
    #[arg(long, value_name = "TEXT")]
    pub metadata_author: Option<String>,

    /// Description for the metadata
    #[arg(long, value_name = "TEXT")]
    pub metadata_description: Option<String>,

    /// Licence for the metadata
    #[arg(long, value_name = "TEXT")]
    pub metadata_license: Option<String>,

    /// Tags for the metadata
    #[arg(long, value_name = "TEXT")]
    pub metadata_tags: Option<String>,
}

/// kohya's `--save_model_as`, and diffusers' layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SaveFormat {
    /// One file with kohya's keys.
    Safetensors,
    /// A folder as diffusers' `load_lora_weights` takes it.
    Diffusers,
}

/// kohya's `--save_precision`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SavePrecision {
    /// float32.
    #[value(name = "float", alias = "float32")]
    Float,
    /// float16.
    #[value(name = "fp16", alias = "float16")]
    Fp16,
    /// bfloat16.
    #[value(name = "bf16", alias = "bfloat16")]
    Bf16,
}

/// Sample images during training.
#[derive(Debug, Clone, clap::Args)]
#[command(rename_all = "snake_case", next_help_heading = "Samples")]
pub struct SampleOptions {
    /// Prompts, one per line, with --n --w --h --d --l --s --ss after each
    #[arg(long, value_name = "FILE")]
    pub sample_prompts: Option<PathBuf>,

    /// Draw samples after every N-th epoch; wins over steps
    #[arg(long, value_name = "N")]
    pub sample_every_n_epochs: Option<usize>,

    /// Draw samples after every N-th step
    #[arg(long, value_name = "N")]
    pub sample_every_n_steps: Option<usize>,

    /// Draw samples before the first step too
    #[arg(long)]
    pub sample_at_first: bool,

    /// Sampler: ddim, ddpm, pndm, euler or euler_a; samples of kohya's others are drawn with euler or euler_a
    #[arg(long, value_name = "NAME", default_value = "ddim")]
    pub sample_sampler: String,
}

/// The run itself.
#[derive(Debug, Clone, clap::Args)]
#[command(rename_all = "snake_case", next_help_heading = "Run")]
pub struct RunOptions {
    /// Options in a TOML file; sections only group them
    #[arg(long, visible_alias = "config", value_name = "FILE")]
    pub config_file: Option<PathBuf>,

    /// Seed of everything random (default: a random one, which is recorded)
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Folder for TensorBoard
    #[arg(long, value_name = "DIR")]
    pub logging_dir: Option<PathBuf>,

    /// Beginning of the run's folder name in --logging_dir
    #[arg(long, value_name = "TEXT")]
    pub log_prefix: Option<String>,

    /// Show warnings and errors only
    #[arg(long, short, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Show more
    #[arg(long, short)]
    pub verbose: bool,

    /// Write messages and progress as JSON lines to standard error
    #[arg(long)]
    pub log_json: bool,
}
