//! AVX-512 (x86-64-v4): vectors of sixteen lanes, 32 registers.

use pulp::x86::{V3, V4};
use pulp::{bytemuck, f32x8};

use super::Vector;
use super::avx2::{prefetch, transposed};

impl Vector for V4 {
    const TILE_ROWS: usize = 12;

    #[inline(always)]
    fn detect() -> Option<Self> {
        Self::try_new()
    }

    #[inline(always)]
    fn transpose(self, square: &mut [Self::f32s]) {
        transpose_sixteen(*self, bytemuck::cast_slice_mut(&mut square[..16]));
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
    for (quadrant, quarter) in quarters.iter_mut().enumerate() {
        for (index, row) in quarter.iter_mut().enumerate() {
            *row = halves[(8 * (quadrant % 2) + index) * 2 + quadrant / 2];
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
