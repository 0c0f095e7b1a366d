//! The microkernel of instruction sets that multiply float32 numbers in vectors, which makes an [`Isa`] of every [`Vector`]: operands
//! stay float32, a panel is two vectors wide, and a tile's sums stay in registers.
//!
//! Per row of the panel, its two vectors are multiplied by one broadcast element of the left operand per row of the tile. A sum over
//! [`SUM_DEPTH`] starts at zero and is then added to the destination: short sums lose less to rounding than one long one, which matters
//! where the result is multiplied afterwards, as in Winograd's algorithm.

use super::vector::store_whole;
use super::{Isa, Vector};
use crate::kernels::tuning::microkernel::{CACHE_LINE, PREFETCH_RUNS, SUM_DEPTH};

/// Vectors that make up a row of the tile.
const VECTORS: usize = 2;

impl<S: Vector> Isa for S {
    type Simd = S;
    type Packed = f32;

    const MR: usize = S::TILE_ROWS;
    const NR: usize = VECTORS * S::F32_LANES;
    const KR: usize = S::F32_LANES;
    const ROWS_ARE_PANELS: bool = true;
    const FLOAT32: bool = true;

    #[inline(always)]
    fn detect() -> Option<Self> {
        <S as Vector>::detect()
    }

    #[inline(always)]
    fn simd(self) -> S {
        self
    }

    #[inline(always)]
    fn pack_lhs(self, values: S::f32s, to: &mut [f32]) {
        store_whole::<S>(to, values);
    }

    #[inline(always)]
    fn pack_rhs(self, values: S::f32s, panel: &mut [f32], row: usize, vector: usize) {
        S::as_mut_simd_f32s(panel).0[row * VECTORS + vector] = values;
    }

    #[inline(always)]
    fn microkernel(self, lhs: &[f32], rhs: &[f32], dst: &mut [f32], accumulate: bool) {
        // In a function of its own, so that its registers are its own. The tile is moved into the closure, which thereby can be called
        // once and is inlined there; one that could be called again would be reached through a function without the instruction set.
        let tile = Tile { lhs, rhs, dst, accumulate };
        self.vectorize(
            #[inline(always)]
            || tile.compute(self),
        );
    }
}

/// What [`Isa::microkernel`] is given.
struct Tile<'a> {
    lhs: &'a [f32],
    rhs: &'a [f32],
    dst: &'a mut [f32],
    accumulate: bool,
}

impl Tile<'_> {
    #[inline(always)]
    fn compute<S: Vector>(self, simd: S) {
        tile_of_any_height(simd, self.lhs, self.rhs, self.dst, self.accumulate);
    }
}

#[inline(always)]
fn tile_of_any_height<S: Vector>(simd: S, lhs: &[f32], rhs: &[f32], dst: &mut [f32], accumulate: bool) {
    match dst.len() / (VECTORS * S::F32_LANES) {
        1 => tile::<S, 1>(simd, lhs, rhs, dst, accumulate),
        2 => tile::<S, 2>(simd, lhs, rhs, dst, accumulate),
        3 => tile::<S, 3>(simd, lhs, rhs, dst, accumulate),
        4 => tile::<S, 4>(simd, lhs, rhs, dst, accumulate),
        5 if S::TILE_ROWS > 4 => tile::<S, 5>(simd, lhs, rhs, dst, accumulate),
        6 if S::TILE_ROWS > 4 => tile::<S, 6>(simd, lhs, rhs, dst, accumulate),
        7 if S::TILE_ROWS > 6 => tile::<S, 7>(simd, lhs, rhs, dst, accumulate),
        8 if S::TILE_ROWS > 6 => tile::<S, 8>(simd, lhs, rhs, dst, accumulate),
        9 if S::TILE_ROWS > 6 => tile::<S, 9>(simd, lhs, rhs, dst, accumulate),
        10 if S::TILE_ROWS > 6 => tile::<S, 10>(simd, lhs, rhs, dst, accumulate),
        11 if S::TILE_ROWS > 6 => tile::<S, 11>(simd, lhs, rhs, dst, accumulate),
        12 if S::TILE_ROWS > 6 => tile::<S, 12>(simd, lhs, rhs, dst, accumulate),
        rows => assert!(rows == 0, "a tile of {rows} rows exceeds the registers"),
    }
}

/// A tile of `ROWS` rows.
#[inline(always)]
fn tile<S: Vector, const ROWS: usize>(simd: S, lhs: &[f32], rhs: &[f32], dst: &mut [f32], accumulate: bool) {
    let lanes = S::F32_LANES;
    let (dst, _) = S::as_mut_simd_f32s(dst);
    let dst = &mut dst[..VECTORS * ROWS];
    let (rhs, _) = S::as_simd_f32s(rhs);
    let sums_in_turn = rhs.chunks(SUM_DEPTH * VECTORS).zip(lhs.chunks(SUM_DEPTH * ROWS));
    for (index, (rhs, lhs)) in sums_in_turn.enumerate() {
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
        for (rhs, lhs) in rhs.chunks_exact(lanes * VECTORS).zip(lhs.chunks_exact(lanes * ROWS)) {
            for line in (0..ROWS * lanes).step_by(CACHE_LINE) {
                simd.prefetch(lhs, PREFETCH_RUNS * ROWS * lanes + line);
            }
            for k in 0..lanes {
                let (left, right) = (rhs[VECTORS * k], rhs[VECTORS * k + 1]);
                for row in 0..ROWS {
                    let number = simd.splat_f32s(lhs[row * lanes + k]);
                    sums[row][0] = simd.multiply_add(left, number, sums[row][0]);
                    sums[row][1] = simd.multiply_add(right, number, sums[row][1]);
                }
            }
        }
        for row in 0..ROWS {
            for vector in 0..VECTORS {
                let place = &mut dst[VECTORS * row + vector];
                let sum = sums[row][vector];
                *place = if !accumulate && index == 0 { sum } else { simd.add_f32s(*place, sum) };
            }
        }
    }
}
