//! Writing torch's zip file of one `state_dict`, tensor by tensor: the same tensors always give the same bytes.
//!
//! Form as `torch.save` of 2.x writes it, so that `torch.load(weights_only=True)` and every program that reads `.ckpt` files read it:
//! stored members, records aligned to 64 bytes by an extra field. No Zip64, so files stay below 4 GiB.

use super::super::atomic::AtomicFile;
use super::super::elements::{stored_dtype, write_tensor};
use super::super::safetensors::TensorSpec;
use crate::error::{ArgumentCause, Error, Result, TensorCause};
use candle_core::{DType, Tensor};
use safetensors::Dtype;
use std::path::Path;

/// Folder of all members.
const TOP: &str = "archive";
/// Records begin at multiples of this.
const ALIGNMENT: u64 = 64;
/// Largest whole number of a BININT.
const LARGEST_INT: usize = i32::MAX as usize;

/// Writes `{"state_dict": {name: tensor, ...}}` to `path`, atomically, in the order of `specs`; tensors are made one by one when their
/// turn comes.
///
/// # Errors
/// [`Error::Tensor`] for a name that occurs twice, a type that torch's files do not have, or a tensor that is not what its spec said;
/// [`Error::Io`] when the file cannot be written, and whatever `produce` answers. Nothing stands at `path` then.
pub fn write_torch_streaming(
    path: impl AsRef<Path>,
    specs: &[TensorSpec],
    mut produce: impl FnMut(&TensorSpec) -> Result<Tensor>,
) -> Result<()> {
    let path = path.as_ref();
    let pickle = pickle(path, specs)?;
    let mut archive = Archive { file: AtomicFile::create(path)?, position: 0, directory: Vec::new(), members: 0 };
    archive.member("data.pkl", pickle.len() as u64, crc32fast::hash(&pickle))?;
    archive.put(&pickle)?;
    archive.whole("byteorder", b"little")?;
    for (index, spec) in specs.iter().enumerate() {
        let tensor = produce(spec)?;
        if tensor.dtype() != spec.dtype || tensor.dims() != spec.shape {
            let (expected, found) = ((spec.shape.clone(), spec.dtype), (tensor.dims().to_vec(), tensor.dtype()));
            return Err(Error::tensor(path, &spec.name, TensorCause::NotAsAnnounced { expected, found }));
        }
        // The checksum stands before the numbers.
        let (mut hasher, mut len) = (crc32fast::Hasher::new(), 0);
        write_tensor(&tensor, &mut |bytes| {
            hasher.update(bytes);
            len += bytes.len() as u64;
            Ok(())
        })?;
        archive.member(&format!("data/{index}"), len, hasher.finalize())?;
        write_tensor(&tensor, &mut |bytes| archive.put(bytes))?;
    }
    archive.whole("version", b"3\n")?;
    archive.end()
}

/// torch's class for storages of a type.
fn storage_class(dtype: DType) -> Option<&'static str> {
    Some(match stored_dtype(dtype)? {
        Dtype::F32 => "FloatStorage",
        Dtype::F64 => "DoubleStorage",
        Dtype::F16 => "HalfStorage",
        Dtype::BF16 => "BFloat16Storage",
        Dtype::U8 => "ByteStorage",
        Dtype::I16 => "ShortStorage",
        Dtype::I32 => "IntStorage",
        Dtype::I64 => "LongStorage",
        _ => return None,
    })
}

/// The pickle: protocol 2, without a memo, since nothing occurs twice.
fn pickle(path: &Path, specs: &[TensorSpec]) -> Result<Vec<u8>> {
    let mut names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::tensor(path, pair[0], TensorCause::Twice));
    }
    let mut bytes = b"\x80\x02}".to_vec();
    text(&mut bytes, "state_dict");
    bytes.extend(b"}(");
    for (index, spec) in specs.iter().enumerate() {
        let elements = spec.shape.iter().try_fold(1usize, |count, side| count.checked_mul(*side));
        let (Some(class), Some(elements)) = (storage_class(spec.dtype), elements.filter(|count| *count <= LARGEST_INT)) else {
            let cause = TensorCause::CannotBeTorch { dtype: spec.dtype, shape: spec.shape.clone() };
            return Err(Error::tensor(path, &spec.name, cause));
        };
        text(&mut bytes, &spec.name);
        bytes.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut bytes, "storage");
        bytes.extend(format!("ctorch\n{class}\n").as_bytes());
        text(&mut bytes, &index.to_string());
        text(&mut bytes, "cpu");
        integer(&mut bytes, elements);
        bytes.extend(b"tQK\x00(");
        spec.shape.iter().for_each(|side| integer(&mut bytes, *side));
        bytes.extend(b"t(");
        let steps = (0..spec.shape.len()).map(|axis| spec.shape[axis + 1..].iter().product::<usize>());
        steps.for_each(|step| integer(&mut bytes, step));
        bytes.extend(b"t\x89ccollections\nOrderedDict\n)RtR");
    }
    bytes.extend(b"us.");
    Ok(bytes)
}

/// BINUNICODE.
fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(b'X');
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// BININT.
fn integer(bytes: &mut Vec<u8>, number: usize) {
    bytes.push(b'J');
    bytes.extend((number as u32).to_le_bytes());
}

/// A zip file in the making.
struct Archive {
    file: AtomicFile,
    position: u64,
    directory: Vec<u8>,
    members: usize,
}

impl Archive {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.position += bytes.len() as u64;
        self.file.write_bytes(bytes)
    }

    /// A member of these bytes.
    fn whole(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.member(name, bytes.len() as u64, crc32fast::hash(bytes))?;
        self.put(bytes)
    }

    /// Begins a member: its header, so that its bytes, which follow, are aligned; and its directory entry.
    fn member(&mut self, name: &str, len: u64, crc: u32) -> Result<()> {
        let name = format!("{TOP}/{name}");
        let at = narrow(self.position)?;
        let len = narrow(len)?;
        let before = self.position + 30 + name.len() as u64 + 4;
        let padding = (before.next_multiple_of(ALIGNMENT) - before) as u16;
        // Version, flag 11 (names are UTF-8), stored, 1 January 1980 (the earliest date there is).
        let mut common: Vec<u8> = [20u16, 0x0800, 0, 0, 0x21].iter().flat_map(|field| field.to_le_bytes()).collect();
        [crc, len, len].iter().for_each(|field| common.extend(field.to_le_bytes()));
        common.extend((name.len() as u16).to_le_bytes());
        let mut header = [b"PK\x03\x04".as_slice(), &common].concat();
        header.extend((padding + 4).to_le_bytes());
        header.extend(name.as_bytes());
        header.extend(b"FB");
        header.extend(padding.to_le_bytes());
        header.extend(std::iter::repeat_n(b'Z', usize::from(padding)));
        self.directory.extend([b"PK\x01\x02\x14\0".as_slice(), &common, &[0; 12], &at.to_le_bytes(), name.as_bytes()].concat());
        self.members += 1;
        self.put(&header)
    }

    /// The directory and the end.
    fn end(mut self) -> Result<()> {
        let directory = std::mem::take(&mut self.directory);
        let (start, len) = (narrow(self.position)?, narrow(directory.len() as u64)?);
        let count =
            u16::try_from(self.members).map_err(|_| Error::argument("tensors", ArgumentCause::TooMany { most: "65,535" }))?;
        self.put(&directory)?;
        let mut end = b"PK\x05\x06\0\0\0\0".to_vec();
        [count, count].iter().for_each(|field| end.extend(field.to_le_bytes()));
        [len, start].iter().for_each(|field| end.extend(field.to_le_bytes()));
        end.extend([0, 0]);
        self.put(&end)?;
        self.file.commit()
    }
}

/// A position or size in a file of less than 4 GiB, as every whole SD1.5 model is, in float32 too.
fn narrow(number: u64) -> Result<u32> {
    u32::try_from(number).map_err(|_| Error::argument("the file", ArgumentCause::TorchFileSize))
}
