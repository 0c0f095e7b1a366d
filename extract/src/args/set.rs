//! The options of a feature set on the command line.

use clap::{ArgMatches, Args, Command, FromArgMatches};
use features::options::{SET_OPTIONS, SetSettings};

use super::rows;

/// What was typed about the feature set.
#[derive(Debug, Default)]
pub struct SetArgs {
    /// The set.
    pub set: SetSettings,
    /// The options that were typed, with dashes in front.
    pub typed: Vec<String>,
}

impl Args for SetArgs {
    fn augment_args(command: Command) -> Command {
        rows::augment(command, SET_OPTIONS.iter())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SetArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let (set, typed) = rows::read(matches, SET_OPTIONS.iter())?;
        Ok(Self { set, typed: typed.iter().map(rows::Typed::name).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
