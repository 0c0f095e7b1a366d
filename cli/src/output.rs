//! Standard output and standard error, written so that nothing panics when nobody listens or the disk is full.
//!
//! What a program is asked to print goes to standard output. When that fails, the program does not stop, because its files may matter
//! more; the first failure is kept, and told at the end, except that of a closed pipe (`... | head -1`), whose reader has had enough.

use crate::escape;
use std::io::{ErrorKind, Write};
use std::sync::{Mutex, PoisonError};

/// The first failure of standard output; nothing more is written behind it.
static LOST: Mutex<Option<std::io::Error>> = Mutex::new(None);

/// Prints lines on standard output; control characters are escaped.
pub fn print(text: &str) {
    print_as_it_is(&escape::lines(text));
}

/// Prints serialized JSON on standard output; what would act on a terminal is escaped as JSON does.
pub fn print_json(value: &serde_json::Value) {
    print_as_it_is(&format!("{}\n", escape::json(&format!("{value:#}"))));
}

/// Prints text of this program's own on standard output, with its colors.
pub fn print_as_it_is(text: &str) {
    let mut lost = LOST.lock().unwrap_or_else(PoisonError::into_inner);
    if lost.is_none() {
        *lost = std::io::stdout().write_all(text.as_bytes()).err();
    }
}

/// Whether all that was printed has arrived; a reader that has closed its pipe has read what it wanted.
///
/// # Errors
/// The first failure of standard output.
pub fn finish() -> std::io::Result<()> {
    let mut lost = LOST.lock().unwrap_or_else(PoisonError::into_inner);
    match lost.take().or_else(|| std::io::stdout().flush().err()) {
        Some(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// A line on standard error. Where that cannot be written there is nobody to tell.
pub fn tell(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}
