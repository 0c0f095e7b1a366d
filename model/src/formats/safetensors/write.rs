//! Writing safetensors: the same tensors and metadata always give the same bytes, and one tensor at a time is in memory.

use super::super::atomic::AtomicFile;
use super::super::elements::{element_size, stored_dtype, write_tensor};
use super::header::METADATA_KEY;
use crate::error::{Error, Result, TensorCause};
use candle_core::{DType, Tensor};
use safetensors::Dtype;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

/// What a tensor will be, known before its numbers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Full name.
    pub name: String,
    /// Element type: one of U8, U32, I16, I32, I64, BF16, F16, F32, F64.
    pub dtype: DType,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
}

/// Writes `tensors` with `metadata` to `path`, atomically. Order as in the safetensors library: by element type, widest first,
/// then by name.
///
/// # Errors
/// [`Error::Tensor`] for a name that occurs twice or a type that cannot be stored; [`Error::Io`] when the file cannot be
/// written. Nothing stands at `path` then.
pub fn write_safetensors(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (String, Tensor)>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let path = path.as_ref();
    let mut specs = Vec::new();
    let mut by_name = BTreeMap::new();
    for (name, tensor) in tensors {
        specs.push(TensorSpec { name: name.clone(), dtype: tensor.dtype(), shape: tensor.dims().to_vec() });
        by_name.insert(name, tensor);
    }
    // A name that occurs twice is refused by the streaming writer, which sees both.
    write_safetensors_streaming(path, specs, metadata, |spec| {
        by_name.get(&spec.name).cloned().ok_or_else(|| Error::tensor(path, &spec.name, TensorCause::NotGiven))
    })
}

/// As [`write_safetensors`], with tensors that are made one by one when their turn comes (in the file's order), so that a model
/// larger than memory can be written.
///
/// # Errors
/// As [`write_safetensors`], and whatever `produce` answers; [`Error::Tensor`] when a tensor is not what its spec said.
pub fn write_safetensors_streaming(
    path: impl AsRef<Path>,
    specs: Vec<TensorSpec>,
    metadata: &BTreeMap<String, String>,
    mut produce: impl FnMut(&TensorSpec) -> Result<Tensor>,
) -> Result<()> {
    let path = path.as_ref();
    let specs = in_file_order(path, specs)?;
    let mut file = AtomicFile::create(path)?;
    file.write_bytes(&encode_header(path, &specs, metadata)?)?;
    for (_, spec) in &specs {
        let tensor = produce(spec)?;
        if tensor.dtype() != spec.dtype || tensor.dims() != spec.shape {
            let (expected, found) = ((spec.shape.clone(), spec.dtype), (tensor.dims().to_vec(), tensor.dtype()));
            return Err(Error::tensor(path, &spec.name, TensorCause::NotAsAnnounced { expected, found }));
        }
        write_tensor(&tensor, &mut |bytes| file.write_bytes(bytes))?;
    }
    file.commit()
}

/// Digests of a file that would be written, in hexadecimal.
pub(crate) struct Hashes {
    /// SHA-256 of the tensor data.
    pub(crate) data: String,
    /// SHA-256 of a range of the file's bytes, as far as they exist.
    pub(crate) window: String,
}

/// Hashes what [`write_safetensors`] would write with this metadata.
pub(crate) fn hash_tensors(
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
    window: std::ops::Range<u64>,
) -> Result<Hashes> {
    let path = Path::new("safetensors");
    let specs = tensors.iter().map(|(name, tensor)| TensorSpec {
        name: name.clone(),
        dtype: tensor.dtype(),
        shape: tensor.dims().to_vec(),
    });
    let specs = in_file_order(path, specs.collect())?;
    let (mut data_hash, mut window_hash) = (Sha256::new(), Sha256::new());
    let mut position = 0u64;
    let mut hash_window = |bytes: &[u8]| {
        let clip = |at: u64| (at.saturating_sub(position)).min(bytes.len() as u64) as usize;
        window_hash.update(&bytes[clip(window.start)..clip(window.end)]);
        position += bytes.len() as u64;
    };
    hash_window(&encode_header(path, &specs, metadata)?);
    for (_, spec) in &specs {
        write_tensor(&tensors[&spec.name], &mut |bytes| {
            hash_window(bytes);
            data_hash.update(bytes);
            Ok(())
        })?;
    }
    Ok(Hashes { data: format!("{:x}", data_hash.finalize()), window: format!("{:x}", window_hash.finalize()) })
}

/// Sorts as the library does and refuses what cannot be written.
fn in_file_order(path: &Path, specs: Vec<TensorSpec>) -> Result<Vec<(Dtype, TensorSpec)>> {
    let mut ordered = Vec::with_capacity(specs.len());
    for spec in specs {
        let Some(stored) = stored_dtype(spec.dtype) else {
            return Err(Error::tensor(path, &spec.name, TensorCause::CannotBeStored { found: spec.dtype }));
        };
        if spec.name == METADATA_KEY {
            return Err(Error::tensor(path, &spec.name, TensorCause::ReservedName));
        }
        ordered.push((stored, spec));
    }
    ordered.sort_by(|(left_type, left), (right_type, right)| right_type.cmp(left_type).then_with(|| left.name.cmp(&right.name)));
    let mut names: Vec<&str> = ordered.iter().map(|(_, spec)| spec.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::tensor(path, pair[0], TensorCause::Twice));
    }
    Ok(ordered)
}

/// Length and JSON header, padded with spaces to a multiple of eight bytes.
fn encode_header(path: &Path, specs: &[(Dtype, TensorSpec)], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        header.insert(METADATA_KEY.into(), serde_json::json!(metadata));
    }
    let mut offset = 0u64;
    for (stored, spec) in specs {
        let size = element_size(*stored).unwrap_or(1) as u64;
        let bytes = spec.shape.iter().try_fold(size, |bytes, side| bytes.checked_mul(*side as u64));
        let end = bytes.and_then(|bytes| offset.checked_add(bytes));
        let Some(end) = end else {
            return Err(Error::tensor(path, &spec.name, TensorCause::TooLarge { found: spec.shape.clone() }));
        };
        let entry = serde_json::json!({ "dtype": stored, "shape": spec.shape, "data_offsets": [offset, end] });
        header.insert(spec.name.clone(), entry);
        offset = end;
    }
    let mut json = serde_json::Value::Object(header).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    Ok(bytes)
}
