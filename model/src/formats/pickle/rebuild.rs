//! What stands for a function call in a torch file: building a tensor from a storage, and the few other things torch writes.

use super::super::shown::shown;
use super::UNTRUSTED;
use super::globals::Global;
use super::graph::{NodeId, Storage, TensorView, Value};
use super::machine::Machine;
use crate::error::{Error, PickleCause, Result};

/// Most dimensions of a tensor.
const MAX_DIMENSIONS: usize = 8;
/// More arguments than any known function takes.
const MAX_ARGUMENTS: usize = 8;

impl Machine<'_, '_> {
    /// REDUCE and NEWOBJ: replaces a function's name and its arguments by what the function would have made.
    pub(super) fn reduce(&mut self) -> Result<()> {
        let (function, arguments) = self.pop_call()?;
        if function == Global::Opaque || function == Global::Plain {
            return self.push(Value::Opaque);
        }
        let arguments = self.arguments(arguments)?;
        match (function, arguments.as_slice()) {
            (Global::OrderedDict, []) => self.push(Value::Dict(Vec::new())),
            (Global::OrderedDict, [pairs]) => self.dict_of_pairs(*pairs),
            (Global::Size, [sizes]) if self.graph.members(*sizes).is_some() => {
                self.push_id(*sizes);
                Ok(())
            }
            (Global::RebuildFromType, [function, class, arguments, _state]) => self.typed_tensor(*function, *class, *arguments),
            (function, arguments) => {
                let tensor = self.tensor(function, arguments)?;
                self.push_id(tensor);
                Ok(())
            }
        }
    }

    /// A tuple's members, of which a call has few.
    fn arguments(&self, id: NodeId) -> Result<Vec<NodeId>> {
        match self.graph.get(id) {
            Value::Tuple(members) if members.len() <= MAX_ARGUMENTS => Ok(members.to_vec()),
            Value::Tuple(members) => Err(self.wrong(PickleCause::ArgumentCount { found: members.len() })),
            other => Err(self.wrong(PickleCause::Arguments { found: other.describe() })),
        }
    }

    /// An ordered dictionary as Python 2 pickled it: from a list of pairs.
    fn dict_of_pairs(&mut self, pairs: NodeId) -> Result<()> {
        let Some(members) = self.graph.members(pairs) else {
            return Err(self.wrong(PickleCause::NotPairs));
        };
        let entries: Option<Vec<(NodeId, NodeId)>> = members
            .iter()
            .map(|pair| match self.graph.members(*pair) {
                Some(&[key, value]) => Some((key, value)),
                _ => None,
            })
            .collect();
        let Some(entries) = entries else {
            return Err(self.wrong(PickleCause::NotPairs));
        };
        self.count_copies(entries.len())?;
        self.push(Value::Dict(entries))
    }

    /// `_rebuild_from_type_v2`: a function that makes a tensor, for a class that is one.
    fn typed_tensor(&mut self, function: NodeId, class: NodeId, arguments: NodeId) -> Result<()> {
        let (Value::Global(function), Value::Global(Global::TensorClass)) = (self.graph.get(function), self.graph.get(class))
        else {
            return Err(self.wrong(PickleCause::TensorClass));
        };
        let function = *function;
        let arguments = self.arguments(arguments)?;
        let tensor = self.tensor(function, &arguments)?;
        self.push_id(tensor);
        Ok(())
    }

    /// The tensor that a call of `function` makes.
    fn tensor(&mut self, function: Global, arguments: &[NodeId]) -> Result<NodeId> {
        match (function, arguments) {
            (Global::RebuildTensor, &[storage, offset, size, stride])
            | (Global::RebuildTensorV2, &[storage, offset, size, stride, _, _] | &[storage, offset, size, stride, _, _, _]) => {
                let view = self.view(storage, offset, size, stride)?;
                self.graph.tensors.push(view);
                let position = (self.graph.tensors.len() - 1) as u32;
                Ok(self.graph.add(Value::Tensor(position)))
            }
            (Global::RebuildParameter, &[tensor, _, _]) => match self.graph.get(tensor) {
                Value::Tensor(_) => Ok(tensor),
                other => Err(self.wrong(PickleCause::Parameter { found: other.describe() })),
            },
            _ => Err(self.wrong(PickleCause::UnknownCall)),
        }
    }

    /// A checked view of a storage.
    fn view(&self, storage: NodeId, offset: NodeId, size: NodeId, stride: NodeId) -> Result<TensorView> {
        let Value::Storage(storage) = *self.graph.get(storage) else {
            return Err(self.wrong(PickleCause::TensorOf { found: self.graph.get(storage).describe() }));
        };
        let offset = self.count(offset)?;
        let (shape, strides) = (self.counts(size)?, self.counts(stride)?);
        if shape.len() != strides.len() {
            return Err(self.wrong(PickleCause::Strides { sizes: shape.len(), strides: strides.len() }));
        }
        let elements = self.graph.storages[storage as usize].elements;
        let outside = || self.wrong(PickleCause::OutsideStorage { shape: shape.clone(), strides: strides.clone(), elements });
        let count = shape.iter().try_fold(1u64, |count, side| count.checked_mul(*side)).ok_or_else(outside)?;
        // The last element's position; a tensor without elements has none.
        let last = shape.iter().zip(&strides).try_fold(offset, |last, (side, stride)| {
            let steps = side.saturating_sub(1).checked_mul(*stride)?;
            last.checked_add(steps)
        });
        let last = last.ok_or_else(outside)?;
        if (count > 0 && last >= elements) || offset > elements {
            return Err(outside());
        }
        let shape = shape.iter().map(|side| usize::try_from(*side)).collect::<Result<Vec<_>, _>>().map_err(|_| outside())?;
        Ok(TensorView { storage, offset, shape, strides })
    }

    /// Whole numbers that are not negative, at most eight.
    fn counts(&self, id: NodeId) -> Result<Vec<u64>> {
        match self.graph.members(id) {
            Some(members) if members.len() <= MAX_DIMENSIONS => members.iter().map(|member| self.count(*member)).collect(),
            Some(members) => Err(self.wrong(PickleCause::Dimensions { found: members.len() })),
            None => Err(self.wrong(PickleCause::Sizes { found: self.graph.get(id).describe() })),
        }
    }

    /// A whole number that is not negative.
    fn count(&self, id: NodeId) -> Result<u64> {
        match self.graph.get(id) {
            Value::Int(number) if *number >= 0 => Ok(*number as u64),
            Value::Int(number) => Err(self.wrong(PickleCause::NegativeSize { found: *number })),
            other => Err(self.wrong(PickleCause::Size { found: other.describe() })),
        }
    }

    /// BINPERSID: `("storage", type, key, location, count of elements)`, in legacy files with a sixth member, a view, that is None.
    pub(super) fn persistent(&mut self) -> Result<()> {
        let id = self.pop()?;
        let members = self.arguments(id)?;
        let (tag, class, key, elements) = match *members.as_slice() {
            [tag, class, key, _, elements] => (tag, class, key, elements),
            [tag, class, key, _, elements, view] if matches!(self.graph.get(view), Value::None) => (tag, class, key, elements),
            _ => return Err(self.wrong(PickleCause::NoStorage)),
        };
        let (Some("storage"), Value::Global(Global::Storage(dtype)), Some(key)) =
            (self.graph.text(tag), self.graph.get(class), self.graph.text(key))
        else {
            return Err(self.wrong(PickleCause::NoStorage));
        };
        let storage = Storage { key: key.to_owned(), dtype: *dtype, elements: self.count(elements)? };
        let position = self.storage(storage)?;
        self.push(Value::Storage(position))
    }

    /// The position of a storage, which every reference must describe alike.
    fn storage(&mut self, storage: Storage) -> Result<u32> {
        if let Some(position) = self.graph.storage_by_key.get(&storage.key) {
            let known = &self.graph.storages[*position as usize];
            if (known.dtype, known.elements) != (storage.dtype, storage.elements) {
                return Err(self.wrong(PickleCause::StorageTwice { key: shown(&storage.key) }));
            }
            return Ok(*position);
        }
        let position = self.graph.storages.len() as u32;
        self.graph.storage_by_key.insert(storage.key.clone(), position);
        self.graph.storages.push(storage);
        Ok(position)
    }

    /// A refusal of something that no torch file has.
    fn wrong(&self, cause: PickleCause) -> Error {
        self.refuse(cause, UNTRUSTED)
    }
}
