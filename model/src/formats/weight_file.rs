//! One weight file, whatever its container: names, types and shapes at once, tensors on demand.

use super::container::{Container, detect};
use super::elements::{element_size, number, tensor_dtype};
use super::location::{self, Location, Record};
use super::pickle::{self, Contents, Other};
use super::positioned::PositionedFile;
use super::safetensors::{Entry, read_header};
use super::sharded;
use crate::error::{Error, Result, TensorCause, WeightFileCause};
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

/// A file of named tensors, open for reading: safetensors, the index of a sharded safetensors model, or a torch file (zip or
/// legacy). The container is told by content. Nothing but names, types and shapes is in memory; [`WeightFile::tensor`] reads one
/// tensor's bytes.
#[derive(Debug)]
pub struct WeightFile {
    path: PathBuf,
    format: Format,
    files: Vec<PositionedFile>,
    tensors: BTreeMap<String, (TensorInfo, Location)>,
    metadata: BTreeMap<String, String>,
    /// Entries of a pickled dictionary that are no tensors.
    others: BTreeMap<String, Other>,
    /// Checksums of torch files.
    records: Vec<Record>,
}

/// A container of tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One safetensors file.
    Safetensors,
    /// Several files with an index.
    Sharded,
    /// torch's zip file (1.6 and later).
    TorchZip,
    /// torch's stream of pickles (before 1.6).
    TorchLegacy,
}

impl std::fmt::Display for Format {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Safetensors => "safetensors",
            Self::Sharded => "sharded",
            Self::TorchZip => "torch (zip)",
            Self::TorchLegacy => "torch (legacy)",
        })
    }
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
        match container {
            Container::Safetensors { header_len } => Self::from_safetensors(file, header_len),
            Container::Json => Err(Error::file(file.path(), WeightFileCause::JsonText, "name the weight file itself")),
            Container::Zip => Self::from_torch(file, container, Format::TorchZip),
            Container::LegacyTorch => Self::from_torch(file, container, Format::TorchLegacy),
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
        let located = |entry: Entry| {
            let location = Location { file: 0, offset: header.data_start + entry.data_offsets.0, strides: None, record: None };
            (TensorInfo { dtype: entry.dtype, shape: entry.shape }, location)
        };
        let tensors = header.tensors.into_iter().map(|(key, entry)| (key, located(entry))).collect();
        let (others, records) = (BTreeMap::new(), Vec::new());
        let (path, format) = (file.path().to_owned(), Format::Safetensors);
        Ok(Self { path, format, files: vec![file], tensors, metadata: header.metadata, others, records })
    }

    fn from_torch(file: PositionedFile, container: Container, format: Format) -> Result<Self> {
        let Contents { tensors, others, records } = pickle::open(&file, container)?;
        Ok(Self { path: file.path().to_owned(), format, files: vec![file], tensors, metadata: BTreeMap::new(), others, records })
    }

    /// Makes one of the shards' tensors named beside them, all of which exist.
    pub(super) fn from_shards(path: PathBuf, shards: Vec<(Self, Vec<String>)>) -> Self {
        let mut joined = Self {
            path,
            format: Format::Sharded,
            files: Vec::new(),
            tensors: BTreeMap::new(),
            metadata: BTreeMap::new(),
            others: BTreeMap::new(),
            records: Vec::new(),
        };
        for (mut shard, wanted) in shards {
            let (first_file, first_record) = (joined.files.len(), joined.records.len());
            joined.files.append(&mut shard.files);
            joined.metadata.append(&mut shard.metadata);
            joined.records.extend(shard.records.into_iter().map(|record| Record { file: first_file + record.file, ..record }));
            for key in wanted {
                if let Some((info, mut location)) = shard.tensors.remove(&key) {
                    location.file += first_file;
                    location.record = location.record.map(|record| first_record + record);
                    joined.tensors.insert(key, (info, location));
                }
            }
        }
        joined
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files that hold tensors: this one, or the shards.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PositionedFile::path)
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

    /// The container that the tensors are in.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Entries that are no tensors (pickles can hold anything harmless), each with what it is in words; sorted.
    pub fn not_tensors(&self) -> impl Iterator<Item = (&str, &str)> {
        self.others.iter().map(|(name, other)| (name.as_str(), other.kind))
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
        let Some((info, location)) = self.tensors.get(name) else {
            return Err(Error::tensor(&self.path, name, TensorCause::Missing));
        };
        if info.tensor_dtype().is_none() {
            return Err(Error::tensor(&self.path, name, TensorCause::ElementType { found: info.dtype }));
        }
        let record = location.record.map(|record| &self.records[record]);
        let unsupported = || Error::tensor(&self.path, name, TensorCause::ElementType { found: info.dtype });
        location::read(&self.files[location.file], info, location, record, device)?.ok_or_else(unsupported)
    }

    /// Reads an entry that is one number, of any type, such as an adapter's alpha; in pickles it may be a plain number.
    ///
    /// # Errors
    /// [`Error::Tensor`] when there is no such entry, or when it is anything but exactly one number.
    pub fn scalar(&self, name: &str) -> Result<f64> {
        let wrong = |cause: TensorCause| Error::tensor(&self.path, name, cause);
        if let Some(other) = self.others.get(name) {
            return other.number.ok_or_else(|| wrong(TensorCause::NotANumber { found: other.kind }));
        }
        let Some((info, location)) = self.tensors.get(name) else {
            return Err(wrong(TensorCause::Missing));
        };
        if info.shape.iter().any(|side| *side != 1) {
            return Err(wrong(TensorCause::NotOneNumber { found: info.shape.clone() }));
        }
        if let Some(record) = location.record {
            self.records[record].verify(&self.files[location.file])?;
        }
        let size = element_size(info.dtype).unwrap_or(1) as u64;
        let bytes = self.files[location.file].read(location.offset, size)?;
        number(info.dtype, &bytes).ok_or_else(|| wrong(TensorCause::NotNumeric { found: info.dtype }))
    }
}
