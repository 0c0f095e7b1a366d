//! The objects of a pickle, in one flat list and referring to each other by position.
//!
//! References are shared, never copied; objects that contain themselves are no special case; and nothing here recurses, however
//! deep a file nests, neither while it is built nor when it is dropped.

use super::globals::Global;
use safetensors::Dtype;
use std::collections::HashMap;

/// Position of an object in its [`Graph`].
pub(super) type NodeId = u32;

/// One object.
#[derive(Debug)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// A whole number of more than 64 bits.
    Big(Box<i128>),
    Float(f64),
    Text(Box<str>),
    Tuple(Box<[NodeId]>),
    List(Vec<NodeId>),
    Dict(Vec<(NodeId, NodeId)>),
    Global(Global),
    /// Position in [`Graph::storages`].
    Storage(u32),
    /// Position in [`Graph::tensors`].
    Tensor(u32),
    /// Something harmless that is not built.
    Opaque,
}

impl Value {
    /// What the object is, in words.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::None => "nothing (None)",
            Self::Bool(_) => "a truth value",
            Self::Int(_) | Self::Big(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dictionary",
            Self::Global(_) => "a class or function",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
            Self::Opaque => "an object that is not a tensor",
        }
    }
}

/// A run of elements of one type, in a record of its own.
#[derive(Debug)]
pub(super) struct Storage {
    pub(super) key: String,
    pub(super) dtype: Dtype,
    pub(super) elements: u64,
}

/// A view of a storage; all counts are in elements and were checked against the storage's.
#[derive(Debug)]
pub(super) struct TensorView {
    pub(super) storage: u32,
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<u64>,
}

/// All objects of a pickle.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: Vec<Value>,
    pub(super) tensors: Vec<TensorView>,
    pub(super) storages: Vec<Storage>,
    pub(super) storage_by_key: HashMap<String, u32>,
}

impl Graph {
    /// Adds an object. Their count is bounded by the count of instructions, far below 2^32.
    pub(super) fn add(&mut self, value: Value) -> NodeId {
        self.nodes.push(value);
        (self.nodes.len() - 1) as NodeId
    }

    /// The object at a position that this graph handed out.
    pub(super) fn get(&self, id: NodeId) -> &Value {
        &self.nodes[id as usize]
    }

    /// The same, to change it.
    pub(super) fn get_mut(&mut self, id: NodeId) -> &mut Value {
        &mut self.nodes[id as usize]
    }

    /// The text of an object that is one.
    pub(super) fn text(&self, id: NodeId) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The members of a tuple or list.
    pub(super) fn members(&self, id: NodeId) -> Option<&[NodeId]> {
        match self.get(id) {
            Value::Tuple(members) => Some(members),
            Value::List(members) => Some(members),
            _ => None,
        }
    }
}
