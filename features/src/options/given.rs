//! A value as it was given, on the command line or in a configuration file.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::de::DeserializeOwned;

use crate::fault::{Fault, FaultCause, RequestFault};

/// A value as it was given.
#[derive(Clone, Copy, Debug)]
pub enum Given<'a> {
    /// On the command line.
    Typed {
        /// The option's name, without dashes in front.
        flag: &'static str,
        /// What followed it.
        words: &'a [OsString],
    },
    /// In a configuration file.
    Read {
        /// The key.
        key: &'a str,
        /// Its value.
        value: &'a toml::Value,
    },
}

impl Given<'_> {
    /// A fault that says what was expected.
    pub fn wrong(&self, expected: &str) -> Fault {
        match self {
            Self::Typed { flag, words } => {
                let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
                let (flag, expected) = ((*flag).to_string(), expected.to_owned());
                Fault::usage(RequestFault::Typed { flag, found: words.join(" "), expected })
            }
            Self::Read { key, value } => {
                let (key, found, expected) = ((*key).to_owned(), (*value).clone(), expected.to_owned());
                Fault::failure(RequestFault::Read { key, found, expected })
            }
        }
    }

    /// A fault whose cause says what was expected.
    pub fn wrong_because(&self, cause: impl std::error::Error + Send + Sync + 'static) -> Fault {
        match self {
            Self::Typed { flag, .. } => Fault::usage(FaultCause::above(cause)).of(&format!("--{flag}: ")),
            Self::Read { key, .. } => Fault::failure(FaultCause::above(cause)).of(&format!("{key}: ")),
        }
    }

    /// Yes or no; being typed means yes.
    ///
    /// # Errors
    /// When it is neither.
    pub fn switch(&self) -> Result<bool, Fault> {
        match self {
            Self::Typed { .. } => Ok(true),
            Self::Read { value, .. } => value.as_bool().ok_or_else(|| self.wrong("true or false")),
        }
    }

    /// A whole number.
    ///
    /// # Errors
    /// When it is none, or out of range.
    pub fn number(&self, range: RangeInclusive<u64>) -> Result<u64, Fault> {
        let number = match self {
            Self::Typed { words, .. } => words.first().and_then(|word| word.to_str()?.parse().ok()),
            Self::Read { value, .. } => value.as_integer().and_then(|number| u64::try_from(number).ok()),
        };
        let expected = || match *range.end() {
            u64::MAX => format!("a whole number, {} or more", range.start()),
            end => format!("a whole number, {} to {end}", range.start()),
        };
        number.filter(|number| range.contains(number)).ok_or_else(|| self.wrong(&expected()))
    }

    /// A whole number as a size.
    ///
    /// # Errors
    /// When it is none, or out of range.
    pub fn size(&self, range: RangeInclusive<u64>) -> Result<usize, Fault> {
        self.number(range).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
    }

    /// A text.
    ///
    /// # Errors
    /// When it is none.
    pub fn text(&self) -> Result<String, Fault> {
        let text = match self {
            Self::Typed { words, .. } => words.first().and_then(|word| word.to_str()),
            Self::Read { value, .. } => value.as_str(),
        };
        text.map(str::to_owned).ok_or_else(|| self.wrong("a text"))
    }

    /// A path, which is not empty.
    ///
    /// # Errors
    /// When it is none.
    pub fn path(&self) -> Result<PathBuf, Fault> {
        let path = match self {
            Self::Typed { words, .. } => words.first().map(PathBuf::from),
            Self::Read { value, .. } => value.as_str().map(PathBuf::from),
        };
        path.filter(|path| !path.as_os_str().is_empty()).ok_or_else(|| self.wrong("a path"))
    }

    /// The values of a list, each by itself.
    ///
    /// # Errors
    /// When it is no list.
    pub fn items(&self) -> Result<Vec<Self>, Fault> {
        match *self {
            Self::Typed { flag, words } => Ok(words.chunks(1).map(|words| Self::Typed { flag, words }).collect()),
            Self::Read { key, value } => match value {
                toml::Value::Array(values) => Ok(values.iter().map(|value| Self::Read { key, value }).collect()),
                _ => Err(self.wrong("a list")),
            },
        }
    }

    /// A list of texts.
    ///
    /// # Errors
    /// When one is none.
    pub fn texts(&self) -> Result<Vec<String>, Fault> {
        self.items()?.iter().map(Self::text).collect()
    }

    /// Paths: one text, or a list of them.
    ///
    /// # Errors
    /// When one is none.
    pub fn paths(&self) -> Result<Vec<PathBuf>, Fault> {
        match self {
            Self::Read { value: toml::Value::String(_), .. } => Ok(vec![self.path()?]),
            Self::Typed { .. } | Self::Read { .. } => self.items()?.iter().map(Self::path).collect(),
        }
    }

    /// Values by name: `NAME=VALUE`, or a table of a configuration file.
    ///
    /// # Errors
    /// When they are none, or one of the two is empty.
    pub fn named(&self) -> Result<Vec<(String, String)>, Fault> {
        let wrong = || self.wrong("KIND=PATH, for instance canny=models/canny");
        let pairs: Option<Vec<(String, String)>> = match self {
            Self::Typed { words, .. } => {
                let pair = |word: &OsString| word.to_str()?.split_once('=').map(|(name, value)| (name.into(), value.into()));
                words.iter().map(pair).collect()
            }
            Self::Read { value, .. } => {
                let pair = |(name, value): (&String, &toml::Value)| Some((name.clone(), value.as_str()?.to_owned()));
                value.as_table().ok_or_else(|| self.wrong("a table, KIND = \"PATH\""))?.iter().map(pair).collect()
            }
        };
        let is_whole = |(name, value): &(String, String)| !name.is_empty() && !value.is_empty();
        pairs.filter(|pairs| pairs.iter().all(is_whole)).ok_or_else(wrong)
    }

    /// A table of a configuration file; `None` if it is something else or has other keys.
    pub fn table<T: DeserializeOwned>(&self) -> Option<T> {
        match self {
            Self::Typed { .. } => None,
            Self::Read { value, .. } => (*value).clone().try_into().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_by_name() {
        let read = |text: &str| Given::Typed { flag: "controlnet-model", words: &[text.into()] }.named();
        assert_eq!(read("canny=a=b").unwrap(), [("canny".to_owned(), "a=b".to_owned())]);
        for wrong in ["canny", "=a", "canny="] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
