//! An adapter file with its strength, as it is written in options and configuration files.

use std::path::PathBuf;
use std::str::FromStr;

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
}
