//! Why a model hub does not give a file.

/// Why a hub gave no answer that can be used: the cause of [`Error::Hub`](super::Error::Hub).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubCause {
    /// Words, until every room has its causes.
    #[error("{0}")]
    Text(String),
}

impl From<String> for HubCause {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for HubCause {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
