//! Reading the JSON configuration files of a model folder.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::regular_file::{FileKind, no_such_file, read_text};
use crate::error::{Error, FileCause, Result};

/// Parses a JSON configuration file.
///
/// # Errors
/// [`Error::File`] when it is missing or not JSON; [`Error::Config`] when an entry has the wrong type.
pub fn read_config<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = read_text(path, FileKind::Configuration)
        .map_err(no_such_file("the model folder is incomplete; copy or download it again"))?;
    serde_json::from_str(&text).map_err(|error| {
        let advice = "repair the file or download it again";
        Error::file(path, FileCause::Json { expected: "the configuration expected here", source: error }, advice)
    })
}
