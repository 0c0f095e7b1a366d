//! Values that options take.

use std::path::PathBuf;
use std::str::FromStr;

use candle_core::DType;
use clap::ValueEnum;

/// A compute type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// 32 bits.
    #[value(alias = "fp32")]
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

/// The type of stored numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// NumPy arrays.
    #[default]
    Npy,
    /// One safetensors file per image, layer ids as keys.
    Safetensors,
}

/// Reads a `ValueEnum`'s name in a configuration file with the words that the command line has for it.
pub fn from_name<T: ValueEnum>(text: &str) -> Result<T, String> {
    T::from_str(text, false).map_err(|_| {
        let names = T::value_variants().iter().filter_map(|variant| variant.to_possible_value());
        format!("`{text}` is none of {}", names.map(|value| value.get_name().to_owned()).collect::<Vec<_>>().join(", "))
    })
}

/// Where to compute.
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

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            None if text == "metal" => Ok(Self::Metal),
            Some(("cuda", number)) => number.parse().map(Self::Cuda).map_err(|_| format!("`{number}` is no GPU number")),
            _ => Err("expected auto, cpu, cuda, cuda:N or metal".to_owned()),
        }
    }
}

/// An adapter file with its strength.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraFile {
    /// The file.
    pub file: PathBuf,
    /// What the adapter's term is multiplied with.
    pub scale: f64,
}

impl FromStr for LoraFile {
    type Err = String;

    /// `FILE` or `FILE:SCALE`; a last part that is no number belongs to the name.
    fn from_str(text: &str) -> Result<Self, String> {
        let (file, scale) = match text.rsplit_once(':') {
            Some((file, scale)) => match scale.parse::<f64>() {
                Ok(scale) => (file, scale),
                Err(_) => (text, 1.0),
            },
            None => (text, 1.0),
        };
        if file.is_empty() || !scale.is_finite() {
            return Err("expected FILE or FILE:SCALE with a finite scale".to_owned());
        }
        Ok(Self { file: file.into(), scale })
    }
}

/// `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Before the equals sign.
    pub name: String,
    /// Behind it.
    pub value: String,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok(Self { name: name.into(), value: value.into() }),
            _ => Err("expected KIND=PLACE, for instance canny=models/canny".to_owned()),
        }
    }
}

/// `NAME=NUMBER`.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedNumber {
    /// Before the equals sign.
    pub name: String,
    /// Behind it.
    pub value: f64,
}

impl FromStr for NamedNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(name, value)| Some((name, value.parse::<f64>().ok()?)));
        match parts {
            Some((name, value)) if !name.is_empty() && value.is_finite() => Ok(Self { name: name.into(), value }),
            _ => Err("expected KIND=NUMBER, for instance canny=0.5".to_owned()),
        }
    }
}

/// Part `index` of `count`: the batches whose number leaves `index` when divided by `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    pub index: usize,
    /// Parts in all.
    pub count: usize,
}

impl Shard {
    /// Whether a batch of this number belongs to the part.
    pub fn takes(self, number: usize) -> bool {
        number % self.count == self.index
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        match numbers {
            Some((index, count)) if index < count => Ok(Self { index, count }),
            _ => Err("expected I/N with I from 0 to N - 1, for instance 0/3".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_with_and_without_strength() {
        let parse = |text: &str| text.parse::<LoraFile>().unwrap();
        assert_eq!(parse("a.safetensors"), LoraFile { file: "a.safetensors".into(), scale: 1.0 });
        assert_eq!(parse("a.safetensors:0.5"), LoraFile { file: "a.safetensors".into(), scale: 0.5 });
        assert_eq!(parse("C:\\a.safetensors"), LoraFile { file: "C:\\a.safetensors".into(), scale: 1.0 });
        assert!("a:nan".parse::<LoraFile>().is_err());
        assert!(":2".parse::<LoraFile>().is_err());
    }

    #[test]
    fn numbers_by_name() {
        assert_eq!("canny=0.5".parse(), Ok(NamedNumber { name: "canny".into(), value: 0.5 }));
        for wrong in ["canny", "=1", "canny=x", "canny=inf"] {
            assert!(wrong.parse::<NamedNumber>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn devices() {
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        assert!("gpu".parse::<DeviceChoice>().is_err());
        assert!("cuda:x".parse::<DeviceChoice>().is_err());
    }

    #[test]
    fn shards_cover_everything_once() {
        let shards: Vec<Shard> = ["0/3", "1/3", "2/3"].iter().map(|text| text.parse().unwrap()).collect();
        for number in 0..10 {
            assert_eq!(shards.iter().filter(|shard| shard.takes(number)).count(), 1);
        }
        for wrong in ["3/3", "1", "-1/3", "0/0", "a/b"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
