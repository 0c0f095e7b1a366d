//! The record of one image.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::contents::FileRecord;

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
    /// When the file was changed: nanoseconds since 1970. Compared where its path is another and its contents are not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub modified: String,
    /// What the file holds; not known until the shard that it belongs to has begun, nor where it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<FileRecord>,
    /// Hashes of the prompts that it has of its own, by set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prompts: BTreeMap<String, String>,
    /// Hashes of the adapters that are chosen by its folder, by set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub adapters: BTreeMap<String, Vec<String>>,
    /// Its ready-made condition images, by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub conditions: BTreeMap<String, ConditionRecord>,
}

/// A condition image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConditionRecord {
    /// Its file, from the root of the file system; not compared.
    pub path: String,
    /// What it holds.
    pub contents: FileRecord,
}

impl ImageRecord {
    /// The same path, or the file moved: its name, and its contents, or, where those are not known, its size and time.
    pub fn is_file_of(&self, other: &Self) -> bool {
        let name = |record: &Self| Path::new(&record.path).file_name().map(std::ffi::OsStr::to_owned);
        let same = || match (&self.contents, &other.contents) {
            (Some(mine), Some(others)) => mine.holds_the_same(others),
            _ => !self.modified.is_empty() && self.modified == other.modified && self.bytes == other.bytes,
        };
        self.path == other.path || name(self) == name(other) && same()
    }

    /// Whether the file holds something else than it did; what is not known on both sides is taken to be the same.
    pub fn holds_other_contents(&self, other: &Self) -> bool {
        match (&self.contents, &other.contents) {
            (Some(mine), Some(others)) => !mine.holds_the_same(others),
            _ => self.bytes != other.bytes,
        }
    }

    /// What is known of files by their paths.
    pub fn into_known(self) -> impl Iterator<Item = (String, FileRecord)> {
        let image = self.contents.map(|contents| (self.path, contents));
        image.into_iter().chain(self.conditions.into_values().map(|condition| (condition.path, condition.contents)))
    }

    /// Takes over what the other knows besides.
    pub fn extend(&mut self, other: &Self) {
        let Self { number: _, name: _, path, bytes, modified, contents, prompts, adapters, conditions } = other;
        (self.path, self.bytes, self.modified) = (path.clone(), *bytes, modified.clone());
        self.contents = contents.clone().or_else(|| self.contents.take());
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
