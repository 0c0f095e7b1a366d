//! Ctrl-C, SIGTERM and a closed terminal. None of them leaves a partial file.
//!
//! A program that has nothing to finish ends at once, with exit status 130. Work that can stop in an orderly way says so by
//! [`finish_first`]: then the first signal only sets [`requested`], and the second ends the program.

use crate::console::Console;
use crate::options::Logging;
use driftless::formats::remove_unfinished;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The exit status of an interrupted run, as shells report SIGINT.
pub const EXIT_STATUS: u8 = 130;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// What is finished before the program stops, and how it tells so.
static FINISHING: Mutex<Option<(&'static str, Logging)>> = Mutex::new(None);

/// Begins to listen; a process does so once. A SIGHUP that is ignored (`nohup`) stays ignored, and a file that becomes larger than the
/// system allows (`ulimit -f`) is an error of the write, not the end of the program.
///
/// # Errors
/// When the system does not let signals be handled.
pub fn listen() -> Result<(), ctrlc::Error> {
    let hangup = Hangup::begin();
    ctrlc::set_handler(received)?;
    hangup.restore();
    report_large_files();
    Ok(())
}

/// From now on the first signal lets `what` be finished; work looks at [`requested`] from time to time.
pub fn finish_first(task: &'static str, console: &Console) {
    *FINISHING.lock().unwrap_or_else(PoisonError::into_inner) = Some((task, console.logging()));
}

/// Whether the user wants to stop.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// What a signal does; called on a thread of its own, not within the signal.
fn received() {
    let finishing = *FINISHING.lock().unwrap_or_else(PoisonError::into_inner);
    let again = REQUESTED.swap(true, Ordering::SeqCst);
    match finishing {
        Some((task, logging)) if !again => {
            Console::new(logging).interrupted(format!("finishing {task}; once more to stop at once"));
        }
        _ => {
            remove_unfinished();
            let logging = finishing.map(|(_, logging)| logging).unwrap_or_default();
            Console::new(logging).interrupted("stopped at once; nothing unfinished is left, run the same command again");
            std::process::exit(EXIT_STATUS.into());
        }
    }
}

#[cfg(unix)]
fn report_large_files() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: ignoring a signal runs no code of ours. Where it cannot be ignored it is as it was.
    let _ = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}

#[cfg(not(unix))]
fn report_large_files() {}

/// Whether SIGHUP was ignored, which the handler for the other signals would change.
#[cfg(unix)]
struct Hangup(Option<nix::sys::signal::SigHandler>);

#[cfg(unix)]
impl Hangup {
    fn begin() -> Self {
        use nix::sys::signal::{SigHandler, Signal, signal};
        // SAFETY: ignoring a signal runs no code of ours; what was there before is put back by `restore` or replaced by ctrlc.
        Self(unsafe { signal(Signal::SIGHUP, SigHandler::SigIgn) }.ok())
    }

    fn restore(self) {
        use nix::sys::signal::{SigHandler, Signal, signal};
        if matches!(self.0, Some(SigHandler::SigIgn)) {
            // SAFETY: as above. A signal that cannot be ignored ends the program in an orderly way, as Ctrl-C does.
            let _ = unsafe { signal(Signal::SIGHUP, SigHandler::SigIgn) };
        }
    }
}

#[cfg(not(unix))]
struct Hangup;

#[cfg(not(unix))]
impl Hangup {
    fn begin() -> Self {
        Self
    }

    fn restore(self) {}
}
