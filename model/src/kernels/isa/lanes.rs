//! Vectors of float32 for kernels that are written once for every instruction set, and the exchange of rows and lanes.

use std::mem::MaybeUninit;

use pulp::{Arch, Scalar128b, Simd, bytemuck};

/// The most lanes that a vector has.
pub const MOST_LANES: usize = 16;

/// An instruction set, as the kernels here need it.
pub trait Lanes: Simd {
    /// Columns of a register block of two vectors each: what the registers hold beside two vectors and a broadcast number.
    const COLUMNS: usize;

    /// `a * b + c`, rounded once where the processor can.
    fn multiply_add(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s;

    /// Transposes a square of as many vectors as a vector has lanes.
    fn transpose(self, square: &mut [Self::f32s]);

    /// Runs a kernel in a function of its own, so that its registers are its own.
    fn apart<K: Kernel>(self, kernel: K) -> K::Output;

    /// Asks for the line of the cache `distance` elements behind the start of `values`, which may lie outside.
    fn prefetch(self, values: &[f32], distance: usize);
}

/// A computation that is compiled for every instruction set.
pub trait Kernel {
    /// What it answers.
    type Output;

    /// Computes with the vectors of `simd`. Has to be inlined into its caller, with all that it calls.
    fn run<S: Lanes>(self, simd: S) -> Self::Output;
}

/// Runs a kernel with an instruction set.
pub fn dispatch<K: Kernel>(arch: Arch, kernel: K) -> K::Output {
    match arch {
        #[cfg(target_arch = "x86_64")]
        Arch::V3(simd) => simd.vectorize(
            #[inline(always)]
            || kernel.run(simd),
        ),
        #[cfg(target_arch = "x86_64")]
        Arch::V4(simd) => simd.vectorize(
            #[inline(always)]
            || kernel.run(simd),
        ),
        #[cfg(target_arch = "aarch64")]
        Arch::Neon(simd) => simd.vectorize(
            #[inline(always)]
            || kernel.run(simd),
        ),
        _ => kernel.run(Scalar128b),
    }
}

/// How many lanes the vectors of an instruction set have.
pub fn lanes(arch: Arch) -> usize {
    struct Count;
    impl Kernel for Count {
        type Output = usize;
        #[inline(always)]
        fn run<S: Lanes>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    dispatch(arch, Count)
}

/// A transposition through memory.
#[inline(always)]
fn transpose_elements<S: Lanes>(square: &mut [S::f32s]) {
    let elements: &mut [f32] = bytemuck::cast_slice_mut(square);
    for row in 1..S::F32_LANES {
        for column in 0..row {
            elements.swap(row * S::F32_LANES + column, column * S::F32_LANES + row);
        }
    }
}

/// Four vectors of whatever the baseline of the target offers: no fused multiplication and addition.
impl Lanes for Scalar128b {
    const COLUMNS: usize = 4;

    #[inline(always)]
    fn multiply_add(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.add_f32s(self.mul_f32s(a, b), c)
    }

    #[inline(always)]
    fn transpose(self, square: &mut [Self::f32s]) {
        transpose_elements::<Self>(square);
    }

    #[inline(always)]
    fn apart<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn prefetch(self, _: &[f32], _: usize) {}
}

#[cfg(target_arch = "aarch64")]
impl Lanes for pulp::aarch64::Neon {
    const COLUMNS: usize = 12;

    #[inline(always)]
    fn multiply_add(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.mul_add_f32s(a, b, c)
    }

    #[inline(always)]
    fn transpose(self, square: &mut [Self::f32s]) {
        transpose_elements::<Self>(square);
    }

    #[inline(always)]
    fn apart<K: Kernel>(self, kernel: K) -> K::Output {
        self.vectorize(
            #[inline(always)]
            || kernel.run(self),
        )
    }

    #[inline(always)]
    fn prefetch(self, _: &[f32], _: usize) {}
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::__m256;

    use pulp::bytemuck::{self, cast};
    use pulp::x86::{V3, V4};
    use pulp::{Simd, f32x8};

    use super::{Kernel, Lanes};

    #[inline(always)]
    fn prefetch(address: *const f32) {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which no address makes fail; the instruction belongs to the baseline of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }

    impl Lanes for V3 {
        const COLUMNS: usize = 6;

        #[inline(always)]
        fn multiply_add(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
            self.mul_add_f32s(a, b, c)
        }

        #[inline(always)]
        fn transpose(self, square: &mut [Self::f32s]) {
            if let Some(square) = square.first_chunk_mut::<8>() {
                *square = transposed(self, *square);
            }
        }

        #[inline(always)]
        fn apart<K: Kernel>(self, kernel: K) -> K::Output {
            self.vectorize(
                #[inline(always)]
                || kernel.run(self),
            )
        }

        #[inline(always)]
        fn prefetch(self, values: &[f32], distance: usize) {
            prefetch(values.as_ptr().wrapping_add(distance));
        }
    }

    impl Lanes for V4 {
        const COLUMNS: usize = 12;

        #[inline(always)]
        fn multiply_add(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
            self.mul_add_f32s(a, b, c)
        }

        #[inline(always)]
        fn transpose(self, square: &mut [Self::f32s]) {
            transpose_sixteen(*self, bytemuck::cast_slice_mut(&mut square[..16]));
        }

        #[inline(always)]
        fn apart<K: Kernel>(self, kernel: K) -> K::Output {
            self.vectorize(
                #[inline(always)]
                || kernel.run(self),
            )
        }

        #[inline(always)]
        fn prefetch(self, values: &[f32], distance: usize) {
            prefetch(values.as_ptr().wrapping_add(distance));
        }
    }

    /// Transposes a square of sixteen rows of two halves, quarter by quarter; the two beside the diagonal change places.
    #[inline(always)]
    fn transpose_sixteen(simd: V3, halves: &mut [f32x8]) {
        // Loops instead of `map` and `from_fn`, which are not always inlined, and then lack the instruction set.
        let mut quarters = [[halves[0]; 8]; 4];
        for (number, quarter) in quarters.iter_mut().enumerate() {
            for (index, row) in quarter.iter_mut().enumerate() {
                *row = halves[(8 * (number % 2) + index) * 2 + number / 2];
            }
            *quarter = transposed(simd, *quarter);
        }
        for index in 0..8 {
            halves[2 * index] = quarters[0][index];
            halves[2 * index + 1] = quarters[1][index];
            halves[16 + 2 * index] = quarters[2][index];
            halves[16 + 2 * index + 1] = quarters[3][index];
        }
    }

    /// The transposed square of eight vectors: pairs, fours and halves are exchanged in turn.
    #[inline(always)]
    fn transposed(simd: V3, rows: [f32x8; 8]) -> [f32x8; 8] {
        let avx = simd.avx;
        let rows: [__m256; 8] = cast(rows);
        let mut pairs = rows;
        for index in 0..4 {
            pairs[2 * index] = avx._mm256_unpacklo_ps(rows[2 * index], rows[2 * index + 1]);
            pairs[2 * index + 1] = avx._mm256_unpackhi_ps(rows[2 * index], rows[2 * index + 1]);
        }
        let mut fours = rows;
        for index in 0..2 {
            let pair = |place: usize| pairs[4 * index + place];
            fours[4 * index] = avx._mm256_shuffle_ps::<0x44>(pair(0), pair(2));
            fours[4 * index + 1] = avx._mm256_shuffle_ps::<0xee>(pair(0), pair(2));
            fours[4 * index + 2] = avx._mm256_shuffle_ps::<0x44>(pair(1), pair(3));
            fours[4 * index + 3] = avx._mm256_shuffle_ps::<0xee>(pair(1), pair(3));
        }
        let mut columns = rows;
        for index in 0..4 {
            columns[index] = avx._mm256_permute2f128_ps::<0x20>(fours[index], fours[4 + index]);
            columns[4 + index] = avx._mm256_permute2f128_ps::<0x31>(fours[index], fours[4 + index]);
        }
        cast(columns)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// What AVX-512 uses, on a processor with AVX2 alone.
        #[test]
        fn a_square_of_sixteen_is_transposed() {
            let Some(simd) = V3::try_new() else { return };
            let mut square: Vec<f32> = (0..256).map(|index| index as f32).collect();
            let mut halves: Vec<f32x8> = bytemuck::cast_slice(&square).to_vec();
            transpose_sixteen(simd, &mut halves);
            square = bytemuck::cast_slice(&halves).to_vec();
            for (index, value) in square.into_iter().enumerate() {
                assert_eq!(value, (index % 16 * 16 + index / 16) as f32);
            }
        }
    }
}

/// One vector from the start of `values`.
#[inline(always)]
pub fn load<S: Lanes>(values: &[f32]) -> S::f32s {
    S::as_simd_f32s(&values[..S::F32_LANES]).0[0]
}

/// Writes one vector to the start of `to`, as far as there is room.
#[inline(always)]
pub fn store<S: Lanes>(to: &mut [MaybeUninit<f32>], vector: S::f32s) {
    if to.len() >= S::F32_LANES {
        S::as_uninit_mut_simd_f32s(&mut to[..S::F32_LANES]).0[0].write(vector);
        return;
    }
    let elements: &[f32] = bytemuck::cast_slice(std::slice::from_ref(&vector));
    to.iter_mut().zip(elements).for_each(|(to, element)| _ = to.write(*element));
}

/// Turns rows into lanes: column `j` of the rows becomes vector `j` of `to`, row `i` its lane `i`.
///
/// `count` rows start `stride` elements apart in `rows` and have as many elements as `to` has vectors; missing rows are zeros.
#[inline(always)]
pub fn gather<S: Lanes>(simd: S, rows: &[f32], stride: usize, count: usize, to: &mut [S::f32s]) {
    let (lanes, columns) = (S::F32_LANES, to.len());
    let last = count.saturating_sub(1) * stride;
    assert!(count <= lanes && last + columns <= rows.len(), "{count} rows of {columns} elements exceed their slice");
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
        let mut elements = [0.0; MOST_LANES];
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
pub fn scatter<S: Lanes>(simd: S, from: &[S::f32s], rows: &mut [&mut [MaybeUninit<f32>]]) {
    let lanes = S::F32_LANES;
    let columns = rows.first().map_or(0, |row| row.len());
    let whole = columns / lanes * lanes;
    for (start, from) in (0..whole).step_by(lanes).zip(from.chunks_exact(lanes)) {
        let mut square = [simd.splat_f32s(0.0); MOST_LANES];
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
    use super::*;
    use crate::kernels::isa::available;
    use crate::kernels::memory::scratch::written;

    /// Rows to lanes and back, with remainders and missing rows.
    struct ThereAndBack {
        rows: usize,
        columns: usize,
    }

    impl Kernel for ThereAndBack {
        type Output = ();

        #[inline(always)]
        fn run<S: Lanes>(self, simd: S) {
            let (rows, columns) = (self.rows.min(S::F32_LANES), self.columns);
            let stride = columns + 3;
            let values: Vec<f32> = (0..rows * stride).map(|index| index as f32 + 1.0).collect();
            let mut lanes = vec![simd.splat_f32s(f32::NAN); columns];
            gather(simd, &values, stride, rows, &mut lanes);
            for (column, vector) in lanes.iter().enumerate() {
                let vector: &[f32] = bytemuck::cast_slice(std::slice::from_ref(vector));
                for (row, &element) in vector.iter().enumerate() {
                    assert_eq!(element, if row < rows { values[row * stride + column] } else { 0.0 });
                }
            }
            let write = |out: &mut [MaybeUninit<f32>]| {
                let mut parts: Vec<_> = out.chunks_mut(columns).collect();
                scatter(simd, &lanes, &mut parts);
            };
            // SAFETY: the rows make up the whole output, and `scatter` fills them; what it left out would be NaN.
            let back = unsafe { written(rows * columns, write) };
            let expected: Vec<f32> = values.chunks(stride).flat_map(|row| row[..columns].iter().copied()).collect();
            assert_eq!(back, expected);
        }
    }

    #[test]
    fn rows_become_lanes_and_rows_again() {
        for (_, arch) in available() {
            for rows in [1, 3, 4, 7, 8, 13, 16] {
                for columns in [1, 2, 5, 8, 16, 19, 37, 66] {
                    dispatch(arch, ThereAndBack { rows, columns });
                }
            }
        }
    }
}
