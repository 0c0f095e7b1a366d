//! Errors as sentences: what, of which file or option, why, and what to do.

use std::error::Error;

/// Why a command did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The command line is wrong: exit status 2.
    Usage(String),
    /// Something that it names is, or went wrong: exit status 1.
    Failed(String),
}

impl Failure {
    /// The text without the prefix `error:`.
    pub fn message(&self) -> &str {
        match self {
            Self::Usage(message) | Self::Failed(message) => message,
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(sentence(error.as_ref()))
    }
}

impl From<driftless::Error> for Failure {
    fn from(error: driftless::Error) -> Self {
        Self::Failed(sentence(&error))
    }
}

/// An error with its causes in one sentence; a cause that the text before it has told already is not told again.
pub fn sentence(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let told = cause.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn causes_are_told_once() {
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let error = driftless::Error::io("a.json")(missing());
        assert_eq!(sentence(&error), format!("a.json: {}", missing()));
        let error = Err::<(), _>(error).context("--layer").context("set `a`").unwrap_err();
        assert_eq!(sentence(error.as_ref()), format!("set `a`: --layer: a.json: {}", missing()));
    }
}
