//! The output folder: it can be written, and one run at a time writes to it.

use anyhow::{Context, Result, bail};
use driftless::formats::remove_stale;
use std::fs::{File, TryLockError};
use std::path::Path;

/// An output folder that no other run writes to while this lives. A process that dies gives it back.
#[derive(Debug)]
pub struct OutputFolder {
    /// `None` where the file system knows no locks.
    _lock: Option<File>,
}

impl OutputFolder {
    /// Makes the folder, and finds out now, not after an hour of training, whether results can be written there. Removes what a
    /// killed run left half written.
    ///
    /// # Errors
    /// When it cannot be written, or another run writes to it.
    pub fn claim(folder: &Path) -> Result<Self> {
        let named = || format!("--output_dir {}", folder.display());
        std::fs::create_dir_all(folder).with_context(named)?;
        let lock = lockable(folder).with_context(named)?;
        let lock = match lock.try_lock() {
            Ok(()) => Some(lock),
            Err(TryLockError::WouldBlock) => bail!("{}: another run is writing there", named()),
            Err(TryLockError::Error(_)) => None,
        };
        let probe = folder.join(".probe");
        std::fs::write(&probe, "").with_context(named)?;
        std::fs::remove_file(&probe).with_context(named)?;
        remove_stale([folder]);
        Ok(Self { _lock: lock })
    }
}

/// The folder itself, so that no file of the lock's own stays in it.
#[cfg(unix)]
fn lockable(folder: &Path) -> std::io::Result<File> {
    File::open(folder)
}

/// Folders cannot be locked there.
#[cfg(not(unix))]
fn lockable(folder: &Path) -> std::io::Result<File> {
    File::options().create(true).write(true).truncate(false).open(folder.join(".lock"))
}
