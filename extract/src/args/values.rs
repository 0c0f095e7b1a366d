//! Values that options take.

use std::ops::RangeInclusive;

use clap::ValueEnum;

/// Reads a `ValueEnum`'s name in a configuration file with the words that the command line has for it.
pub fn from_name<T: ValueEnum>(text: &str) -> Result<T, UnknownName> {
    T::from_str(text, false).map_err(|_| {
        let names = T::value_variants().iter().filter_map(|variant| variant.to_possible_value());
        UnknownName { found: text.to_owned(), known: names.map(|value| value.get_name().to_owned()).collect() }
    })
}

/// A text that names no value.
#[derive(Clone, Debug, thiserror::Error)]
#[error("`{found}` is none of {}", known.join(", "))]
pub struct UnknownName {
    found: String,
    known: Vec<String>,
}

/// Parses a whole number in a range. The standard library's error speaks of digits in strings.
pub fn whole<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<T, NotWhole> + Clone {
    move |text| {
        let number = text.trim().parse::<u64>().ok().filter(|number| range.contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| NotWhole { range: range.clone() })
    }
}

/// A text that is no whole number of a range.
#[derive(Clone, Debug, thiserror::Error)]
#[error("expected a whole number, {}", shown(.range))]
pub struct NotWhole {
    range: RangeInclusive<u64>,
}

fn shown(range: &RangeInclusive<u64>) -> String {
    match *range.end() {
        u64::MAX => format!("{} or more", range.start()),
        end => format!("{} to {end}", range.start()),
    }
}

/// Any whole number.
pub const ANY: RangeInclusive<u64> = 0..=u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers() {
        assert_eq!(whole::<u32>(1..=10)("10").unwrap(), 10);
        for wrong in ["0", "11", "-1", "x", "", "1.5"] {
            let message = whole::<u32>(1..=10)(wrong).unwrap_err().to_string();
            assert_eq!(message, "expected a whole number, 1 to 10");
        }
        assert!(whole::<usize>(ANY)("-5").unwrap_err().to_string().contains("0 or more"));
    }
}
