//! Reading the JSON configuration files of a model folder.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{Error, FileCause, Result};

/// Configuration files are a few kilobytes; anything much larger is not one.
const LARGEST: u64 = 16 << 20;

/// Parses a JSON configuration file.
///
/// # Errors
/// [`Error::File`] when it is missing or not JSON; [`Error::Config`] when an entry has the wrong type.
pub fn read_config<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let size = std::fs::metadata(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => {
            Error::file(path, FileCause::NoSuchFile, "the model folder is incomplete; copy or download it again")
        }
        _ => Error::Io { path: path.to_owned(), source },
    })?;
    if size.len() > LARGEST {
        return Err(Error::file(path, FileCause::TooLarge { bytes: size.len(), expected: "a configuration" }, "check the file"));
    }
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    serde_json::from_str(&text).map_err(|error| {
        let advice = "repair the file or download it again";
        Error::file(path, FileCause::Json { expected: "the configuration expected here", source: error }, advice)
    })
}
