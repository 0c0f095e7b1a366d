//! The images that features are of, by the names of their files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use driftless::vision::Image;
use features::inputs::find_images;

/// Image files by their name without extension.
#[derive(Debug, Default)]
pub struct Photos(BTreeMap<String, PathBuf>);

impl Photos {
    /// Those of patterns.
    ///
    /// # Errors
    /// When a pattern finds nothing.
    pub fn find(patterns: &[PathBuf]) -> Result<Self> {
        let found = find_images(patterns, true)?.paths.into_iter();
        Ok(Self(found.filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), path.clone()))).collect()))
    }

    /// The image of a feature: the file's name in any part of the feature's path, the last first.
    ///
    /// # Errors
    /// When there is one and it cannot be read.
    pub fn of(&self, feature: &str) -> Result<Option<Image>> {
        let path = feature.rsplit('/').find_map(|part| self.0.get(part));
        Ok(path.map(Image::open).transpose()?)
    }
}
