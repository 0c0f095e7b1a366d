//! What was typed. Long options may be written with dashes or underscores.

use candle_core::DType;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

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
    /// Makes a PEFT folder for each network that an adapter changes, unet/ and text_encoder/; or one .safetensors file with both
    /// networks' layers under PEFT's names (unet.*.lora_A.weight, text_encoder.*), the scale folded in.
    Peft(AdapterOptions),
    /// Makes one LDM file of a pipeline folder.
    Ckpt(CheckpointOptions),
    /// Finds the adapter inside a merged checkpoint, by singular values of each layer's difference to the base model.
    ExtractLora(ExtractOptions),
    /// Merges adapters of any family into a model.
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
    /// The base model, a diffusers folder or a hub id: gives a whole checkpoint its configurations and missing parts; every layer of
    /// an adapter is checked against it, and adapters whose change depends on it (DoRA, IA3) become plain LoRA beside it (for those an
    /// LDM file does too).
    #[arg(long, value_name = "MODEL")]
    pub base: Option<String>,
    /// Element type of the result [default: as stored; float32 for layers that became plain LoRA].
    #[arg(long)]
    pub dtype: Option<Precision>,
    /// Cuts every layer to plain LoRA of at most this rank, and says what that leaves out. Without it LoHa, LoKr, DoRA, IA3 and full
    /// differences become LoRA of whatever rank they need (diffusers, peft) or stay what they are (kohya).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub rank: Option<u32>,
    /// Leaves out differences of biases (diff_b), which LoRA cannot hold, in the place of failing.
    #[arg(long)]
    pub drop_biases: bool,
    /// Warns of keys that are not understood, and leaves them out, in the place of failing.
    #[arg(long)]
    pub allow_unknown: bool,
}

/// Options of `convert ckpt`.
#[derive(Debug, Args)]
pub struct CheckpointOptions {
    /// A diffusers pipeline folder.
    pub input: PathBuf,
    /// The file to write: .safetensors, or .ckpt for programs that read torch's pickles alone.
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
    /// Rank of every layer, or `auto`: for each layer the smallest that holds --share of the difference.
    #[arg(long, value_name = "N|auto", default_value = "auto")]
    pub rank: RankChoice,
    /// With --rank auto: the share of each layer's squared difference to hold, apart from what rounding made.
    #[arg(long, value_name = "SHARE", default_value_t = 0.99, value_parser = share)]
    pub share: f64,
    /// The .safetensors file to write, in kohya's format.
    #[arg(long, short)]
    pub output: PathBuf,
    /// Element type of the result [default: float32].
    #[arg(long)]
    pub dtype: Option<Precision>,
    /// Takes the moving averages of the tuned checkpoint's UNet (model_ema.*).
    #[arg(long)]
    pub ema: bool,
}

/// Options of `convert merge`.
#[derive(Debug, Args)]
pub struct MergeOptions {
    /// Adapters of any family, each with a strength behind a colon [default strength: 1].
    #[arg(value_name = "ADAPTER[:SCALE]", required = true)]
    pub adapters: Vec<ScaledAdapter>,
    /// The model to merge into: a diffusers folder, a checkpoint file or a hub id.
    #[arg(long, value_name = "MODEL")]
    pub base: String,
    /// Where the result goes: a folder, or one LDM file when it ends in .safetensors or .ckpt.
    #[arg(long, short)]
    pub output: PathBuf,
    /// Element type of the result [default: as the base is stored].
    #[arg(long)]
    pub dtype: Option<Precision>,
    /// Takes the moving averages of the base checkpoint's UNet (model_ema.*).
    #[arg(long)]
    pub ema: bool,
}

/// A rank for every layer, or each layer's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankChoice {
    /// This rank.
    Fixed(usize),
    /// The smallest that holds a share of the difference.
    Auto,
}

impl FromStr for RankChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => match text.parse() {
                Ok(rank @ 1..=65_536) => Ok(Self::Fixed(rank)),
                _ => Err("a rank of 1 or more, or `auto`".into()),
            },
        }
    }
}

/// An adapter file and how much of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ScaledAdapter {
    /// The file.
    pub file: PathBuf,
    /// Its strength.
    pub scale: f64,
}

impl FromStr for ScaledAdapter {
    type Err = String;

    /// `FILE` or `FILE:SCALE`; a last part that is no number belongs to the name.
    fn from_str(text: &str) -> Result<Self, String> {
        let scaled = text.rsplit_once(':').and_then(|(file, scale)| Some((file, scale.parse::<f64>().ok()?)));
        let (file, scale) = scaled.unwrap_or((text, 1.0));
        if file.is_empty() || !scale.is_finite() {
            return Err("expected FILE or FILE:SCALE with a finite scale".into());
        }
        Ok(Self { file: file.into(), scale })
    }
}

/// A share, above 0 and below 1.
fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share: &f64| *share > 0.0 && *share < 1.0).ok_or_else(|| "a number between 0 and 1".into())
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
    fn scales_and_ranks() {
        let adapter = |text: &str| ScaledAdapter::from_str(text).map(|adapter| (adapter.file, adapter.scale));
        assert_eq!(adapter("a.safetensors:0.5"), Ok(("a.safetensors".into(), 0.5)));
        assert_eq!(adapter("C:\\a.safetensors"), Ok(("C:\\a.safetensors".into(), 1.0)));
        assert!(adapter(":0.5").is_err() && adapter("a:inf").is_err());
        assert_eq!(RankChoice::from_str("64"), Ok(RankChoice::Fixed(64)));
        assert_eq!(RankChoice::from_str("auto"), Ok(RankChoice::Auto));
        assert!(RankChoice::from_str("0").is_err() && RankChoice::from_str("all").is_err());
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
