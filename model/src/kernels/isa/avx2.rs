//! AVX2 with FMA (x86-64-v3): vectors of eight lanes, 16 registers.

use core::arch::x86_64::{__m256, _MM_HINT_T0, _mm_prefetch};

use pulp::bytemuck::cast;
use pulp::f32x8;
use pulp::x86::V3;

use super::Vector;

impl Vector for V3 {
    const TILE_ROWS: usize = 6;

    #[inline(always)]
    fn detect() -> Option<Self> {
        Self::try_new()
    }

    #[inline(always)]
    fn transpose(self, square: &mut [Self::f32s]) {
        if let Some(square) = square.first_chunk_mut::<8>() {
            *square = transposed(self, *square);
        }
    }

    #[inline(always)]
    fn prefetch(self, values: &[f32], distance: usize) {
        prefetch(values.as_ptr().wrapping_add(distance));
    }
}

/// Asks for the line of the cache at an address.
#[inline(always)]
pub(super) fn prefetch(address: *const f32) {
    // SAFETY: a hint, which no address makes fail; the instruction belongs to the baseline of x86-64.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
}

/// The transposed square of eight vectors: pairs, fours and halves are exchanged in turn.
#[inline(always)]
pub(super) fn transposed(simd: V3, rows: [f32x8; 8]) -> [f32x8; 8] {
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
