//! NEON (arm64): vectors of four lanes, 32 registers.

use pulp::Simd;
use pulp::aarch64::Neon;

use super::Vector;
use super::vector::transpose_elements;

impl Vector for Neon {
    const TILE_ROWS: usize = 12;

    #[inline(always)]
    fn detect() -> Option<Self> {
        Self::try_new()
    }

    #[inline(always)]
    fn multiply_add(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.mul_add_f32s(a, b, c)
    }

    #[inline(always)]
    fn transpose(self, square: &mut [Self::f32s]) {
        transpose_elements::<Self>(square);
    }

    #[inline(always)]
    fn prefetch(self, _: &[f32], _: usize) {}
}
