//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use driftless::adapter::ScaledFile;
use driftless::model_family::Prediction;
use driftless_cli::Logging;
use driftless_cli::options::Precision;
use std::path::PathBuf;
use std::str::FromStr;

/// Converts checkpoints and adapters of Stable Diffusion 1 and 2 between LDM, diffusers, kohya and PEFT. Files are recognized by their
/// content, not by their names; pickles are read without executing anything.
#[derive(Debug, Parser)]
#[command(
    name = "convert",
    version,
    propagate_version = true,
    after_help = "Long options may be written with dashes or underscores.\n\n\
                  Examples:\n  convert inspect lora.safetensors\n  convert diffusers lora.safetensors --output converted"
)]
pub struct Parsed {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub logging: Logging,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Describes a file or folder: kind, format, size, families, ranks, alphas, norms of the changes, tags.
    #[command(after_help = "Examples:\n  convert inspect lora.safetensors\n  convert inspect model.ckpt --json | jq .kind")]
    Inspect {
        /// A weight file, or the folder of an adapter, a pipeline, a network or a training state.
        file: PathBuf,
        /// Prints JSON with everything that is known, every key included.
        #[arg(long)]
        json: bool,
    },
    /// Converts a whole checkpoint to a pipeline folder, or an adapter to pytorch_lora_weights.safetensors.
    #[command(
        after_help = "Examples:\n  convert diffusers lora.safetensors --output converted\n  convert diffusers model.ckpt --output model --base stable-diffusion-v1-5/stable-diffusion-v1-5 --dtype float16"
    )]
    Diffusers(DiffusersOptions),
    /// Converts an adapter to kohya's format.
    #[command(after_help = "Examples:\n  convert kohya pytorch_lora_weights.safetensors --output lora.safetensors")]
    Kohya(AdapterOptions),
    /// Converts an adapter to PEFT's format: a folder for each network that it changes, unet/ and text_encoder/; or one .safetensors file
    /// with both networks' layers under PEFT's names (unet.*.lora_A.weight, text_encoder.*), the scale folded in.
    #[command(
        after_help = "Examples:\n  convert peft lora.safetensors --output peft\n  convert peft loha.safetensors --rank 16 --output peft.safetensors"
    )]
    Peft(AdapterOptions),
    /// Converts a pipeline folder to one LDM file.
    #[command(after_help = "Examples:\n  convert ckpt model --output model.safetensors --dtype float16")]
    Ckpt(CheckpointOptions),
    /// Recovers the adapter inside a merged checkpoint, by SVD of each layer's difference from the base model.
    #[command(
        after_help = "Examples:\n  convert extract-lora tuned.ckpt --base stable-diffusion-v1-5/stable-diffusion-v1-5 --rank 64 --output lora.safetensors"
    )]
    ExtractLora(ExtractOptions),
    /// Merges adapters of any family into a model.
    #[command(
        after_help = "Examples:\n  convert merge a.safetensors b.safetensors:0.5 --base stable-diffusion-v1-5/stable-diffusion-v1-5 --output merged"
    )]
    Merge(MergeOptions),
}

/// Options of `convert diffusers`.
#[derive(Debug, Args)]
pub struct DiffusersOptions {
    #[command(flatten)]
    pub adapter: AdapterOptions,
    /// Where a whole checkpoint's text encoder comes from [default: checkpoint].
    #[arg(long)]
    pub text_encoder: Option<TextEncoder>,
    /// Uses the moving averages of a whole checkpoint's UNet (model_ema.*).
    #[arg(long)]
    pub ema: bool,
    /// What a whole checkpoint predicts, which its file does not say: the noise, or, as Stable Diffusion 2 at 768 pixels does, the velocity
    /// [default: what the base's scheduler/scheduler_config.json says].
    #[arg(long, value_name = "TYPE")]
    pub prediction_type: Option<PredictionChoice>,
}

/// Options of commands that take an adapter.
#[derive(Debug, Args)]
pub struct AdapterOptions {
    /// A .safetensors file, or a .ckpt, .pt, .pth or .bin file that torch.save wrote. An adapter may also be given as its folder: PEFT's,
    /// diffusers', one with unet/ and text_encoder/, or a training state.
    pub input: PathBuf,
    /// Where the result goes: a file or a folder.
    #[arg(long, short)]
    pub output: PathBuf,
    /// The base model, a diffusers folder or a hub id. A whole checkpoint takes its configurations and missing parts from it. Every layer of
    /// an adapter is checked against it, and adapters whose change depends on it (DoRA, IA3) need it to become plain LoRA; for an adapter
    /// an LDM file will do too.
    #[arg(long, value_name = "MODEL")]
    pub base: Option<String>,
    /// Element type of the result [default: as stored; float32 for layers that became plain LoRA].
    #[arg(long)]
    pub dtype: Option<Precision>,
    /// Reduces every layer to plain LoRA of at most this rank, and reports what is lost. Without it, LoHa, LoKr, DoRA, IA3 and full
    /// differences become LoRA of whatever rank they need (diffusers, peft) or stay as they are (kohya).
    #[arg(long, value_name = "N", value_parser = rank)]
    pub rank: Option<u32>,
    /// Leaves out differences of biases (diff_b), which LoRA cannot hold, instead of failing.
    #[arg(long)]
    pub drop_biases: bool,
    /// Leaves out trained norms (w_norm, b_norm), which LoRA cannot hold, instead of failing.
    #[arg(long)]
    pub drop_norms: bool,
    /// Warns of keys that are not understood, and leaves them out, instead of failing.
    #[arg(long)]
    pub allow_unknown: bool,
}

/// Options of `convert ckpt`.
#[derive(Debug, Args)]
pub struct CheckpointOptions {
    /// A diffusers pipeline folder.
    pub input: PathBuf,
    /// The file to write: .safetensors, or .ckpt for programs that only read torch's pickles.
    #[arg(long, short)]
    pub output: PathBuf,
    /// Element type of the result [default: as stored].
    #[arg(long)]
    pub dtype: Option<Precision>,
}

/// Options of `convert extract-lora`.
#[derive(Debug, Args)]
pub struct ExtractOptions {
    /// The tuned model: a checkpoint file, a diffusers folder or a hub id.
    #[arg(value_name = "MERGED")]
    pub input: String,
    /// The model it was tuned from: a diffusers folder, a checkpoint file or a hub id.
    #[arg(long, value_name = "MODEL")]
    pub base: String,
    /// Rank of every layer, or `auto`: for each layer the smallest rank that keeps --share of the difference.
    #[arg(long, value_name = "N|auto", default_value = "auto")]
    pub rank: RankChoice,
    /// With --rank auto: the share of each layer's squared difference to keep, not counting what rounding explains.
    #[arg(long, value_name = "SHARE", default_value_t = 0.99, value_parser = share)]
    pub share: f64,
    /// The .safetensors file to write, in kohya's format.
    #[arg(long, short)]
    pub output: PathBuf,
    /// Element type of the result [default: float32].
    #[arg(long)]
    pub dtype: Option<Precision>,
    /// Uses the moving averages of the tuned checkpoint's UNet (model_ema.*).
    #[arg(long)]
    pub ema: bool,
}

/// Options of `convert merge`.
#[derive(Debug, Args)]
pub struct MergeOptions {
    /// Adapters of any family, each optionally followed by a colon and its strength [default strength: 1].
    #[arg(value_name = "ADAPTER[:SCALE]", required = true)]
    pub adapters: Vec<ScaledFile>,
    /// The model to merge into: a diffusers folder, a checkpoint file or a hub id.
    #[arg(long, value_name = "MODEL")]
    pub base: String,
    /// Where the result goes: a folder, or one LDM file when it ends in .safetensors or .ckpt.
    #[arg(long, short)]
    pub output: PathBuf,
    /// Element type of the result [default: as the base is stored].
    #[arg(long)]
    pub dtype: Option<Precision>,
    /// Uses the moving averages of the base checkpoint's UNet (model_ema.*).
    #[arg(long)]
    pub ema: bool,
}

/// A rank for every layer, or each layer's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankChoice {
    Fixed(usize),
    /// The smallest rank that keeps a share of the difference.
    Auto,
}

/// An option's value cannot be read, or is out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{expected}")]
pub struct NotSuchAValue {
    expected: &'static str,
}

impl FromStr for RankChoice {
    type Err = NotSuchAValue;

    fn from_str(text: &str) -> Result<Self, NotSuchAValue> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => match text.parse() {
                Ok(rank) if RANKS.contains(&rank) => Ok(Self::Fixed(rank as usize)),
                Ok(_) | Err(_) => {
                    Err(NotSuchAValue { expected: "expected a rank of 1 to 65536 (up to 128 are usual), or `auto`" })
                }
            },
        }
    }
}

/// Ranks that an adapter can have: no layer of a base model is as wide as the last.
const RANKS: std::ops::RangeInclusive<u32> = 1..=65_536;

fn rank(text: &str) -> Result<u32, NotSuchAValue> {
    let expected = "expected a rank of 1 to 65536 (up to 128 are usual)";
    text.parse().ok().filter(|rank| RANKS.contains(rank)).ok_or(NotSuchAValue { expected })
}

/// A share, above 0 and below 1.
fn share(text: &str) -> Result<f64, NotSuchAValue> {
    let expected = "a number between 0 and 1";
    text.parse().ok().filter(|share: &f64| *share > 0.0 && *share < 1.0).ok_or(NotSuchAValue { expected })
}

/// Where the text encoder comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TextEncoder {
    /// The checkpoint's own.
    Checkpoint,
    /// The base model's, as the paper's helper does.
    Base,
}

/// What a network predicts, by diffusers' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PredictionChoice {
    /// The added noise.
    Epsilon,
    /// The velocity.
    #[value(name = "v_prediction", alias = "v-prediction")]
    Velocity,
}

impl PredictionChoice {
    pub fn prediction(self) -> Prediction {
        match self {
            Self::Epsilon => Prediction::Noise,
            Self::Velocity => Prediction::Velocity,
        }
    }
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
    fn ranks() {
        assert_eq!(RankChoice::from_str("64"), Ok(RankChoice::Fixed(64)));
        assert_eq!(RankChoice::from_str("auto"), Ok(RankChoice::Auto));
        assert!(RankChoice::from_str("0").is_err() && RankChoice::from_str("all").is_err());
        // What is too much is told as such.
        for message in [RankChoice::from_str("1000000").unwrap_err(), rank("1000000").unwrap_err(), rank("-1").unwrap_err()] {
            assert!(message.to_string().contains("1 to 65536"), "{message}");
        }
        assert_eq!((rank("1"), rank("65536").is_ok(), rank("65537").is_err()), (Ok(1), true, true));
    }
}
