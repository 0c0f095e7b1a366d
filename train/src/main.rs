//! The `train` command.

use anyhow::{Context, Result};
use driftless_train::monitor::{Console, sentence};
use driftless_train::options::Action;
use driftless_train::options::arguments::{self, Parsed, Rejected};
use driftless_train::run::plan::Plan;
use driftless_train::run::train::Ended;
use driftless_train::{interrupt, run};
use std::process::ExitCode;

/// The exit status of wrong usage.
const WRONG_USAGE: u8 = 2;

/// Large tensors follow each other in the same memory.
#[global_allocator]
static ALLOCATOR: driftless::ops::ReusingAllocator = driftless::ops::ReusingAllocator::new();

fn main() -> ExitCode {
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let parsed = match arguments::parse(arguments) {
        Ok(parsed) => parsed,
        Err(Rejected::Shown(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(Rejected::Wrong(message)) => {
            eprintln!("error: {message}");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    match begin(parsed) {
        Ok(Ended::Finished) => ExitCode::SUCCESS,
        Ok(Ended::Interrupted(advice)) => {
            eprintln!("interrupted: {advice}");
            ExitCode::from(interrupt::EXIT_STATUS)
        }
        Err(error) => {
            eprintln!("error: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

fn begin(parsed: Parsed) -> Result<Ended> {
    let action = parsed.options.action;
    let mut console = Console::new(&parsed.options.run);
    if let Some(threads) = parsed.options.model.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("--threads")?;
    }
    let plan = Plan::new(parsed, &console)?;
    if action == Some(Action::Check) {
        print!("{}", run::check::report(&plan)?);
        return Ok(Ended::Finished);
    }
    interrupt::listen()?;
    let ended = run::train::train(&plan, &mut console);
    console.finish();
    ended
}
