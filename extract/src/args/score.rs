//! Options of scoring.

use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use features::options::{RUN_OPTIONS, RunOption};

use super::extract::RunArgs;
use super::{ANY, non_empty_path, rows, whole};

/// Those of a run's options that say how features are written, or which part of the work is done: scores have none of it.
const NOT_OF_SCORES: [&str; 11] = [
    "shard",
    "output-dir",
    "aggregate-output",
    "sample-name-first",
    "output-dtype",
    "output-format",
    "pca",
    "pca-dims",
    "show-all-layers",
    "offline-lora",
    "offline-lora-filename",
];

/// Options of `extract score`.
#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// The run.
    #[command(flatten)]
    pub run: ScoredRun,
    /// Draws of the noise per image
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = whole::<usize>(ANY), allow_negative_numbers = true, help_heading = "Scores")]
    pub draws: usize,
    /// Timesteps at which all sets are taken, in the place of their own; sets of clean latents keep theirs
    #[arg(long, default_value = "50,261,500", value_delimiter = ',', value_name = "T,T,...", value_parser = whole::<usize>(ANY), allow_negative_numbers = true, help_heading = "Scores")]
    pub timesteps: Vec<usize>,
    /// Known warps per image, for warp_pck and warp_cells
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = whole::<usize>(ANY), allow_negative_numbers = true, help_heading = "Scores")]
    pub warps: usize,
    /// Decode what the network imagines and compare it with the image, too: imagination_gradients, imagination_edges
    #[arg(long, help_heading = "Scores")]
    pub decode: bool,
    /// The set whose features at t = 0 are the reference of cka and paper [default: the first of the file]
    #[arg(long, value_name = "SET", help_heading = "Scores")]
    pub reference: Option<String>,
    /// Images that the report shows, the first of the run; at the timestep in the middle of the list
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = whole::<usize>(ANY), allow_negative_numbers = true, help_heading = "Scores")]
    pub shown_images: usize,
    /// Features that were written already, a folder per draw: their draw_consistency alone
    #[arg(
        long,
        value_name = "DIR",
        num_args = 1..,
        value_parser = non_empty_path,
        conflicts_with_all = ["config", "draws", "timesteps", "warps", "decode", "reference", "shown_images", "input-dir"],
        required_unless_present = "config",
        help_heading = "Scores"
    )]
    pub features: Vec<PathBuf>,
    /// Folder of scores.csv, summary.json and report.html
    #[arg(long, value_name = "DIR", value_parser = non_empty_path, help_heading = "Scores")]
    pub output: PathBuf,
}

/// What was typed about the run.
#[derive(Debug, Default)]
pub struct ScoredRun(pub RunArgs);

fn options() -> impl Iterator<Item = &'static RunOption> {
    RUN_OPTIONS.iter().filter(|option| !NOT_OF_SCORES.contains(&option.flag.name))
}

impl Args for ScoredRun {
    fn augment_args(command: Command) -> Command {
        rows::augment(command, options())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ScoredRun {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        RunArgs::of(matches, options()).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
