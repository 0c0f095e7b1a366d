//! Options of extracting.

use clap::{ArgMatches, Args, Command, FromArgMatches};
use features::fault::Fault;
use features::options::{RUN_OPTIONS, RunOption, Settings};

use super::rows::{self, Typed};
use super::{Hardware, SetArgs};

/// Options of extracting.
#[derive(Debug, Args)]
pub struct ExtractArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArgs,
    /// The feature set.
    #[command(flatten)]
    pub set: SetArgs,
}

/// What was typed about the run.
#[derive(Debug, Default)]
pub struct RunArgs {
    /// That alone, without a configuration file.
    pub settings: Settings,
    typed: Vec<Typed<RunOption>>,
}

impl RunArgs {
    /// Puts what was typed over settings from a file.
    ///
    /// # Errors
    /// When a value is none of its option's, which was found before.
    pub fn put_over(&self, settings: &mut Settings) -> Result<(), Fault> {
        self.typed.iter().try_for_each(|typed| typed.read(settings))
    }
}

impl RunArgs {
    /// What was typed of these options.
    pub(super) fn of(matches: &ArgMatches, options: impl Iterator<Item = &'static RunOption>) -> Result<Self, clap::Error> {
        let (settings, typed) = rows::read(matches, options)?;
        Hardware::typed(&settings)?;
        Ok(Self { settings, typed })
    }
}

impl Args for RunArgs {
    fn augment_args(command: Command) -> Command {
        rows::augment(command, RUN_OPTIONS.iter())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for RunArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Self::of(matches, RUN_OPTIONS.iter())
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
