//! NEON (arm64): vectors of four lanes, 32 registers.

use pulp::aarch64::Neon;

use super::Vector;

impl Vector for Neon {
    const TILE_ROWS: usize = 12;

    #[inline(always)]
    fn detect() -> Option<Self> {
        Self::try_new()
    }
}
