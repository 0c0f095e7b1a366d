//! The `extract` command: features of Stable Diffusion 1.5 for images, as the paper's `extract_feature.py` makes them and under its
//! option names, with prompts, ControlNets and LoRA adapters against content shift.
//!
//! | room | what lives there | uses |
//! | --- | --- | --- |
//! | `run` | the pass over the images, reported on the terminal; the engine is the crate `features` | `request`, `model`, `terminal`, `args` |
//! | `score` | scores of content shift; the work is the crate `tasks`'s | `request`, `model`, `terminal`, `args` |
//! | `terminal` | what a run tells, told on the terminal | |
//! | `request` | the command line, in the form of a configuration file | `args` |
//! | `generate` | features of an image that is being generated | `model`, `args` |
//! | `layers` | every layer id with its shape | `model`, `args` |
//! | `pca` | features as images | `args`, `terminal` |
//! | `model` | the models to read from, and what computes | `args` |
//! | `args` | the command line | |

mod args;
mod generate;
mod layers;
mod model;
mod pca;
mod request;
mod run;
mod score;
mod terminal;

use args::{Cli, Command};
use clap::CommandFactory;
use driftless_cli::failure::sentence;
use driftless_cli::{Call, Console, Ended, Failure, Program};
use features::fault::Fault;

/// The command.
pub const PROGRAM: Program = Program { name: "extract", command: Cli::command, run: begin };

fn begin(call: Call) -> Result<Ended, Failure> {
    let Some(cli) = call.parse::<Cli>()? else { return Ok(Ended::Done) };
    let console = &Console::new(cli.logging);
    let ended = match &cli.command {
        Some(Command::Layers(args)) => layers::list(args, console).map(|()| Ended::Done),
        Some(Command::Generate(args)) => generate::generate(args, console),
        Some(Command::Score(args)) => score::score(args, console),
        Some(Command::Pca(args)) => pca::draw(args, console).map(|()| Ended::Done),
        None if cli.extract.run.settings.command.show_all_layers && cli.extract.run.settings.command.config.is_none() => {
            layers::show_all(&cli.extract, console).map(|()| Ended::Done)
        }
        None => run::extract(&cli.extract, console),
    };
    ended.map_err(|error| match is_usage(&error) {
        true => Failure::Usage(sentence(error.as_ref())),
        false => error.into(),
    })
}

/// Whether the command line itself is wrong.
fn is_usage(error: &anyhow::Error) -> bool {
    let of_run = error.downcast_ref::<features::Error>().or_else(|| match error.downcast_ref::<tasks::shift::Error>() {
        Some(tasks::shift::Error::Features(error)) => Some(error),
        _ => None,
    });
    let fault = match of_run {
        Some(features::Error::Request(fault)) => Some(fault),
        _ => error.downcast_ref::<Fault>(),
    };
    matches!(fault, Some(Fault::Usage(_)))
}
