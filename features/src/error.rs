//! What can go wrong with an extraction.

use std::path::PathBuf;

use driftless::taps::LayerId;

use crate::fault::Fault;

/// Why features could not be extracted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request cannot be carried out.
    #[error(transparent)]
    Request(#[from] Fault),
    /// The model, a file or a tensor operation.
    #[error(transparent)]
    Model(#[from] driftless::Error),
    /// An adapter cannot be used.
    #[error("--lora: {0}")]
    Adapter(#[source] driftless::Error),
    /// A ControlNet cannot be used.
    #[error("--control {kind}: {cause}")]
    ControlNet {
        /// Its kind.
        kind: String,
        /// Why.
        #[source]
        cause: driftless::Error,
    },
    /// A feature is not finite.
    #[error(
        "{}: `{layer}` holds numbers that are not finite: weights of the model or of an adapter are damaged, a strength is too large, or \
         --dtype has too small a range", image.display()
    )]
    NotFinite {
        /// The image.
        image: PathBuf,
        /// The first layer, in forward order.
        layer: LayerId,
    },
    /// The network did not give what it was asked for, which is a fault of this program.
    #[error("the network did not give {missing} as it was asked for; this is a bug")]
    Missing {
        /// The layer, or `an order`.
        missing: String,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Model(error.into())
    }
}
