//! An adapter file with its strength, as it is written in options and configuration files.

use std::path::PathBuf;
use std::str::FromStr;

use super::Finite;

/// An adapter file with its strength.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LoraFile {
    /// The file.
    pub file: PathBuf,
    /// What the adapter's term is multiplied with.
    pub scale: Finite,
}

/// A text that is no adapter file with a strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected FILE or FILE:SCALE with a finite scale")]
pub struct NotALoraFile;

impl FromStr for LoraFile {
    type Err = NotALoraFile;

    /// `FILE` or `FILE:SCALE`; a last part that is no number belongs to the name.
    fn from_str(text: &str) -> Result<Self, NotALoraFile> {
        let (file, scale) = match text.rsplit_once(':') {
            Some((file, scale)) => match scale.parse::<f64>() {
                Ok(scale) => (file, scale),
                Err(_) => (text, 1.0),
            },
            None => (text, 1.0),
        };
        match Finite::new(scale) {
            Some(scale) if !file.is_empty() => Ok(Self { file: file.into(), scale }),
            _ => Err(NotALoraFile),
        }
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
