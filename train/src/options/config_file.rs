//! `--config_file`: a TOML file whose sections are flattened into options, as kohya's `read_config_from_file` does.
//!
//! Deliberate differences: the name need not end in `.toml` (kohya appends it when it is missing; here both are tried), and a key
//! that is no option is an error, where kohya ignores it.

use anyhow::{Context, Result};
use driftless::formats::{FileKind, read_text};
use std::path::{Path, PathBuf};
use toml::Value;

/// An entry of the file: an option's name, and its values. A switch that is on has none.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Name with underscores.
    pub name: String,
    /// Values as text.
    pub values: Vec<String>,
    /// What `true` stands for is told from text by this.
    pub kind: EntryKind,
}

/// A table, or a date, stands where a value belongs.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected a text, a number, true or false, or a list of them; a data set belongs into a file of its own, --dataset_config"
)]
struct NotAValue;

/// How the value was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// `true` or `false`.
    Boolean(bool),
    /// A number or a text.
    Single,
    /// `[...]`.
    List,
}

/// The file's entries, sections left out, in the order of the sections' names.
///
/// # Errors
/// When the file cannot be read, is not TOML, or holds tables where values belong.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let path = existing(path);
    let text = read_text(&path, FileKind::Configuration).context("configuration file")?;
    let table: toml::Table = text.parse().with_context(|| format!("configuration file {} is not valid TOML", path.display()))?;
    let mut entries = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(section) => {
                for (key, value) in section {
                    entries.push(entry(&key, value).with_context(|| format!("{}: `{key}`", path.display()))?);
                }
            }
            value => entries.push(entry(&key, value).with_context(|| format!("{}: `{key}`", path.display()))?),
        }
    }
    Ok(entries)
}

fn existing(path: &Path) -> PathBuf {
    if !path.exists() {
        let mut with_extension = path.as_os_str().to_owned();
        with_extension.push(".toml");
        if Path::new(&with_extension).exists() {
            return with_extension.into();
        }
    }
    path.to_owned()
}

fn entry(key: &str, value: Value) -> Result<Entry, NotAValue> {
    let name = key.replace('-', "_");
    let (values, kind) = match value {
        Value::Boolean(on) => (vec![], EntryKind::Boolean(on)),
        Value::Array(items) => (items.iter().map(text).collect::<Result<_, _>>()?, EntryKind::List),
        single => (vec![text(&single)?], EntryKind::Single),
    };
    Ok(Entry { name, values, kind })
}

fn text(value: &Value) -> Result<String, NotAValue> {
    Ok(match value {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(on) => on.to_string(),
        Value::Table(_) | Value::Array(_) | Value::Datetime(_) => return Err(NotAValue),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_flattened() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "seed = 1\n[a]\nlearning-rate = 1e-4\ncache_latents = true\n[b]\nnetwork_args = [\"conv_dim=4\", \"conv_alpha=1\"]\n",
        )
        .unwrap();
        let entries = read(file.path()).unwrap();
        let plain: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.values.join(" "))).collect();
        assert_eq!(
            plain,
            [("cache_latents", ""), ("learning_rate", "0.0001"), ("network_args", "conv_dim=4 conv_alpha=1"), ("seed", "1")]
                .map(|(name, values)| (name, values.to_owned()))
        );
    }

    #[test]
    fn nested_tables_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[[datasets]]\nresolution = 512\n").unwrap();
        let message = format!("{:#}", read(file.path()).unwrap_err());
        assert!(message.contains("datasets") && message.contains("--dataset_config"), "{message}");
    }
}
