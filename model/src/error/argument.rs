//! What is wrong with what a caller gives.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

use std::error::Error as StdError;

use candle_core::DType;

/// Why an option or an argument cannot be used: the cause of [`Error::Argument`](super::Error::Argument).
///
/// What crates above this one find wrong with an argument is an error type of theirs, in [`ArgumentCause::Above`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArgumentCause {
    #[error("{elements} elements do not fit into memory")]
    OutOfMemory { elements: usize },
    #[error("is not in the processor's memory after being moved there")]
    NotOnCpu,
    #[error("elements of type {} cannot be stored", found.as_str())]
    CannotBeStored { found: DType },
    #[error("are more than {most}")]
    TooMany { most: &'static str },
    #[error("would have more than 4 GiB; write safetensors instead")]
    TorchFileSize,

    /// What a crate above this one finds wrong with the argument.
    #[error(transparent)]
    Above(Box<dyn StdError + Send + Sync>),
    /// Words, until every room has its causes.
    #[error("{0}")]
    Text(String),
}

impl From<String> for ArgumentCause {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for ArgumentCause {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
