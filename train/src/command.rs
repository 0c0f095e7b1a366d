//! The `train` command: from its arguments to its exit status.

use crate::monitor::Console;
use crate::options::arguments::{self, Parsed, Rejected};
use crate::options::{Action, Options};
use crate::run;
use crate::run::plan::Plan;
use clap::CommandFactory;
use driftless_cli::{Call, Ended, Failure, Program, device, output};

/// The command.
pub const PROGRAM: Program = Program { name: "train", command: Options::command, run: begin };

fn begin(call: Call) -> Result<Ended, Failure> {
    let typed = call.arguments.iter().map(|argument| argument.to_string_lossy().into_owned());
    match arguments::parse(&call.command(Options::command()), typed) {
        Ok(parsed) => carry_out(parsed),
        Err(Rejected::Shown(text)) => {
            output::print_as_it_is(&text);
            Ok(Ended::Done)
        }
        Err(Rejected::Wrong(message)) => Err(Failure::Usage(message)),
    }
}

fn carry_out(parsed: Parsed) -> Result<Ended, Failure> {
    let action = parsed.options.action;
    let mut console = Console::new(parsed.options.logging);
    device::set_threads(parsed.options.model.threads)?;
    let plan = Plan::new(parsed, &console)?;
    match action {
        Some(Action::Check) => {
            output::print(&run::check::report(&plan)?);
            Ok(Ended::Done)
        }
        None => Ok(run::train::train(&plan, &mut console)?),
    }
}
