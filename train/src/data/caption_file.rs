//! Reading caption files.
//!
//! Mirrors `DreamBoothDataset.read_caption` of sd-scripts 48d368f. Deliberate differences: a file of zero bytes is the empty caption
//! (there it stops the program, although the paper's recipe wants such files), a byte-order mark is skipped, and captions are not looked
//! up under the name before face coordinates.

use super::fault::DataFault;
use anyhow::{Context, Result};
use driftless::Error;
use driftless::formats::{FileKind, read_bounded};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The caption file of `image`: the same name with `extension`, which may be given with or without its dot.
pub fn path_for(image: &Path, extension: &str) -> PathBuf {
    image.with_extension(extension.trim_start_matches('.'))
}

/// Checks that `extension` cannot lead to another folder.
///
/// # Errors
/// When it holds a path separator or a zero byte.
pub fn check_extension(extension: &str) -> Result<(), DataFault> {
    let is_path = extension.contains(std::path::is_separator) || extension.contains('\0');
    if is_path { Err(DataFault::CaptionExtension { found: extension.to_owned() }) } else { Ok(()) }
}

/// The caption in the file beside `image`, or `None` when there is no such file. Without `all_lines` it is the first line,
/// trimmed; with it, all lines that are not blank.
///
/// # Errors
/// When the file is there and cannot be read, or is not UTF-8.
pub fn read(image: &Path, extension: &str, all_lines: bool) -> Result<Option<String>> {
    let path = path_for(image, extension);
    let bytes = match read_bounded(&path, FileKind::ShortText) {
        Ok(bytes) => bytes,
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("caption file"),
    };
    let Ok(text) = String::from_utf8(bytes) else {
        return Err(DataFault::CaptionNotUtf8 { path }.into());
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if all_lines {
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        return Ok(Some(lines.join("\n")));
    }
    Ok(Some(text.lines().next().unwrap_or_default().trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_empty_files_differ() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("a.b.png");
        assert_eq!(read(&image, ".txt", false).unwrap(), None);
        std::fs::write(folder.path().join("a.b.txt"), "").unwrap();
        assert_eq!(read(&image, ".txt", false).unwrap(), Some(String::new()));
        assert_eq!(read(&image, "txt", true).unwrap(), Some(String::new()));
        std::fs::write(folder.path().join("a.b.txt"), "\nsecond line").unwrap();
        assert_eq!(read(&image, "txt", false).unwrap(), Some(String::new()));
    }

    #[test]
    fn one_line_or_all() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("a.jpeg");
        std::fs::write(folder.path().join("a.caption"), "\u{feff} first \r\n\r\nsecond, ünï\r\n").unwrap();
        assert_eq!(read(&image, ".caption", false).unwrap().unwrap(), "first");
        assert_eq!(read(&image, ".caption", true).unwrap().unwrap(), "first\nsecond, ünï");
    }

    #[test]
    fn what_is_not_text_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.txt"), [0xff, 0xfe, 0x41]).unwrap();
        let message = read(&folder.path().join("a.png"), ".txt", false).unwrap_err().to_string();
        assert!(message.contains("a.txt") && message.contains("UTF-8"), "{message}");
    }
}
