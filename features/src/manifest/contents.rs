//! What files hold, by their SHA-256. A file is read once: while its path, size and times are those of the record, so is its hash. A file of
//! a hub's cache is named by its hash, which was compared when it was downloaded.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::Read;
use std::path::{Path, PathBuf};

use driftless::formats::{FileKind, open_regular};
use driftless::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// A file as it was when it was hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    bytes: u64,
    /// When its contents, and where the system tells it anything else about it, were last changed: nanoseconds since 1970.
    changed: String,
    sha256: String,
}

impl FileRecord {
    /// Whether two files hold the same, whenever and wherever they were written.
    pub fn holds_the_same(&self, other: &Self) -> bool {
        self.sha256 == other.sha256
    }

    /// A file that holds what has this hash.
    #[cfg(test)]
    pub fn holding(hash: &str) -> Self {
        Self { bytes: 0, changed: String::new(), sha256: hash.to_owned() }
    }
}

/// Hashes of files, those known from an earlier run included.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    known: BTreeMap<String, FileRecord>,
    used: BTreeMap<String, FileRecord>,
}

impl Contents {
    /// With what an earlier run knew.
    pub fn knowing(known: BTreeMap<String, FileRecord>) -> Self {
        Self { known, used: BTreeMap::new() }
    }

    /// The files that were asked for.
    pub fn used(self) -> BTreeMap<String, FileRecord> {
        self.used
    }

    /// Hashes by name, of files with names.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn of_files(&mut self, files: &[(String, PathBuf)]) -> Result<Value> {
        let hashes = files.iter().map(|(name, path)| Ok((name.clone(), Value::String(self.of_file(path)?))));
        Ok(Value::Object(hashes.collect::<Result<Map<_, _>>>()?))
    }

    /// A file's hash; of a folder, as adapters can be, one hash of the files in it and their names.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of_path(&mut self, path: &Path) -> Result<String> {
        if !path.is_dir() {
            return self.of_file(path);
        }
        let mut whole = Sha256::new();
        let mut files = Vec::new();
        files_below(path, 2, &mut files)?;
        files.sort();
        for file in files {
            let name = file.strip_prefix(path).unwrap_or(&file);
            whole.update(name.to_string_lossy().as_bytes());
            whole.update([0]);
            whole.update(self.of_file(&file)?);
        }
        Ok(hex(whole))
    }

    fn of_file(&mut self, path: &Path) -> Result<String> {
        let place = std::path::absolute(path).map_err(Error::io(path))?.to_string_lossy().into_owned();
        if let Some(record) = self.used.get(&place) {
            return Ok(record.sha256.clone());
        }
        let metadata = std::fs::metadata(path).map_err(Error::io(path))?;
        let record = self.record(path, &place, &metadata)?;
        let sha256 = record.sha256.clone();
        self.used.insert(place, record);
        Ok(sha256)
    }

    /// The record of an image, which stands with the image and not among the files; `place` is its path from the root. `None` for what
    /// cannot be read as one, which reading it will say.
    pub fn of_image(&self, path: &Path, place: &str) -> Option<FileRecord> {
        let metadata = std::fs::metadata(path).ok().filter(|metadata| metadata.len() <= FileKind::Image.most_bytes())?;
        self.record(path, place, &metadata).ok()
    }

    fn record(&self, path: &Path, place: &str, metadata: &Metadata) -> Result<FileRecord> {
        let (bytes, changed) = (metadata.len(), changed(metadata));
        let known = self.known.get(place).filter(|known| known.bytes == bytes && known.changed == changed);
        let sha256 = match known {
            Some(known) => known.sha256.clone(),
            None => match named_by_its_hash(path) {
                Some(hash) => hash,
                None => hash_of(path)?,
            },
        };
        Ok(FileRecord { bytes, changed, sha256 })
    }
}

fn files_below(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        match path.is_dir() {
            true if depth > 1 => files_below(&path, depth - 1, found)?,
            true => {}
            false => found.push(path),
        }
    }
    Ok(())
}

/// Times that move when a file is written.
fn changed(metadata: &Metadata) -> String {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let modified = modified.map_or_else(String::new, |since| since.as_nanos().to_string());
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        // Nobody sets this one back, as copying programs do the other.
        format!("{modified}/{}.{:09}", metadata.ctime(), metadata.ctime_nsec())
    }
    #[cfg(not(unix))]
    modified
}

/// The name of a file in a hub's cache, `blobs/SHA-256`.
fn named_by_its_hash(path: &Path) -> Option<String> {
    let real = path.canonicalize().ok()?;
    let name = real.file_name()?.to_str()?;
    let is_hash = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let is_blob = real.parent()?.file_name()? == "blobs";
    (is_hash && is_blob).then(|| name.to_owned())
}

fn hash_of(path: &Path) -> Result<String> {
    let mut file = open_regular(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece).map_err(Error::io(path))? {
            0 => return Ok(hex(hash)),
            bytes => hash.update(&piece[..bytes]),
        }
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first half of a text's hash: enough to see that it is another, short enough to stand with each image.
pub fn short_hash(text: &[u8]) -> String {
    let mut hash = hex(Sha256::new_with_prefix(text));
    hash.truncate(32);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_holds_counts_and_not_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        };
        let mut contents = Contents::default();
        let (a, b) = (file("a", "abc"), file("x/b", "abc"));
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!([contents.of_path(&a).unwrap(), contents.of_path(&b).unwrap()], [known, known]);
        let both = contents.of_files(&[("one".to_owned(), a.clone()), ("two".to_owned(), b)]).unwrap();
        assert_eq!(both["one"], known);
        // The record answers for a file that has not changed, and not for one that has.
        let mut used = contents.used();
        used.get_mut(a.to_str().unwrap()).unwrap().sha256 = "remembered".to_owned();
        assert_eq!(Contents::knowing(used.clone()).of_path(&a).unwrap(), "remembered");
        std::fs::write(&a, "abd").unwrap();
        assert_ne!(Contents::knowing(used.clone()).of_path(&a).unwrap(), "remembered");
        std::fs::write(&a, "abcd").unwrap();
        assert_ne!(Contents::knowing(used).of_path(&a).unwrap(), "remembered");
        let folder_hash = |folder: &Path| Contents::default().of_path(folder).unwrap();
        let before = folder_hash(folder.path());
        file("x/b", "abx");
        assert_ne!(before, folder_hash(folder.path()));
    }

    #[test]
    fn a_hubs_files_are_named_by_their_hashes() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = folder.path().join("blobs");
        std::fs::create_dir(&blobs).unwrap();
        let name = "0123456789abcdef".repeat(4);
        std::fs::write(blobs.join(&name), "x").unwrap();
        assert_eq!(Contents::default().of_path(&blobs.join(&name)).unwrap(), name);
        std::fs::write(folder.path().join(&name), "x").unwrap();
        assert_ne!(Contents::default().of_path(&folder.path().join(&name)).unwrap(), name);
    }
}
