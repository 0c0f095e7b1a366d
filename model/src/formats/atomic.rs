//! Files and folders that appear whole or not at all: written under a temporary name in the same folder, then renamed.
//!
//! A crash, an error or an interruption therefore never leaves a partial result under the name that the user asked for. What is
//! unfinished is removed when it is dropped; a signal handler, which ends the process without dropping anything, calls
//! [`remove_unfinished`] first. A process that is killed outright leaves its temporary files; every one is locked as long as its process
//! lives, so that [`remove_stale`] can tell them from another process's at the next start.

use super::regular_file::without_waiting;
use crate::error::{Error, FileCause, Result};
use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Temporary paths in use, and whether new ones may still be made.
struct Unfinished {
    paths: BTreeSet<PathBuf>,
    closed: bool,
}

static UNFINISHED: Mutex<Unfinished> = Mutex::new(Unfinished { paths: BTreeSet::new(), closed: false });

fn unfinished() -> MutexGuard<'static, Unfinished> {
    // A set of paths has no broken intermediate state, so a poisoned lock is as good as any.
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes every unfinished file and folder of this process and lets no new one begin. For signal handlers, right before they
/// end the process; work that is still running on other threads gets an error from its next [`AtomicFile::create`].
pub fn remove_unfinished() {
    let mut unfinished = unfinished();
    unfinished.closed = true;
    for path in std::mem::take(&mut unfinished.paths) {
        // Nothing can be reported to anybody here; what cannot be removed stays under its temporary name.
        let _ = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
    }
}

/// How the names of temporary files and folders begin and end.
const NAME: (&str, &str) = (".unfinished-", ".tmp");

/// Removes temporary files and folders right in these folders whose process is gone; says how many. What cannot be removed, or is on a
/// file system without locks, stays.
pub fn remove_stale<'a>(folders: impl IntoIterator<Item = &'a Path>) -> usize {
    let entries =
        folders.into_iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().filter_map(|entry| entry.ok());
    let temporary = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name.starts_with(NAME.0) && name.ends_with(NAME.1))
    });
    temporary.filter(|entry| remove_if_unlocked(&entry.path()).is_ok()).count()
}

/// The temporary files and folders right in a folder: of processes that live, once [`remove_stale`] has removed the others.
pub fn unfinished_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok());
    let temporary = |name: &str| name.starts_with(NAME.0) && name.ends_with(NAME.1);
    entries.filter(|entry| entry.file_name().to_str().is_some_and(temporary)).map(|entry| entry.path()).collect()
}

fn remove_if_unlocked(path: &Path) -> std::io::Result<()> {
    // A stranger's pipe may have such a name.
    let opened = without_waiting().open(path)?;
    // Held until it is gone, which is what `claim` waits for.
    opened.try_lock()?;
    if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
}

/// Locks what was just made; false if [`remove_stale`] of another process was faster and removed it.
fn claim(made: &File, path: &Path) -> bool {
    // Without locks on this file system nobody removes anything either.
    made.lock().is_err() || path.exists()
}

/// A temporary path's entry in the list, given up when dropped.
struct Registration(PathBuf);

impl Registration {
    /// Lists a temporary path made by `make`, unless the process is ending.
    fn begin<T>(destination: &Path, make: impl FnOnce() -> std::io::Result<(T, PathBuf)>) -> Result<(T, Self)> {
        let mut unfinished = unfinished();
        if unfinished.closed {
            return Err(Error::io(destination)(std::io::Error::from(std::io::ErrorKind::Interrupted)));
        }
        let (made, path) = make().map_err(Error::io(destination))?;
        unfinished.paths.insert(path.clone());
        Ok((made, Self(path)))
    }

    /// Gives the path its final name by `rename`, which [`remove_unfinished`] cannot fall into.
    fn end(self, rename: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut unfinished = unfinished();
        if unfinished.closed {
            return Err(Error::io(&self.0)(std::io::Error::from(std::io::ErrorKind::Interrupted)));
        }
        unfinished.paths.remove(&self.0);
        rename()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        unfinished().paths.remove(&self.0);
    }
}

/// The folder in which `path` stands; `.` for a bare name.
fn parent_folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A file that takes its name only when [`AtomicFile::commit`] is called; dropped before that, it is removed. Buffered; as
/// [`Write`] it reports plain [`std::io::Error`]s, [`AtomicFile::write_bytes`] names the file.
pub struct AtomicFile {
    writer: BufWriter<File>,
    /// Removes the temporary file when dropped.
    temporary: tempfile::TempPath,
    registration: Registration,
    destination: PathBuf,
}

impl AtomicFile {
    /// Begins a file that shall stand at `destination`, whose folder must exist.
    ///
    /// # Errors
    /// [`Error::Io`] naming `destination` when no file can be made in its folder; [`Error::File`] when it is a folder.
    pub fn create(destination: impl AsRef<Path>) -> Result<Self> {
        let destination = destination.as_ref();
        if destination.is_dir() {
            return Err(Error::file(destination, FileCause::FolderAtDestination, "give the name of a file"));
        }
        let (temporary, registration) = Registration::begin(destination, || {
            let mut builder = tempfile::Builder::new();
            builder.prefix(NAME.0).suffix(NAME.1);
            ordinary_permissions(&mut builder);
            loop {
                let temporary = builder.tempfile_in(parent_folder(destination))?;
                let path = temporary.path().to_owned();
                if claim(temporary.as_file(), &path) {
                    return Ok((temporary, path));
                }
            }
        })?;
        let (file, temporary) = temporary.into_parts();
        Ok(Self { writer: BufWriter::new(file), temporary, registration, destination: destination.to_owned() })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`Error::Io`] naming the destination, for instance when the disk is full.
    pub fn write_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.write_all(bytes).map_err(Error::io(&self.destination))
    }

    /// Flushes to the disk and gives the file its name, replacing a file that had it.
    ///
    /// # Errors
    /// [`Error::Io`] naming the destination; the temporary file is removed then.
    pub fn commit(mut self) -> Result<()> {
        self.writer.flush().map_err(Error::io(&self.destination))?;
        self.writer.get_ref().sync_all().map_err(Error::io(&self.destination))?;
        let (temporary, destination) = (self.temporary, self.destination);
        self.registration.end(|| temporary.persist(&destination).map_err(|e| Error::io(&destination)(e.error)))?;
        // Open, and so locked, until it has its name.
        drop(self.writer);
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.writer.flush()
    }
}

/// Files that others may read as the user's umask says, not the owner-only ones that temporary files are otherwise.
#[cfg(unix)]
fn ordinary_permissions(builder: &mut tempfile::Builder<'_, '_>) {
    use std::os::unix::fs::PermissionsExt;
    builder.permissions(Permissions::from_mode(0o666));
}

#[cfg(not(unix))]
fn ordinary_permissions(_: &mut tempfile::Builder<'_, '_>) {}

/// Writes one file through `fill`; it stands at `path` only if `fill` and the writing succeed.
///
/// # Errors
/// What `fill` answers, and the errors of [`AtomicFile`].
pub fn write_atomically(path: impl AsRef<Path>, fill: impl FnOnce(&mut AtomicFile) -> Result<()>) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    fill(&mut file)?;
    file.commit()
}

/// A folder that takes its name only when [`AtomicFolder::commit`] is called; dropped before that, it is removed with all that
/// was put into it.
pub struct AtomicFolder {
    staging: tempfile::TempDir,
    /// Keeps it locked, where the system lets folders be opened.
    lock: Option<File>,
    registration: Registration,
    destination: PathBuf,
}

impl AtomicFolder {
    /// Begins a folder that shall stand at `destination`, where there may be nothing or an empty folder.
    ///
    /// # Errors
    /// [`Error::File`] when something stands there already, [`Error::Io`] when no folder can be made beside it.
    pub fn create(destination: impl AsRef<Path>) -> Result<Self> {
        let destination = destination.as_ref();
        let taken = match std::fs::read_dir(destination) {
            Ok(mut entries) => entries.next().is_some(),
            Err(_) => destination.symlink_metadata().is_ok(),
        };
        if taken {
            return Err(Error::file(destination, FileCause::Exists, "remove it, or write to another path"));
        }
        let ((staging, lock), registration) = Registration::begin(destination, || {
            let mut builder = tempfile::Builder::new();
            builder.prefix(NAME.0).suffix(NAME.1);
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                builder.permissions(Permissions::from_mode(0o777));
            }
            loop {
                let staging = builder.tempdir_in(parent_folder(destination))?;
                let path = staging.path().to_owned();
                let lock = File::open(&path).ok();
                if lock.as_ref().is_none_or(|lock| claim(lock, &path)) {
                    return Ok(((staging, lock), path));
                }
            }
        })?;
        Ok(Self { staging, lock, registration, destination: destination.to_owned() })
    }

    /// The temporary folder to put files into.
    pub fn path(&self) -> &Path {
        self.staging.path()
    }

    /// Gives the folder its name.
    ///
    /// # Errors
    /// [`Error::Io`] naming the destination; the temporary folder is removed then.
    pub fn commit(self) -> Result<()> {
        let (staging, destination) = (self.staging, self.destination);
        self.registration.end(|| {
            // Some systems rename over an empty folder, some do not.
            let _ = std::fs::remove_dir(&destination);
            std::fs::rename(staging.path(), &destination).map_err(Error::io(&destination))?;
            // The temporary name no longer exists, so there is nothing left to remove.
            let _ = staging.keep();
            Ok(())
        })?;
        drop(self.lock);
        Ok(())
    }
}
