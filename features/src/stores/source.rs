//! Features that were written, wherever they stand: files below folders, and entries of files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use driftless::formats::WeightFile;
use driftless::taps::{LayerId, Layout};

use super::{AGGREGATE_KEY, Array, Feature, read_npy};

/// One feature: a file, or an entry of one.
#[derive(Clone, Debug)]
pub struct Source {
    /// The set it belongs to: the name of the input folder.
    pub set: String,
    /// Its path in the set, without extension, `/` between folders.
    pub name: String,
    path: PathBuf,
    key: Option<String>,
}

/// What is wrong with features that were written.
#[derive(Debug, thiserror::Error)]
pub enum SourceFault {
    /// Nothing has this name.
    #[error("{}: no such file or folder", path.display())]
    NotFound {
        /// The name.
        path: PathBuf,
    },
    /// A folder of other things.
    #[error("{}: no feature in this folder (looked for *.npy, *.safetensors)", folder.display())]
    NoFeature {
        /// The folder.
        folder: PathBuf,
    },
    /// Two features that could not be told apart.
    #[error("{} and {} are both `{name}` of `{set}`; give inputs of different names", files[0].display(), files[1].display())]
    SameName {
        /// Their files.
        files: [PathBuf; 2],
        /// The name of both.
        name: String,
        /// The set of both.
        set: String,
    },
    /// A file of tensors that are no features.
    #[error("{}: the entry `{entry}` is no layer id; give files that `extract` wrote", path.display())]
    NotALayer {
        /// The file.
        path: PathBuf,
        /// The entry.
        entry: String,
    },
    /// An entry of another shape.
    #[error("{}: `{entry}`: expected [channels, height, width], found {found:?}", path.display())]
    NotAFeature {
        /// The file.
        path: PathBuf,
        /// The entry.
        entry: String,
        /// Its shape.
        found: Vec<usize>,
    },
    /// A file that cannot be read.
    #[error(transparent)]
    Model(#[from] driftless::Error),
}

type Result<T, E = SourceFault> = std::result::Result<T, E>;

impl Source {
    /// Reads the numbers.
    ///
    /// # Errors
    /// When the file is no feature or damaged.
    pub fn read(&self) -> Result<Array> {
        let Some(key) = &self.key else { return Ok(read_npy(&self.path)?) };
        let tensor = WeightFile::open(&self.path)?.tensor(key, &Device::Cpu)?;
        let is_half = matches!(tensor.dtype(), DType::F16 | DType::BF16);
        let &[channels, height, width] = tensor.dims() else {
            let fault = SourceFault::NotAFeature { path: self.path.clone(), entry: key.clone(), found: tensor.dims().to_vec() };
            return Err(fault);
        };
        let values =
            tensor.to_dtype(DType::F32).and_then(|tensor| tensor.flatten_all()?.to_vec1()).map_err(driftless::Error::from)?;
        Ok(Array { feature: Feature { shape: [channels, height, width], values }, is_half })
    }

    /// The layer that it is of, by its name or by the folders that it stands in, the innermost first. An aggregate is of none.
    pub fn layer(&self, layers: &LayerNames) -> Option<String> {
        let of_path = || self.path.components().rev().find_map(|part| layers.split(part.as_os_str().to_str()?).0);
        layers.split(&self.name).0.or_else(of_path)
    }

    /// The file that it stands in.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// All features of the inputs, files and folders, in the inputs' order, sorted by name within each.
///
/// # Errors
/// When an input does not exist or holds no feature.
pub fn find_features(inputs: &[PathBuf]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for input in inputs {
        let (root, files) = match input.is_dir() {
            true => (input.clone(), features_below(input)?),
            false if input.is_file() => (input.parent().map_or_else(PathBuf::new, Path::to_owned), vec![input.clone()]),
            false => return Err(SourceFault::NotFound { path: input.clone() }),
        };
        if files.is_empty() {
            return Err(SourceFault::NoFeature { folder: input.clone() });
        }
        let set = folder_name(&root);
        for path in files {
            sources.extend(entries(&set, &root, path)?);
        }
    }
    Ok(sources)
}

/// Refuses features of the same set and name.
///
/// # Errors
/// When there are such.
pub fn refuse_equal_names(sources: &[Source]) -> Result<()> {
    let mut seen: BTreeMap<(&str, &str), &Path> = BTreeMap::new();
    for source in sources {
        if let Some(other) = seen.insert((&source.set, &source.name), &source.path) {
            let files = [other.to_owned(), source.path.clone()];
            return Err(SourceFault::SameName { files, name: source.name.clone(), set: source.set.clone() });
        }
    }
    Ok(())
}

fn features_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let wrong = || driftless::Error::io(&folder);
        for entry in std::fs::read_dir(&folder).map_err(wrong())? {
            let entry = entry.map_err(wrong())?;
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
    let source = |name: String, key: Option<String>| Source { set: set.to_owned(), name, path: path.clone(), key };
    if path.extension().is_some_and(|extension| extension == "npy") {
        return Ok(vec![source(name, None)]);
    }
    let file = WeightFile::open(&path)?;
    let mut keys: Vec<String> = file.names().map(str::to_owned).collect();
    keys.sort();
    if let Some(odd) = keys.iter().find(|key| key.contains(['/', '\\']) || *key == "..") {
        return Err(SourceFault::NotALayer { path: path.clone(), entry: odd.clone() });
    }
    let entry = |key: String| match key == AGGREGATE_KEY {
        true => source(name.clone(), Some(key)),
        false => source(format!("{name}/{key}"), Some(key)),
    };
    Ok(keys.into_iter().map(entry).collect())
}

/// The ids of layers, which are components of features' names.
pub struct LayerNames(BTreeSet<String>);

impl LayerNames {
    /// Those of UNets with the levels of Stable Diffusion, whatever their widths.
    pub fn of_stable_diffusion() -> Self {
        let ids = Layout::stable_diffusion_1_5().ids().into_iter().chain([LayerId::VaeOut, LayerId::Attn]);
        Self(ids.map(|id| id.to_string()).collect())
    }

    /// The layer that a feature is of, and what is left of its name: the image. An aggregate is of no layer.
    pub fn split(&self, name: &str) -> (Option<String>, String) {
        let mut rest: Vec<&str> = name.split('/').collect();
        let layer = rest.iter().position(|component| self.0.contains(*component)).map(|place| rest.remove(place).to_owned());
        (layer, rest.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_a_layer_and_an_image() {
        let names = LayerNames::of_stable_diffusion();
        let split = |name| names.split(name);
        let layer = Some("mid-vit-out".to_owned());
        assert_eq!(split("mid-vit-out/train0"), (layer.clone(), "train0".to_owned()));
        assert_eq!(split("town/x/mid-vit-out"), (layer.clone(), "town/x".to_owned()));
        assert_eq!(split("mid-vit-out/town/x"), (layer, "town/x".to_owned()));
        assert_eq!(split("town/x"), (None, "town/x".to_owned()));
    }
}
