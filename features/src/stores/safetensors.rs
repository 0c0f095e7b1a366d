//! One safetensors file per image: layer ids as keys, or one key for their aggregate.

use std::path::{Path, PathBuf};

use driftless::formats::write_safetensors;

use super::{AGGREGATE_KEY, Contents, Format, OutputRule, Values, make_folder_of};

/// The format.
pub struct Safetensors;

impl Format for Safetensors {
    fn files(&self, _: &OutputRule, set: &Path, sample: &str, _: &[String]) -> Vec<PathBuf> {
        vec![file(set, sample)]
    }

    fn write(&self, rule: &OutputRule, set: &Path, sample: &str, contents: &Contents) -> driftless::Result<()> {
        let path = file(set, sample);
        make_folder_of(&path)?;
        let tensors = match &contents.values {
            Values::Joined(feature) => vec![(AGGREGATE_KEY.to_owned(), feature.tensor(rule.dtype)?)],
            Values::Layers(layers) => {
                let tensors = layers.iter().map(|(id, feature)| Ok((id.to_string(), feature.tensor(rule.dtype)?)));
                tensors.collect::<driftless::Result<Vec<_>>>()?
            }
        };
        write_safetensors(&path, tensors, contents.metadata)
    }
}

fn file(set: &Path, sample: &str) -> PathBuf {
    set.join(format!("{sample}.safetensors"))
}
