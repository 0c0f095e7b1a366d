//! Ctrl-C and SIGTERM: the first lets the step in hand finish, the second ends the process at once; neither leaves a partial file.

use driftless::formats::remove_unfinished;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit status of an interrupted run, as shells report SIGINT.
pub const EXIT_STATUS: u8 = 130;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Begins to listen.
///
/// # Errors
/// When the system does not let signals be handled.
pub fn listen() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::SeqCst) {
            remove_unfinished();
            std::process::exit(EXIT_STATUS.into());
        }
        eprintln!("interrupted: finishing the step in hand; once more to stop at once");
    })
}

/// Whether the user wants to stop.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}
