//! Which features are to be drawn.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::{DType, Device};
use driftless::formats::WeightFile;
use driftless_cli::escape;
use features::stores::{AGGREGATE_KEY, Array, Feature, read_npy};

/// One feature: a file, or an entry of one.
#[derive(Clone, Debug)]
pub struct Source {
    /// The set it belongs to: the name of the input folder.
    pub set: String,
    /// Its path in the set, without extension.
    pub name: String,
    path: PathBuf,
    key: Option<String>,
}

impl Source {
    /// Reads the numbers.
    ///
    /// # Errors
    /// When the file is no feature or damaged.
    pub fn read(&self) -> Result<Array> {
        let Some(key) = &self.key else { return Ok(read_npy(&self.path)?) };
        let tensor = WeightFile::open(&self.path)?.tensor(key, &Device::Cpu)?;
        let is_half = matches!(tensor.dtype(), DType::F16 | DType::BF16);
        let shape =
            tensor.dims3().with_context(|| format!("{}: `{key}`: expected [channels, height, width]", self.path.display()))?;
        let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        Ok(Array { feature: Feature { shape: [shape.0, shape.1, shape.2], values }, is_half })
    }
}

/// What is wrong with the inputs.
#[derive(Debug, thiserror::Error)]
enum SourceFault {
    #[error("{}: no such file or folder", path.display())]
    NotFound { path: PathBuf },
    #[error("{}: no feature in this folder (looked for *.npy, *.safetensors)", folder.display())]
    NoFeature { folder: PathBuf },
    #[error("{} and {} are both `{name}` of `{set}`; give inputs of different names", files[0].display(), files[1].display())]
    SameName { files: [PathBuf; 2], name: String, set: String },
    #[error("{}: the entry `{entry}` is no layer id; give files that `extract` wrote", path.display())]
    NotALayer { path: PathBuf, entry: String },
}

/// All features of the inputs, in the inputs' order, sorted by name within each.
///
/// # Errors
/// When an input does not exist or holds no feature, or two features have the same set and name.
pub fn find(inputs: &[PathBuf]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for input in inputs {
        let (root, files) = match input.is_dir() {
            true => (input.clone(), features_below(input)?),
            false if input.is_file() => (input.parent().map_or_else(PathBuf::new, Path::to_owned), vec![input.clone()]),
            false => return Err(SourceFault::NotFound { path: input.clone() }.into()),
        };
        if files.is_empty() {
            return Err(SourceFault::NoFeature { folder: input.clone() }.into());
        }
        let set = folder_name(&root);
        for path in files {
            sources.extend(entries(&set, &root, path)?);
        }
    }
    refuse_equal_names(&sources)?;
    Ok(sources)
}

fn features_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry.with_context(|| folder.display().to_string())?;
            let path = entry.path();
            // Links are not followed into folders, which could lead in a circle.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "npy" || extension == "safetensors") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The name of a folder, of the one that `.` or `..` means too.
fn folder_name(folder: &Path) -> String {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let name = here.file_name().map(ToOwned::to_owned);
    let name = name.or_else(|| here.canonicalize().ok()?.file_name().map(ToOwned::to_owned));
    name.map_or_else(|| "features".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn entries(set: &str, root: &Path, path: PathBuf) -> Result<Vec<Source>> {
    let relative = path.strip_prefix(root).unwrap_or(&path).with_extension("");
    // Aggregated names keep dots of their own: only the last extension goes.
    let name = relative.to_string_lossy().replace('\\', "/");
    let source =
        |name: String, key: Option<String>| Source { set: harmless(set), name: harmless(&name), path: path.clone(), key };
    if path.extension().is_some_and(|extension| extension == "npy") {
        return Ok(vec![source(name, None)]);
    }
    let file = WeightFile::open(&path)?;
    let mut keys: Vec<String> = file.names().map(str::to_owned).collect();
    keys.sort();
    if let Some(odd) = keys.iter().find(|key| key.contains(['/', '\\']) || *key == "..") {
        return Err(SourceFault::NotALayer { path: path.clone(), entry: odd.clone() }.into());
    }
    let entry = |key: String| match key == AGGREGATE_KEY {
        true => source(name.clone(), Some(key)),
        false => source(format!("{name}/{key}"), Some(key)),
    };
    Ok(keys.into_iter().map(entry).collect())
}

/// A name for files and messages: keys come from strangers' files, and control characters in them act on terminals.
fn harmless(name: &str) -> String {
    let acts = |letter: char| matches!(escape::one_line(letter.encode_utf8(&mut [0; 4])), Cow::Owned(_));
    name.chars().map(|letter| if acts(letter) { '_' } else { letter }).collect()
}

fn refuse_equal_names(sources: &[Source]) -> Result<()> {
    let mut seen: BTreeMap<(&str, &str), &Path> = BTreeMap::new();
    for source in sources {
        if let Some(other) = seen.insert((&source.set, &source.name), &source.path) {
            let files = [other.to_owned(), source.path.clone()];
            return Err(SourceFault::SameName { files, name: source.name.clone(), set: source.set.clone() }.into());
        }
    }
    Ok(())
}
