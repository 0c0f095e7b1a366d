//! Where features are written, and in which format.
//!
//! The layouts are the original's; the one that it cannot write (nested names without `--aggregate_output` or `--sample_name_first`)
//! becomes `OUT/LAYER/PARENT/NAME.npy`, and no empty folders are left beside numbered names.

mod aggregate;
mod choices;
mod feature;
mod npy;
mod safetensors;
mod source;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::DType;
use driftless::taps::LayerId;

pub use aggregate::{aggregate, aggregated_size};
pub use choices::{OutputFormat, OutputPrecision};
pub use feature::{Feature, ImageFeatures, group_of, image_of_batch, is_pooled, split_batch};
pub use npy::{Array, read_npy, write_npy};
pub use source::{LayerNames, Source, SourceFault, find_features, refuse_equal_names};

/// The key of an aggregated feature in a safetensors file.
pub const AGGREGATE_KEY: &str = "aggregate";

/// Where features go.
#[derive(Clone, Debug)]
pub struct OutputRule {
    /// The output folder.
    pub dir: PathBuf,
    /// One file per image: all layers joined.
    pub aggregate: bool,
    /// `NAME/LAYER` instead of `LAYER/NAME`.
    pub sample_name_first: bool,
    /// Element type: float16 or float32.
    pub dtype: DType,
    /// Format of the files.
    pub format: OutputFormat,
}

impl OutputRule {
    /// The folder of a set.
    pub fn set_dir(&self, set: Option<&str>) -> PathBuf {
        set.map_or_else(|| self.dir.clone(), |set| self.dir.join(set))
    }

    /// The files of an image in a set.
    pub fn files(&self, set: Option<&str>, sample: &str, layers: &[LayerId]) -> Vec<PathBuf> {
        self.files_named(set, sample, &layers.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    /// The same with the names of the layers.
    pub fn files_named(&self, set: Option<&str>, sample: &str, layers: &[String]) -> Vec<PathBuf> {
        self.format().files(self, &self.set_dir(set), sample, layers)
    }

    /// Whether all files of an image are there.
    pub fn is_done(&self, set: Option<&str>, sample: &str, layers: &[LayerId]) -> bool {
        self.files(set, sample, layers).iter().all(|file| file.is_file())
    }

    /// Writes an image's features, in the order of the store.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, set: Option<&str>, sample: &str, features: &[(LayerId, Feature)]) -> driftless::Result<()> {
        self.write_with(set, sample, features, &BTreeMap::new())
    }

    /// The same with metadata, for formats that can hold it.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_with(
        &self,
        set: Option<&str>,
        sample: &str,
        features: &[(LayerId, Feature)],
        metadata: &BTreeMap<String, String>,
    ) -> driftless::Result<()> {
        let joined = self.aggregate.then(|| aggregate(features));
        let values = joined.as_ref().map_or(Values::Layers(features), Values::Joined);
        self.format().write(self, &self.set_dir(set), sample, &Contents { values, metadata })
    }

    fn format(&self) -> &'static dyn Format {
        match self.format {
            OutputFormat::Npy => &npy::Npy,
            OutputFormat::Safetensors => &safetensors::Safetensors,
        }
    }
}

/// What is written about an image in a set.
struct Contents<'a> {
    values: Values<'a>,
    /// What made it, for formats that can hold it.
    metadata: &'a BTreeMap<String, String>,
}

enum Values<'a> {
    /// Its layers, in the order of the store.
    Layers(&'a [(LayerId, Feature)]),
    /// All of them in one.
    Joined(&'a Feature),
}

/// A file format: which files an image has, and how they are written. `set` is the folder of the set.
trait Format {
    /// The files of an image with these layers.
    fn files(&self, rule: &OutputRule, set: &Path, sample: &str, layers: &[String]) -> Vec<PathBuf>;

    /// Writes them, each whole or not at all.
    fn write(&self, rule: &OutputRule, set: &Path, sample: &str, contents: &Contents) -> driftless::Result<()>;
}

fn make_folder_of(path: &Path) -> driftless::Result<()> {
    match path.parent() {
        Some(folder) => std::fs::create_dir_all(folder).map_err(driftless::Error::io(folder)),
        None => Ok(()),
    }
}

/// A committed fixture, made by the scripts in tests/reference.
#[cfg(test)]
pub fn fixture(name: &str) -> serde_json::Value {
    let path = format!("{}/../tests/fixtures/extract/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[cfg(test)]
impl Feature {
    /// `{"shape": [c, h, w], "values": [...]}`.
    pub(crate) fn from_json(value: &serde_json::Value) -> Self {
        let shape: Vec<usize> = serde_json::from_value(value["shape"].clone()).unwrap();
        Self { shape: shape.try_into().unwrap(), values: serde_json::from_value(value["values"].clone()).unwrap() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(aggregate: bool, sample_name_first: bool, format: OutputFormat) -> OutputRule {
        OutputRule { dir: "OUT".into(), aggregate, sample_name_first, dtype: DType::F16, format }
    }

    #[test]
    fn layouts_of_the_original() {
        let first = |rule: &OutputRule, name| rule.files(None, name, &[LayerId::UnetIn])[0].to_str().unwrap().to_owned();
        let npy = |aggregate, sample_first, name| first(&rule(aggregate, sample_first, OutputFormat::Npy), name);
        assert_eq!(npy(false, false, "train0"), "OUT/unet-in/train0.npy");
        assert_eq!(npy(false, true, "train0"), "OUT/train0/unet-in.npy");
        assert_eq!(npy(true, false, "train0"), "OUT/train0.npy");
        assert_eq!(npy(true, true, "x.y"), "OUT/x.y.npy");
        assert_eq!(npy(true, false, "town/x"), "OUT/town/x.npy");
        assert_eq!(npy(false, true, "town/x"), "OUT/town/x/unet-in.npy");
        assert_eq!(npy(false, false, "town/x"), "OUT/unet-in/town/x.npy");
        assert_eq!(first(&rule(false, false, OutputFormat::Safetensors), "x.y"), "OUT/x.y.safetensors");
    }

    #[test]
    fn an_image_is_done_when_all_its_files_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let rule = OutputRule { dir: folder.path().to_owned(), ..rule(false, true, OutputFormat::Npy) };
        let layers = [LayerId::UnetIn, LayerId::UnetOut];
        let feature = Feature { shape: [1, 1, 1], values: vec![1.0] };
        rule.write(Some("set"), "a", &[(LayerId::UnetIn, feature.clone())]).unwrap();
        assert!(!rule.is_done(Some("set"), "a", &layers));
        rule.write(Some("set"), "a", &[(LayerId::UnetOut, feature)]).unwrap();
        assert!(rule.is_done(Some("set"), "a", &layers) && !rule.is_done(None, "a", &layers));
        assert!(folder.path().join("set/a/unet-out.npy").is_file());
    }

    #[test]
    fn one_safetensors_file_per_image() {
        let folder = tempfile::tempdir().unwrap();
        let rule = OutputRule { dir: folder.path().to_owned(), ..rule(false, false, OutputFormat::Safetensors) };
        let feature = |value| Feature { shape: [1, 1, 2], values: vec![value; 2] };
        rule.write(None, "a", &[(LayerId::UnetIn, feature(1.0)), (LayerId::UnetOut, feature(2.0))]).unwrap();
        let file = driftless::formats::WeightFile::open(folder.path().join("a.safetensors")).unwrap();
        let tensor = file.tensor("unet-out", &candle_core::Device::Cpu).unwrap();
        assert_eq!((tensor.dims(), tensor.dtype()), ([1, 1, 2].as_slice(), DType::F16));
    }
}
