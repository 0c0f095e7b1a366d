//! Names out of files, as they can stand in a message.

use crate::error::Error;
use std::path::Path;

/// Control characters escaped and not endless: a name comes from a stranger and ends up on a terminal.
pub(crate) fn shown(name: &str) -> String {
    let short: String = name.chars().take(200).collect();
    let more = if short.len() < name.len() { "..." } else { "" };
    format!("{}{more}", short.escape_debug())
}

/// The error that lists keys of a file which were not understood: ten of them, and how many more there are.
pub fn unknown_keys_error(path: &Path, keys: &[String]) -> Error {
    let listed: Vec<String> = keys.iter().take(10).map(|key| format!("`{}`", shown(key))).collect();
    let more = keys.len().saturating_sub(listed.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let noun = if keys.len() == 1 { "a key that is" } else { "keys that are" };
    Error::file(
        path,
        format!("has {noun} not understood: {}{more}", listed.join(", ")),
        "check what the file is, or allow unknown keys",
    )
}
