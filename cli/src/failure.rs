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

/// A message in which what the standard library and serde say of values is said for people.
pub fn in_plain_words(message: &str) -> String {
    const WORDS: [(&str, &str); 13] = [
        ("invalid digit found in string", "expected a whole number"),
        ("cannot parse integer from empty string", "expected a whole number"),
        ("number too large to fit in target type", "the number is too large"),
        ("number too small to fit in target type", "the number is too small"),
        ("invalid float literal", "expected a number"),
        ("cannot parse float from empty string", "expected a number"),
        ("provided string was not `true` or `false`", "expected true or false"),
        ("expected usize", "expected a whole number"),
        ("expected u64", "expected a whole number"),
        ("expected u32", "expected a whole number"),
        ("expected i64", "expected a whole number"),
        ("expected f64", "expected a number"),
        ("failed to fill whole buffer", "the file ends too early"),
    ];
    WORDS.iter().fold(message.to_owned(), |text, (jargon, plain)| text.replace(jargon, plain))
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
    in_plain_words(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn what_libraries_say_of_values_is_said_for_people() {
        let number = "x".parse::<usize>().unwrap_err();
        assert_eq!(sentence(&number), "expected a whole number");
        assert_eq!(sentence(&"".parse::<f64>().unwrap_err()), "expected a number");
        let written = serde_json::from_str::<usize>("\"a\"").unwrap_err();
        assert!(sentence(&written).contains("expected a whole number"), "{}", sentence(&written));
    }

    #[test]
    fn causes_are_told_once() {
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let error = driftless::Error::io("a.json")(missing());
        assert_eq!(sentence(&error), format!("a.json: {}", missing()));
        let error = Err::<(), _>(error).context("--layer").context("set `a`").unwrap_err();
        assert_eq!(sentence(error.as_ref()), format!("set `a`: --layer: a.json: {}", missing()));
    }
}
