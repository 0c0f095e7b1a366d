//! The exchange of rows and columns. A task writes [`ROWS`] rows of the result. It turns [`COLUMNS`] rows of the source at a time into
//! lanes, in a buffer that a first-level cache holds, and writes them as runs of some lines of a cache.

use std::mem::MaybeUninit;

use pulp::Simd;
use rayon::prelude::*;

use crate::kernels::isa::vector::{rows_to_lanes, store};
use crate::kernels::isa::{Isa, Kernel, current, dispatch};
use crate::kernels::memory::scratch::written;
use crate::kernels::tuning::passes::{TRANSPOSE_COLUMNS as COLUMNS, TRANSPOSE_ROWS as ROWS};

/// Vectors of the buffer: those of the shortest vectors, of which most are needed.
const BUFFER: usize = ROWS * COLUMNS / 4;

/// The transposed matrices `[rows, columns]` of a batch.
pub fn transposed(x: &[f32], batch: usize, rows: usize, columns: usize) -> Vec<f32> {
    assert_eq!(x.len(), batch * rows * columns, "a batch of matrices has all its elements");
    if x.is_empty() {
        return Vec::new();
    }
    let set = current();
    let write = |out: &mut [MaybeUninit<f32>]| {
        for (out, x) in out.chunks_mut(rows * columns).zip(x.chunks(rows * columns)) {
            out.par_chunks_mut(ROWS * rows).enumerate().for_each(|(part, out)| {
                dispatch(set, Part { x: &x[part * ROWS..], columns, rows, out });
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
    fn run<I: Isa>(self, isa: I) {
        let simd = isa.simd();
        let Self { x, columns, rows, out } = self;
        let (lanes, count) = (I::LANES, out.len() / rows);
        let mut buffer = [simd.splat_f32s(0.0); BUFFER];
        for first in (0..rows).step_by(COLUMNS) {
            let some = COLUMNS.min(rows - first);
            for (group, start) in (0..some).step_by(lanes).enumerate() {
                let to = &mut buffer[group * count..(group + 1) * count];
                rows_to_lanes(simd, &x[(first + start) * columns..], columns, lanes.min(some - start), to);
            }
            for (index, row) in out.chunks_exact_mut(rows).enumerate() {
                let row = &mut row[first..first + some];
                for (group, to) in row.chunks_mut(lanes).enumerate() {
                    store::<I::Simd>(to, buffer[group * count + index]);
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
            for (name, set) in available() {
                let (columns, length) = (columns.min(ROWS), rows * columns.min(ROWS));
                let x = &x[..length];
                // SAFETY: the kernel writes its part; what it left out would be NaN.
                let out = unsafe { written(length, |out| dispatch(set, Part { x, columns, rows, out })) };
                for (index, value) in out.into_iter().enumerate() {
                    assert_eq!(value, x[index % rows * columns + index / rows], "{name}, {rows} x {columns}");
                }
            }
        }
    }
}
