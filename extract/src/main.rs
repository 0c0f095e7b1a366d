//! The `extract` command: features of Stable Diffusion 1.5 for images, as the paper's `extract_feature.py` makes them and under its
//! option names, with prompts, ControlNets and LoRA adapters against content shift.
//!
//! | room | what lives there |
//! | --- | --- |
//! | `args` | what was typed |
//! | `request` | the same in the form of a configuration file |
//! | `run` | the pass over the images, told on the terminal; the engine is the crate `features` |
//! | `generate` | features of an image that is being generated |
//! | `pca` | features as images |
//! | `report` | progress, memory |

mod args;
mod device;
mod generate;
mod interrupt;
mod layers;
mod model;
mod pca;
mod report;
mod request;
mod run;

use std::process::ExitCode;

use clap::Parser;
use features::plan::Fault;

use args::{Cli, Command};
use report::Reporter;
use run::Outcome;

/// Large tensors follow each other in the same memory.
#[global_allocator]
static ALLOCATOR: driftless::ops::ReusingAllocator = driftless::ops::ReusingAllocator::new();

fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(args::normalize(std::env::args_os())) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors for clap, with status 0. Where nobody listens to them, nothing is to be done.
            let _ = error.print();
            return status(error.exit_code());
        }
    };
    let result = match &cli.command {
        Some(Command::Layers(args)) => layers::list(args, &Reporter::new(args.logging)).map(|()| Outcome::Done),
        Some(Command::Generate(args)) => interruptible(|| generate::generate(args, &mut Reporter::new(args.logging))),
        Some(Command::Pca(args)) => pca::draw(args, &Reporter::new(args.logging)).map(|()| Outcome::Done),
        None if cli.extract.show_all_layers && cli.extract.config.is_none() => {
            layers::show_all(&cli.extract, &Reporter::new(cli.extract.logging)).map(|()| Outcome::Done)
        }
        None => interruptible(|| run::extract(&cli.extract, &mut Reporter::new(cli.extract.logging))),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::SomeFailed) => ExitCode::FAILURE,
        Ok(Outcome::Interrupted) => ExitCode::from(interrupt::EXIT_STATUS),
        Err(error) => {
            eprintln!("error: {}", told(&error));
            match is_usage(&error) {
                true => ExitCode::from(2),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// Whether the command line itself is wrong.
fn is_usage(error: &anyhow::Error) -> bool {
    let fault = match error.downcast_ref::<features::Error>() {
        Some(features::Error::Request(fault)) => Some(fault),
        _ => error.downcast_ref::<Fault>(),
    };
    matches!(fault, Some(Fault::Usage(_)))
}

/// An error with its causes, without those that the error says itself (the system's, in errors of files).
fn told(error: &anyhow::Error) -> String {
    error.chain().skip(1).map(ToString::to_string).fold(error.to_string(), |told, cause| match told.ends_with(&cause) {
        true => told,
        false => format!("{told}: {cause}"),
    })
}

/// Runs something that Ctrl-C stops in an orderly way.
fn interruptible<T>(run: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    interrupt::listen()?;
    run()
}

fn status(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(2))
}
