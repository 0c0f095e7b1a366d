//! The choices for feature files, by name.

use std::str::FromStr;

use candle_core::DType;

/// The element type of stored features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputPrecision {
    /// 16 bits, the original's.
    #[default]
    Float16,
    /// 32 bits.
    Float32,
}

impl OutputPrecision {
    /// candle's type.
    pub fn dtype(self) -> DType {
        match self {
            Self::Float16 => DType::F16,
            Self::Float32 => DType::F32,
        }
    }
}

/// The format of feature files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputFormat {
    /// NumPy arrays.
    #[default]
    Npy,
    /// One safetensors file per image, layer ids as keys.
    Safetensors,
}

impl OutputFormat {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Npy => "npy",
            Self::Safetensors => "safetensors",
        }
    }
}

/// A name that is none of the choices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is none of {expected}")]
pub struct UnknownChoice {
    /// What was given.
    found: String,
    /// The names there are.
    expected: &'static str,
}

impl FromStr for OutputPrecision {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "float16" => Ok(Self::Float16),
            "float32" => Ok(Self::Float32),
            _ => Err(UnknownChoice { found: text.to_owned(), expected: "float16, float32" }),
        }
    }
}

impl FromStr for OutputFormat {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "npy" => Ok(Self::Npy),
            "safetensors" => Ok(Self::Safetensors),
            _ => Err(UnknownChoice { found: text.to_owned(), expected: "npy, safetensors" }),
        }
    }
}
