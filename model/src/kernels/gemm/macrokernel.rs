//! The product of packed operands: the loops between the caches and the microkernel, which linear layers, convolutions and attention
//! share.

use std::ops::Range;

use crate::kernels::isa::Isa;

/// A left operand as [`Isa`] describes it: the rows in tiles of nearly equal height, see [`row_tiles`].
pub struct PackedLhs<'a, I: Isa> {
    values: &'a [I::Packed],
    rows: usize,
    depth: usize,
}

impl<'a, I: Isa> PackedLhs<'a, I> {
    /// `rows` rows of `depth` elements, a multiple of `KR`.
    #[inline(always)]
    pub fn new(values: &'a [I::Packed], rows: usize, depth: usize) -> Self {
        Self { values, rows, depth }
    }

    /// Some columns of a tile of rows.
    #[inline(always)]
    fn tile(&self, rows: &Range<usize>, k: &Range<usize>) -> &'a [I::Packed] {
        &self.values[rows.start * self.depth + k.start * rows.len()..][..k.len() * rows.len()]
    }
}

/// Cuts rows into tiles of nearly equal height, none higher than `MR`.
#[inline(always)]
pub fn row_tiles<I: Isa>(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let count = rows.div_ceil(I::MR);
    (0..count).map(move |tile| row_tile(rows, count, tile))
}

/// Tile `tile` of `count`.
#[inline(always)]
fn row_tile(rows: usize, count: usize, tile: usize) -> Range<usize> {
    tile * rows / count..(tile + 1) * rows / count
}

/// Where a vector of a packed left operand of `depth` columns begins: columns `vector * LANES ..` of row `row` of a tile.
#[inline(always)]
pub fn lhs_offset<I: Isa>(tile: &Range<usize>, depth: usize, row: usize, vector: usize) -> usize {
    tile.start * depth + lhs_step::<I>(tile.len(), vector) + row * I::KR
}

/// How far the vectors of columns `vector * LANES ..` are from the first ones in a tile of `height` rows.
#[inline(always)]
pub fn lhs_step<I: Isa>(height: usize, vector: usize) -> usize {
    let vectors = I::KR / I::LANES;
    vector / vectors * height * I::KR + vector % vectors * I::LANES
}

/// Multiplies columns `k` of `lhs` by panels, which begin `stride` elements apart and have as many rows. `dst` `[panels, rows, NR]` is
/// overwritten, or added to if `accumulate`. So many tiles of rows as `tiles_in_cache` meet all panels before the next ones do.
#[inline(always)]
pub fn multiply_panels<I: Isa>(
    isa: I,
    lhs: &PackedLhs<I>,
    k: Range<usize>,
    (panels, stride): (&[I::Packed], usize),
    dst: &mut [f32],
    tiles_in_cache: usize,
    accumulate: bool,
) {
    let count = lhs.rows.div_ceil(I::MR);
    for first in (0..count).step_by(tiles_in_cache) {
        let tiles = first..count.min(first + tiles_in_cache);
        for (panel, dst) in panels.chunks(stride).zip(dst.chunks_exact_mut(lhs.rows * I::NR)) {
            multiply_tiles(isa, lhs, &k, panel, dst, tiles.clone(), accumulate);
        }
    }
}

/// [`multiply_panels`] for one panel: `dst` `[rows, NR]`, of which there may be more.
#[inline(always)]
pub fn multiply_panel<I: Isa>(
    isa: I,
    lhs: &PackedLhs<I>,
    k: Range<usize>,
    panel: &[I::Packed],
    dst: &mut [f32],
    accumulate: bool,
) {
    multiply_tiles(isa, lhs, &k, panel, dst, 0..lhs.rows.div_ceil(I::MR), accumulate);
}

/// Multiplies some tiles of rows by one panel.
#[inline(always)]
fn multiply_tiles<I: Isa>(
    isa: I,
    lhs: &PackedLhs<I>,
    k: &Range<usize>,
    panel: &[I::Packed],
    dst: &mut [f32],
    tiles: Range<usize>,
    accumulate: bool,
) {
    let count = lhs.rows.div_ceil(I::MR);
    let panel = &panel[..k.len() * I::NR];
    for tile in tiles {
        let rows = row_tile(lhs.rows, count, tile);
        isa.microkernel(lhs.tile(&rows, k), panel, &mut dst[rows.start * I::NR..rows.end * I::NR], accumulate);
    }
}
