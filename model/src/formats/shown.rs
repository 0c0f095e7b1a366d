//! Names out of files, as they can stand in a message.

/// Control characters escaped and not endless: a name comes from a stranger and ends up on a terminal.
pub(crate) fn shown(name: &str) -> String {
    let short: String = name.chars().take(200).collect();
    let more = if short.len() < name.len() { "..." } else { "" };
    format!("{}{more}", short.escape_debug())
}
