//! The cache on disk, in the layout that `huggingface_hub` and the `hf-hub` crate share:
//! `models--OWNER--NAME/{blobs/ETAG, snapshots/COMMIT/FILE -> blob, refs/REVISION}`.
//!
//! A blob is there when it is whole: it is written as `ETAG.incomplete` and renamed. `refs/REVISION` is written when everything
//! asked for is there, so an interrupted first download is not taken for a model.

use super::files::{self, Needs, Selection};
use crate::error::{Error, Result};
use crate::formats::{FileKind, read_text};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long to sleep between two looks at a file that another process downloads.
const LOCK_PAUSE: Duration = Duration::from_millis(200);

/// One repository at one revision in the cache.
pub struct Store {
    cache: CacheRepo,
    revision: String,
    root: PathBuf,
    locks: PathBuf,
}

/// A snapshot that has all that is needed.
pub struct Snapshot {
    /// Its folder.
    pub folder: PathBuf,
    /// Whether the weights are of the preferred precision.
    pub preferred: bool,
}

impl Store {
    /// The folder of `repository` (`owner/name`) in the cache's `hub` folder.
    pub fn new(cache: &Path, repository: &str, revision: &str) -> Self {
        let repo = Repo::with_revision(repository.to_owned(), RepoType::Model, revision.to_owned());
        let root = cache.join(repo.folder_name());
        let locks = cache.join(".locks").join(repo.folder_name());
        Self { cache: Cache::new(cache.to_owned()).repo(repo), revision: revision.to_owned(), root, locks }
    }

    /// The folder of this repository.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of the files of `commit`.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.cache.pointer_path(commit)
    }

    /// The blob named by a (checked) ETag.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// The folder of the commit that the revision stood for when it was last downloaded.
    fn current(&self) -> Option<PathBuf> {
        let noted = read_text(self.root.join("refs").join(&self.revision), FileKind::ShortText).ok();
        // A commit asked for by its hash needs no note; Python's client writes none.
        let commit = noted.map_or_else(|| self.revision.clone(), |commit| commit.trim().to_owned());
        Some(self.snapshot(&commit)).filter(|folder| files::is_plain_name(&commit) && folder.is_dir())
    }

    /// One cached file of the revision.
    pub fn file(&self, file: &str) -> Option<PathBuf> {
        Some(self.current()?.join(file)).filter(|path| path.is_file())
    }

    /// The revision's snapshot when it has everything, or what it lacks.
    pub fn find(&self, needs: &Needs, half: bool) -> std::result::Result<Snapshot, Vec<String>> {
        let folder = self.current();
        let names = folder.as_deref().map(file_names).unwrap_or_default();
        let Selection { mut missing, indexes, preferred, .. } = needs.select(&names, half);
        let Some(folder) = folder else { return Err(missing) };
        for index in indexes {
            match files::shards(&folder.join(&index), &index) {
                Ok(shards) => missing.extend(shards.into_iter().filter(|shard| !names.contains(shard))),
                Err(_) => missing.push(index),
            }
        }
        if missing.is_empty() { Ok(Snapshot { folder, preferred }) } else { Err(missing) }
    }

    /// Makes `file` of `commit` point at its blob.
    pub fn link(&self, commit: &str, file: &str, etag: &str) -> Result<PathBuf> {
        let path = self.snapshot(commit).join(file);
        let folder = path.parent().unwrap_or(&self.root);
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let up = "../".repeat(2 + file.matches('/').count());
        let target = PathBuf::from(format!("{up}blobs/{etag}"));
        let fresh = folder.join(format!(".{etag}.{}.link", std::process::id()));
        // Left behind by a process of the same number that was killed.
        let _ = std::fs::remove_file(&fresh);
        if symlink(&target, &fresh).is_err() {
            // File systems and Windows accounts without symbolic links.
            let blob = self.blob(etag);
            std::fs::hard_link(&blob, &fresh).or_else(|_| std::fs::copy(&blob, &fresh).map(drop)).map_err(Error::io(&fresh))?;
        }
        std::fs::rename(&fresh, &path).map_err(Error::io(&path))?;
        Ok(path)
    }

    /// Notes that the revision stands for `commit`.
    pub fn note(&self, commit: &str) -> Result<()> {
        self.cache.create_ref(commit).map_err(Error::io(self.root.join("refs")))
    }

    /// Waits until no other process downloads the blob `etag`. `wait` is asked again and again whether to go on.
    ///
    /// Returns `None` when `wait` breaks. On file systems without locks there is no waiting.
    pub fn lock(&self, etag: &str, mut wait: impl FnMut() -> ControlFlow<()>) -> Result<Option<Lock>> {
        std::fs::create_dir_all(&self.locks).map_err(Error::io(&self.locks))?;
        let path = self.locks.join(format!("{etag}.lock"));
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(Error::io(&path))?;
        loop {
            match file.try_lock() {
                Ok(()) | Err(TryLockError::Error(_)) => return Ok(Some(Lock { _file: file })),
                Err(TryLockError::WouldBlock) if wait().is_break() => return Ok(None),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            }
        }
    }
}

/// Held while a blob is written; dropping it lets the next process in.
pub struct Lock {
    _file: File,
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// The readable files of a snapshot and of its folders, as paths inside the repository.
fn file_names(folder: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for name in entries(folder) {
        let path = folder.join(&name);
        if path.is_dir() {
            let inner = entries(&path).into_iter().filter(|inner| path.join(inner).is_file());
            names.extend(inner.map(|inner| format!("{name}/{inner}")));
        } else if path.is_file() {
            names.insert(name);
        }
    }
    names
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
