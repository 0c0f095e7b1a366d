//! The `driftless` program: `train`, `extract` and `convert` as subcommands of one, for package managers and for `bin` folders where
//! those names belong to others (`convert` is ImageMagick's).

use clap::Command;
use driftless_cli::{Call, Ended, Failure, Program};
use std::process::ExitCode;

/// Large tensors follow each other in the same memory.
#[global_allocator]
static ALLOCATOR: driftless::ops::ReusingAllocator = driftless::ops::ReusingAllocator::new();

const COMMANDS: [Program; 3] = [driftless_train::PROGRAM, driftless_extract::PROGRAM, driftless_convert::PROGRAM];

fn main() -> ExitCode {
    Program { name: "driftless", command, run }.main()
}

fn command() -> Command {
    Command::new("driftless")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Features of Stable Diffusion without content shift: trains adapters, extracts features, converts files")
        .after_help(
            "Examples:\n  driftless train --config_file configs/paper-lora.toml --train_data_dir data\n  \
             driftless extract --input_dir 'photos/*.jpg' --prompt 'a photo' --t 50\n  driftless convert inspect lora.safetensors",
        )
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommands(COMMANDS.map(|program| (program.command)()))
}

fn run(call: Call) -> Result<Ended, Failure> {
    let named = call.arguments.first().and_then(|word| COMMANDS.iter().find(|program| word == program.name));
    match named {
        Some(program) => program.call_within(&call.name, call.arguments[1..].to_vec()),
        // No command of ours: clap shows the help, or says what is wrong.
        None => call.matches(command()).map(|_| Ended::Done),
    }
}
