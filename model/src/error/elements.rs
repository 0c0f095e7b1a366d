//! What is wrong with a tensor's numbers.

use candle_core::DType;

/// What is wrong with a tensor's numbers.
#[derive(Debug, thiserror::Error)]
pub enum ElementError {
    /// An element is NaN or an infinity.
    #[error("element {position} is not a finite number (NaN or infinity)")]
    NotFinite {
        /// Its index in row-major order.
        position: usize,
    },
    /// A number is too large for an element type.
    #[error("does not fit {}: element {position} is not a finite number (NaN or infinity)", dtype.as_str())]
    TooLarge {
        /// The type.
        dtype: DType,
        /// The element's index in row-major order.
        position: usize,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Tensors(#[from] candle_core::Error),
}
