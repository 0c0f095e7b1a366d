//! The options of a feature set on the command line, made of the rows in [`features::options`].

use std::ffi::OsString;

use clap::builder::ValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use features::options::SetSettings;
use features::options::{Flag, SET_OPTIONS, SetOption, Takes};

/// What was typed about the feature set.
#[derive(Debug, Default)]
pub struct SetArgs {
    /// The set.
    pub set: SetSettings,
    /// The options that were typed, with dashes in front.
    pub typed: Vec<String>,
}

fn flags() -> impl Iterator<Item = (&'static SetOption, &'static Flag)> {
    SET_OPTIONS.iter().filter_map(|option| Some((option, option.flag.as_ref()?)))
}

impl Args for SetArgs {
    fn augment_args(command: Command) -> Command {
        let argument = |(option, flag): (&'static SetOption, &'static Flag)| {
            let argument = Arg::new(flag.name).long(flag.name).help(option.doc).help_heading(flag.heading);
            let argument = match flag.takes {
                Takes::Nothing => return argument.action(ArgAction::SetTrue),
                Takes::One => argument.action(ArgAction::Set),
                Takes::Each => argument.action(ArgAction::Append),
                Takes::Many => argument.action(ArgAction::Append).num_args(1..),
            };
            argument.value_name(flag.value).value_parser(ValueParser::os_string())
        };
        command.args(flags().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SetArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for (option, flag) in flags() {
            if matches.value_source(flag.name) != Some(ValueSource::CommandLine) {
                continue;
            }
            let words: Vec<OsString> = match flag.takes {
                Takes::Nothing => Vec::new(),
                Takes::One | Takes::Each | Takes::Many => matches.get_many(flag.name).into_iter().flatten().cloned().collect(),
            };
            let wrong = |fault| clap::Error::raw(ErrorKind::ValueValidation, format!("{fault}\n"));
            option.read_typed(flag, &mut self.set, &words).map_err(wrong)?;
            self.typed.push(format!("--{}", flag.name));
        }
        Ok(())
    }
}
