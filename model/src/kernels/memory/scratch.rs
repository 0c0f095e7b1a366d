//! Memory: buffers that outlive a call, as fresh pages from the operating system cost more than much of what is computed in them, and
//! results that are not zeroed before they are written.

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Buffers at rest, smallest first; about as many as were ever in use at once.
static REST: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// Elements of a line of a cache: buffers start at one, so that no vector of theirs lies across two.
const LINE: usize = 16;

/// A buffer of numbers left by earlier uses, whatever they are; it goes back when dropped.
///
/// The default is an empty one.
#[derive(Default)]
pub struct Scratch {
    values: Vec<f32>,
    start: usize,
    length: usize,
}

impl Scratch {
    /// A buffer of `length` elements: the smallest at rest that holds them, or the largest, grown.
    pub fn take(length: usize) -> Self {
        let whole = length + LINE;
        let mut rest = REST.lock().unwrap_or_else(PoisonError::into_inner);
        let place = rest.partition_point(|values| values.len() < whole);
        let mut values = if place < rest.len() { rest.remove(place) } else { rest.pop().unwrap_or_default() };
        drop(rest);
        if values.len() < whole {
            // Not `resize`, which would copy what nobody needs; and the old one goes first.
            drop(values);
            values = vec![0.0; whole];
        }
        let start = values.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        Self { values, start, length }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        if values.is_empty() {
            return;
        }
        let mut rest = REST.lock().unwrap_or_else(PoisonError::into_inner);
        let place = rest.partition_point(|other| other.len() < values.len());
        rest.insert(place, values);
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[self.start..self.start + self.length]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[self.start..self.start + self.length]
    }
}

/// `length` numbers as `write` leaves them.
///
/// # Safety
/// `write` writes every element.
pub unsafe fn written(length: usize, write: impl FnOnce(&mut [MaybeUninit<f32>])) -> Vec<f32> {
    let mut values = Vec::with_capacity(length);
    let space = &mut values.spare_capacity_mut()[..length];
    if cfg!(test) {
        // Whatever is not written shows.
        space.fill(MaybeUninit::new(f32::NAN));
    }
    write(space);
    // SAFETY: the capacity suffices, and the caller promises that every element is initialized.
    unsafe { values.set_len(length) };
    values
}
