//! The options of a feature set, a row each: its name on the command line and its key in a `[[set]]`, what it is for, and its identity.
//! Command lines, configuration files, refusals and what a later run has to agree with are read off the rows.

mod given;
mod set;
mod settings;

pub use given::Given;
pub use set::SET_OPTIONS;
pub use settings::{ControlSetting, LayerSetting, SetSettings};

use std::ffi::OsString;

use crate::fault::{Fault, Faults};

/// What another value of an option makes other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// What the network computes: part of [`PassKey`](crate::set::PassKey). Files made under another value are other features.
    Pass,
    /// What is kept of that: part of [`Keep`](crate::set::Keep). Files made under another value are other features.
    Keep,
    /// What is made of several sets: part of [`Fusion`](crate::set::Fusion). Files made under another value are other features.
    Fusion,
    /// Where files go, and nothing in them.
    Place,
}

/// One option of a feature set.
pub struct SetOption {
    /// Its key in a `[[set]]`; `None` where the command line alone has it.
    pub key: Option<&'static str>,
    /// Its name on the command line; `None` where configuration files alone have it.
    pub flag: Option<Flag>,
    /// What it is for.
    pub doc: &'static str,
    /// What another value makes other.
    pub identity: Identity,
    /// Whether a `[[set]]` without it has the value of the set extracted before, so that techniques that are compared differ in
    /// nothing by accident.
    pub inherited: bool,
    read: fn(&mut SetSettings, Given<'_>) -> Result<(), Fault>,
}

/// How an option is typed.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its name without dashes in front, `-` between words.
    pub name: &'static str,
    /// What stands for its value in the help.
    pub value: &'static str,
    /// What follows the name.
    pub takes: Takes,
    /// Its heading in the help.
    pub heading: &'static str,
}

/// What follows an option's name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing; being there says it.
    Nothing,
    /// A value; of several options the last is in force.
    One,
    /// A value; all options are in force.
    Each,
    /// One value or more; all options are in force.
    Many,
}

impl SetOption {
    /// Reads what was typed.
    ///
    /// # Errors
    /// [`Fault::Usage`] when it is no value of the option.
    pub fn read_typed(&self, flag: &Flag, set: &mut SetSettings, words: &[OsString]) -> Result<(), Fault> {
        (self.read)(set, Given::Typed { flag: flag.name, words })
    }
}

/// Reads the `[[set]]` tables of a configuration file.
///
/// # Errors
/// Every key that does not exist, with the nearest that does; every value that is none of its option's.
pub(crate) fn read_sets(tables: Vec<toml::Table>) -> Result<Vec<SetSettings>, Fault> {
    let mut faults = Faults::default();
    let mut before = toml::Table::new();
    let mut sets = Vec::with_capacity(tables.len());
    for mut table in tables {
        // A set that is made of others has no such options.
        if table.get("fuse").and_then(toml::Value::as_array).is_none_or(|sources| sources.is_empty()) {
            for key in SET_OPTIONS.iter().filter(|option| option.inherited).filter_map(|option| option.key) {
                if let Some(value) = before.get(key).filter(|_| !table.contains_key(key)) {
                    table.insert(key.to_owned(), value.clone());
                }
            }
            before.clone_from(&table);
        }
        sets.push(read_set(&table, &mut faults));
    }
    faults.check()?;
    Ok(sets)
}

fn read_set(table: &toml::Table, faults: &mut Faults) -> SetSettings {
    let place = match table.get("name").and_then(toml::Value::as_str) {
        Some(name) => format!("set `{name}`: "),
        None => "[[set]]: ".to_owned(),
    };
    let mut set = SetSettings::default();
    for (key, value) in table {
        let read = match SET_OPTIONS.iter().find(|option| option.key == Some(key.as_str())) {
            Some(option) => (option.read)(&mut set, Given::Read { key, value }),
            None => {
                let keys = SET_OPTIONS.iter().filter_map(|option| option.key);
                Err(Fault::failure(driftless::Error::unknown("key", key, keys).to_string()))
            }
        };
        faults.keep(read.map_err(|fault| fault.of(&place)));
    }
    set
}
