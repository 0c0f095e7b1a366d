//! What the user typed: every option of the command, before anybody asks what it means (that is `plan`).
//!
//! Names are those of the original `extract_feature.py`; both spellings, with dashes and with underscores, are accepted.

mod extract;
mod generate;
mod model;
mod pca;
mod rows;
mod score;
mod set;
mod values;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use driftless_cli::Logging;

pub use extract::{ExtractArgs, RunArgs};
pub use generate::GenerateArgs;
pub use model::{Hardware, ModelArgs};
pub use pca::PcaArgs;
pub use score::ScoreArgs;
pub use set::SetArgs;
pub use values::{ANY, from_name, whole};

/// Writes features of Stable Diffusion 1.5 for images: inner activations at one noise level, steered by prompts, ControlNets and
/// LoRA adapters.
///
/// Options may be written with dashes or with underscores. Commands of the paper's `extract_feature.py` run as they are.
#[derive(Debug, Parser)]
#[command(
    name = "extract",
    args_conflicts_with_subcommands = true,
    args_override_self = true, // the last of two wins, as in the original's argparse
    subcommand_negates_reqs = true,
    version,
    disable_version_flag = true,
    disable_help_subcommand = true,
    max_term_width = 110,
    after_help = "Examples:\n  \
        extract --input_dir 'photos/*.jpg' --prompt 'a photo' --t 50 --layer configs/layers/practical.json --output_dir features\n  \
        extract --config sets.toml --shard 0/4\n  \
        extract layers --img_size 512"
)]
pub struct Cli {
    /// Another task than extracting.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Extracting.
    #[command(flatten)]
    pub extract: ExtractArgs,
    /// How much is told.
    #[command(flatten)]
    pub logging: Logging,
    /// Print the version of this program, as --version without a value does (with one it is the model's)
    #[arg(short = 'V', action = ArgAction::Version, value_parser = clap::value_parser!(bool))]
    pub program_version: Option<bool>,
}

/// Tasks beside extracting.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List every layer id with its shape
    #[command(
        after_help = "Examples:\n  extract layers --img_size 768\n  extract layers --model ./model --attention up_cross --json"
    )]
    Layers(LayersArgs),
    /// Keep features while an image is generated from a prompt
    #[command(after_help = "Examples:\n  extract generate --prompt 'a horse' --at_steps 10,25,50 --output_dir horse")]
    Generate(Box<GenerateArgs>),
    /// Draw features as images: their first three principal components as red, green and blue
    #[command(after_help = "Examples:\n  extract pca features/plain features/prompt --output images --images 'photos/*.jpg'\n  \
            extract pca features/sample --fit basis.safetensors")]
    Pca(PcaArgs),
    /// Score how far features drift from the image: draws of the noise against each other, a reference, and known warps
    #[command(after_help = "Examples:\n  \
        extract score --config sets.toml --input_dir 'photos/*.jpg' --output scores\n  \
        extract score --features draw-0 draw-1 draw-2 --output scores")]
    Score(Box<ScoreArgs>),
}

/// Options of `extract layers`.
#[derive(Debug, Args)]
pub struct LayersArgs {
    /// Diffusers folder, checkpoint file or hub id; only its UNet's configuration is read [default: the sizes of --version]
    #[arg(long, alias = "pretrained-model-name-or-path", value_name = "DIR|FILE|ID")]
    pub model: Option<String>,
    /// Version of Stable Diffusion: 1-5 or 2-1 [default: 1-5]
    #[arg(long, value_name = "VERSION", conflicts_with = "model")]
    pub version: Option<String>,
    /// Side of the image in pixels
    #[arg(long, default_value_t = 512, value_name = "PIXELS", value_parser = whole::<usize>(8..=8192), allow_negative_numbers = true)]
    pub img_size: usize,
    /// Also list the aggregate of these attention maps
    #[arg(long, num_args = 1.., value_name = "CATEGORY")]
    pub attention: Vec<driftless::taps::AttentionCategory>,
    /// Print a JSON object, id to shape
    #[arg(long)]
    pub json: bool,
}

/// Parses a path; clap's own parser for paths refuses empty ones, which is what is wanted here too.
fn non_empty_path(text: &str) -> Result<PathBuf, EmptyPath> {
    if text.is_empty() { Err(EmptyPath) } else { Ok(text.into()) }
}

/// A path without a letter.
#[derive(Debug, thiserror::Error)]
#[error("the path is empty")]
struct EmptyPath;

#[cfg(test)]
mod tests {
    use super::*;
    use driftless_cli::spelling::with_dashes;
    use std::ffi::OsString;

    fn parse(line: &str) -> Cli {
        let words = std::iter::once("extract").chain(line.split_whitespace()).map(OsString::from);
        Cli::try_parse_from(with_dashes(words)).unwrap()
    }

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn the_readmes_command_parses() {
        let cli = parse(
            "--layer ./feature/configs/config_15_practical.json --version 1-5 --img_size 512 --input_dir data/* \
             --batch_size 2 --t 50 --use_original_filename --sample_name_first",
        );
        assert_eq!(cli.extract.run.settings.input.img_size, Some(512));
        assert_eq!(cli.extract.set.set.t, Some(50.into()));
        let output = cli.extract.run.settings.output;
        assert!(output.use_original_filename && output.sample_name_first);
    }

    #[test]
    fn dashes_underscores_and_lists() {
        let cli = parse("--img-size=64 --control canny depth --attention up_cross down_self -b 3 --prompt-file=my_prompt.txt");
        let set = cli.extract.set.set;
        assert_eq!(set.control.iter().map(|control| control.kind.as_str()).collect::<Vec<_>>(), ["canny", "depth"]);
        assert_eq!(set.attention.len(), 2);
        assert_eq!(cli.extract.run.settings.batch_size, Some(3));
        assert_eq!(set.prompt_file, Some("my_prompt.txt".into()));
    }

    /// What belongs to an output's identity is read off the rows, so an option that has none would escape it.
    #[test]
    fn every_option_has_a_row_with_its_identity() {
        use clap::CommandFactory;
        use features::options::{RUN_OPTIONS, SET_OPTIONS};
        let of_sets = SET_OPTIONS.iter().filter_map(|option| option.flag.as_ref());
        let rows: Vec<&str> = RUN_OPTIONS.iter().map(|option| &option.flag).chain(of_sets).map(|flag| flag.name).collect();
        // Of the program itself: what is told, and its own version.
        let others = ["quiet", "verbose", "log-json", "program_version"];
        for argument in Cli::command().get_arguments() {
            let name = argument.get_long().unwrap_or(argument.get_id().as_str());
            assert!(rows.contains(&name) || others.contains(&name), "--{name} has no row in features::options");
        }
        assert_eq!(Cli::command().get_arguments().count(), rows.len() + others.len());
    }

    #[test]
    fn a_shells_list_and_faults_together() {
        let cli = parse("--input_dir a.png b.png c.png --t 50");
        assert_eq!(cli.extract.run.settings.input.images.len(), 3);
        let words = "extract --t -5 --seed x --feature_resize y".split_whitespace().map(OsString::from);
        let message = Cli::try_parse_from(with_dashes(words)).unwrap_err().to_string();
        for part in ["--t -5: expected a whole number, 0 to 999", "--seed x", "--feature-resize y"] {
            assert!(message.contains(part), "{part} is missing in: {message}");
        }
    }

    #[test]
    fn subcommands() {
        assert!(matches!(parse("layers --img_size 128").command, Some(Command::Layers(args)) if args.img_size == 128));
        assert!(matches!(parse("pca a b --output c").command, Some(Command::Pca(args)) if args.inputs.len() == 2));
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        for line in [
            "--t fifty",
            "--t -5",
            "--img-size 5x",
            "--device abacus",
            "--output-format nyp",
            "--controlnet-model canny",
            "--t 1000",
            "--nonsense",
            "--attention left_cross",
            "--shard 3/3",
            "--dtype float8",
        ] {
            let words = std::iter::once("extract").chain(line.split_whitespace()).map(OsString::from);
            assert_eq!(Cli::try_parse_from(with_dashes(words)).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
