//! From the object that was saved to named tensors.
//!
//! A dictionary with the key `state_dict` is unwrapped, as often as it is one. Nested dictionaries and lists become dotted names,
//! down to a depth that no model reaches; objects that are referred to more than once count as often as they are named.

use super::super::elements::element_size;
use super::super::location::Location;
use super::super::positioned::PositionedFile;
use super::super::shown::shown;
use super::super::weight_file::TensorInfo;
use super::graph::{Graph, NodeId, TensorView, Value};
use super::{Contents, Loaded, Other, StorageLocation, UNTRUSTED};
use crate::error::{Error, PickleCause, Result, TensorCause};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Deepest nesting of named entries, and of `state_dict`s.
const MAX_DEPTH: usize = 16;
/// Named entries, and bytes of their names, that a file may have beyond its size: an object that is referred to often is named often.
const SPARE_NAMES: u64 = 1 << 16;
/// Bytes that expanded tensors may have beyond four times the file's size.
const SPARE_BYTES: u64 = 16 << 20;

pub(super) fn flatten(file: &PositionedFile, loaded: Loaded) -> Result<Contents> {
    let refuse = |cause: PickleCause| Error::file(file.path(), cause, UNTRUSTED);
    let root = unwrap(&loaded.graph, loaded.root).ok_or_else(|| refuse(PickleCause::ContainsItself))?;
    let mut entries = Entries {
        file,
        graph: &loaded.graph,
        storages: &loaded.storages,
        bytes: 0,
        tensors: BTreeMap::new(),
        others: BTreeMap::new(),
    };
    if children(&loaded.graph, root).is_none() {
        return Err(refuse(PickleCause::NoStateDict { found: loaded.graph.get(root).describe() }));
    }
    // Depth-first without recursion: what is still to be named.
    let mut pending: Vec<(String, NodeId, usize)> = vec![(String::new(), root, 0)];
    let limit = file.len().saturating_add(SPARE_NAMES);
    let (mut named, mut name_bytes) = (0, 0);
    while let Some((name, id, depth)) = pending.pop() {
        let Some(children) = children(&loaded.graph, id) else {
            entries.add(name, id)?;
            continue;
        };
        if depth == MAX_DEPTH {
            return Err(refuse(PickleCause::TooDeep { most: MAX_DEPTH, key: shown(&name) }));
        }
        named += children.len() as u64;
        if named > limit {
            return Err(refuse(PickleCause::TooManyEntries { most: limit }));
        }
        if children.len() == 0 && depth > 0 {
            entries.add(name, id)?;
            continue;
        }
        for (key, child) in children.named(&loaded.graph) {
            let child_name = if depth == 0 { key.into_owned() } else { format!("{name}.{key}") };
            name_bytes += child_name.len() as u64;
            // Long before memory is: a long key above many entries stands in the name of each.
            if name_bytes > 4 * limit {
                return Err(refuse(PickleCause::LongNames { most: 4 * limit }));
            }
            pending.push((child_name, child, depth + 1));
        }
    }
    let Entries { tensors, others, .. } = entries;
    Ok(Contents { tensors, others, records: loaded.records })
}

/// Follows `state_dict` keys; `None` when there is no end to them.
fn unwrap(graph: &Graph, mut root: NodeId) -> Option<NodeId> {
    for _ in 0..MAX_DEPTH {
        let Value::Dict(entries) = graph.get(root) else { return Some(root) };
        match entries
            .iter()
            .rev()
            .find(|(key, value)| graph.text(*key) == Some("state_dict") && children(graph, *value).is_some())
        {
            Some((_, inner)) => root = *inner,
            None => return Some(root),
        }
    }
    None
}

/// The members of a dictionary, list or tuple.
enum Children<'a> {
    Entries(&'a [(NodeId, NodeId)]),
    Members(&'a [NodeId]),
}

fn children(graph: &Graph, id: NodeId) -> Option<Children<'_>> {
    match graph.get(id) {
        Value::Dict(entries) => Some(Children::Entries(entries)),
        _ => graph.members(id).map(Children::Members),
    }
}

impl<'a> Children<'a> {
    fn len(&self) -> usize {
        match self {
            Self::Entries(entries) => entries.len(),
            Self::Members(members) => members.len(),
        }
    }

    /// Members with their names, one after the other; a list's are named by their positions.
    fn named(self, graph: &'a Graph) -> Box<dyn Iterator<Item = (Cow<'a, str>, NodeId)> + 'a> {
        let name = |key: NodeId| match graph.get(key) {
            Value::Text(text) => Cow::Borrowed(&**text),
            Value::Int(number) => Cow::Owned(number.to_string()),
            other => Cow::Owned(format!("({})", other.describe())),
        };
        match self {
            Self::Entries(entries) => Box::new(entries.iter().map(move |(key, value)| (name(*key), *value))),
            Self::Members(members) => {
                Box::new(members.iter().enumerate().map(|(index, id)| (Cow::Owned(index.to_string()), *id)))
            }
        }
    }
}

/// Named entries as they are found.
struct Entries<'a> {
    file: &'a PositionedFile,
    graph: &'a Graph,
    storages: &'a [StorageLocation],
    bytes: u64,
    tensors: BTreeMap<String, (TensorInfo, Location)>,
    others: BTreeMap<String, Other>,
}

impl Entries<'_> {
    fn add(&mut self, name: String, id: NodeId) -> Result<()> {
        let twice = match self.graph.get(id) {
            Value::Tensor(position) => {
                let located = self.location(&name, &self.graph.tensors[*position as usize])?;
                self.others.contains_key(&name) || self.tensors.insert(name.clone(), located).is_some()
            }
            value => {
                let number = match value {
                    Value::Int(number) => Some(*number as f64),
                    Value::Float(number) => Some(*number),
                    _ => None,
                };
                let other = Other { kind: value.describe(), number };
                self.tensors.contains_key(&name) || self.others.insert(name.clone(), other).is_some()
            }
        };
        if twice { Err(Error::tensor(self.file.path(), shown(&name), TensorCause::Twice)) } else { Ok(()) }
    }

    /// Where the numbers of a view are; their total is kept in proportion to the file, since a view may repeat an element.
    fn location(&mut self, name: &str, view: &TensorView) -> Result<(TensorInfo, Location)> {
        let storage = &self.graph.storages[view.storage as usize];
        let location = &self.storages[view.storage as usize];
        let size = element_size(storage.dtype).unwrap_or(1) as u64;
        let bytes = view.shape.iter().try_fold(size, |bytes, side| bytes.checked_mul(*side as u64));
        let limit = self.file.len().saturating_mul(4).saturating_add(SPARE_BYTES);
        self.bytes = bytes.and_then(|bytes| self.bytes.checked_add(bytes)).unwrap_or(u64::MAX);
        if self.bytes > limit {
            let cause = TensorCause::Repeats { found: view.shape.clone() };
            return Err(Error::tensor(self.file.path(), shown(name), cause));
        }
        let info = TensorInfo { dtype: storage.dtype, shape: view.shape.clone() };
        // Inside of the file, as was checked, so nothing here overflows.
        let offset = location.offset + view.offset * size;
        // A step along a dimension of one is never taken, and may be any number.
        let step = |(side, stride): (&usize, &u64)| if *side == 1 { 0 } else { *stride };
        let strides = (!is_contiguous(view)).then(|| view.shape.iter().zip(&view.strides).map(step).collect());
        Ok((info, Location { file: 0, offset, strides, record: location.record }))
    }
}

/// Whether the view's elements follow each other.
fn is_contiguous(view: &TensorView) -> bool {
    let mut expected = 1u64;
    for (side, stride) in view.shape.iter().zip(&view.strides).rev() {
        if *side != 1 && *stride != expected {
            return false;
        }
        expected = expected.saturating_mul(*side as u64);
    }
    true
}
