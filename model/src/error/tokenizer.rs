//! What is wrong with a file of a tokenizer.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

/// Why a tokenizer's file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerCause {
    #[error("it has no unknown token `{token}`")]
    NoUnknownToken { token: String },
    #[error("it does not fit vocab.json: {source}")]
    Merges { source: tokenizers::Error },
    #[error("line {line} is not a pair of symbols")]
    NotAPair { line: usize },
    #[error("it holds no pairs of symbols, so that no text could be cut into tokens")]
    NoMerges,
    #[error("its added tokens have {found} bytes in all; more than {most} are not read")]
    AddedTokens { found: usize, most: usize },
    #[error("its added tokens cannot be searched for: {source}")]
    Automaton { source: aho_corasick::BuildError },
}
