//! The one way to open a file that somebody else named or made: regular files only, and no more bytes than such a file can have.
//!
//! A pipe, a socket, a terminal or a device instead of a file would make a program wait for ever or read without end
//! (`/dev/zero` behind a link), and some devices act on being opened. So the path is looked at first, opened without waiting, and
//! what was opened is looked at again, since the path may name something else by then.

use crate::error::{Error, FileCause, Result};
use std::fs::{File, FileType, OpenOptions};
use std::io::Read;
use std::path::Path;

/// Files that are read whole into memory, by what they are; each kind has a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Settings and small records: JSON and TOML. Real ones have kilobytes; 16 MiB.
    Configuration,
    /// A tokenizer's files; CLIP's have 1 MB and 0.5 MB; 64 MiB.
    Tokenizer,
    /// What fits a page, such as the caption of an image; 1 MiB.
    ShortText,
    /// Lists with a line for each image or layer: prompts, tables, logs; 256 MiB.
    List,
    /// An image file; 1 GiB.
    Image,
}

impl FileKind {
    /// The most bytes that are read.
    pub fn most_bytes(self) -> u64 {
        match self {
            Self::ShortText => 1 << 20,
            Self::Configuration => 16 << 20,
            Self::Tokenizer => 64 << 20,
            Self::List => 256 << 20,
            Self::Image => 1 << 30,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::ShortText => "a short text",
            Self::Configuration => "a configuration",
            Self::Tokenizer => "a tokenizer's file",
            Self::List => "a list",
            Self::Image => "an image file",
        }
    }
}

/// Opens a regular file for reading, without ever waiting for one.
///
/// # Errors
/// [`Error::Io`] when it cannot be opened (`NotFound` when there is none); [`Error::File`] for a folder, a pipe, a socket or a device.
pub fn open_regular(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    let found = std::fs::metadata(path).map_err(Error::io(path))?;
    refuse_special(path, found.file_type())?;
    let file = without_waiting().open(path).map_err(Error::io(path))?;
    refuse_special(path, file.metadata().map_err(Error::io(path))?.file_type())?;
    Ok(file)
}

/// All bytes of a regular file, unless they are more than a file of its kind can have.
///
/// # Errors
/// Those of [`open_regular`]; [`Error::File`] when the file is too large.
pub fn read_bounded(path: impl AsRef<Path>, kind: FileKind) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let file = open_regular(path)?;
    let most = kind.most_bytes();
    let too_large = || {
        let cause = FileCause::TooLarge { mebibytes: most >> 20, expected: kind.name() };
        Error::file(path, cause, "check that it is the file that was meant")
    };
    let length = file.metadata().map_err(Error::io(path))?.len();
    if length > most {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(length as usize);
    // The length is what the file system says; what is read is bounded by itself (a file may grow, and those of /proc have none).
    file.take(most + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
    if bytes.len() as u64 > most { Err(too_large()) } else { Ok(bytes) }
}

/// As [`read_bounded`], for UTF-8 text.
///
/// # Errors
/// Those of [`read_bounded`]; [`Error::File`] when the bytes are not UTF-8.
pub fn read_text(path: impl AsRef<Path>, kind: FileKind) -> Result<String> {
    let path = path.as_ref();
    String::from_utf8(read_bounded(path, kind)?).map_err(|_| Error::file(path, FileCause::NotUtf8, "save it as UTF-8"))
}

/// For `map_err`: a missing file as [`Error::File`], with what to do about it.
pub fn no_such_file(advice: impl Into<String>) -> impl FnOnce(Error) -> Error {
    move |error| match error {
        Error::Io { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
            let cause = if path.is_symlink() { FileCause::DanglingLink } else { FileCause::NoSuchFile };
            Error::file(path, cause, advice)
        }
        other => other,
    }
}

fn refuse_special(path: &Path, found: FileType) -> Result<()> {
    if found.is_file() {
        return Ok(());
    }
    let found = if found.is_dir() { "a folder" } else { special(found) };
    Err(Error::file(path, FileCause::NotRegular { found }, "name a file"))
}

#[cfg(unix)]
fn special(found: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match () {
        () if found.is_fifo() => "a pipe",
        () if found.is_socket() => "a socket",
        () if found.is_block_device() || found.is_char_device() => "a device",
        () => "neither a file nor a folder",
    }
}

#[cfg(not(unix))]
fn special(_: FileType) -> &'static str {
    "neither a file nor a folder"
}

/// How to open for reading so that nothing is waited for.
#[cfg(unix)]
pub(super) fn without_waiting() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    // Means nothing to regular files; a pipe that replaced the file in the meantime is opened without a writer.
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    options
}

/// How to open for reading so that nothing is waited for.
#[cfg(not(unix))]
pub(super) fn without_waiting() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_and_a_larger_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, "käse").unwrap();
        assert_eq!(read_text(&path, FileKind::ShortText).unwrap(), "käse");
        std::fs::write(&path, [b'a', 0xff]).unwrap();
        assert!(read_text(&path, FileKind::ShortText).unwrap_err().to_string().contains("not UTF-8 text"));
        // Sparse: it has the length and no blocks.
        File::create(&path).unwrap().set_len(FileKind::ShortText.most_bytes() + 1).unwrap();
        assert!(read_bounded(&path, FileKind::ShortText).unwrap_err().to_string().contains("more than 1 MiB"));
        File::create(&path).unwrap().set_len(FileKind::ShortText.most_bytes()).unwrap();
        assert_eq!(read_bounded(&path, FileKind::ShortText).unwrap().len() as u64, FileKind::ShortText.most_bytes());
    }

    #[test]
    fn a_missing_file_is_told_from_others() {
        let missing = open_regular("/no/such/file").unwrap_err();
        assert!(matches!(missing, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound));
        assert!(open_regular(std::env::temp_dir()).unwrap_err().to_string().contains("is a folder"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_would_wait_or_never_end_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let link = folder.path().join("config.json");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        for (path, expected) in [(&pipe, "is a pipe"), (&socket, "is a socket"), (&link, "is a device")] {
            assert!(open_regular(path).unwrap_err().to_string().contains(expected));
            assert!(read_bounded(path, FileKind::Image).unwrap_err().to_string().contains(expected));
        }
    }
}
