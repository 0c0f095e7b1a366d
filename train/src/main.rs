//! The `train` command: LoRA training for Stable Diffusion 1.5 with kohya's options, folders and files.
//!
//! | room | what lives there | knows about |
//! | --- | --- | --- |
//! | [`run`] | a run from options to files | all below |
//! | [`training`] | the loop, latents, states | `model`, `data`, `objective`, `optimizer` |
//! | [`samples`] | sample images | `model`, `network` |
//! | [`output`], [`monitor`] | names, metadata, logs | `data`, `steps` |
//! | [`network`] | the adapter in training | `optimizer` |
//! | [`model`] | what the loop needs of a model | |
//! | [`objective`], [`optimizer`] | noise and loss; gradients and steps | |
//! | [`data`] | images, captions, buckets, batches | |
//! | [`options`], [`steps`], [`seeds`] | what was asked for | |

mod data;
mod interrupt;
mod model;
mod monitor;
mod network;
mod objective;
mod optimizer;
mod options;
mod output;
mod run;
mod samples;
mod seeds;
mod steps;
mod training;

use anyhow::{Context, Result};
use monitor::{Console, sentence};
use options::Action;
use options::arguments::{Parsed, Rejected};
use run::plan::Plan;
use run::train::Ended;
use std::process::ExitCode;

/// The exit status of wrong usage.
const WRONG_USAGE: u8 = 2;

/// Large tensors follow each other in the same memory.
#[global_allocator]
static ALLOCATOR: driftless::ops::ReusingAllocator = driftless::ops::ReusingAllocator::new();

fn main() -> ExitCode {
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let parsed = match options::arguments::parse(arguments) {
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
