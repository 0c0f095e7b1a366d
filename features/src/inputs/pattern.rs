//! Patterns of paths as Python's `glob` reads them: `*`, `?` and `[...]` within a name, `**` for all folders below, hidden names passed over
//! unless the pattern spells the dot. Names need not be Unicode.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use walkdir::{DirEntry, WalkDir};

use crate::fault::InputFault;

/// What a pattern matched.
#[derive(Debug, Default)]
pub struct Matches {
    /// Files and folders, each once, in no particular order.
    pub paths: BTreeSet<PathBuf>,
    /// Folders that could not be read, with the reasons.
    pub unreadable: BTreeSet<String>,
}

/// One name of a pattern.
enum Part {
    /// Itself.
    Name(OsString),
    /// Names with wildcards; `hidden` if names that begin with a dot are meant.
    Wild { matcher: GlobMatcher, hidden: bool },
    /// `**`: this folder and all below.
    Folders,
}

/// Everything that a pattern matches.
///
/// # Errors
/// When the pattern is malformed. Folders that cannot be read are listed in the result.
pub fn matches(pattern: &Path) -> Result<Matches, InputFault> {
    let mut parts: Vec<Part> = Vec::new();
    for component in pattern.components() {
        let part = match component {
            Component::Normal(name) => part(name)?,
            other => Part::Name(other.as_os_str().to_owned()),
        };
        // `**/**` is `**`; walking both would be quadratic in the number of folders.
        if !matches!((&part, parts.last()), (Part::Folders, Some(Part::Folders))) {
            parts.push(part);
        }
    }
    if matches!(parts.last(), Some(Part::Folders)) {
        parts.push(part(OsStr::new("*"))?);
    }
    let mut matches = Matches::default();
    matches.expand(PathBuf::new(), &parts);
    Ok(matches)
}

fn part(name: &OsStr) -> Result<Part, InputFault> {
    if name == "**" {
        return Ok(Part::Folders);
    }
    if !name.as_encoded_bytes().iter().any(|byte| b"*?[".contains(byte)) {
        return Ok(Part::Name(name.to_owned()));
    }
    let text = name.to_str().ok_or(InputFault::WildNotUtf8)?;
    if text.contains("**") {
        return Err(InputFault::Recursive);
    }
    let glob = GlobBuilder::new(&without_braces(text)).backslash_escape(false).build()?;
    Ok(Part::Wild { matcher: glob.compile_matcher(), hidden: text.starts_with('.') })
}

/// Braces are letters to Python, and choices to the library.
fn without_braces(text: &str) -> String {
    let mut inside = false;
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '{' | '}' if !inside => plain.extend(['[', letter, ']']),
            _ => plain.push(letter),
        }
        inside = (inside || letter == '[') && letter != ']';
    }
    plain
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// A folder for the system; the empty path is the current one.
fn folder(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

impl Matches {
    fn expand(&mut self, base: PathBuf, parts: &[Part]) {
        let Some((part, rest)) = parts.split_first() else {
            if base.symlink_metadata().is_ok() {
                self.paths.insert(base);
            }
            return;
        };
        match part {
            Part::Name(name) => self.expand(base.join(name), rest),
            Part::Wild { matcher, hidden } => {
                let names = self.names(&base);
                for name in names.iter().filter(|name| (*hidden || !is_hidden(name)) && matcher.is_match(Path::new(name))) {
                    let path = base.join(name);
                    // A file has nothing below it.
                    if rest.is_empty() || path.is_dir() {
                        self.expand(path, rest);
                    }
                }
            }
            Part::Folders => {
                for below in self.folders(&base) {
                    self.expand(below, rest);
                }
            }
        }
    }

    fn names(&mut self, base: &Path) -> Vec<OsString> {
        let read = std::fs::read_dir(folder(base)).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
        read.unwrap_or_else(|error| {
            // What is not there matches nothing.
            if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
                self.unreadable.insert(format!("{}: {error}", folder(base).display()));
            }
            Vec::new()
        })
    }

    /// A folder and all below it, links followed as far as they do not lead back.
    fn folders(&mut self, base: &Path) -> Vec<PathBuf> {
        let wanted = |entry: &DirEntry| entry.file_type().is_dir() && (entry.depth() == 0 || !is_hidden(entry.file_name()));
        let mut found = Vec::new();
        for entry in WalkDir::new(folder(base)).follow_links(true).into_iter().filter_entry(wanted) {
            match entry {
                Ok(entry) if base.as_os_str().is_empty() => {
                    found.extend(entry.path().strip_prefix(".").map(Path::to_owned));
                }
                Ok(entry) => found.push(entry.into_path()),
                Err(error) if error.loop_ancestor().is_some() => {}
                Err(error) => {
                    let kind = error.io_error().map(std::io::Error::kind);
                    if !matches!(kind, Some(ErrorKind::NotFound | ErrorKind::NotADirectory)) {
                        let place = error.path().unwrap_or(base).display().to_string();
                        let cause = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
                        self.unreadable.insert(format!("{place}: {cause}"));
                    }
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_letters() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a{1}.png", "a1.png", "b]{.png"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let count = |pattern: &str| matches(&folder.path().join(pattern)).unwrap().paths.len();
        assert_eq!((count("a{1}*"), count("a{1,2}*"), count("b[]][{]*"), count("[!b]*")), (1, 0, 1, 2));
        assert!(
            matches(Path::new("a/***")).is_err() && matches(Path::new("a**/b")).is_err() && matches(Path::new("[a")).is_err()
        );
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_no_text_and_links_that_lead_back() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join(OsStr::from_bytes(b"x\xff.png")), "").unwrap();
        std::fs::write(deep.join("y.png"), "").unwrap();
        std::os::unix::fs::symlink(folder.path().join("a"), deep.join("back")).unwrap();
        for pattern in ["**/*.png", "a/**/**/*.png", "*/b/*.png", "a/**"] {
            let found = matches(&folder.path().join(pattern)).unwrap();
            let files = found.paths.iter().filter(|path| path.is_file()).count();
            assert_eq!((files, found.unreadable.len()), (2, 0), "{pattern}: {found:?}");
        }
    }
}
