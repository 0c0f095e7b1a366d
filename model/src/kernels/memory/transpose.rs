//! The exchange of rows and columns. A task writes [`ROWS`] rows of the result. It turns [`COLUMNS`] rows of the source at a time into
//! lanes, in a buffer that a first-level cache holds, and writes them as runs of some lines of a cache.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::kernels::isa::arch;
use crate::kernels::isa::lanes::{Kernel, Lanes, dispatch, gather, store};
use crate::kernels::memory::scratch::written;

/// Rows of the result that one task writes.
const ROWS: usize = 32;
/// Columns of the result that are written at once: whole vectors of every instruction set.
const COLUMNS: usize = 64;
/// Vectors of the buffer: those of the shortest vectors, of which most are needed.
const BUFFER: usize = ROWS * COLUMNS / 4;

/// The transposed matrices `[rows, columns]` of a batch.
pub fn transposed(x: &[f32], batch: usize, rows: usize, columns: usize) -> Vec<f32> {
    assert_eq!(x.len(), batch * rows * columns, "a batch of matrices has all its elements");
    if x.is_empty() {
        return Vec::new();
    }
    let arch = arch();
    let write = |out: &mut [MaybeUninit<f32>]| {
        for (out, x) in out.chunks_mut(rows * columns).zip(x.chunks(rows * columns)) {
            out.par_chunks_mut(ROWS * rows).enumerate().for_each(|(part, out)| {
                dispatch(arch, Part { x: &x[part * ROWS..], columns, rows, out });
            });
        }
    };
    // SAFETY: the parts make up the whole, and each is written row by row.
    unsafe { written(x.len(), write) }
}

/// Some columns of a matrix, which become rows.
struct Part<'a> {
    /// From the first of the columns on.
    x: &'a [f32],
    columns: usize,
    rows: usize,
    out: &'a mut [MaybeUninit<f32>],
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, simd: S) {
        let Self { x, columns, rows, out } = self;
        let (lanes, count) = (S::F32_LANES, out.len() / rows);
        let mut buffer = [simd.splat_f32s(0.0); BUFFER];
        for first in (0..rows).step_by(COLUMNS) {
            let some = COLUMNS.min(rows - first);
            for (group, start) in (0..some).step_by(lanes).enumerate() {
                let to = &mut buffer[group * count..(group + 1) * count];
                gather(simd, &x[(first + start) * columns..], columns, lanes.min(some - start), to);
            }
            for (index, row) in out.chunks_exact_mut(rows).enumerate() {
                let row = &mut row[first..first + some];
                for (group, to) in row.chunks_mut(lanes).enumerate() {
                    store::<S>(to, buffer[group * count + index]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::isa::available;

    #[test]
    fn matrices_of_any_size_are_transposed() {
        for (rows, columns) in [(1, 1), (1, 70), (70, 1), (5, 3), (64, 32), (65, 33), (130, 100), (8, 16), (17, 31)] {
            let x: Vec<f32> = (0..2 * rows * columns).map(|index| index as f32).collect();
            let expected: Vec<f32> = (0..2)
                .flat_map(|sample| {
                    (0..columns).flat_map(move |column| (0..rows).map(move |row| (sample * rows + row) * columns + column))
                })
                .map(|index| index as f32)
                .collect();
            assert_eq!(transposed(&x, 2, rows, columns), expected);
            for (name, arch) in available() {
                let (columns, length) = (columns.min(ROWS), rows * columns.min(ROWS));
                let x = &x[..length];
                // SAFETY: the kernel writes its part; what it left out would be NaN.
                let out = unsafe { written(length, |out| dispatch(arch, Part { x, columns, rows, out })) };
                for (index, value) in out.into_iter().enumerate() {
                    assert_eq!(value, x[index % rows * columns + index / rows], "{name}, {rows} x {columns}");
                }
            }
        }
    }
}
