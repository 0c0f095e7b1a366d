//! What is wrong with an entry of a configuration.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

use super::{NetworkConfigCause, PeftConfigCause};

/// Why an entry of a configuration cannot be used: the cause of [`Error::Config`](super::Error::Config).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigCause {
    /// The entry is there and says something else; `found` is its value as JSON, where it is short.
    #[error("{}not {expected}", found.as_ref().map(|found| format!("{found} is ")).unwrap_or_default())]
    WrongType { expected: &'static str, found: Option<String> },
    /// A choice that is not built; `found` is `None` where the entry is missing.
    #[error("{}; supported: {supported}", found.as_ref().map_or("missing".to_owned(), |found| format!("`{found}` is not supported")))]
    Unsupported { found: Option<String>, supported: String },
    #[error("not supported; supported: false")]
    UnsupportedFlag,
    #[error("deprecated and not supported; use {replacement}")]
    Deprecated { replacement: &'static str },
    #[error("is `{found}`, expected {expected}")]
    Unexpected { found: String, expected: &'static str },
    #[error("{found} is outside {least}..={most}")]
    OutOfRange { found: usize, least: usize, most: usize },
    #[error("{found} exceeds the {most} {counted}")]
    TooLarge { found: usize, most: usize, counted: &'static str },
    #[error("{found} is not between 0 and 1")]
    NotAShare { found: f64 },
    #[error("must be a positive number")]
    NotPositive,
    #[error("is 0")]
    Zero,
    #[error("{found} values for {expected} {counted}")]
    Count { found: usize, expected: usize, counted: &'static str },
    #[error("is {found}, which does not divide {whole} {size}")]
    Division { found: usize, whole: &'static str, size: usize },
    /// A special token that is in no vocabulary.
    #[error("special token without an id")]
    TokenWithoutId,
    #[error("describes a `{found}`; expected a StableDiffusionPipeline; driftless supports {supported} only")]
    Pipeline { found: String, supported: String },
    #[error(transparent)]
    Network(#[from] NetworkConfigCause),
    #[error(transparent)]
    Peft(#[from] PeftConfigCause),
}
