//! The bytes of one pickle inside a file, read through a small window.

use super::super::positioned::PositionedFile;
use super::damaged;
use crate::error::{PickleCause, Result};

/// Bytes held at once.
const WINDOW: u64 = 1 << 16;
/// Longest module or attribute name of a global.
const MAX_LINE: usize = 512;

/// Reads forward from a position up to an end.
pub(super) struct Source<'a> {
    file: &'a PositionedFile,
    position: u64,
    end: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl<'a> Source<'a> {
    /// The bytes `start..end` of the file.
    pub(super) fn new(file: &'a PositionedFile, start: u64, end: u64) -> Self {
        Self { file, position: start, end: end.min(file.len()), window: Vec::new(), window_start: 0 }
    }

    /// Where the next byte is read, counted from the file's start.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes left.
    pub(super) fn remaining(&self) -> u64 {
        self.end - self.position
    }

    /// The file.
    pub(super) fn file(&self) -> &'a PositionedFile {
        self.file
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.require(N as u64)?;
        let offset = self.position.wrapping_sub(self.window_start);
        if self.position < self.window_start || offset + N as u64 > self.window.len() as u64 {
            self.window = self.file.read(self.position, self.remaining().min(WINDOW.max(N as u64)))?;
            self.window_start = self.position;
        }
        let offset = (self.position - self.window_start) as usize;
        self.position += N as u64;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.window[offset..offset + N]);
        Ok(bytes)
    }

    /// The next `len` bytes; the length was checked against a budget before.
    pub(super) fn bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        self.require(len)?;
        let bytes = self.file.read(self.position, len)?;
        self.position += len;
        Ok(bytes)
    }

    /// Text up to the end of the line, without it.
    pub(super) fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => break,
                byte if line.len() < MAX_LINE => line.push(byte),
                _ => return Err(damaged(self.file, PickleCause::LongName { most: MAX_LINE })),
            }
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Fails unless `len` bytes are left.
    pub(super) fn require(&self, len: u64) -> Result<()> {
        if len <= self.remaining() {
            return Ok(());
        }
        Err(damaged(self.file, PickleCause::Short { position: self.position, expected: len, end: self.end }))
    }
}
