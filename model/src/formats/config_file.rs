//! Reading the JSON configuration files of a model folder.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::regular_file::{FileKind, no_such_file, read_text};
use crate::error::{ConfigCause, Error, FileCause, Result};

/// The most channels, states or neurons side by side that a network is built with. SD2.1 has 5120.
pub(crate) const MOST_WIDTH: usize = 1 << 16;

/// The most layers one behind the other in any part of a network. SD2.1 has 23.
pub(crate) const MOST_DEPTH: usize = 256;

/// The first of some sizes, each with its entry and the most that makes sense, that is 0 or too large. What a size would take is never
/// asked for before this: configurations come from strangers.
pub(crate) fn check_sizes(sizes: &[(&'static str, usize, usize)]) -> Result<(), (&'static str, ConfigCause)> {
    for &(key, found, most) in sizes {
        match found {
            0 => return Err((key, ConfigCause::Zero)),
            found if found > most => return Err((key, ConfigCause::OutOfRange { found, least: 1, most })),
            _ => {}
        }
    }
    Ok(())
}

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
