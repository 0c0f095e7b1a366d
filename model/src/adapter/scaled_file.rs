//! An adapter file with its strength, as it is written in options and configuration files.

use std::path::PathBuf;
use std::str::FromStr;

/// An adapter file with its strength: `FILE[:SCALE]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaledFile {
    /// The file.
    pub file: PathBuf,
    /// What the adapter's term is multiplied with; finite.
    pub scale: f64,
}

/// A text that is no adapter file with a strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected FILE or FILE:SCALE with a finite scale")]
pub struct NotAScaledFile;

impl FromStr for ScaledFile {
    type Err = NotAScaledFile;

    /// `FILE` or `FILE:SCALE`; a last part that is no number belongs to the name.
    ///
    /// # Errors
    /// Without a file, or with a scale that is not finite.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let scaled = text.rsplit_once(':').and_then(|(file, scale)| Some((file, scale.parse::<f64>().ok()?)));
        let (file, scale) = scaled.unwrap_or((text, 1.0));
        if file.is_empty() || !scale.is_finite() {
            return Err(NotAScaledFile);
        }
        Ok(Self { file: file.into(), scale })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_and_without_strength() {
        let parse = |text: &str| text.parse::<ScaledFile>().map(|scaled| (scaled.file, scaled.scale));
        assert_eq!(parse("a.safetensors"), Ok(("a.safetensors".into(), 1.0)));
        assert_eq!(parse("a.safetensors:0.5"), Ok(("a.safetensors".into(), 0.5)));
        assert_eq!(parse("C:\\a.safetensors"), Ok(("C:\\a.safetensors".into(), 1.0)));
        for wrong in ["a:nan", "a:inf", ":2", ""] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
