//! A network's tensors in a weight file, under diffusers' names whatever the file calls them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::Result;
use crate::formats::WeightFile;
use crate::layers::{TensorSource, missing_tensor};

/// A view of a weight file through a table of names.
pub(super) struct FileSource {
    file: Arc<WeightFile>,
    /// diffusers' name to the file's.
    names: HashMap<String, String>,
}

impl FileSource {
    /// A file that has diffusers' names.
    pub fn plain(file: WeightFile) -> Self {
        let names = file.names().map(|name| (name.to_owned(), name.to_owned())).collect();
        Self { file: Arc::new(file), names }
    }

    /// A file with names of its own.
    pub fn renamed(file: Arc<WeightFile>, names: HashMap<String, String>) -> Self {
        Self { file, names }
    }
}

impl TensorSource for FileSource {
    fn contains(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    fn tensor(&self, name: &str, _shape: &[usize], device: &Device) -> Result<Tensor> {
        let stored = self.names.get(name).ok_or_else(|| missing_tensor(self.file.path(), name))?;
        self.file.tensor(stored, device)
    }

    fn path(&self) -> PathBuf {
        self.file.path().to_owned()
    }
}
