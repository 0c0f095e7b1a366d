//! Names out of files, as they can stand in a message.

use crate::error::{Error, WeightFileCause};
use std::path::Path;

/// Control characters escaped and not endless: a name comes from a stranger and ends up on a terminal.
pub(crate) fn shown(name: &str) -> String {
    let short: String = name.chars().take(200).collect();
    let more = if short.len() < name.len() { "..." } else { "" };
    format!("{}{more}", short.escape_debug())
}

/// The error that lists keys of a file which were not understood: ten of them, and how many more there are.
pub fn unknown_keys_error(path: &Path, keys: &[String]) -> Error {
    let first = keys.iter().take(10).map(|key| shown(key)).collect();
    let cause = WeightFileCause::UnknownKeys { shown: first, count: keys.len() };
    Error::file(path, cause, "check what the file is, or allow unknown keys")
}
