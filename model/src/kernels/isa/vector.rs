//! Vectors of float32 numbers in memory: loaded, stored, and exchanged with rows.

use std::mem::MaybeUninit;

use pulp::bytemuck;

use super::{MAX_LANES, Vector};

/// A transposition through memory.
#[inline(always)]
pub(super) fn transpose_elements<S: Vector>(square: &mut [S::f32s]) {
    let elements: &mut [f32] = bytemuck::cast_slice_mut(square);
    for row in 1..S::F32_LANES {
        for column in 0..row {
            elements.swap(row * S::F32_LANES + column, column * S::F32_LANES + row);
        }
    }
}

/// One vector from the start of `values`.
#[inline(always)]
pub fn load<S: Vector>(values: &[f32]) -> S::f32s {
    S::as_simd_f32s(&values[..S::F32_LANES]).0[0]
}

/// Writes one vector to the start of `to`, as far as there is room.
#[inline(always)]
pub fn store<S: Vector>(to: &mut [MaybeUninit<f32>], vector: S::f32s) {
    if to.len() >= S::F32_LANES {
        S::as_uninit_mut_simd_f32s(&mut to[..S::F32_LANES]).0[0].write(vector);
        return;
    }
    let elements: &[f32] = bytemuck::cast_slice(std::slice::from_ref(&vector));
    to.iter_mut().zip(elements).for_each(|(to, element)| _ = to.write(*element));
}

/// The vector from element `start` of `values` on, with zeros for what is behind their end.
#[inline(always)]
pub fn load_partial<S: Vector>(values: &[f32], start: usize) -> S::f32s {
    let rest = &values[start..];
    if rest.len() >= S::F32_LANES {
        return load::<S>(rest);
    }
    let mut filled = [0.0; MAX_LANES];
    filled[..rest.len()].copy_from_slice(rest);
    load::<S>(&filled)
}

/// Writes one vector to the start of `to`.
#[inline(always)]
pub fn store_whole<S: Vector>(to: &mut [f32], vector: S::f32s) {
    S::as_mut_simd_f32s(&mut to[..S::F32_LANES]).0[0] = vector;
}

/// Whether `count` rows of `columns` elements that start `stride` apart lie inside a slice of `length` elements.
#[inline(always)]
pub fn fits(length: usize, count: usize, columns: usize, stride: usize) -> bool {
    if count == 0 || columns == 0 {
        return true;
    }
    let last = (count - 1).checked_mul(stride).and_then(|last| last.checked_add(columns));
    last.is_some_and(|end| end <= length)
}

/// Turns rows into lanes: column `j` of the rows becomes vector `j` of `to`, row `i` its lane `i`.
///
/// `count` rows start `stride` elements apart in `rows` and have as many elements as `to` has vectors; missing rows are zeros.
#[inline(always)]
pub fn rows_to_lanes<S: Vector>(simd: S, rows: &[f32], stride: usize, count: usize, to: &mut [S::f32s]) {
    let (lanes, columns) = (S::F32_LANES, to.len());
    assert!(count <= lanes && fits(rows.len(), count, columns, stride), "{count} rows of {columns} elements exceed their slice");
    let whole = columns / lanes * lanes;
    for (start, to) in (0..whole).step_by(lanes).zip(to.chunks_exact_mut(lanes)) {
        for lane in 0..lanes {
            to[lane] = if lane < count {
                // SAFETY: the vector ends at or before the row's end, `start + lanes <= columns`, and the last row at or before the
                // slice's end, as asserted. Vectors of numbers take every pattern of bits, and an unaligned read needs no alignment.
                unsafe { rows.as_ptr().add(lane * stride + start).cast::<S::f32s>().read_unaligned() }
            } else {
                simd.splat_f32s(0.0)
            };
        }
        simd.transpose(to);
    }
    for (column, to) in to.iter_mut().enumerate().skip(whole) {
        let mut elements = [0.0; MAX_LANES];
        for (lane, element) in elements[..count].iter_mut().enumerate() {
            *element = rows[lane * stride + column];
        }
        *to = load::<S>(&elements);
    }
}

/// Turns lanes into rows: lane `i` of vector `j` of `from` becomes column `j` of row `i`; lanes without a row are dropped.
///
/// `from` has at least as many vectors as the rows have columns.
#[inline(always)]
pub fn lanes_to_rows<S: Vector>(simd: S, from: &[S::f32s], rows: &mut [&mut [MaybeUninit<f32>]]) {
    let lanes = S::F32_LANES;
    let columns = rows.first().map_or(0, |row| row.len());
    let whole = columns / lanes * lanes;
    for (start, from) in (0..whole).step_by(lanes).zip(from.chunks_exact(lanes)) {
        let mut square = [simd.splat_f32s(0.0); MAX_LANES];
        let square = &mut square[..lanes];
        square.copy_from_slice(from);
        simd.transpose(square);
        for (row, values) in rows.iter_mut().zip(square.iter()) {
            S::as_uninit_mut_simd_f32s(&mut row[start..start + lanes]).0[0].write(*values);
        }
    }
    for column in whole..columns {
        let elements: &[f32] = bytemuck::cast_slice(std::slice::from_ref(&from[column]));
        for (row, element) in rows.iter_mut().zip(elements) {
            row[column].write(*element);
        }
    }
}

#[cfg(test)]
mod tests {
    use pulp::Simd;

    use super::*;
    use crate::kernels::isa::{Isa, Kernel, available, dispatch};
    use crate::kernels::memory::scratch::written;

    /// Rows to lanes and back, with remainders and missing rows.
    struct ThereAndBack {
        rows: usize,
        columns: usize,
    }

    impl Kernel for ThereAndBack {
        type Output = ();

        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            let simd = isa.simd();
            let (rows, columns) = (self.rows.min(I::LANES), self.columns);
            let stride = columns + 3;
            let values: Vec<f32> = (0..rows * stride).map(|index| index as f32 + 1.0).collect();
            let mut lanes = vec![simd.splat_f32s(f32::NAN); columns];
            rows_to_lanes(simd, &values, stride, rows, &mut lanes);
            for (column, vector) in lanes.iter().enumerate() {
                let vector: &[f32] = bytemuck::cast_slice(std::slice::from_ref(vector));
                for (row, &element) in vector.iter().enumerate() {
                    assert_eq!(element, if row < rows { values[row * stride + column] } else { 0.0 });
                }
            }
            let write = |out: &mut [MaybeUninit<f32>]| {
                let mut parts: Vec<_> = out.chunks_mut(columns).collect();
                lanes_to_rows(simd, &lanes, &mut parts);
            };
            // SAFETY: the rows make up the whole output, and `lanes_to_rows` fills them; what it left out would be NaN.
            let back = unsafe { written(rows * columns, write) };
            let expected: Vec<f32> = values.chunks(stride).flat_map(|row| row[..columns].iter().copied()).collect();
            assert_eq!(back, expected);
        }
    }

    #[test]
    fn rows_become_lanes_and_rows_again() {
        for (_, set) in available() {
            for rows in [1, 3, 4, 7, 8, 13, 16] {
                for columns in [1, 2, 5, 8, 16, 19, 37, 66] {
                    dispatch(set, ThereAndBack { rows, columns });
                }
            }
        }
    }

    #[test]
    fn sizes_whose_product_wraps_do_not_fit() {
        assert!(fits(20, 3, 4, 8) && !fits(19, 3, 4, 8) && fits(0, 0, 4, 8) && fits(0, 3, 0, 8));
        assert!(!fits(20, 3, 4, usize::MAX / 2 + 1));
        assert!(!fits(20, 2, usize::MAX, 1));
    }
}
