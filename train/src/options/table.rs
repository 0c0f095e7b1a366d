//! One row for each option: flag, text of `--help`, key in the TOML file, key in kohya's metadata, and what it means to a
//! resumed run.
//!
//! A row goes into `options!`, in the group under whose heading `--help` shows it:
//!
//! ```text
//! /// Exponent, for polynomial
//! #[arg(value_name = "P", default_value_t = 1.0, value_parser = positive)]
//! lr_scheduler_power: f64 => MayChange;
//! ```
//!
//! The name is the flag (`--lr_scheduler_power`), the TOML key and the field; the comment is the text of `--help`; what is in `#[arg]` is
//! clap's. After the arrow comes the option's [`Identity`], without which the row does not compile, and where its value is recorded:
//!
//! | ends in | recorded |
//! | --- | --- |
//! | nothing | in states, under the option's name, unless it has its default |
//! | `, metadata "KEY"` | in adapters and states, as `ss_KEY`, written as Python writes the value |
//! | `, by "ENTRY"` | in an entry that is computed, here or in `crate::output`, from this option and perhaps others and files |

use super::values::{KeyValue, Resolution, StepsOrShare};
use super::{HuberSchedule, Interpolation, LossType, ObjectiveKind, Precision, SaveFormat, SavePrecision};
use clap::ValueEnum;
use driftless_cli::options::DeviceChoice;
use std::path::PathBuf;

/// What a resumed run does about an option that has another value now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// It refuses to resume: the result would be that of neither value.
    Fixed,
    /// It warns, and uses the new value.
    MayChange,
    /// Nothing: what is trained does not depend on it.
    Irrelevant,
}

/// Where the value of an option is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// In states, under the option's name, unless the value is the default.
    Own,
    /// In adapters and states, under this name with `ss_` before it.
    Metadata(&'static str),
    /// In this entry of states, which is computed from this option and perhaps others and files.
    By(&'static str),
}

/// An option, as far as it is the same in all runs. Its help text, default and number of values are in [`clap::Command`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Flag without dashes, and key in the TOML file.
    pub name: &'static str,
    /// What it means to a resumed run.
    pub identity: Identity,
    /// Where its value is recorded.
    pub record: Record,
}

impl Row {
    /// Whether its value is recorded in the entry `entry` of a state.
    pub fn is_recorded_in(&self, entry: &str) -> bool {
        match self.record {
            Record::Own => entry == self.name,
            Record::Metadata(key) => entry.strip_prefix("ss_") == Some(key),
            Record::By(by) => entry == by,
        }
    }
}

/// A value as kohya's metadata have it: what Python's `str` makes of it.
pub trait Value {
    /// The text.
    fn python(&self) -> String;
}

impl Value for bool {
    fn python(&self) -> String {
        if *self { "True" } else { "False" }.to_owned()
    }
}

impl Value for f64 {
    /// `32.0`, `0.0001`, `5e-05`.
    fn python(&self) -> String {
        let magnitude = self.abs();
        if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
            let text = format!("{self:e}");
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, digits) = exponent.strip_prefix('-').map_or(("+", exponent), |digits| ("-", digits));
            return format!("{mantissa}e{sign}{digits:0>2}");
        }
        format!("{self:?}")
    }
}

impl Value for PathBuf {
    fn python(&self) -> String {
        self.display().to_string()
    }
}

impl<T: Value> Value for Option<T> {
    fn python(&self) -> String {
        self.as_ref().map_or_else(|| "None".to_owned(), Value::python)
    }
}

impl<T: Value> Value for Vec<T> {
    fn python(&self) -> String {
        format!("[{}]", self.iter().map(Value::python).collect::<Vec<_>>().join(", "))
    }
}

/// Types that Python's `str` writes as Rust's `Display` does.
macro_rules! displayed {
    ($($type:ty),*) => {
        $(impl Value for $type {
            fn python(&self) -> String {
                self.to_string()
            }
        })*
    };
}
displayed!(String, usize, u32, u64, DeviceChoice, Resolution, StepsOrShare, KeyValue);

/// Choices, which are written by the name that the command line takes.
macro_rules! choices {
    ($($type:ty),*) => {
        $(impl Value for $type {
            fn python(&self) -> String {
                self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
            }
        })*
    };
}
choices!(Precision, Interpolation, LossType, ObjectiveKind, HuberSchedule, SaveFormat, SavePrecision);

/// Defines a group of options: the structure that clap fills, and its rows. The module's documentation describes a row.
macro_rules! options {
    (
        $(#[$group:meta])*
        pub struct $name:ident in $heading:literal {
            $($(#[$attribute:meta])* $option:ident: $type:ty => $identity:ident $(, $how:ident $entry:literal)?;)*
        }
    ) => {
        $(#[$group])*
        #[derive(Debug, Clone, clap::Args)]
        #[command(rename_all = "snake_case", next_help_heading = $heading)]
        pub struct $name {
            $($(#[$attribute])* #[arg(long)] pub $option: $type,)*
        }

        impl $name {
            /// The group's rows.
            pub(super) const ROWS: &'static [$crate::options::Row] = &[$($crate::options::Row {
                name: stringify!($option),
                identity: $crate::options::Identity::$identity,
                record: $crate::options::table::record!($($how $entry)?),
            }),*];

            /// Each row with its value.
            pub(super) fn values(&self) -> impl Iterator<Item = (&'static $crate::options::Row, &dyn $crate::options::table::Value)> {
                let values: Vec<&dyn $crate::options::table::Value> = vec![$(&self.$option),*];
                Self::ROWS.iter().zip(values)
            }
        }
    };
}
pub(super) use options;

/// The end of a row.
macro_rules! record {
    () => {
        $crate::options::Record::Own
    };
    (metadata $key:literal) => {
        $crate::options::Record::Metadata($key)
    };
    (by $entry:literal) => {
        $crate::options::Record::By($entry)
    };
}
pub(super) use record;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_as_python_writes_them() {
        let written = [1e-4, 5e-5, 2e-6, 32.0, 0.05, 0.0, 1e16, 1.0, 1.5e-10].map(|number| number.python());
        assert_eq!(written, ["0.0001", "5e-05", "2e-06", "32.0", "0.05", "0.0", "1e+16", "1.0", "1.5e-10"]);
        assert_eq!([true.python(), Some(2u32).python(), None::<String>.python()], ["True", "2", "None"]);
        assert_eq!([LossType::SmoothL1.python(), Precision::No.python()], ["smooth_l1", "no"]);
    }
}
