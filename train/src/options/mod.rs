//! What a user can ask for: kohya's `train_network.py` options under kohya's names, as one typed structure.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `model_and_data`, `network`, `optimization`, `objective`, `validation`, `output` | the options, grouped as `--help` groups them |
//! | [`table`] | what a row of these groups is: one for each option |
//! | [`identity`] | what a resumed run must have in common with the one that wrote the state |
//! | [`values`] | value types that kohya writes as text: `512,650`, `10%`, `key=value` |
//! | [`arguments`] | the command line and the TOML file, brought into one list of arguments |
//! | [`config_file`] | `--config_file`: a TOML whose sections are flattened into options |
//! | [`foreign`] | kohya's options that this program knows and does not have |
//!
//! Defaults are kohya's (sd-scripts 48d368f, February 2026) with one difference: `--caption_extension` is `.txt`, not `.caption`,
//! because captioning tools write `.txt`. `--resolution`, which kohya requires, defaults to 512.

pub mod arguments;
pub mod config_file;
pub mod foreign;
pub mod identity;
mod model_and_data;
mod network;
mod objective;
mod optimization;
mod output;
pub mod table;
mod validation;
pub mod values;

use driftless_cli::Logging;

pub use model_and_data::{CaptionOptions, DataOptions, Interpolation, ModelOptions, Precision};
pub use network::NetworkOptions;
pub use objective::{HuberSchedule, LossType, ObjectiveKind, ObjectiveOptions};
pub use optimization::OptimizationOptions;
pub use output::{OutputOptions, RunOptions, SampleOptions, SaveFormat, SavePrecision};
pub use table::{Identity, Record, Row};
pub use validation::ValidationOptions;

/// Everything that was asked for.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "train",
    version,
    rename_all = "snake_case",
    about = "Trains a LoRA for Stable Diffusion 1.5 or 2, with the options, folders and files of kohya's train_network.py",
    after_help = "Every long option may be written with dashes or underscores. Options may also stand in a TOML file given as \
                  --config_file; the command line takes precedence.\n\nExit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.\n\n\
                  Examples:\n  train --config_file configs/paper-lora.toml --train_data_dir data --output_dir adapter\n  \
                  train check --config_file configs/paper-lora.toml --train_data_dir data\n  \
                  train --config_file configs/paper-lora.toml --train_data_dir data --output_dir adapter --resume adapter/last-state",
    disable_help_subcommand = true
)]
pub struct Options {
    /// `check`: read configuration and data set, print what a run would do, and stop
    #[arg(value_enum)]
    pub action: Option<Action>,

    /// The base model and the machine.
    #[command(flatten)]
    pub model: ModelOptions,
    /// Images, buckets and caches.
    #[command(flatten)]
    pub data: DataOptions,
    /// Captions, and what is done to them at every draw.
    #[command(flatten)]
    pub captions: CaptionOptions,
    /// The adapter.
    #[command(flatten)]
    pub network: NetworkOptions,
    /// Optimizer, learning rates, length.
    #[command(flatten)]
    pub optimization: OptimizationOptions,
    /// Noise, timesteps and loss.
    #[command(flatten)]
    pub objective: ObjectiveOptions,
    /// Images that are held back.
    #[command(flatten)]
    pub validation: ValidationOptions,
    /// Files.
    #[command(flatten)]
    pub output: OutputOptions,
    /// Sample images.
    #[command(flatten)]
    pub samples: SampleOptions,
    /// Seed and logs.
    #[command(flatten)]
    pub run: RunOptions,
    /// How much is reported, as in all commands; no run depends on it.
    #[command(flatten)]
    pub logging: Logging,
}

/// What to do instead of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Action {
    /// Print buckets, steps, captions and a memory estimate, and stop.
    Check,
}

impl Options {
    /// What a command line without options asks for.
    pub fn defaults() -> Self {
        // No option is required, and every default is valid: `clap_agrees_with_itself` parses them.
        <Self as clap::Parser>::parse_from(["train"])
    }

    /// Every option's row with its value.
    pub fn values(&self) -> impl Iterator<Item = (&'static Row, &dyn table::Value)> {
        let Self {
            action: _,
            model,
            data,
            captions,
            network,
            optimization,
            objective,
            validation,
            output,
            samples,
            run,
            logging: _,
        } = self;
        let known = model.values().chain(data.values()).chain(captions.values()).chain(network.values());
        let known = known.chain(optimization.values()).chain(objective.values()).chain(validation.values());
        known.chain(output.values()).chain(samples.values()).chain(run.values())
    }
}

/// The rows of all options, in the order of `--help`.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    let groups = [
        ModelOptions::ROWS,
        DataOptions::ROWS,
        CaptionOptions::ROWS,
        NetworkOptions::ROWS,
        OptimizationOptions::ROWS,
        ObjectiveOptions::ROWS,
        ValidationOptions::ROWS,
        OutputOptions::ROWS,
        SampleOptions::ROWS,
        RunOptions::ROWS,
    ];
    groups.into_iter().flatten()
}

#[cfg(test)]
impl Options {
    /// The options for `arguments`, as a test writes them.
    pub fn of(arguments: &[&str]) -> Self {
        Self::from_arguments(arguments.iter().copied()).expect("the test's arguments are valid")
    }
}
