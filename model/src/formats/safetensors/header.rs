//! Reading and checking a safetensors header before anything else of the file is used.

use super::super::elements::element_size;
use super::super::positioned::PositionedFile;
use crate::error::{Error, Result, TensorCause, WeightFileCause};
use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};
use std::collections::BTreeMap;

/// Name under which the header holds free text beside the tensors.
pub(super) const METADATA_KEY: &str = "__metadata__";

/// One tensor's entry; offsets are counted from the end of the header.
#[derive(Debug, Clone, Deserialize)]
pub(in super::super) struct Entry {
    pub(in super::super) dtype: Dtype,
    pub(in super::super) shape: Vec<usize>,
    pub(in super::super) data_offsets: (u64, u64),
}

/// A checked header.
#[derive(Debug)]
pub(in super::super) struct Header {
    pub(in super::super) tensors: BTreeMap<String, Entry>,
    pub(in super::super) metadata: BTreeMap<String, String>,
    /// Where the data begins in the file.
    pub(in super::super) data_start: u64,
}

/// Reads the header of `header_len` bytes and checks it: unique keys, known types, spans that hold exactly their tensor and that
/// cover the data without gap or overlap up to the file's end.
pub(in super::super) fn read_header(file: &PositionedFile, header_len: u64) -> Result<Header> {
    let bytes = file.read(8, header_len)?;
    let raw: RawHeader = serde_json::from_slice(&bytes)
        .map_err(|error| Error::file(file.path(), WeightFileCause::Header { source: error }, "download or write it again"))?;
    let data_start = 8 + header_len;
    check_spans(file, &raw.tensors, file.len() - data_start)?;
    Ok(Header { tensors: raw.tensors, metadata: raw.metadata, data_start })
}

/// Checks every span's size, then that the spans in order leave no gap and no overlap.
fn check_spans(file: &PositionedFile, tensors: &BTreeMap<String, Entry>, data_len: u64) -> Result<()> {
    let mut spans = Vec::with_capacity(tensors.len());
    for (key, entry) in tensors {
        let wrong = |cause: TensorCause| Error::tensor(file.path(), key, cause);
        let Some(size) = element_size(entry.dtype) else {
            return Err(wrong(TensorCause::ElementType { found: entry.dtype }));
        };
        let bytes = entry.shape.iter().try_fold(size as u64, |bytes, side| bytes.checked_mul(*side as u64));
        let (begin, end) = entry.data_offsets;
        let Some(bytes) = bytes else {
            return Err(wrong(TensorCause::TooLarge { found: entry.shape.clone() }));
        };
        if end.checked_sub(begin) != Some(bytes) {
            let (shape, dtype) = (entry.shape.clone(), entry.dtype);
            return Err(wrong(TensorCause::Span { shape, dtype, expected: bytes, found: (begin, end) }));
        }
        if end > data_len {
            return Err(wrong(TensorCause::Truncated { expected: end, found: data_len }));
        }
        spans.push((begin, end, key));
    }
    spans.sort_unstable();
    let mut covered = 0;
    for (begin, end, key) in spans {
        if begin != covered {
            let (expected, found) = (covered, begin);
            let cause =
                if begin < covered { TensorCause::Overlap { expected, found } } else { TensorCause::Gap { expected, found } };
            return Err(Error::tensor(file.path(), key, cause));
        }
        covered = end;
    }
    if covered != data_len {
        let cause = WeightFileCause::DataLength { expected: covered, found: data_len };
        return Err(Error::file(file.path(), cause, "download or write it again"));
    }
    Ok(())
}

/// The header as JSON, with keys known to be unique.
#[derive(Default)]
struct RawHeader {
    tensors: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = RawHeader;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a map from tensor names to their type, shape and position")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader::default();
                let mut metadata_seen = false;
                while let Some(key) = map.next_key::<String>()? {
                    if key == METADATA_KEY {
                        if std::mem::replace(&mut metadata_seen, true) {
                            return Err(A::Error::custom("`__metadata__` occurs twice"));
                        }
                        header.metadata = map.next_value::<UniqueMap>()?.0;
                        continue;
                    }
                    let entry = map.next_value::<Entry>().map_err(|e| A::Error::custom(format!("`{key}`: {e}")))?;
                    if header.tensors.insert(key.clone(), entry).is_some() {
                        return Err(A::Error::custom(format!("`{key}` occurs twice")));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// A map of strings in which no key occurs twice.
struct UniqueMap(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for UniqueMap {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct UniqueVisitor;
        impl<'de> Visitor<'de> for UniqueVisitor {
            type Value = UniqueMap;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a map from strings to strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMap, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if entries.contains_key(&key) {
                        return Err(A::Error::custom(format!("the metadata entry `{key}` occurs twice")));
                    }
                    entries.insert(key, value);
                }
                Ok(UniqueMap(entries))
            }
        }
        deserializer.deserialize_map(UniqueVisitor)
    }
}
