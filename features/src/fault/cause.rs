//! What can be wrong with a request.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

use std::error::Error as StdError;
use std::path::PathBuf;

use super::{BasisFault, Fault, InputFault, LayerFault, ManifestFault, RequestFault, SetFault};

/// What is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FaultCause {
    /// All that was found.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "))]
    Several(Vec<Fault>),
    /// `context` says of which set or option, and ends as a prefix does: `set `a`: `.
    #[error("{context}{cause}")]
    Within { context: String, cause: Box<FaultCause> },
    #[error("{}: {cause}", path.display())]
    File { path: PathBuf, cause: Box<FaultCause> },
    #[error(transparent)]
    Set(#[from] SetFault),
    #[error(transparent)]
    Layers(#[from] LayerFault),
    #[error(transparent)]
    Input(#[from] InputFault),
    #[error(transparent)]
    Basis(#[from] BasisFault),
    #[error(transparent)]
    Manifest(#[from] ManifestFault),
    #[error(transparent)]
    Request(#[from] RequestFault),
    #[error(transparent)]
    Model(#[from] driftless::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// What a crate above this one finds wrong.
    #[error(transparent)]
    Above(Box<dyn StdError + Send + Sync>),
}

impl FaultCause {
    /// What a crate above this one finds wrong, as an error type of its own.
    pub fn above(cause: impl StdError + Send + Sync + 'static) -> Self {
        Self::Above(Box::new(cause))
    }
}
