//! The `convert` command: checkpoint and adapter formats of Stable Diffusion 1.5.
//!
//! | file | what it does |
//! | --- | --- |
//! | `args` | what was typed |
//! | `inspect` | `convert inspect` |
//! | `diffusers`, `adapters`, `pipeline_folder`, `checkpoint_file` | from one format to another |
//! | `extract_lora`, `merge` | from a tuned model to an adapter, and back |
//! | `plain` | adapters of every family as plain LoRA |
//! | `model`, `output`, `told` | models to read from, places to write to, what is told alike |

mod adapters;
mod args;
mod checkpoint_file;
mod diffusers;
mod extract_lora;
mod inspect;
mod merge;
mod model;
mod output;
mod pipeline_folder;
mod plain;
mod told;

use args::{Command, Parsed};
use clap::CommandFactory;
use driftless_cli::{Call, Console, Ended, Failure, Program};

/// The command.
pub const PROGRAM: Program = Program { name: "convert", command: Parsed::command, run };

fn run(call: Call) -> Result<Ended, Failure> {
    let Some(arguments) = call.parse::<Parsed>()? else { return Ok(Ended::Done) };
    let console = &Console::new(arguments.logging);
    match &arguments.command {
        Command::Inspect { file, json } => inspect::run(file, *json, console),
        Command::Diffusers(options) => diffusers::run(options, console),
        Command::Kohya(options) => adapters::to_kohya(options, console),
        Command::Peft(options) => adapters::to_peft(options, console),
        Command::Ckpt(options) => checkpoint_file::run(options, console),
        Command::ExtractLora(options) => extract_lora::run(options, console),
        Command::Merge(options) => merge::run(options, console),
    }?;
    Ok(Ended::Done)
}
