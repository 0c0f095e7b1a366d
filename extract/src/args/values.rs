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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_by_name() {
        assert_eq!("canny=a=b".parse(), Ok(Named { name: "canny".into(), value: "a=b".into() }));
        for wrong in ["canny", "=a", "canny="] {
            assert!(wrong.parse::<Named>().is_err(), "{wrong}");
        }
    }
}
