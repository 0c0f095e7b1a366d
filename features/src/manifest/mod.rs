//! `extract.json`: what made the features of an output folder. It is written whole before the first feature, so that no later run takes
//! files for its own that other settings made: the same run goes on, another one is refused with what differs.
//!
//! Options are recorded by the rows of [`options`](crate::options), as what they came to and not as they were typed. Of models, adapters and
//! ControlNets the contents count (SHA-256 of each file), so that a folder may be moved; of images their paths and contents; of prompts,
//! adapters and condition images that each image has of its own, their contents. All of it is read once, and again only where size or
//! times say that it may have changed.

mod claim;
mod contents;
mod difference;
mod images;
mod record;

use std::collections::BTreeMap;
use std::path::Path;

use driftless::formats::{FileKind, read_bounded, write_atomically};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fault::Unusable;

pub use claim::{Claim, Entry};
pub use images::ImageRecord;
#[cfg(test)]
pub(crate) use record::set_record;
pub use record::{Described, NamedFiles};

use difference::Differences;

pub use contents::FileRecord;

pub use crate::fault::MANIFEST;

/// What is locked while it is changed.
pub const LOCK: &str = ".extract.lock";
/// The form of the file that this program reads and writes.
const FORMAT: u32 = 2;

/// A record of settings: option to value.
pub type Options = BTreeMap<String, Value>;

/// The file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of the file.
    format: u32,
    /// The program that began the folder.
    program: String,
    /// What holds for all sets.
    run: Options,
    /// By the sets' names; the set of a command line has none.
    sets: BTreeMap<String, Options>,
    /// The files whose contents were hashed, by their paths, so that they need not be read again while they are unchanged.
    files: BTreeMap<String, FileRecord>,
    /// All images, by number, then name.
    images: Vec<ImageRecord>,
}

/// What every form of the file has.
#[derive(Deserialize)]
struct Form {
    format: u32,
}

impl Manifest {
    /// The manifest of an output folder; `None` where there is none.
    ///
    /// # Errors
    /// When there is one that cannot be used.
    pub fn read(folder: &Path) -> Result<Option<Self>, Unusable> {
        let path = folder.join(MANIFEST);
        let text = match read_bounded(&path, FileKind::List) {
            Ok(text) => text,
            Err(driftless::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Form { format } = serde_json::from_slice(&text)?;
        match format {
            FORMAT => Ok(Some(serde_json::from_slice(&text)?)),
            found => Err(Unusable::Format { found, known: FORMAT }),
        }
    }

    /// The numbers of the images that the output has already, by name. They keep them, whatever comes to stand before them, since their
    /// noise is drawn from them; none where there is no manifest, or one that cannot be used, which is said when it matters.
    pub fn numbers(folder: &Path) -> BTreeMap<String, usize> {
        let images = Self::read(folder).ok().flatten().map(|manifest| manifest.images).unwrap_or_default();
        images.into_iter().map(|image| (image.name, image.number)).collect()
    }

    /// The hashes that an earlier run made, by path; none where there is no manifest.
    pub fn known(folder: &Path) -> BTreeMap<String, FileRecord> {
        Self::read(folder).ok().flatten().map(Self::into_known).unwrap_or_default()
    }

    /// The hashes that it holds, by path.
    pub fn into_known(self) -> BTreeMap<String, FileRecord> {
        let images = self.images.into_iter().flat_map(ImageRecord::into_known);
        self.files.into_iter().chain(images).collect()
    }

    /// In what `now` is another run than this one, a line each; `None` where it goes on.
    pub fn differences(&self, now: &Self) -> Option<String> {
        let differences = Differences::between(self, now, &|_| true);
        differences.is_other_run().then(|| differences.lines())
    }

    /// Writes it, whole or not at all: settings for people to read, then a line per image.
    fn write(&self, folder: &Path) -> driftless::Result<()> {
        let path = folder.join(MANIFEST);
        let text = self.text().map_err(|error| driftless::Error::io(&path)(error.into()))?;
        write_atomically(&path, |file| file.write_bytes(text.as_bytes()))
    }

    fn text(&self) -> serde_json::Result<String> {
        let head = serde_json::to_string_pretty(&Self { images: Vec::new(), ..self.clone() })?;
        let images = self.images.iter().map(serde_json::to_string).collect::<serde_json::Result<Vec<_>>>()?;
        // The empty list stands last.
        let head = head.trim_end_matches(['}', '\n', ' ', ']']);
        Ok(format!("{head}\n    {}\n  ]\n}}\n", images.join(",\n    ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Manifest::read(folder.path()).unwrap().is_none());
        for count in [0, 1, 3] {
            let image = |number: usize| ImageRecord { number, name: format!("train{number}"), ..ImageRecord::default() };
            let manifest = Manifest {
                format: FORMAT,
                program: "driftless 0".to_owned(),
                run: Options::from([("img_size".to_owned(), 64.into())]),
                sets: BTreeMap::from([("a".to_owned(), Options::from([("layer".to_owned(), serde_json::json!([]))]))]),
                files: BTreeMap::new(),
                images: (0..count).map(image).collect(),
            };
            manifest.write(folder.path()).unwrap();
            assert_eq!(Manifest::read(folder.path()).unwrap(), Some(manifest));
        }
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (text, part) in
            [("", "not what driftless wrote"), ("{}", "not what"), (r#"{"format":2}"#, "not what"), (r#"{"format":1}"#, "form 1")]
        {
            std::fs::write(folder.path().join(MANIFEST), text).unwrap();
            assert!(Manifest::read(folder.path()).unwrap_err().to_string().contains(part), "{text}");
        }
    }
}
