//! Values that options take.

use std::str::FromStr;

use clap::ValueEnum;

/// Reads a `ValueEnum`'s name in a configuration file with the words that the command line has for it.
pub fn from_name<T: ValueEnum>(text: &str) -> Result<T, String> {
    T::from_str(text, false).map_err(|_| {
        let names = T::value_variants().iter().filter_map(|variant| variant.to_possible_value());
        format!("`{text}` is none of {}", names.map(|value| value.get_name().to_owned()).collect::<Vec<_>>().join(", "))
    })
}

/// `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Before the equals sign.
    pub name: String,
    /// Behind it.
    pub value: String,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok(Self { name: name.into(), value: value.into() }),
            _ => Err("expected KIND=PLACE, for instance canny=models/canny".to_owned()),
        }
    }
}

/// `NAME=NUMBER`.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedNumber {
    /// Before the equals sign.
    pub name: String,
    /// Behind it.
    pub value: f64,
}

impl FromStr for NamedNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(name, value)| Some((name, value.parse::<f64>().ok()?)));
        match parts {
            Some((name, value)) if !name.is_empty() && value.is_finite() => Ok(Self { name: name.into(), value }),
            _ => Err("expected KIND=NUMBER, for instance canny=0.5".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_by_name() {
        assert_eq!("canny=0.5".parse(), Ok(NamedNumber { name: "canny".into(), value: 0.5 }));
        for wrong in ["canny", "=1", "canny=x", "canny=inf"] {
            assert!(wrong.parse::<NamedNumber>().is_err(), "{wrong}");
        }
    }
}
