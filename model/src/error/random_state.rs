//! What is wrong with a saved state of PyTorch's generator.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

/// Why bytes are no state of a generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RandomStateCause {
    #[error("{found} bytes; a saved generator has {expected}")]
    Length { expected: usize, found: usize },
    #[error("taken from a generator that was never seeded")]
    NotSeeded,
    #[error("a state word exceeds 32 bits")]
    Word,
    #[error("the position is out of range")]
    Position,
    #[error("the mark of the spare normal is neither 0 nor 1")]
    SpareNormal,
}
