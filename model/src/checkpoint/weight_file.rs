//! One weight file, whatever its container: names, types and shapes at once, tensors on demand.

use super::container::{Container, detect};
use super::elements::{read_tensor, tensor_dtype};
use super::positioned::PositionedFile;
use super::safetensors::read_header;
use super::sharded;
use crate::error::{Error, Result};
use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A tensor's type and shape, known without reading its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type as stored.
    pub dtype: Dtype,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// The type in which [`WeightFile::tensor`] hands the tensor out: the stored one, float32 for float64, `None` for types of
    /// which there are no tensors.
    pub fn tensor_dtype(&self) -> Option<DType> {
        tensor_dtype(self.dtype)
    }
}

/// Where a tensor's bytes are.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Index of the open file.
    pub(super) file: usize,
    /// First byte.
    pub(super) offset: u64,
}

/// A file of named tensors, open for reading: safetensors, or the index of a sharded safetensors model. The container is told by
/// content. Nothing but names, types and shapes is in memory; [`WeightFile::tensor`] reads one tensor's bytes.
#[derive(Debug)]
pub struct WeightFile {
    path: PathBuf,
    files: Vec<PositionedFile>,
    tensors: BTreeMap<String, (TensorInfo, Place)>,
    metadata: BTreeMap<String, String>,
}

impl WeightFile {
    /// Opens a weight file and checks all that can be checked without reading tensors.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Tensor`] naming the file, and the key where there is one: missing, empty, a folder, a web page,
    /// a Git LFS pointer, truncated, another format, or inconsistent.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = PositionedFile::open(path)?;
        match detect(&file)? {
            Container::Json => sharded::open(&file),
            container => Self::from_container(file, container),
        }
    }

    /// Opens a shard: any container but an index, since an index may not lead to an index.
    pub(super) fn open_single(path: &Path) -> Result<Self> {
        let file = PositionedFile::open(path)?;
        let container = detect(&file)?;
        Self::from_container(file, container)
    }

    fn from_container(file: PositionedFile, container: Container) -> Result<Self> {
        let path = file.path();
        match container {
            Container::Safetensors { header_len } => Self::from_safetensors(file, header_len),
            Container::Json => Err(Error::file(path, "is JSON text, not weights", "name the weight file itself")),
            Container::Zip | Container::LegacyTorch => {
                Err(Error::file(path, "is a torch file, which is not read yet", "convert it to safetensors"))
            }
        }
    }

    /// Opens a sharded model by its `*.safetensors.index.json`.
    ///
    /// # Errors
    /// As [`WeightFile::open`]; also when the file is no index or when a shard is missing.
    pub fn open_sharded(index: impl AsRef<Path>) -> Result<Self> {
        sharded::open(&PositionedFile::open(index.as_ref())?)
    }

    fn from_safetensors(file: PositionedFile, header_len: u64) -> Result<Self> {
        let header = read_header(&file, header_len)?;
        let place = |begin| Place { file: 0, offset: header.data_start + begin };
        let tensors = header
            .tensors
            .into_iter()
            .map(|(key, entry)| {
                let place = place(entry.data_offsets.0);
                (key, (TensorInfo { dtype: entry.dtype, shape: entry.shape }, place))
            })
            .collect();
        Ok(Self { path: file.path().to_owned(), files: vec![file], tensors, metadata: header.metadata })
    }

    /// Makes one of the shards' tensors named in `wanted`, all of which exist.
    pub(super) fn from_shards(path: PathBuf, shards: Vec<(Self, Vec<String>)>) -> Self {
        let mut joined = Self { path, files: Vec::new(), tensors: BTreeMap::new(), metadata: BTreeMap::new() };
        for (mut shard, wanted) in shards {
            let first = joined.files.len();
            joined.files.append(&mut shard.files);
            joined.metadata.append(&mut shard.metadata);
            for key in wanted {
                if let Some((info, place)) = shard.tensors.remove(&key) {
                    joined.tensors.insert(key, (info, Place { file: first + place.file, ..place }));
                }
            }
        }
        joined
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All tensors' names, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Type and shape of a tensor, if there is one of this name.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|(info, _)| info)
    }

    /// The file's free text entries; empty for formats that have none.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Reads one tensor in its stored type (float64 as float32) onto `device`.
    ///
    /// # Errors
    /// [`Error::Tensor`] when there is no tensor of this name or its type is not supported; [`Error::File`] when the file has
    /// become shorter since it was opened.
    pub fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        let Some((info, place)) = self.tensors.get(name) else {
            return Err(Error::tensor(&self.path, name, "is missing"));
        };
        if info.tensor_dtype().is_none() {
            return Err(Error::tensor(&self.path, name, format!("type {:?} is not supported", info.dtype)));
        }
        let file = &self.files[place.file];
        let mut offset = place.offset;
        let mut next = |bytes: &mut [u8]| {
            file.read_exact_at(offset, bytes)?;
            offset += bytes.len() as u64;
            Ok(())
        };
        let unsupported = || Error::tensor(&self.path, name, format!("type {:?} is not supported", info.dtype));
        read_tensor(info.dtype, &info.shape, &mut next, device)?.ok_or_else(unsupported)
    }
}
