//! Where a tensor's numbers are in a file, and how they are read from there.

use super::elements::{NextBytes, element_size, read_tensor};
use super::positioned::PositionedFile;
use super::shown::shown;
use super::weight_file::TensorInfo;
use crate::error::{ArchiveCause, Error, Result};
use candle_core::{Device, Tensor};
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes read at once where a checksum is computed, and where a tensor's elements lie close to each other.
const PIECE: u64 = 1 << 20;
/// Bytes read at once where they lie far apart.
const SPARSE_PIECE: u64 = 1 << 12;

/// Where a tensor's bytes are.
#[derive(Debug, Clone)]
pub(super) struct Location {
    /// Index of the open file.
    pub(super) file: usize,
    /// Byte of the first element.
    pub(super) offset: u64,
    /// Steps between neighbors along each dimension, in elements; `None` where elements follow each other in row-major order.
    pub(super) strides: Option<Box<[u64]>>,
    /// Index of the record whose checksum covers the bytes.
    pub(super) record: Option<usize>,
}

/// A run of bytes with a checksum (CRC-32), which is compared when the run is first used.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) file: usize,
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) crc: u32,
    pub(super) name: String,
    pub(super) verified: AtomicBool,
}

impl Record {
    pub(super) fn new(file: usize, start: u64, len: u64, crc: u32, name: String) -> Self {
        Self { file, start, len, crc, name, verified: AtomicBool::new(false) }
    }

    /// Reads the record and compares its checksum, once.
    pub(super) fn verify(&self, file: &PositionedFile) -> Result<()> {
        if self.verified.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut hasher = crc32fast::Hasher::new();
        let mut piece = vec![0; self.len.min(PIECE) as usize];
        let mut done = 0;
        while done < self.len {
            let bytes = (self.len - done).min(PIECE) as usize;
            file.read_exact_at(self.start + done, &mut piece[..bytes])?;
            hasher.update(&piece[..bytes]);
            done += bytes as u64;
        }
        self.accept(file, hasher.finalize())
    }

    fn accept(&self, file: &PositionedFile, found: u32) -> Result<()> {
        if found != self.crc {
            let cause = ArchiveCause::Checksum { name: shown(&self.name), expected: self.crc, found };
            return Err(Error::file(file.path(), cause, "the file is damaged; download or write it again"));
        }
        self.verified.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// Reads a tensor; `None` for a type of which there are none.
pub(super) fn read(
    file: &PositionedFile,
    info: &TensorInfo,
    location: &Location,
    record: Option<&Record>,
    device: &Device,
) -> Result<Option<Tensor>> {
    let size = element_size(info.dtype).unwrap_or(1) as u64;
    // Fits: both containers checked it against the file's length.
    let bytes = info.shape.iter().product::<usize>() as u64 * size;
    let Some(strides) = &location.strides else {
        let whole = record.filter(|r| (location.offset, bytes) == (r.start, r.len) && !r.verified.load(Ordering::Relaxed));
        if let (Some(record), None) = (record, whole) {
            record.verify(file)?;
        }
        let mut position = location.offset;
        let mut hasher = whole.map(|_| crc32fast::Hasher::new());
        let mut next = |buffer: &mut [u8]| {
            file.read_exact_at(position, buffer)?;
            position += buffer.len() as u64;
            hasher.iter_mut().for_each(|hasher| hasher.update(buffer));
            Ok(())
        };
        let tensor = read_tensor(info.dtype, &info.shape, &mut next, device)?;
        if let (Some(record), Some(hasher), Some(_)) = (whole, hasher, &tensor) {
            record.accept(file, hasher.finalize())?;
        }
        return Ok(tensor);
    };
    if let Some(record) = record {
        record.verify(file)?;
    }
    read_strided(file, info, location.offset, strides, size, device)
}

/// Reads a tensor whose elements do not follow each other, through a window onto the file.
fn read_strided(
    file: &PositionedFile,
    info: &TensorInfo,
    offset: u64,
    strides: &[u64],
    size: u64,
    device: &Device,
) -> Result<Option<Tensor>> {
    let elements: u64 = info.shape.iter().map(|side| *side as u64).product();
    let last: u64 = info.shape.iter().zip(strides).map(|(side, stride)| (*side as u64).saturating_sub(1) * stride).sum();
    let span = (last + 1) * size;
    // The whole span at once if that costs no more than a few times the tensor; else little by little.
    let piece = if span <= 4 * elements * size + PIECE { span } else { SPARSE_PIECE.max(size) };
    let mut window = Window { file, bytes: Vec::new(), start: 0, end: offset + span, piece };
    let mut index = vec![0usize; info.shape.len()];
    let mut position = offset;
    let mut next = |buffer: &mut [u8]| {
        for element in buffer.chunks_exact_mut(size as usize) {
            window.read(position, element)?;
            position = advance(&mut index, &info.shape, strides, size, position);
        }
        Ok(())
    };
    read_tensor(info.dtype, &info.shape, &mut next as &mut NextBytes<'_>, device)
}

/// Steps to the next index in row-major order; answers the byte of its element.
fn advance(index: &mut [usize], shape: &[usize], strides: &[u64], size: u64, mut position: u64) -> u64 {
    for dimension in (0..index.len()).rev() {
        index[dimension] += 1;
        position += strides[dimension] * size;
        if index[dimension] < shape[dimension] {
            break;
        }
        position -= shape[dimension] as u64 * strides[dimension] * size;
        index[dimension] = 0;
    }
    position
}

/// Some of a file's bytes, moved when others are wanted.
struct Window<'a> {
    file: &'a PositionedFile,
    bytes: Vec<u8>,
    start: u64,
    end: u64,
    piece: u64,
}

impl Window<'_> {
    fn read(&mut self, position: u64, element: &mut [u8]) -> Result<()> {
        let len = element.len() as u64;
        if position < self.start || position + len > self.start + self.bytes.len() as u64 {
            self.bytes = self.file.read(position, self.piece.min(self.end - position))?;
            self.start = position;
        }
        let from = (position - self.start) as usize;
        element.copy_from_slice(&self.bytes[from..from + element.len()]);
        Ok(())
    }
}
