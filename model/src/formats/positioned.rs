//! Reading parts of a file by position, so that one tensor of a 4 GB checkpoint costs that tensor's memory and many threads can
//! read from one open file.
//!
//! Not memory-mapped on purpose: mapped pages count into a process's resident size, and a file that shrinks while it is mapped
//! ends the process with a signal in place of an error.

use super::regular_file::{no_such_file, open_regular};
use crate::error::{Error, FileCause, Result, WeightFileCause};
use std::fs::File;
use std::path::{Path, PathBuf};

/// A file open for reading, with the length it had when it was opened.
#[derive(Debug)]
pub(super) struct PositionedFile {
    file: File,
    path: PathBuf,
    len: u64,
}

impl PositionedFile {
    /// Opens `path`, saying in words when it is missing, a folder, or empty.
    pub(super) fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Err(Error::file(path, WeightFileCause::Folder, "name a file inside it"));
        }
        let file = open_regular(path).map_err(no_such_file("check the path"))?;
        let len = file.metadata().map_err(Error::io(path))?.len();
        if len == 0 {
            return Err(Error::file(path, FileCause::Empty, "download or write it again"));
        }
        Ok(Self { file, path: path.to_owned(), len })
    }

    /// The path it was opened under.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buffer` from the bytes at `offset`.
    pub(super) fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            let cause = FileCause::Short { offset, expected: buffer.len() as u64, found: self.len };
            return Err(Error::file(&self.path, cause, "the file is truncated; download or write it again"));
        }
        read_exact_at(&self.file, offset, buffer).map_err(|source| match source.kind() {
            // It was longer when it was opened.
            std::io::ErrorKind::UnexpectedEof => {
                let cause = FileCause::Short {
                    offset,
                    expected: buffer.len() as u64,
                    found: self.file.metadata().map_or(0, |now| now.len()),
                };
                Error::file(&self.path, cause, "leave the file alone while it is read")
            }
            _ => Error::io(&self.path)(source),
        })
    }

    /// The `len` bytes at `offset`.
    pub(super) fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        // Bounded by the file's length before anything is allocated.
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            let cause = FileCause::Short { offset, expected: len, found: self.len };
            return Err(Error::file(&self.path, cause, "the file is truncated; download or write it again"));
        }
        let mut buffer = vec![0; len as usize];
        self.read_exact_at(offset, &mut buffer)?;
        Ok(buffer)
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut offset: u64, mut buffer: &mut [u8]) -> std::io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, offset)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => {
                offset += read as u64;
                buffer = &mut buffer[read..];
            }
        }
    }
    Ok(())
}
