//! Options that several commands have, and the values they take.

use candle_core::DType;
use clap::{Args, ValueEnum};
use driftless::error::ArgumentCause;
use std::fmt;
use std::str::FromStr;

/// How much is reported, and in which form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub struct Logging {
    /// Print only warnings and errors
    #[arg(long, short, global = true, conflicts_with = "verbose", help_heading = "Messages")]
    pub quiet: bool,
    /// Print more details
    #[arg(long, short, global = true, help_heading = "Messages")]
    pub verbose: bool,
    /// Print one JSON object per line on standard error instead of text and progress bars
    #[arg(long = "log-json", alias = "log_json", global = true, help_heading = "Messages")]
    pub log_json: bool,
}

/// A type of numbers, under the names that PyTorch has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// 32 bits.
    #[value(alias = "fp32", alias = "float")]
    Float32,
    /// 16 bits, IEEE.
    #[value(alias = "fp16")]
    Float16,
    /// 16 bits with float32's range.
    #[value(alias = "bf16")]
    Bfloat16,
}

impl Precision {
    /// candle's type.
    pub fn dtype(self) -> DType {
        match self {
            Self::Float32 => DType::F32,
            Self::Float16 => DType::F16,
            Self::Bfloat16 => DType::BF16,
        }
    }
}

/// Where to compute: `--device`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU if this build and this machine have one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU by its number.
    Cuda(usize),
    /// Apple's GPU.
    Metal,
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

/// A GPU's index that is none.
#[derive(Debug, thiserror::Error)]
#[error("`{found}` is not a number; expected cuda:N, for instance cuda:0")]
pub struct DeviceIndex {
    found: String,
}

impl FromStr for DeviceChoice {
    type Err = driftless::Error;

    /// # Errors
    /// For another name, with the nearest that exists.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.to_ascii_lowercase();
        match (name.as_str(), name.split_once(':')) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(0)),
            ("metal", _) => Ok(Self::Metal),
            (_, Some(("cuda", number))) => number.parse().map(Self::Cuda).map_err(|_| {
                let cause = ArgumentCause::above(DeviceIndex { found: number.to_owned() });
                driftless::Error::argument(text, cause)
            }),
            _ => Err(driftless::Error::unknown("device", text, ["auto", "cpu", "cuda", "cuda:0", "metal"])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        let parse = |text: &str| text.parse::<DeviceChoice>().map_err(|error| error.to_string());
        assert_eq!(parse("cuda:3"), Ok(DeviceChoice::Cuda(3)));
        assert_eq!(parse("CUDA"), Ok(DeviceChoice::Cuda(0)));
        assert_eq!(parse("auto"), Ok(DeviceChoice::Auto));
        assert_eq!(parse(&DeviceChoice::Cuda(3).to_string()), Ok(DeviceChoice::Cuda(3)));
        for (wrong, expected) in [("gpu", "unknown device"), ("cuda:x", "not a number"), ("cdua", "did you mean `cuda`")] {
            assert!(parse(wrong).unwrap_err().contains(expected), "{wrong}");
        }
    }
}
