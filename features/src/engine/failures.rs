//! Images that failed: `failed.jsonl` beside the features, a line each, written as it happens so that no crash loses it.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use driftless::{Error, Result};
use serde_json::json;

use crate::inputs::Sample;

/// The list of a run.
#[derive(Debug)]
pub struct Failures {
    path: PathBuf,
    file: Option<File>,
    /// Numbers of the images.
    images: BTreeSet<usize>,
}

impl Failures {
    /// Begins an empty list; one that an earlier run left is removed, since its images are tried again.
    ///
    /// # Errors
    /// When the earlier list cannot be removed.
    pub fn begin(path: &Path) -> Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(error)),
            _ => Ok(Self { path: path.to_owned(), file: None, images: BTreeSet::new() }),
        }
    }

    /// Images in the list.
    pub fn count(&self) -> usize {
        self.images.len()
    }

    /// Adds an image; says whether it was not there yet. One line is enough for an image that fails in several sets.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn add(&mut self, sample: &Sample, problem: &str) -> Result<bool> {
        if !self.images.insert(sample.index) {
            return Ok(false);
        }
        if self.file.is_none() {
            if let Some(folder) = self.path.parent() {
                std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
            }
            let file = OpenOptions::new().create(true).append(true).open(&self.path);
            self.file = Some(file.map_err(Error::io(&self.path))?);
        }
        let line = json!({ "index": sample.index, "image": sample.path.to_string_lossy(), "error": problem });
        if let Some(file) = &mut self.file {
            // One call, so that a line is there whole or not at all.
            file.write_all(format!("{line}\n").as_bytes()).map_err(Error::io(&self.path))?;
        }
        Ok(true)
    }
}
