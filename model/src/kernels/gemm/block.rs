//! The register block: a piece of a matrix product whose sums stay in registers.
//!
//! A *panel* is as many rows of the left matrix as two vectors have lanes, stored column after column. The right matrix comes in
//! *groups* of as many rows as a vector has lanes; in a group, each column's elements lie together. A block multiplies a panel by up
//! to [`Lanes::COLUMNS`] columns: per row of the right matrix, two vectors of the panel times one broadcast number per column.
//!
//! A sum over [`RUN`] rows starts at zero and is then added to the destination. Short sums lose less to rounding than one long one,
//! which matters where the result is multiplied afterwards, as in Winograd's algorithm.

use crate::kernels::isa::lanes::{Kernel, Lanes};

/// Rows of the right matrix that one sum in registers takes.
pub const RUN: usize = 64;

/// How many groups ahead of use columns are asked for: about what a last-level cache needs to answer.
const AHEAD: usize = 6;
/// Elements of a line of a cache.
const LINE: usize = 16;

/// What a block reads: see the module's text.
#[derive(Clone, Copy)]
pub struct Factors<'a> {
    /// `groups * lanes` times `2 * lanes` elements.
    pub panel: &'a [f32],
    /// Groups, in each `lanes` elements per column.
    pub columns: &'a [f32],
}

/// Multiplies a panel by `out.len() / (2 * lanes)` columns, of which there are at most [`Lanes::COLUMNS`]. `out` holds the columns
/// of the result; they are overwritten if `replace`, else added to.
#[inline(always)]
pub fn multiply<S: Lanes>(simd: S, factors: Factors, out: &mut [f32], replace: bool) {
    simd.apart(Block { factors, out, replace });
}

/// Multiplies a panel of `depth` rows by `rows` columns in blocks, as [`blocks`] cuts them and `packing::blocks` lays them out.
#[inline(always)]
pub fn multiply_rows<S: Lanes>(
    simd: S,
    columns: &[f32],
    (rows, depth): (usize, usize),
    panel: &[f32],
    out: &mut [f32],
    replace: bool,
) {
    let width = 2 * S::F32_LANES;
    for block in blocks::<S>(rows) {
        let factors = Factors { panel: &panel[..depth * width], columns: &columns[block.start * depth..block.end * depth] };
        multiply(simd, factors, &mut out[block.start * width..block.end * width], replace);
    }
}

struct Block<'a> {
    factors: Factors<'a>,
    out: &'a mut [f32],
    replace: bool,
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, simd: S) {
        let Self { factors, out, replace } = self;
        any_columns(simd, factors, out, replace);
    }
}

#[inline(always)]
fn any_columns<S: Lanes>(simd: S, factors: Factors, out: &mut [f32], replace: bool) {
    match out.len() / (2 * S::F32_LANES) {
        1 => columns::<S, 1>(simd, factors, out, replace),
        2 => columns::<S, 2>(simd, factors, out, replace),
        3 => columns::<S, 3>(simd, factors, out, replace),
        4 => columns::<S, 4>(simd, factors, out, replace),
        5 if S::COLUMNS > 4 => columns::<S, 5>(simd, factors, out, replace),
        6 if S::COLUMNS > 4 => columns::<S, 6>(simd, factors, out, replace),
        7 if S::COLUMNS > 6 => columns::<S, 7>(simd, factors, out, replace),
        8 if S::COLUMNS > 6 => columns::<S, 8>(simd, factors, out, replace),
        9 if S::COLUMNS > 6 => columns::<S, 9>(simd, factors, out, replace),
        10 if S::COLUMNS > 6 => columns::<S, 10>(simd, factors, out, replace),
        11 if S::COLUMNS > 6 => columns::<S, 11>(simd, factors, out, replace),
        12 if S::COLUMNS > 6 => columns::<S, 12>(simd, factors, out, replace),
        count => assert!(count == 0, "a block of {count} columns exceeds the registers"),
    }
}

#[inline(always)]
fn columns<S: Lanes, const N: usize>(simd: S, factors: Factors, out: &mut [f32], replace: bool) {
    let lanes = S::F32_LANES;
    let (out, _) = S::as_mut_simd_f32s(out);
    let out = &mut out[..2 * N];
    let run = RUN / lanes;
    let (panels, _) = S::as_simd_f32s(factors.panel);
    let runs = panels.chunks(run * lanes * 2).zip(factors.columns.chunks(run * lanes * N));
    for (index, (panels, groups)) in runs.enumerate() {
        let mut sums = [[simd.splat_f32s(0.0); 2]; N];
        for (panel, columns) in panels.chunks_exact(lanes * 2).zip(groups.chunks_exact(lanes * N)) {
            for line in (0..N * lanes).step_by(LINE) {
                simd.prefetch(columns, AHEAD * N * lanes + line);
            }
            for row in 0..lanes {
                let (upper, lower) = (panel[2 * row], panel[2 * row + 1]);
                for column in 0..N {
                    let number = simd.splat_f32s(columns[column * lanes + row]);
                    sums[column][0] = simd.multiply_add(upper, number, sums[column][0]);
                    sums[column][1] = simd.multiply_add(lower, number, sums[column][1]);
                }
            }
        }
        for column in 0..N {
            for half in 0..2 {
                let place = &mut out[2 * column + half];
                *place = if replace && index == 0 { sums[column][half] } else { simd.add_f32s(*place, sums[column][half]) };
            }
        }
    }
}

/// Cuts `count` columns into blocks of nearly equal width, none wider than the registers hold.
pub fn blocks<S: Lanes>(count: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let parts = count.div_ceil(S::COLUMNS);
    (0..parts).map(move |part| part * count / parts..(part + 1) * count / parts)
}
