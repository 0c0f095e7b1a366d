//! What was typed. Long options may be written with dashes or underscores.

use candle_core::DType;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// Converts checkpoints and adapters of Stable Diffusion 1.5 between LDM, diffusers, kohya and PEFT. What a file is, is told by
/// its content, not by its name; pickles are read without executing anything.
#[derive(Debug, Parser)]
#[command(name = "convert", version, propagate_version = true)]
pub struct Parsed {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Prints errors only.
    #[arg(long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Lists every key that was left out.
    #[arg(long, global = true)]
    pub verbose: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Says what a file is: kind, format, keys, rank, alpha, types, metadata.
    Inspect {
        /// A weight file.
        file: PathBuf,
        /// Prints JSON, with every key.
        #[arg(long)]
        json: bool,
    },
    /// Makes a pipeline folder of a whole checkpoint, or pytorch_lora_weights.safetensors of an adapter.
    Diffusers(DiffusersOptions),
    /// Makes a kohya file of an adapter.
    Kohya(AdapterOptions),
    /// Makes a PEFT folder for each network that an adapter changes: unet/ and text_encoder/.
    Peft(AdapterOptions),
    /// Makes one LDM file of a pipeline folder.
    Ckpt(CheckpointOptions),
}

/// Options of `convert diffusers`.
#[derive(Debug, Args)]
pub struct DiffusersOptions {
    #[command(flatten)]
    pub adapter: AdapterOptions,
    /// Where a whole checkpoint's text encoder comes from [default: checkpoint].
    #[arg(long)]
    pub text_encoder: Option<TextEncoder>,
    /// Takes the moving averages of a whole checkpoint's UNet (model_ema.*).
    #[arg(long)]
    pub ema: bool,
}

/// Options of commands that take an adapter.
#[derive(Debug, Args)]
pub struct AdapterOptions {
    /// A .safetensors file, or a .ckpt, .pt, .pth or .bin file that torch.save wrote.
    pub input: PathBuf,
    /// Where the result goes: a file or a folder.
    #[arg(long, short)]
    pub output: PathBuf,
    /// A diffusers folder of the base model: gives a whole checkpoint its configurations and missing parts, and every layer of an
    /// adapter is checked against it.
    #[arg(long)]
    pub base: Option<PathBuf>,
    /// Element type of the result [default: as stored].
    #[arg(long)]
    pub dtype: Option<Precision>,
    /// Warns of keys that are not understood, and leaves them out, in the place of failing.
    #[arg(long)]
    pub allow_unknown: bool,
}

/// Options of `convert ckpt`.
#[derive(Debug, Args)]
pub struct CheckpointOptions {
    /// A diffusers pipeline folder.
    pub input: PathBuf,
    /// The .safetensors file to write.
    #[arg(long, short)]
    pub output: PathBuf,
    /// Element type of the result [default: as stored].
    #[arg(long)]
    pub dtype: Option<Precision>,
}

/// Where the text encoder comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TextEncoder {
    /// The checkpoint's own.
    Checkpoint,
    /// The base model's, as the paper's helper does.
    Base,
}

/// Element types of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// Half precision.
    #[value(alias = "fp16")]
    Float16,
    /// bfloat16.
    #[value(alias = "bf16")]
    Bfloat16,
    /// Single precision.
    #[value(alias = "fp32", alias = "float")]
    Float32,
}

impl Precision {
    /// candle's name.
    pub fn dtype(self) -> DType {
        match self {
            Self::Float16 => DType::F16,
            Self::Bfloat16 => DType::BF16,
            Self::Float32 => DType::F32,
        }
    }
}

/// Reads the command line; ends the process with status 2 for wrong usage.
pub fn parse() -> Parsed {
    Parsed::parse_from(with_dashes(std::env::args_os()))
}

/// Writes the names of long options with dashes; what stands behind `=` or `--` is left alone.
fn with_dashes(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut options = true;
    arguments
        .map(|argument| {
            let Some(text) = argument.to_str().filter(|text| options && text.starts_with("--")) else { return argument };
            options = text != "--";
            match text.split_once('=') {
                Some((name, value)) => format!("{}={value}", name.replace('_', "-")).into(),
                None => text.replace('_', "-").into(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Parsed::command().debug_assert();
    }

    #[test]
    fn underscores_in_names_become_dashes_and_values_stay() {
        let typed = ["convert", "diffusers", "a_b", "--allow_unknown", "--text_encoder=base", "--output=x_y", "--", "--a_b"];
        let read = with_dashes(typed.iter().map(OsString::from));
        assert_eq!(
            read,
            ["convert", "diffusers", "a_b", "--allow-unknown", "--text-encoder=base", "--output=x_y", "--", "--a_b"]
        );
    }
}
