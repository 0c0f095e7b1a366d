//! The options of a run and of a feature set, a row each: its name on the command line, its key in a configuration file, what it is for,
//! and its identity. Command lines, configuration files, refusals and what a later run has to agree with are read off the rows.

mod facts;
mod given;
mod request;
mod run;
mod set;
mod settings;
mod shard;

pub use facts::{PcaFacts, RunFacts, SetFacts};
pub use given::Given;
pub use request::{CommandSettings, InputSettings, OutputSettings, Settings};
pub use run::RUN_OPTIONS;
pub use set::SET_OPTIONS;
pub use settings::{ControlSetting, LayerSetting, SetSettings};
pub use shard::{NotAShard, Shard};

use std::ffi::OsString;

use serde_json::Value;

use crate::fault::{Fault, Faults, RequestFault};
use crate::set::Fusion;

/// What another value of an option of a set makes other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// What the network computes: part of [`PassKey`](crate::set::PassKey). Files made under another value are other features.
    Pass,
    /// What is kept of that: part of [`Keep`](crate::set::Keep). Files made under another value are other features.
    Keep,
    /// What is made of several sets: part of [`Fusion`]. Files made under another value are other features.
    Fusion,
    /// Where files go, and nothing in them.
    Place,
}

/// Where the value of a set's option stands in `extract.json`.
#[derive(Clone, Copy)]
pub enum Record {
    /// Under the option's own name, for a set that is extracted.
    Set(fn(&SetFacts) -> Value),
    /// The same of an option that came later than the record's form: where it changes nothing it has no value, as in older records.
    SetIf(fn(&SetFacts) -> Option<Value>),
    /// Under the option's own name, for a set that is made of others.
    Fusion(fn(&Fusion) -> Value),
    /// In the record of another option, or of each image, as the text says.
    Within(&'static str),
    /// Nowhere, for the reason that the text gives.
    Nowhere(&'static str),
}

/// What another value of an option of the run means for files that are there already.
#[derive(Clone, Copy)]
pub enum RunIdentity {
    /// They are other features, or stand elsewhere. The value is recorded, and a run with another one is refused.
    Fixed(fn(&RunFacts) -> Value),
    /// The same of an option that came later than the record's form: where it changes nothing it has no value, as in older records.
    FixedIf(fn(&RunFacts) -> Option<Value>),
    /// They differ by rounding alone. The value is recorded, and a run with another one is told so.
    MayChange(fn(&RunFacts) -> Value),
    /// They may be other features; what counts is recorded elsewhere, as the text says.
    Within(&'static str),
    /// Nothing.
    Irrelevant,
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
    /// Where its value is recorded.
    pub record: Record,
    /// Whether a `[[set]]` without it has the value of the set extracted before, so that techniques that are compared differ in
    /// nothing by accident. A noise level and the timestep of clean latents are not each other's.
    pub inherited: bool,
    read: fn(&mut SetSettings, Given<'_>) -> Result<(), Fault>,
}

/// One option of a run.
pub struct RunOption {
    /// Its key in a configuration file, `table.key` where it stands in a table; `None` where the command line alone has it.
    pub key: Option<&'static str>,
    /// Its name on the command line.
    pub flag: Flag,
    /// What it is for.
    pub doc: &'static str,
    /// What another value means for files that are there already.
    pub identity: RunIdentity,
    read: fn(&mut Settings, Given<'_>) -> Result<(), Fault>,
}

/// How an option is typed.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its name without dashes in front, `-` between words.
    pub name: &'static str,
    /// Its name of one letter.
    pub short: Option<char>,
    /// Another name that it has.
    pub alias: Option<&'static str>,
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
    /// One value or more; of several options the last is in force.
    Several,
}

impl Flag {
    const fn new(name: &'static str, value: &'static str, takes: Takes, heading: &'static str) -> Self {
        Self { name, short: None, alias: None, value, takes, heading }
    }
}

/// An option with a name on the command line, which is read into settings of type `S`.
pub trait Row<S> {
    /// Its name.
    fn flag(&self) -> Option<&Flag>;

    /// What it is for.
    fn doc(&self) -> &'static str;

    /// Reads what was typed behind its name.
    ///
    /// # Errors
    /// [`Fault::Usage`] when it is no value of the option.
    fn read_typed(&self, settings: &mut S, flag: &Flag, words: &[OsString]) -> Result<(), Fault>;
}

impl Row<SetSettings> for SetOption {
    fn flag(&self) -> Option<&Flag> {
        self.flag.as_ref()
    }

    fn doc(&self) -> &'static str {
        self.doc
    }

    fn read_typed(&self, set: &mut SetSettings, flag: &Flag, words: &[OsString]) -> Result<(), Fault> {
        (self.read)(set, Given::Typed { flag: flag.name, words })
    }
}

impl Row<Settings> for RunOption {
    fn flag(&self) -> Option<&Flag> {
        Some(&self.flag)
    }

    fn doc(&self) -> &'static str {
        self.doc
    }

    fn read_typed(&self, settings: &mut Settings, flag: &Flag, words: &[OsString]) -> Result<(), Fault> {
        (self.read)(settings, Given::Typed { flag: flag.name, words })
    }
}

/// Reads a configuration file's keys outside of `[[set]]`.
///
/// # Errors
/// Every key that does not exist, with the nearest that does; every value that is none of its option's.
fn read_run(table: &toml::Table, settings: &mut Settings) -> Result<(), Fault> {
    let mut faults = Faults::default();
    for (key, value) in table {
        let inside = format!("{key}.");
        let is_table = RUN_OPTIONS.iter().filter_map(|option| option.key).any(|known| known.starts_with(&inside));
        match value.as_table().filter(|_| is_table) {
            Some(table) => {
                for (name, value) in table {
                    faults.keep(read_run_key(&format!("{inside}{name}"), value, settings));
                }
            }
            None if is_table => faults.push(Fault::failure(RequestFault::Read {
                key: key.clone(),
                found: value.clone(),
                expected: format!("a table, [{key}]"),
            })),
            None => drop(faults.keep(read_run_key(key, value, settings))),
        }
    }
    faults.check()
}

fn read_run_key(key: &str, value: &toml::Value, settings: &mut Settings) -> Result<(), Fault> {
    match RUN_OPTIONS.iter().find(|option| option.key == Some(key)) {
        Some(option) => (option.read)(settings, Given::Read { key, value }),
        None => {
            let keys = RUN_OPTIONS.iter().filter_map(|option| option.key).chain(["set"]);
            Err(Fault::failure(driftless::Error::unknown("key", key, keys)))
        }
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
                let is_of_other_kind = key == "t" && table.get("noise") != before.get("noise");
                if let Some(value) = before.get(key).filter(|_| !table.contains_key(key) && !is_of_other_kind) {
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
    let context = match table.get("name").and_then(toml::Value::as_str) {
        Some(name) => format!("set `{name}`: "),
        None => "[[set]]: ".to_owned(),
    };
    let mut set = SetSettings::default();
    for (key, value) in table {
        let read = match SET_OPTIONS.iter().find(|option| option.key == Some(key.as_str())) {
            Some(option) => (option.read)(&mut set, Given::Read { key, value }),
            None => {
                let keys = SET_OPTIONS.iter().filter_map(|option| option.key);
                Err(Fault::failure(driftless::Error::unknown("key", key, keys)))
            }
        };
        faults.keep(read.map_err(|fault| fault.of(&context)));
    }
    set
}
