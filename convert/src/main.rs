//! The `convert` command: checkpoint and adapter formats of Stable Diffusion 1.5.

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
mod report;

use args::{Command, Parsed};
use driftless::Result;
use report::Report;
use std::process::ExitCode;

/// Exit status of a run that was interrupted.
const INTERRUPTED: i32 = 130;

/// Large tensors follow each other in the same memory.
#[global_allocator]
static ALLOCATOR: driftless::ops::ReusingAllocator = driftless::ops::ReusingAllocator::new();

fn main() -> ExitCode {
    let arguments = args::parse();
    let handler = ctrlc::set_handler(|| {
        driftless::formats::remove_unfinished();
        eprintln!("convert: interrupted, nothing was written; run the same command again");
        std::process::exit(INTERRUPTED);
    });
    if let Err(error) = handler {
        eprintln!("convert: signals cannot be caught ({error}); an interruption may leave a temporary file");
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("convert: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Parsed) -> Result<()> {
    let report = Report::new(arguments.quiet, arguments.verbose);
    match &arguments.command {
        Command::Inspect { file, json } => inspect::run(file, *json, &report),
        Command::Diffusers(options) => diffusers::run(options, &report),
        Command::Kohya(options) => adapters::to_kohya(options, &report),
        Command::Peft(options) => adapters::to_peft(options, &report),
        Command::Ckpt(options) => checkpoint_file::run(options, &report),
        Command::ExtractLora(options) => extract_lora::run(options, &report),
        Command::Merge(options) => merge::run(options, &report),
    }
}
