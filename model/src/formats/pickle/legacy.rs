//! torch's files before version 1.6: five pickles in a row (a magic number, the protocol, facts about the machine, the object, the
//! storages' keys), then for each key a count of elements and the raw numbers.

use super::super::elements::element_size;
use super::super::positioned::PositionedFile;
use super::super::shown::shown;
use super::graph::{Graph, NodeId, Value};
use super::machine::Machine;
use super::source::Source;
use super::{Loaded, StorageLocation, damaged};
use crate::error::{Error, PickleCause, Result, WeightFileCause};

/// What the first pickle holds.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
/// What the second holds.
const PROTOCOL: i64 = 1001;

pub(super) fn load(file: &PositionedFile) -> Result<Loaded> {
    let mut source = Source::new(file, 0, file.len());
    let (magic, root) = Machine::run(&mut source)?;
    if !matches!(magic.get(root), Value::Big(number) if **number == MAGIC) {
        return Err(damaged(file, PickleCause::Magic));
    }
    let (protocol, root) = Machine::run(&mut source)?;
    if !matches!(protocol.get(root), Value::Int(PROTOCOL)) {
        return Err(damaged(file, PickleCause::LegacyProtocol));
    }
    let (facts, root) = Machine::run(&mut source)?;
    check_byte_order(file, &facts, root)?;
    let (graph, root) = Machine::run(&mut source)?;
    let (keys, keys_root) = Machine::run(&mut source)?;
    let storages = locations(file, &graph, &keys, keys_root, source.position())?;
    Ok(Loaded { graph, root, storages, records: Vec::new() })
}

/// Numbers must be little-endian.
fn check_byte_order(file: &PositionedFile, facts: &Graph, root: NodeId) -> Result<()> {
    let Value::Dict(entries) = facts.get(root) else {
        return Err(damaged(file, PickleCause::NoFacts));
    };
    let order = entries.iter().find(|(key, _)| facts.text(*key) == Some("little_endian")).map(|(_, value)| facts.get(*value));
    match order {
        Some(Value::Bool(true)) => Ok(()),
        Some(Value::Bool(false)) => {
            Err(Error::file(file.path(), WeightFileCause::BigEndian, "save it again on a little-endian machine"))
        }
        _ => Err(damaged(file, PickleCause::NoByteOrder)),
    }
}

/// Walks over the storages behind the pickles.
fn locations(file: &PositionedFile, graph: &Graph, keys: &Graph, root: NodeId, start: u64) -> Result<Vec<StorageLocation>> {
    let Value::List(listed) = keys.get(root) else {
        return Err(damaged(file, PickleCause::NoStorageList));
    };
    let mut offsets = vec![None; graph.storages.len()];
    let mut position = start;
    for key in listed {
        let Some(key) = keys.text(*key) else {
            return Err(damaged(file, PickleCause::StorageKey));
        };
        let unknown = || damaged(file, PickleCause::UnusedStorage { key: shown(key) });
        let index = *graph.storage_by_key.get(key).ok_or_else(unknown)? as usize;
        let storage = &graph.storages[index];
        let count = u64::from_le_bytes(file.read(position, 8)?.try_into().unwrap_or_default());
        let bytes = element_size(storage.dtype).and_then(|size| count.checked_mul(size as u64));
        let end = bytes.and_then(|bytes| (position + 8).checked_add(bytes));
        if count != storage.elements {
            let cause = PickleCause::StorageLength { key: shown(key), found: count, claimed: storage.elements };
            return Err(damaged(file, cause));
        }
        let Some(end) = end.filter(|end| *end <= file.len()) else {
            return Err(damaged(file, PickleCause::StorageEnd { key: shown(key) }));
        };
        if offsets[index].replace(position + 8).is_some() {
            return Err(damaged(file, PickleCause::ListedTwice { key: shown(key) }));
        }
        position = end;
    }
    let missing = |index: usize| damaged(file, PickleCause::StorageMissing { key: shown(&graph.storages[index].key) });
    let location = |(index, offset): (usize, Option<u64>)| {
        Ok(StorageLocation { offset: offset.ok_or_else(|| missing(index))?, record: None })
    };
    offsets.into_iter().enumerate().map(location).collect()
}
