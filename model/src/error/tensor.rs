//! What is wrong with a tensor of a file.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

use std::error::Error as StdError;
use std::path::PathBuf;

use candle_core::DType;
use safetensors::Dtype;

use super::{AdapterCause, ElementError};

/// Why a tensor, or another entry of a weight file, cannot be used: the cause of [`Error::Tensor`](super::Error::Tensor).
///
/// What crates above this one find wrong with a tensor is an error type of theirs, in [`TensorCause::Above`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorCause {
    #[error("is missing")]
    Missing,
    #[error("is missing; {} places it here", index.display())]
    MissingInShard { index: PathBuf },
    /// A network lacks it.
    #[error("is missing; the file is not this network's, or it is incomplete")]
    MissingInNetwork,
    #[error(
        "has shape {found:?}, expected {expected:?} from config.json; the weights and the configuration belong to different models"
    )]
    Shape { expected: Vec<usize>, found: Vec<usize> },
    #[error("has shape {found:?}; three equal runs of rows are expected (query, key, value)")]
    NotPacked { found: Vec<usize> },
    /// Two stored names of one tensor.
    #[error("and `{other}` are both `{name}`")]
    TwoNames { other: String, name: String },
    #[error("occurs twice")]
    Twice,
    /// An element type that is not read.
    #[error("type {found:?} is not supported")]
    ElementType { found: Dtype },
    #[error("shape {found:?} is larger than any file")]
    TooLarge { found: Vec<usize> },
    #[error("shape {shape:?} of {dtype:?} needs {expected} bytes, its span is {}..{}", found.0, found.1)]
    Span { shape: Vec<usize>, dtype: Dtype, expected: u64, found: (u64, u64) },
    #[error("its data ends at byte {expected}, the file holds {found} bytes of data: truncated")]
    Truncated { expected: u64, found: u64 },
    #[error("its data at byte {found} overlaps the tensor before it (expected at byte {expected})")]
    Overlap { expected: u64, found: u64 },
    #[error("its data at byte {found} leaves a gap before it (expected at byte {expected})")]
    Gap { expected: u64, found: u64 },
    /// Views of a pickle that repeat elements beyond reason.
    #[error("with shape {found:?} the file's tensors have far more numbers than the file")]
    Repeats { found: Vec<usize> },
    /// An entry that is no tensor and no number.
    #[error("is {found}; one number is expected")]
    NotANumber { found: &'static str },
    #[error("has shape {found:?}; one number is expected")]
    NotOneNumber { found: Vec<usize> },
    #[error("has type {found:?}; a number is expected")]
    NotNumeric { found: Dtype },
    #[error(transparent)]
    Elements(#[from] ElementError),

    #[error("was not given")]
    NotGiven,
    #[error("is {:?} of {:?}, not {:?} of {:?}", found.0, found.1, expected.0, expected.1)]
    NotAsAnnounced { expected: (Vec<usize>, DType), found: (Vec<usize>, DType) },
    #[error("type {found:?} cannot be stored")]
    CannotBeStored { found: DType },
    #[error("has type {dtype:?} and shape {shape:?}, which torch's files cannot hold")]
    CannotBeTorch { dtype: DType, shape: Vec<usize> },
    #[error("this name is reserved")]
    ReservedName,

    #[error("is for a network that takes no adapters")]
    NetworkTakesNone,
    #[error("is for a layer that this model does not have; is it another architecture's?")]
    NoSuchLayer,

    #[error(transparent)]
    Adapter(#[from] AdapterCause),

    /// What a crate above this one finds wrong with the tensor.
    #[error(transparent)]
    Above(Box<dyn StdError + Send + Sync>),
}

impl TensorCause {
    /// What a crate above this one finds wrong, as an error type of its own.
    pub fn above(cause: impl StdError + Send + Sync + 'static) -> Self {
        Self::Above(Box::new(cause))
    }
}
