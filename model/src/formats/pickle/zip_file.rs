//! torch's zip files: `<top>/data.pkl`, `<top>/data/<key>` for each storage, `<top>/byteorder`.

use super::super::location::Record;
use super::super::positioned::PositionedFile;
use super::super::shown::shown;
use super::machine::Machine;
use super::source::Source;
use super::zip::{self, Member};
use super::{Loaded, StorageLocation, damaged};
use crate::error::{ArchiveCause, Error, PickleCause, Result, WeightFileCause};
use std::collections::BTreeMap;

/// Name of the pickle, at the end of its path.
const PICKLE: &str = "data.pkl";

pub(super) fn load(file: &PositionedFile) -> Result<Loaded> {
    let members = zip::members(file)?;
    let top = top_folder(file, &members)?;
    refuse_torchscript(file, &members, &top)?;
    check_byte_order(file, &members, &top)?;
    let pickle = &members[&format!("{top}{PICKLE}")];
    record(pickle, "data.pkl").verify(file)?;
    let mut source = Source::new(file, pickle.start, pickle.start + pickle.len);
    let (graph, root) = Machine::run(&mut source)?;
    let mut storages = Vec::with_capacity(graph.storages.len());
    let mut records = Vec::with_capacity(graph.storages.len());
    for storage in &graph.storages {
        let name = format!("{top}data/{}", storage.key);
        let Some(member) = members.get(&name).filter(|_| !storage.key.contains('/')) else {
            return Err(damaged(file, PickleCause::RecordMissing { record: shown(&name) }));
        };
        let size = super::super::elements::element_size(storage.dtype).unwrap_or(1) as u64;
        if storage.elements.checked_mul(size) != Some(member.len) {
            let (elements, dtype) = (storage.elements, storage.dtype);
            return Err(damaged(file, PickleCause::RecordLength { record: shown(&name), found: member.len, elements, dtype }));
        }
        storages.push(StorageLocation { offset: member.start, record: Some(records.len()) });
        records.push(record(member, &name));
    }
    Ok(Loaded { graph, root, storages, records })
}

fn record(member: &Member, name: &str) -> Record {
    Record::new(0, member.start, member.len, member.crc, name.to_owned())
}

/// The folder of the one pickle, with the slash behind it.
fn top_folder(file: &PositionedFile, members: &BTreeMap<String, Member>) -> Result<String> {
    let mut tops = members.keys().filter_map(|name| name.strip_suffix(PICKLE)).filter(|top| top.is_empty() || top.ends_with('/'));
    match (tops.next(), tops.next()) {
        (Some(top), None) => Ok(top.to_owned()),
        (Some(_), Some(_)) => Err(damaged(file, ArchiveCause::TwoPickles)),
        _ => Err(Error::file(file.path(), WeightFileCause::NoPickle, "unpack it and name the file inside")),
    }
}

/// TorchScript archives hold programs.
fn refuse_torchscript(file: &PositionedFile, members: &BTreeMap<String, Member>, top: &str) -> Result<()> {
    let code = |name: &String| name.strip_prefix(top).is_some_and(|rest| rest == "constants.pkl" || rest.starts_with("code/"));
    match members.keys().find(|name| code(name)) {
        Some(name) => {
            let cause = WeightFileCause::TorchScript { member: shown(name) };
            Err(Error::file(file.path(), cause, "save the weights alone (a state_dict)"))
        }
        None => Ok(()),
    }
}

/// Numbers must be little-endian; files without the entry are.
fn check_byte_order(file: &PositionedFile, members: &BTreeMap<String, Member>, top: &str) -> Result<()> {
    let Some(member) = members.get(&format!("{top}byteorder")) else { return Ok(()) };
    record(member, "byteorder").verify(file)?;
    let order = file.read(member.start, member.len.min(16))?;
    if order == b"little" {
        return Ok(());
    }
    let found = shown(&String::from_utf8_lossy(&order));
    Err(Error::file(file.path(), WeightFileCause::ByteOrder { found }, "save it again on a little-endian machine"))
}
