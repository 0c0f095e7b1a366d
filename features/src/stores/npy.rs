//! NumPy files: version 1 headers, C order, little-endian, as `np.save` writes them.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use candle_core::DType;
use driftless::error::FileCause;
use driftless::formats::write_atomically;
use driftless::{Error, Result};
use half::f16;
use npyz::{Order, TypeStr, WriteOptions, WriterBuilder};

use super::{Contents, Feature, Format, OutputRule, Values, make_folder_of};

/// A file per layer, or one for their aggregate.
pub struct Npy;

impl Format for Npy {
    fn files(&self, rule: &OutputRule, set: &Path, sample: &str, layers: &[String]) -> Vec<PathBuf> {
        match rule.aggregate {
            true => vec![joined_file(set, sample)],
            false => layers.iter().map(|layer| layer_file(rule, set, sample, layer)).collect(),
        }
    }

    fn write(&self, rule: &OutputRule, set: &Path, sample: &str, contents: &Contents) -> Result<()> {
        let write = |path: PathBuf, feature: &Feature| {
            make_folder_of(&path)?;
            write_npy(&path, feature, rule.dtype)
        };
        match &contents.values {
            Values::Joined(feature) => write(joined_file(set, sample), feature),
            Values::Layers(layers) => {
                layers.iter().try_for_each(|(layer, feature)| write(layer_file(rule, set, sample, layer), feature))
            }
        }
    }
}

fn joined_file(set: &Path, sample: &str) -> PathBuf {
    set.join(format!("{sample}.npy"))
}

fn layer_file(rule: &OutputRule, set: &Path, sample: &str, layer: impl std::fmt::Display) -> PathBuf {
    match rule.sample_name_first {
        true => set.join(sample).join(format!("{layer}.npy")),
        false => set.join(layer.to_string()).join(format!("{sample}.npy")),
    }
}

/// Writes a feature, the whole file or nothing.
///
/// # Errors
/// When it cannot be written.
pub fn write_npy(path: &Path, feature: &Feature, dtype: DType) -> Result<()> {
    let descr = if dtype == DType::F16 { "<f2" } else { "<f4" };
    let descr: TypeStr = descr.parse().map_err(|error| Error::file(path, FileCause::above(error), "this is a bug"))?;
    let shape = feature.shape.map(|side| side as u64);
    write_atomically(path, |file| {
        let options = WriteOptions::new_header_only().dtype(npyz::DType::new_scalar(descr)).shape(&shape);
        options.writer(&mut *file).write_header_only().map_err(Error::io(path))?;
        file.write_bytes(&feature.bytes(dtype))
    })
}

/// Why a file is not a feature.
#[derive(Debug, thiserror::Error)]
enum NpyFault {
    #[error("is too short for a NumPy file")]
    TooShort,
    #[error("is no NumPy file of version 1")]
    NotVersion1,
    #[error("has a header that is longer than any array of numbers needs")]
    LongHeader,
    #[error("ends inside its header")]
    CutHeader,
    #[error("has a header that is no array of numbers")]
    DeepHeader,
    #[error("is no NumPy file: {source}")]
    Header { source: std::io::Error },
    #[error("is in Fortran order")]
    FortranOrder,
    #[error("has shape {found:?}")]
    Shape { found: Vec<u64> },
    #[error("holds records")]
    Records,
    #[error("holds numbers of type {found}; expected <f2, <f4 or <f8")]
    ElementType { found: String },
    #[error("has {found} bytes of numbers, its header promises shape {shape:?} of {dtype}; it is damaged")]
    Length { found: u64, shape: [u64; 3], dtype: String },
    #[error("changed while it was read")]
    Changed,
}

/// A stored feature with the type it was stored in.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its values.
    pub feature: Feature,
    /// Whether they were float16, in which NumPy then computes.
    pub is_half: bool,
}

/// Reads a feature: three axes of float16, float32 or float64.
///
/// # Errors
/// When the file is no such array, or shorter or longer than its header says.
pub fn read_npy(path: &Path) -> Result<Array> {
    let wrong = |fault: NpyFault| {
        let advice = "give features that `extract` or numpy.save wrote, [channels, height, width]";
        Error::file(path, FileCause::above(fault), advice)
    };
    let file = File::open(path).map_err(Error::io(path))?;
    let length = file.metadata().map_err(Error::io(path))?.len();
    let mut reader = BufReader::new(file);
    let header_bytes = read_header(&mut reader).map_err(wrong)?;
    let header = npyz::NpyHeader::from_reader(header_bytes.as_slice()).map_err(|source| wrong(NpyFault::Header { source }))?;
    if header.order() != Order::C {
        return Err(wrong(NpyFault::FortranOrder));
    }
    let shape: [u64; 3] = header.shape().try_into().map_err(|_| wrong(NpyFault::Shape { found: header.shape().to_vec() }))?;
    let npyz::DType::Plain(kind) = header.dtype() else { return Err(wrong(NpyFault::Records)) };
    let kind = kind.to_string();
    let size: u64 = match kind.as_str() {
        "<f2" => 2,
        "<f4" => 4,
        "<f8" => 8,
        _ => return Err(wrong(NpyFault::ElementType { found: kind })),
    };
    let expected = shape.iter().try_fold(size, |product, side| product.checked_mul(*side));
    let data = length.saturating_sub(header_bytes.len() as u64);
    if expected != Some(data) {
        return Err(wrong(NpyFault::Length { found: data, shape, dtype: kind }));
    }
    // As long as the file, which was just measured.
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(Error::io(path))?;
    let values = match size {
        2 => bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect(),
        4 => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        _ => bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32).collect::<Vec<f32>>(),
    };
    let feature = Feature { shape: shape.map(|side| side as usize), values };
    if feature.values.len() != feature.shape.iter().product::<usize>() {
        return Err(wrong(NpyFault::Changed));
    }
    Ok(Array { feature, is_half: size == 2 })
}

/// The header's bytes, if it can be one of an array of plain numbers: its parser, which recurses, sees nothing long or deep.
fn read_header(reader: &mut impl Read) -> Result<Vec<u8>, NpyFault> {
    const PREFIX: usize = 10;
    const LONGEST: u16 = 4096;
    let mut header = vec![0; PREFIX];
    reader.read_exact(&mut header).map_err(|_| NpyFault::TooShort)?;
    if !header.starts_with(b"\x93NUMPY\x01\x00") {
        return Err(NpyFault::NotVersion1);
    }
    let length = u16::from_le_bytes([header[8], header[9]]);
    if length > LONGEST {
        return Err(NpyFault::LongHeader);
    }
    header.resize(PREFIX + length as usize, 0);
    reader.read_exact(&mut header[PREFIX..]).map_err(|_| NpyFault::CutHeader)?;
    let depth = header[PREFIX..].iter().filter(|byte| b"([{".contains(byte)).count();
    if depth > 8 {
        return Err(NpyFault::DeepHeader);
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature() -> Feature {
        Feature { shape: [2, 1, 3], values: vec![0.5, -1.25, 3.0, 1e-3, 60000.0, -0.0] }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        write_npy(&path, &feature(), DType::F32).unwrap();
        assert_eq!(read_npy(&path).unwrap(), Array { feature: feature(), is_half: false });
        write_npy(&path, &feature(), DType::F16).unwrap();
        let read = read_npy(&path).unwrap();
        assert!(read.is_half);
        assert_eq!(read.feature.values[3], f16::from_f32(1e-3).to_f32());
    }

    // Reference: numpy.save: tests/reference/extract_outputs.py. Headers may differ in padding, so numpy's file is read, not compared.
    #[test]
    fn numpys_files_are_read() {
        for case in ["float16", "float32", "float64"] {
            let path = format!("{}/../tests/fixtures/extract/{case}.npy", env!("CARGO_MANIFEST_DIR"));
            let array = read_npy(path.as_ref()).unwrap();
            assert_eq!(array.feature.shape, [2, 3, 4]);
            let expected: Vec<f32> = (0..24).map(|i| i as f32 / 8.0 - 1.0).collect();
            assert_eq!(array.feature.values, expected);
        }
    }

    #[test]
    fn headers_are_numpys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        write_npy(&path, &feature(), DType::F16).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        let length = u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
        // NumPy aligns the numbers to 64 bytes, so that they can be mapped.
        assert_eq!((10 + length) % 16, 0);
        let text = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
        assert!(
            text.contains("'descr': '<f2'") && text.contains("'fortran_order': False") && text.contains("(2, 1, 3"),
            "{text}"
        );
        assert_eq!(bytes.len(), 10 + length + 12);
    }

    #[test]
    fn damaged_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        write_npy(&path, &feature(), DType::F32).unwrap();
        let good = std::fs::read(&path).unwrap();
        let refused = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_npy(&path).unwrap_err().to_string()
        };
        for cut in 0..good.len() {
            refused(&good[..cut]);
        }
        refused(&[good.as_slice(), b"x"].concat());
        let deep = [b"\x93NUMPY\x01\x00\x00\x10".as_slice(), &[b'('; 4096]].concat();
        assert!(refused(&deep).contains("no array of numbers"));
        let huge = good.iter().map(|byte| if *byte == b'2' { b'9' } else { *byte }).collect::<Vec<u8>>();
        assert!(refused(&huge).contains("damaged"));
    }
}
