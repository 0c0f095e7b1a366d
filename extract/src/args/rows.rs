//! Options on the command line that are made of the rows in [`features::options`].

use std::ffi::OsString;
use std::fmt;

use clap::builder::ValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use features::fault::{Fault, Faults};
use features::options::{Flag, Row, Takes};

/// What was typed behind one option.
pub struct Typed<R: 'static> {
    row: &'static R,
    flag: &'static Flag,
    words: Vec<OsString>,
}

impl<R> fmt::Debug for Typed<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.name(), self.words)
    }
}

impl<R> Typed<R> {
    /// The option's name with dashes in front.
    pub fn name(&self) -> String {
        format!("--{}", self.flag.name)
    }

    /// Reads it into settings.
    ///
    /// # Errors
    /// When it is no value of the option.
    pub fn read<S>(&self, settings: &mut S) -> Result<(), Fault>
    where
        R: Row<S>,
    {
        self.row.read_typed(settings, self.flag, &self.words)
    }
}

/// Adds the options of the rows to a command.
pub fn augment<S, R: Row<S> + 'static>(command: Command, rows: impl Iterator<Item = &'static R>) -> Command {
    command.args(rows.filter_map(|row| Some(argument(row.flag()?, row.doc()))))
}

fn argument(flag: &'static Flag, doc: &'static str) -> Arg {
    let argument = Arg::new(flag.name).long(flag.name).help(doc).help_heading(flag.heading);
    let argument = flag.short.into_iter().fold(argument, Arg::short);
    let argument = flag.alias.into_iter().fold(argument, Arg::alias);
    let argument = match flag.takes {
        Takes::Nothing => return argument.action(ArgAction::SetTrue),
        Takes::One => argument.action(ArgAction::Set),
        Takes::Each => argument.action(ArgAction::Append),
        Takes::Many => argument.action(ArgAction::Append).num_args(1..),
        Takes::Several => argument.action(ArgAction::Set).num_args(1..),
    };
    // `-5` is a value: a wrong one, which is said in the option's own words.
    argument.value_name(flag.value).value_parser(ValueParser::os_string()).allow_negative_numbers(true)
}

/// What was typed of the rows' options, and the settings that it amounts to.
///
/// # Errors
/// Every value that is none of its option's, as wrong usage.
pub fn read<S: Default, R: Row<S> + 'static>(
    matches: &ArgMatches,
    rows: impl Iterator<Item = &'static R>,
) -> Result<(S, Vec<Typed<R>>), clap::Error> {
    let mut settings = S::default();
    let mut faults = Faults::default();
    let mut all = Vec::new();
    for (row, flag) in rows.filter_map(|row| Some((row, row.flag()?))) {
        if matches.value_source(flag.name) != Some(ValueSource::CommandLine) {
            continue;
        }
        let words = match flag.takes {
            Takes::Nothing => Vec::new(),
            Takes::One | Takes::Each | Takes::Many | Takes::Several => {
                matches.get_many(flag.name).into_iter().flatten().cloned().collect()
            }
        };
        let typed = Typed { row, flag, words };
        faults.keep(typed.read(&mut settings));
        all.push(typed);
    }
    faults.check().map_err(wrong_usage)?;
    Ok((settings, all))
}

/// A fault as clap's own errors are.
pub fn wrong_usage(fault: Fault) -> clap::Error {
    clap::Error::raw(ErrorKind::ValueValidation, format!("{fault}\n"))
}
