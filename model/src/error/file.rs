//! What is wrong with a file.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

use std::error::Error as StdError;

use super::{ArchiveCause, ImageCause, ModelFileCause, PickleCause, TokenizerCause, WeightFileCause};

/// Why a file is not what it should be: the cause of [`Error::File`](super::Error::File).
///
/// What crates above this one find wrong with a file is an error type of theirs, in [`FileCause::Above`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileCause {
    #[error("no such file")]
    NoSuchFile,
    /// The file is a symbolic link, and what it names is not there.
    #[error("is a link to a file that does not exist")]
    DanglingLink,
    /// Neither a file nor a folder is there.
    #[error("does not exist")]
    NotFound,
    #[error("is a folder; a file was to be written there")]
    FolderAtDestination,
    #[error("exists already")]
    Exists,
    #[error("the file is empty")]
    Empty,
    /// The file ends before bytes that are to be read.
    #[error("{expected} bytes were expected at byte {offset}, the file has {found}")]
    Short { offset: u64, expected: u64, found: u64 },
    /// More than the bound for its kind.
    #[error("has more than {mebibytes} MiB, far too many for {expected}")]
    TooLarge { mebibytes: u64, expected: &'static str },
    /// A pipe, a socket, a device or a folder instead of a file.
    #[error("is {found}; a regular file is expected")]
    NotRegular { found: &'static str },
    #[error("not UTF-8 text")]
    NotUtf8,
    /// Not JSON, or JSON with other entries.
    #[error("not {expected}: {source}")]
    Json { expected: &'static str, source: serde_json::Error },

    #[error("it has no certificates in PEM form")]
    NoCertificates,
    #[error("it has no `weight_map`")]
    NoWeightMap,
    #[error("`weight_map` names something that is not a safetensors file beside it")]
    NotAShard,
    #[error("`weight_map` names {found} files")]
    ShardCount { found: usize },

    #[error(transparent)]
    WeightFile(#[from] WeightFileCause),
    #[error(transparent)]
    Archive(#[from] ArchiveCause),
    /// `key` is where in the file's dictionaries the pickle is wrong.
    #[error("{cause}{}", key.as_ref().map(|key| format!(" (under the key `{key}`)")).unwrap_or_default())]
    Pickle { cause: PickleCause, key: Option<String> },

    #[error(transparent)]
    Image(#[from] ImageCause),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerCause),
    #[error(transparent)]
    Model(#[from] ModelFileCause),

    /// What a crate above this one finds wrong with the file.
    #[error(transparent)]
    Above(Box<dyn StdError + Send + Sync>),
}

impl From<PickleCause> for FileCause {
    fn from(cause: PickleCause) -> Self {
        Self::Pickle { cause, key: None }
    }
}

impl FileCause {
    /// What a crate above this one finds wrong, as an error type of its own.
    pub fn above(cause: impl StdError + Send + Sync + 'static) -> Self {
        Self::Above(Box::new(cause))
    }
}
