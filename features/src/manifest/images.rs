//! The record of one image.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// An image, and what it has of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageRecord {
    /// Its noise is drawn from `seed + number`.
    pub number: usize,
    /// Its name in the output.
    pub name: String,
    /// Its file, from the root of the file system.
    pub path: String,
    /// The file's size.
    pub bytes: u64,
    /// When the file was changed: nanoseconds since 1970. Compared where its path is another.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub modified: String,
    /// Hashes of the prompts that it has of its own, by set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prompts: BTreeMap<String, String>,
    /// Hashes of the adapters that are chosen by its folder, by set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub adapters: BTreeMap<String, Vec<String>>,
    /// Sizes of its ready-made condition images, by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub conditions: BTreeMap<String, u64>,
}

impl ImageRecord {
    /// The same path, or the file moved: its name, size and time.
    pub fn is_file_of(&self, other: &Self) -> bool {
        let name = |record: &Self| Path::new(&record.path).file_name().map(std::ffi::OsStr::to_owned);
        let moved = || {
            let known = !self.modified.is_empty() && self.modified == other.modified;
            known && self.bytes == other.bytes && name(self) == name(other)
        };
        self.path == other.path || moved()
    }

    /// Takes over what the other knows besides.
    pub fn extend(&mut self, other: &Self) {
        let Self { number: _, name: _, path, bytes, modified, prompts, adapters, conditions } = other;
        (self.path, self.bytes, self.modified) = (path.clone(), *bytes, modified.clone());
        self.prompts.extend(prompts.clone());
        self.adapters.extend(adapters.clone());
        self.conditions.extend(conditions.clone());
    }
}

/// A file's size and time; zero and nothing where it cannot be looked at, which reading it will say.
pub fn size_and_time(path: &Path) -> (u64, String) {
    let Ok(metadata) = std::fs::metadata(path) else { return (0, String::new()) };
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    (metadata.len(), modified.map_or_else(String::new, |since| since.as_nanos().to_string()))
}
