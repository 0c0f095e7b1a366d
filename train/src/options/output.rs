//! Options: files that come out, samples, logs, and how the program behaves.

use super::table::options;
use std::path::PathBuf;

options! {
    /// Saving and resuming.
    pub struct OutputOptions in "Output" {
        /// Folder for the adapter, metrics.jsonl and samples
        #[arg(value_name = "DIR", default_value = "output")]
        output_dir: PathBuf => Irrelevant;

        /// Replace a finished adapter of the same name, and the logs of its run
        overwrite: bool => Irrelevant;

        /// Name of the adapter's files without extension
        #[arg(value_name = "NAME")]
        output_name: Option<String> => MayChange, metadata "output_name";

        /// Save after every N-th epoch
        #[arg(value_name = "N")]
        save_every_n_epochs: Option<usize> => Irrelevant;

        /// Save after every N-th step
        #[arg(value_name = "N")]
        save_every_n_steps: Option<usize> => Irrelevant;

        /// Save at least N files over the run
        #[arg(value_name = "N")]
        save_n_epoch_ratio: Option<usize> => Irrelevant;

        /// Keep files of the last N epochs only
        #[arg(value_name = "N")]
        save_last_n_epochs: Option<usize> => Irrelevant;

        /// Keep files of the last N steps only
        #[arg(value_name = "N")]
        save_last_n_steps: Option<usize> => Irrelevant;

        /// Keep states of the last N epochs only
        #[arg(value_name = "N")]
        save_last_n_epochs_state: Option<usize> => Irrelevant;

        /// Keep states of the last N steps only
        #[arg(value_name = "N")]
        save_last_n_steps_state: Option<usize> => Irrelevant;

        /// safetensors: NAME.safetensors with kohya's keys; diffusers: a folder NAME with pytorch_lora_weights.safetensors
        #[arg(value_enum, default_value = "safetensors")]
        save_model_as: SaveFormat => Irrelevant;

        /// Type of the saved numbers (default: float32, as they are trained)
        #[arg(value_enum)]
        save_precision: Option<SavePrecision> => Irrelevant;

        /// Save a state to resume from with every file, at the end, and when interrupted
        save_state: bool => Irrelevant;

        /// Save a state to resume from at the end
        save_state_on_train_end: bool => Irrelevant;

        /// Resume from a state folder
        #[arg(value_name = "DIR")]
        resume: Option<PathBuf> => Irrelevant;

        /// Leave training metadata out of the adapter's file
        no_metadata: bool => Irrelevant;

        /// Record the start and end time in the adapter's file; identical runs then write different files
        metadata_times: bool => Irrelevant;

        /// Free text for the metadata
        #[arg(value_name = "TEXT")]
        training_comment: Option<String> => MayChange, metadata "training_comment";

        /// Title for the metadata (default: the output name)
        #[arg(value_name = "TEXT")]
        metadata_title: Option<String> => Irrelevant;

        /// Author for the metadata
        #[arg(value_name = "TEXT")]
        metadata_author: Option<String> => Irrelevant;

        /// Description for the metadata
        #[arg(value_name = "TEXT")]
        metadata_description: Option<String> => Irrelevant;

        /// License for the metadata
        #[arg(value_name = "TEXT")]
        metadata_license: Option<String> => Irrelevant;

        /// Tags for the metadata
        #[arg(value_name = "TEXT")]
        metadata_tags: Option<String> => Irrelevant;
    }
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

options! {
    /// Sample images during training.
    pub struct SampleOptions in "Samples" {
        /// Prompts, one per line, with --n --w --h --d --l --s --ss after each
        #[arg(value_name = "FILE")]
        sample_prompts: Option<PathBuf> => Irrelevant;

        /// Draw samples after every N-th epoch; takes precedence over steps
        #[arg(value_name = "N")]
        sample_every_n_epochs: Option<usize> => Irrelevant;

        /// Draw samples after every N-th step
        #[arg(value_name = "N")]
        sample_every_n_steps: Option<usize> => Irrelevant;

        /// Draw samples before the first step too
        sample_at_first: bool => Irrelevant;

        /// Sampler: ddim, ddpm, pndm, euler or euler_a; samples of kohya's others are drawn with euler or euler_a
        #[arg(value_name = "NAME", default_value = "ddim")]
        sample_sampler: String => Irrelevant;
    }
}

options! {
    /// The run itself.
    pub struct RunOptions in "Run" {
        /// Options in a TOML file; sections only group them
        #[arg(visible_alias = "config", value_name = "FILE")]
        config_file: Option<PathBuf> => Irrelevant;

        /// Seed for all random draws (default: a random one, which is recorded)
        #[arg(value_name = "N")]
        seed: Option<u64> => Fixed, by "ss_seed";

        /// Folder for TensorBoard
        #[arg(value_name = "DIR")]
        logging_dir: Option<PathBuf> => Irrelevant;

        /// Beginning of the run's folder name in --logging_dir
        #[arg(value_name = "TEXT")]
        log_prefix: Option<String> => Irrelevant;
    }
}
