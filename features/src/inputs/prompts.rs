//! The prompt of each image, and other files that go with one image each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use driftless::formats::{FileKind, read_bounded};

use super::folder::with_folder;
use super::names::original_name;
use super::table::PromptTable;
use super::{Sample, is_image};
use crate::fault::{Fault, FaultCause, InputFault};

/// Where prompts come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PromptSource {
    /// One text; `{folder}` in it stands for the name of an image's folder.
    Text(String),
    /// A text file per image, by its name.
    Captions(Companions),
    /// A table with a text per image.
    Table(PromptTable),
}

/// A prompt, and whether other images may have it too (then what is computed from it is worth keeping).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// The text as written.
    pub text: String,
    /// Whether it is no image's own.
    pub shared: bool,
}

impl PromptSource {
    /// The prompt of a file, whole: its line end included, as the original reads it.
    ///
    /// # Errors
    /// When the file is missing or is no text.
    pub fn from_file(path: &Path) -> Result<Self, Fault> {
        read_text(path).map(Self::Text).map_err(|cause| Fault::failure(InputFault::PromptFile { cause: Box::new(cause) }))
    }

    /// Fails for images that have no prompt.
    ///
    /// # Errors
    /// Naming the first images without a caption.
    pub fn check(&self, samples: &[Sample]) -> Result<(), Fault> {
        match self {
            Self::Text(text) => samples.iter().try_for_each(|sample| with_folder(text, sample).map(drop)),
            Self::Captions(captions) => captions.check(samples),
            Self::Table(table) => table.check(samples),
        }
    }

    /// The prompt of an image.
    ///
    /// # Errors
    /// When the caption file is no longer there or is no text.
    pub fn prompt(&self, sample: &Sample) -> Result<Prompt, Fault> {
        let missing = |missing| Fault::failure(InputFault::NoPrompt { missing, image: sample.path.clone() });
        match self {
            Self::Text(text) => Ok(Prompt { text: with_folder(text, sample)?, shared: true }),
            Self::Table(table) => {
                let text = table.prompt(sample).ok_or_else(|| missing("prompt"))?;
                Ok(Prompt { text: text.to_owned(), shared: false })
            }
            Self::Captions(captions) => {
                let path = captions.file(sample).ok_or_else(|| missing("caption"))?;
                Ok(Prompt { text: read_text(path).map_err(Fault::failure)?, shared: false })
            }
        }
    }
}

fn read_text(path: &Path) -> Result<String, FaultCause> {
    // Its own error names the file.
    let bytes = read_bounded(path, FileKind::ShortText)?;
    let not_text = || FaultCause::File { path: path.to_owned(), cause: Box::new(InputFault::PromptNotUtf8.into()) };
    String::from_utf8(bytes).map_err(|_| not_text())
}

/// A folder with a file for each image: captions `NAME.txt`, condition images `NAME.png`. NAME is the image's file name without its
/// extension, behind its parent folder's name if outputs are nested.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Companions {
    folder: PathBuf,
    nested: bool,
    /// `NAME` to the file.
    files: BTreeMap<String, PathBuf>,
    /// What one of the files is called in messages.
    companion: &'static str,
}

impl Companions {
    /// The captions in a folder.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn captions(folder: &Path, nested: bool) -> Result<Self, Fault> {
        Self::read(folder, nested, "caption NAME.txt", |path| path.extension().is_some_and(|extension| extension == "txt"))
    }

    /// The condition images in a folder.
    ///
    /// # Errors
    /// When the folder cannot be read, or two images in it have one name.
    pub fn images(folder: &Path, nested: bool) -> Result<Self, Fault> {
        Self::read(folder, nested, "condition image NAME.png", is_image)
    }

    fn read(folder: &Path, nested: bool, companion: &'static str, accept: impl Fn(&Path) -> bool + Copy) -> Result<Self, Fault> {
        let mut files = BTreeMap::new();
        for path in files_in(folder, usize::from(nested))?.into_iter().filter(|path| accept(path)) {
            let inside = path.parent().is_some_and(|parent| parent != folder);
            let name = original_name(&path, nested && inside)?;
            if let Some(other) = files.insert(name, path.clone()) {
                return Err(Fault::failure(InputFault::SameImage { files: [other, path] }));
            }
        }
        Ok(Self { folder: folder.to_owned(), nested, files, companion })
    }

    /// The file of an image.
    pub fn file(&self, sample: &Sample) -> Option<&Path> {
        let name = original_name(&sample.path, self.nested).ok()?;
        self.files.get(&name).map(PathBuf::as_path)
    }

    /// Fails for images that have none.
    ///
    /// # Errors
    /// Naming the first of them.
    pub fn check(&self, samples: &[Sample]) -> Result<(), Fault> {
        let missing: Vec<&Sample> = samples.iter().filter(|sample| self.file(sample).is_none()).collect();
        let Some(first) = missing.first() else { return Ok(()) };
        let (count, all, first) = (missing.len(), samples.len(), first.path.clone());
        Err(Fault::of_file(&self.folder, InputFault::Missing { missing: self.companion, count, all, first }))
    }
}

/// The files in a folder, and `depth` folders deep below it.
fn files_in(folder: &Path, depth: usize) -> Result<Vec<PathBuf>, Fault> {
    let unreadable = |error: std::io::Error| Fault::of_file(folder, error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_file() {
            found.push(path);
        } else if depth > 0 && path.is_dir() {
            found.extend(files_in(&path, depth - 1)?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(path: &str) -> Sample {
        Sample { index: 0, number: 0, path: path.into(), name: "train0".to_owned() }
    }

    #[test]
    fn a_folders_name_in_the_text() {
        let source = PromptSource::Text("a photo of a {folder}, {high}".to_owned());
        let prompt = source.prompt(&sample("animals/cat/x.png")).unwrap();
        assert_eq!(prompt, Prompt { text: "a photo of a cat, {high}".to_owned(), shared: true });
        assert!(source.check(&[sample("/x.png")]).unwrap_err().to_string().contains("{folder}"));
    }

    #[test]
    fn captions_by_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.txt"), "a cat\n").unwrap();
        std::fs::write(folder.path().join("b.md"), "no caption").unwrap();
        let source = PromptSource::Captions(Companions::captions(folder.path(), false).unwrap());
        assert_eq!(source.prompt(&sample("x/a.png")).unwrap(), Prompt { text: "a cat\n".to_owned(), shared: false });
        source.check(&[sample("x/a.png")]).unwrap();
        let message = source.check(&[sample("x/a.png"), sample("x/b.png")]).unwrap_err().to_string();
        assert!(message.contains("1 of 2 images have no caption") && message.contains("x/b.png"), "{message}");
    }

    #[test]
    fn nested_companions() {
        let folder = tempfile::tempdir().unwrap();
        for place in ["a", "b"] {
            std::fs::create_dir(folder.path().join(place)).unwrap();
            std::fs::write(folder.path().join(place).join("x.png"), place).unwrap();
        }
        let companions = Companions::images(folder.path(), true).unwrap();
        assert!(companions.file(&sample("images/b/x.jpg")).unwrap().ends_with("b/x.png"));
        assert!(companions.file(&sample("images/c/x.jpg")).is_none());
        std::fs::write(folder.path().join("a/x.webp"), "").unwrap();
        assert!(Companions::images(folder.path(), true).unwrap_err().to_string().contains("same image"));
    }

    #[test]
    fn a_missing_prompt_file_says_what_to_do() {
        let message = PromptSource::from_file(Path::new("no/such/prompt.txt")).unwrap_err().to_string();
        assert!(message.contains("--prompt TEXT"), "{message}");
    }
}
