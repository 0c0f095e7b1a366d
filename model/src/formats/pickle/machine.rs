//! The machine that runs a pickle's instructions: those that torch writes, those that its restricted loader knows, and the four
//! that protocol 4 adds for plain objects. All others are refused.

use super::super::shown::shown;
use super::globals::{self, Global};
use super::graph::{Graph, NodeId, Value};
use super::source::Source;
use super::{DAMAGED, UNTRUSTED};
use crate::error::{Error, FileCause, PickleCause, Result};
use std::collections::HashMap;

/// Most instructions in one pickle; a Lightning checkpoint of SD1.5 with its optimizer has some hundred thousand. Bounds the count
/// of objects, and with it memory.
const MAX_INSTRUCTIONS: u32 = 2 << 20;
/// Most bytes of text in one pickle.
const MAX_TEXT: u64 = 64 << 20;
/// Most members copied from one object into another.
const MAX_COPIES: usize = 4 << 20;
/// Most nested keys that a message names.
const MAX_KEYS: usize = 8;

pub(super) struct Machine<'s, 'f> {
    pub(super) source: &'s mut Source<'f>,
    pub(super) graph: Graph,
    stack: Vec<NodeId>,
    marks: Vec<usize>,
    memo: HashMap<u32, NodeId>,
    text: u64,
    copies: usize,
}

impl<'s, 'f> Machine<'s, 'f> {
    /// Runs one pickle from the source's position to its STOP.
    pub(super) fn run(source: &'s mut Source<'f>) -> Result<(Graph, NodeId)> {
        let mut machine = Self {
            source,
            graph: Graph::default(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            text: 0,
            copies: 0,
        };
        for _ in 0..MAX_INSTRUCTIONS {
            let at = machine.source.position();
            let instruction = machine.source.byte()?;
            if instruction == b'.' {
                let root = machine.pop()?;
                return Ok((machine.graph, root));
            }
            machine.step(instruction, at)?;
        }
        Err(machine.refuse(PickleCause::TooManyInstructions { most: MAX_INSTRUCTIONS }, UNTRUSTED))
    }

    fn step(&mut self, instruction: u8, at: u64) -> Result<()> {
        match instruction {
            // PROTO
            0x80 => match self.source.byte()? {
                0..=5 => Ok(()),
                protocol => Err(self.refuse(PickleCause::Protocol { found: protocol }, DAMAGED)),
            },
            // FRAME: a length for readers that read ahead
            0x95 => {
                let len = u64::from_le_bytes(self.source.array()?);
                self.source.require(len)
            }
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' | b'K' | b'M' | 0x8a => self.integer(instruction),
            b'G' => {
                let number = f64::from_be_bytes(self.source.array()?);
                self.push(Value::Float(number))
            }
            b'X' | 0x8c | b'U' => self.string(instruction),
            b')' => self.push(Value::Tuple(Box::default())),
            0x85..=0x87 => self.short_tuple(usize::from(instruction - 0x84)),
            b't' => {
                let members = self.pop_mark()?;
                self.push(Value::Tuple(members.into()))
            }
            b']' => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            // EMPTY_SET
            0x8f => self.push(Value::Opaque),
            b'a' => {
                let member = self.pop()?;
                self.append(vec![member])
            }
            b'e' => {
                let members = self.pop_mark()?;
                self.append(members)
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(vec![key, value])
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(items)
            }
            b'c' => {
                let (module, name) = (self.source.line()?, self.source.line()?);
                self.global(&module, &name)
            }
            // STACK_GLOBAL
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let text = |id| self.graph.text(id).map(str::to_owned);
                match (text(module), text(name)) {
                    (Some(module), Some(name)) => self.global(&module, &name),
                    _ => Err(self.refuse(PickleCause::GlobalName, DAMAGED)),
                }
            }
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memo(instruction),
            b'R' => self.reduce(),
            // NEWOBJ
            0x81 => self.reduce(),
            b'b' => self.build(),
            b'Q' => self.persistent(),
            other => Err(self.refuse(PickleCause::Instruction { found: other, position: at }, UNTRUSTED)),
        }
    }

    /// BININT, BININT1, BININT2, LONG1.
    fn integer(&mut self, instruction: u8) -> Result<()> {
        let value = match instruction {
            b'J' => i128::from(i32::from_le_bytes(self.source.array()?)),
            b'K' => i128::from(self.source.byte()?),
            b'M' => i128::from(u16::from_le_bytes(self.source.array()?)),
            _ => self.long()?,
        };
        match i64::try_from(value) {
            Ok(value) => self.push(Value::Int(value)),
            Err(_) => self.push(Value::Big(Box::new(value))),
        }
    }

    fn long(&mut self) -> Result<i128> {
        let len = self.source.byte()?;
        if len > 16 {
            return Err(self.refuse(PickleCause::LongNumber { bytes: len }, UNTRUSTED));
        }
        let bytes = self.source.bytes(u64::from(len))?;
        let sign = if bytes.last().is_some_and(|last| last & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [sign; 16];
        wide[..bytes.len()].copy_from_slice(&bytes);
        Ok(i128::from_le_bytes(wide))
    }

    /// BINUNICODE, SHORT_BINUNICODE, SHORT_BINSTRING.
    fn string(&mut self, instruction: u8) -> Result<()> {
        let len = if instruction == b'X' {
            u64::from(u32::from_le_bytes(self.source.array()?))
        } else {
            u64::from(self.source.byte()?)
        };
        // Both before anything is allocated: the length is what the file claims.
        self.source.require(len)?;
        self.text += len;
        if self.text > MAX_TEXT {
            return Err(self.refuse(PickleCause::TooMuchText { most: MAX_TEXT }, UNTRUSTED));
        }
        let bytes = self.source.bytes(len)?;
        self.push(Value::Text(String::from_utf8_lossy(&bytes).into()))
    }

    fn short_tuple(&mut self, len: usize) -> Result<()> {
        let mut members = vec![0; len];
        for member in members.iter_mut().rev() {
            *member = self.pop()?;
        }
        self.push(Value::Tuple(members.into()))
    }

    /// Appends to a list; to an opaque object as well, which forgets.
    fn append(&mut self, members: Vec<NodeId>) -> Result<()> {
        let target = self.top()?;
        match self.graph.get_mut(target) {
            Value::List(list) => list.extend(members),
            Value::Opaque => {}
            other => {
                let found = other.describe();
                return Err(self.refuse(PickleCause::AppendsTo { found }, DAMAGED));
            }
        }
        Ok(())
    }

    /// Puts keys and values, one after the other in `items`, into a dictionary; into an opaque object as well, which forgets.
    fn set_items(&mut self, items: Vec<NodeId>) -> Result<()> {
        let target = self.top()?;
        if !items.len().is_multiple_of(2) {
            return Err(self.refuse(PickleCause::KeyWithoutValue, DAMAGED));
        }
        match self.graph.get_mut(target) {
            Value::Dict(entries) => entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            Value::Opaque => {}
            other => {
                let found = other.describe();
                return Err(self.refuse(PickleCause::SetsItemsOf { found }, DAMAGED));
            }
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        match globals::lookup(module, name) {
            Some(global) => self.push(Value::Global(global)),
            None => {
                let name = format!("{module}.{name}");
                Err(self.refuse(PickleCause::Global { name: shown(&name) }, UNTRUSTED))
            }
        }
    }

    /// BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET.
    fn memo(&mut self, instruction: u8) -> Result<()> {
        let index = match instruction {
            b'q' | b'h' => u32::from(self.source.byte()?),
            b'r' | b'j' => u32::from_le_bytes(self.source.array()?),
            _ => self.memo.len() as u32,
        };
        if matches!(instruction, b'h' | b'j') {
            let Some(id) = self.memo.get(&index) else {
                return Err(self.refuse(PickleCause::UnknownObject { index }, DAMAGED));
            };
            self.stack.push(*id);
            return Ok(());
        }
        let id = self.top()?;
        self.memo.insert(index, id);
        Ok(())
    }

    /// BUILD gives an object its attributes, none of which is an entry of a dictionary.
    fn build(&mut self) -> Result<()> {
        self.pop()?;
        let target = self.top()?;
        match self.graph.get(target) {
            Value::Dict(_) | Value::Opaque => Ok(()),
            other => {
                let found = other.describe();
                Err(self.refuse(PickleCause::Builds { found }, UNTRUSTED))
            }
        }
    }

    /// Counts members that are copied, so that an object that is referred to often cannot be copied often.
    pub(super) fn count_copies(&mut self, count: usize) -> Result<()> {
        self.copies = self.copies.saturating_add(count);
        if self.copies > MAX_COPIES { Err(self.refuse(PickleCause::TooManyCopies, UNTRUSTED)) } else { Ok(()) }
    }

    pub(super) fn push(&mut self, value: Value) -> Result<()> {
        let id = self.graph.add(value);
        self.stack.push(id);
        Ok(())
    }

    pub(super) fn push_id(&mut self, id: NodeId) {
        self.stack.push(id);
    }

    /// The last mark's position, below which single objects may not be taken.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    pub(super) fn pop(&mut self) -> Result<NodeId> {
        if self.stack.len() > self.floor()
            && let Some(id) = self.stack.pop()
        {
            return Ok(id);
        }
        Err(self.refuse(PickleCause::EmptyStack, DAMAGED))
    }

    fn top(&self) -> Result<NodeId> {
        match self.stack.last() {
            Some(id) if self.stack.len() > self.floor() => Ok(*id),
            _ => Err(self.refuse(PickleCause::EmptyStack, DAMAGED)),
        }
    }

    fn pop_mark(&mut self) -> Result<Vec<NodeId>> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => Err(self.refuse(PickleCause::NoMark, DAMAGED)),
        }
    }

    /// A refusal that says under which key of the file the machine is.
    pub(super) fn refuse(&self, cause: PickleCause, advice: &str) -> Error {
        Error::file(self.source.file().path(), FileCause::Pickle { cause, key: self.key() }, advice)
    }

    /// The keys of the dictionaries that are being filled, joined by dots.
    fn key(&self) -> Option<String> {
        let mut keys: Vec<&str> = Vec::new();
        let starts = std::iter::once(0).chain(self.marks.iter().copied());
        let ends = self.marks.iter().copied().chain(std::iter::once(self.stack.len()));
        for (start, end) in starts.zip(ends) {
            let group = &self.stack[start..end];
            // Inside a group that fills a dictionary, keys and values take turns; a value in the making is the group's last object,
            // or not there yet.
            let fills = start > 0 && matches!(self.graph.get(self.stack[start - 1]), Value::Dict(_));
            let key = match group {
                [.., key, _] if fills && group.len().is_multiple_of(2) => Some(key),
                [.., key] if fills => Some(key),
                // A single entry has no group of its own: dictionary, key, value.
                [.., dictionary, key, _] if matches!(self.graph.get(*dictionary), Value::Dict(_)) => Some(key),
                [.., dictionary, key] if matches!(self.graph.get(*dictionary), Value::Dict(_)) => Some(key),
                _ => None,
            };
            keys.extend(key.and_then(|key| self.graph.text(*key)));
            if keys.len() == MAX_KEYS {
                break;
            }
        }
        let keys: Vec<String> = keys.into_iter().map(shown).collect();
        if keys.is_empty() { None } else { Some(keys.join(".")) }
    }

    /// Pops what REDUCE takes: the name that stands for a function, and its arguments.
    pub(super) fn pop_call(&mut self) -> Result<(Global, NodeId)> {
        let arguments = self.pop()?;
        let function = self.pop()?;
        match self.graph.get(function) {
            Value::Global(global) => Ok((*global, arguments)),
            other => {
                let found = other.describe();
                Err(self.refuse(PickleCause::Calls { found }, UNTRUSTED))
            }
        }
    }
}
