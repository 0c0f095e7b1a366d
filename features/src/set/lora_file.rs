//! An adapter file with its strength, as part of what decides a pass.

use std::path::PathBuf;
use std::str::FromStr;

use driftless::adapter::{NotAScaledFile, ScaledFile};

use super::Finite;

/// An adapter file with its strength.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LoraFile {
    /// The file.
    pub file: PathBuf,
    /// What the adapter's term is multiplied with.
    pub scale: Finite,
}

impl FromStr for LoraFile {
    type Err = NotAScaledFile;

    /// As [`ScaledFile`].
    fn from_str(text: &str) -> Result<Self, NotAScaledFile> {
        let ScaledFile { file, scale } = text.parse()?;
        Ok(Self { file, scale: Finite::new(scale).ok_or(NotAScaledFile)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_with_and_without_strength() {
        let parse = |text: &str| text.parse::<LoraFile>().unwrap();
        assert_eq!(parse("a.safetensors"), LoraFile { file: "a.safetensors".into(), scale: Finite::ONE });
        assert_eq!(parse("a.safetensors:0.5"), LoraFile { file: "a.safetensors".into(), scale: Finite::new(0.5).unwrap() });
        assert_eq!(parse("C:\\a.safetensors"), LoraFile { file: "C:\\a.safetensors".into(), scale: Finite::ONE });
        assert!("a:nan".parse::<LoraFile>().is_err());
        assert!(":2".parse::<LoraFile>().is_err());
    }
}
