//! The `convert` command: checkpoint and adapter formats of Stable Diffusion 1 and 2.
//!
//! | room | what lives there | uses |
//! | --- | --- | --- |
//! | `merge` | adapters into a model | `checkpoint_file`, `pipeline_folder`, `adapters`, `model`, `output`, `args`, `fault` |
//! | `extract_lora` | from a tuned model to an adapter | `plain`, `model`, `output`, `told`, `args`, `fault` |
//! | `diffusers` | anything into diffusers' layout | `pipeline_folder`, `adapters`, `args`, `fault` |
//! | `checkpoint_file` | a pipeline folder into one LDM file | `pipeline_folder`, `output`, `told`, `args`, `fault` |
//! | `pipeline_folder` | a checkpoint into a pipeline folder | `model`, `output`, `told`, `args`, `fault` |
//! | `inspect` | what a file is | `adapters` |
//! | `adapters` | adapters from one format to another | `plain`, `model`, `output`, `told`, `args`, `fault` |
//! | `plain` | adapters of every family as plain LoRA | `model`, `told`, `fault` |
//! | `model` | models to read from | `fault` |
//! | `output` | the folder and name of the result | `fault` |
//! | `told` | units and warnings that commands share | |
//! | `fault` | what is refused of files and options | |
//! | `args` | the command line | |

mod adapters;
mod args;
mod checkpoint_file;
mod diffusers;
mod extract_lora;
mod fault;
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
