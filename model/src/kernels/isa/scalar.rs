//! No instructions beyond the target's baseline: vectors of four lanes, which the compiler turns into whatever that has, without fused
//! multiplication and addition.

use pulp::{Scalar128b, Simd};

use super::Vector;

impl Vector for Scalar128b {
    const TILE_ROWS: usize = 4;

    #[inline(always)]
    fn detect() -> Option<Self> {
        Some(Self)
    }

    #[inline(always)]
    fn multiply_add(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.add_f32s(self.mul_f32s(a, b), c)
    }
}
