//! The output folder: it can be written, and one run at a time writes to it.

use super::fault::RunFault;
use anyhow::{Context, Result};
use driftless::formats::remove_stale;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

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
            Err(TryLockError::WouldBlock) => return Err(RunFault::InUse { folder: folder.to_owned() }.into()),
            Err(TryLockError::Error(_)) => None,
        };
        let probe = folder.join(".probe");
        std::fs::write(&probe, "").with_context(named)?;
        std::fs::remove_file(&probe).with_context(named)?;
        remove_stale([folder]);
        Ok(Self { _lock: lock })
    }
}

/// The logs of a run, which a new run in the same folder begins anew.
const LOGS: [(&str, &str); 2] = [("metrics", "jsonl"), ("validation", "jsonl")];

/// Keeps the logs of an earlier run under names with a number; says which.
///
/// # Errors
/// When one cannot be renamed.
pub fn set_logs_aside(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut kept = Vec::new();
    for (stem, extension) in LOGS {
        let log = folder.join(format!("{stem}.{extension}"));
        if !std::fs::metadata(&log).is_ok_and(|found| found.is_file() && found.len() > 0) {
            continue;
        }
        let mut names = (1..).map(|number: u64| folder.join(format!("{stem}-{number}.{extension}")));
        let Some(free) = names.find(|name| name.symlink_metadata().is_err()) else { continue };
        std::fs::rename(&log, &free).with_context(|| log.display().to_string())?;
        kept.push(free);
    }
    Ok(kept)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_of_earlier_runs_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for round in ["first", "second"] {
            std::fs::write(path("metrics.jsonl"), round).unwrap();
            std::fs::write(path("validation.jsonl"), "").unwrap();
            assert_eq!(set_logs_aside(folder.path()).unwrap().len(), 1, "an empty log is none");
        }
        assert!(!path("metrics.jsonl").exists());
        let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
        assert_eq!([read("metrics-1.jsonl"), read("metrics-2.jsonl")], ["first", "second"]);
    }
}
