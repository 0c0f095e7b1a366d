//! A command as a whole: what its first word means, how it ends, and with which exit status.
//!
//! | status | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | failed: a message on standard error says what, why, and what to do |
//! | 2 | wrong usage |
//! | 130 | interrupted |

use crate::console::Console;
use crate::failure::{Failure, in_plain_words};
use crate::mistakes::{self, Read};
use crate::options::Logging;
use crate::spelling::with_dashes;
use crate::{interrupt, output, tools};
use clap::error::ErrorKind;
use clap::{ArgMatches, Command, Parser};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

/// How a command ended that had no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// All is done.
    Done,
    /// Some of the work failed, and was told when it did.
    SomeFailed,
    /// The user stopped it; how to go on.
    Interrupted(String),
}

/// A command of this workspace.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Its name, which is the binary's too.
    pub name: &'static str,
    /// What it takes.
    pub command: fn() -> Command,
    /// What it does.
    pub run: fn(Call) -> Result<Ended, Failure>,
}

/// A call of a program.
#[derive(Debug, Clone)]
pub struct Call {
    /// How the user called it: `convert`, or `driftless convert`.
    pub name: String,
    /// What stood behind that.
    pub arguments: Vec<OsString>,
    /// Whether it is a program of its own, which prints completions and manual pages.
    is_whole: bool,
}

impl Program {
    /// The whole of a binary's `main`.
    pub fn main(&self) -> ExitCode {
        if let Err(error) = interrupt::listen() {
            let problem = format!("signals cannot be caught ({error}); an interruption may leave a temporary file");
            Console::new(Logging::default()).warn(problem);
        }
        let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        // The form of messages matters before anything is parsed: what is wrong with the arguments is a message too.
        let log_json = arguments.iter().any(|argument| argument == "--log-json" || argument == "--log_json");
        let console = Console::new(Logging { log_json, ..Logging::default() });
        let call = Call { name: self.name.to_owned(), arguments, is_whole: true };
        let ended = match call.first() {
            Some(word) if tools::is_one(word) => self.tool(&call),
            _ => self.call(call),
        };
        conclude(&console, ended)
    }

    fn tool(&self, call: &Call) -> Result<Ended, Failure> {
        if let Some(matches) = call.matches((self.command)())? {
            tools::run(call.command((self.command)()), &call.name, &matches)?;
        }
        Ok(Ended::Done)
    }

    /// Runs as a subcommand of another program.
    ///
    /// # Errors
    /// As the command.
    pub fn call_within(&self, outer: &str, arguments: Vec<OsString>) -> Result<Ended, Failure> {
        self.call(Call { name: format!("{outer} {}", self.name), arguments, is_whole: false })
    }

    fn call(&self, call: Call) -> Result<Ended, Failure> {
        match call.first() {
            // `--version 1-5` is an option of `extract`.
            Some("--version" | "-V") if call.arguments.len() == 1 => {
                output::print(&format!("{} {}\n", call.name, env!("CARGO_PKG_VERSION")));
                Ok(Ended::Done)
            }
            _ => (self.run)(call),
        }
    }
}

impl Call {
    /// Reads the arguments; `None` where they asked for help or the version, which is printed.
    ///
    /// # Errors
    /// For wrong usage.
    pub fn parse<T: Parser>(self) -> Result<Option<T>, Failure> {
        let Read { matches, unknown } = self.read(T::command());
        let parsed = matches.and_then(|matches| T::from_arg_matches(&matches));
        checked(parsed, unknown)
    }

    /// The command as this call sees it: under the name that was typed, and with what every program has besides.
    pub fn command(&self, command: Command) -> Command {
        let command = if self.is_whole { tools::add(command) } else { command };
        command.bin_name(&self.name)
    }

    /// Reads the arguments by a command; `None` where they asked for help or the version, which is printed.
    ///
    /// # Errors
    /// For wrong usage.
    pub fn matches(&self, command: Command) -> Result<Option<ArgMatches>, Failure> {
        let Read { matches, unknown } = self.read(command);
        checked(matches, unknown)
    }

    fn read(&self, command: Command) -> Read {
        let line = std::iter::once(OsString::from(&self.name)).chain(with_dashes(self.arguments.iter().cloned()));
        mistakes::read(&self.command(command), line.collect())
    }

    fn first(&self) -> Option<&str> {
        self.arguments.first().and_then(|argument| argument.to_str())
    }
}

/// Prints what is no error, though clap calls it one: help and version.
///
/// # Errors
/// What is an error.
pub fn shown(error: &clap::Error) -> Result<(), Failure> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let text = error.render();
            let colorful = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            output::print_as_it_is(&if colorful { text.ansi().to_string() } else { text.to_string() });
            Ok(())
        }
        _ => Err(wrong_usage(error)),
    }
}

/// What was read, unless something is unknown: then that, and what is wrong with the rest. What is missing may be what was misspelt.
fn checked<T>(read: Result<T, clap::Error>, mut unknown: Vec<clap::Error>) -> Result<Option<T>, Failure> {
    match read {
        Ok(read) if unknown.is_empty() => Ok(Some(read)),
        Err(error) if unknown.is_empty() => shown(&error).map(|()| None),
        Ok(_) => Err(Failure::Usage(in_plain_words(&mistakes::together(&unknown)))),
        Err(error) => {
            let follows = [
                ErrorKind::DisplayHelp,
                ErrorKind::DisplayVersion,
                ErrorKind::MissingRequiredArgument,
                ErrorKind::MissingSubcommand,
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
            ];
            if !follows.contains(&error.kind()) {
                unknown.insert(0, error);
            }
            Err(Failure::Usage(in_plain_words(&mistakes::together(&unknown))))
        }
    }
}

fn wrong_usage(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure::Usage(format!("no command is given\n\n{}", text.trim_end()));
    }
    Failure::Usage(in_plain_words(text.strip_prefix("error: ").unwrap_or(&text).trim_end()))
}

/// Says how a program ended, and gives its exit status.
fn conclude(console: &Console, ended: Result<Ended, Failure>) -> ExitCode {
    let status = match ended {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::SomeFailed) => ExitCode::FAILURE,
        Ok(Ended::Interrupted(advice)) => {
            console.interrupted(advice);
            return ExitCode::from(interrupt::EXIT_STATUS);
        }
        Err(failure) => {
            console.error(failure.message());
            return ExitCode::from(if matches!(failure, Failure::Usage(_)) { 2 } else { 1 });
        }
    };
    match output::finish() {
        Ok(()) => status,
        Err(error) => {
            console.error(format!("standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}
