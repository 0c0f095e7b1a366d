//! What is wrong with what a caller gives.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

use std::error::Error as StdError;

use candle_core::DType;

use super::{AdapterMisfit, RandomStateCause};

/// Why an option or an argument cannot be used: the cause of [`Error::Argument`](super::Error::Argument).
///
/// What crates above this one find wrong with an argument is an error type of theirs, in [`ArgumentCause::Above`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArgumentCause {
    #[error("is missing")]
    Missing,
    #[error("needs a whole number")]
    NotAWholeNumber,
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

    #[error("{width}x{height}: sides must be multiples of {multiple}")]
    ImageSize { width: usize, height: usize, multiple: usize },
    /// A strength of image-to-image that leaves nothing to do.
    #[error("{found} leaves no step of {steps}")]
    NoStep { found: f64, steps: usize },
    #[error(
        "keys and values of the cross-attention depend on the text alone and cannot be extracted; use the `-cross-q` or `-cross-map` layer"
    )]
    CrossKeysAndValues,
    #[error(
        "none of `{categories}` has attention maps of the sizes that are aggregated (a quarter to a half of the latents' \
         {height}x{width}); the middle of the network never has, add an up_ or down_ category or take the `-map` layers"
    )]
    NoAttentionMaps { categories: String, height: usize, width: usize },
    #[error(transparent)]
    RandomState(#[from] RandomStateCause),
    /// A configuration that has no form in JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),

    /// An adapter that does not fit its layer.
    #[error(transparent)]
    Adapter(#[from] AdapterMisfit),
    #[error("do not converge; the matrix holds numbers that are not finite")]
    NoConvergence,
    #[error("is a single number")]
    Scalar,
    #[error("changes a norm, which no LoRA can")]
    NormAsLora,
    #[error("is for a norm of {channels} channels, and norms are not trained here")]
    NormTraining { channels: usize },
    #[error("is not trained here: no gradient flows through its rotations")]
    OftTraining,
    #[error("hold numbers too large for a rotation")]
    RotationOverflow,
    #[error("is no argument of {algorithm}")]
    NotOfAlgorithm { algorithm: String },
    /// Out of the range that an option takes, in words.
    #[error("must be {expected}")]
    OutOfRange { expected: &'static str },

    #[error("{}x{} at ({}, {}) does not lie inside an image of {}x{}", size.0, size.1, at.0, at.1, image.0, image.1)]
    CropWindow { size: (usize, usize), at: (usize, usize), image: (usize, usize) },
    #[error("{width}x{height} is not a size that PNG can hold")]
    PngSize { width: usize, height: usize },
    #[error("shape {found:?} is not [3, height, width] or [1, 3, height, width]")]
    ImageShape { found: Vec<usize> },

    #[error("`{piece}`: {source}")]
    Untokenizable { piece: String, source: tokenizers::Error },
    #[error("needs a tokenizer of {expected} tokens, this one has {found}")]
    TokenizerLength { expected: usize, found: usize },
    #[error("{found} is none of 75, 150, 225")]
    TokenLength { found: usize },

    #[error("`{found}` does not begin with https:// or http://")]
    NotAnAddress { found: String },
    #[error("has characters that no token has, such as spaces or line breaks")]
    NotAToken,
    #[error("`{found}` is not a hub id; these look like owner/name")]
    NotAHubId { found: String },
    #[error("`{found}` is not a path inside a repository")]
    NotInARepository { found: String },
    #[error("`{found}` does not exist; give {expected}'s folder or file, or a hub id like owner/name")]
    NoSuchModel { found: String, expected: &'static str },
    #[error("`{found}` is not a branch, tag or commit")]
    NotARevision { found: String },
    #[error("neither it nor HOME is set, so there is no folder for downloads; set HF_HOME")]
    NoCache,

    /// What a crate above this one finds wrong with the argument.
    #[error(transparent)]
    Above(Box<dyn StdError + Send + Sync>),
}

impl ArgumentCause {
    /// What a crate above this one finds wrong, as an error type of its own.
    pub fn above(cause: impl StdError + Send + Sync + 'static) -> Self {
        Self::Above(Box::new(cause))
    }
}
