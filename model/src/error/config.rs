//! What is wrong with an entry of a configuration.

/// Why an entry of a configuration cannot be used: the cause of [`Error::Config`](super::Error::Config).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigCause {
    /// Words, until every room has its causes.
    #[error("{0}")]
    Text(String),
}

impl From<String> for ConfigCause {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for ConfigCause {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
