//! Brings matrices into the order in which microkernels read them, and to the type of their elements: see [`Isa`].

use std::ops::Range;

use pulp::Simd;

use super::macrokernel::{lhs_offset, row_tiles};
use super::matrix::Matrix;
use crate::kernels::isa::vector::{load, load_partial, rows_to_lanes};
use crate::kernels::isa::{F32s, Isa, as_packed, as_packed_mut, storage};
use crate::kernels::memory::scratch::Scratch;
use crate::kernels::tuning::packing::{ROWS, SEGMENT, TILES};

/// Packs a panel of the right operand: the columns of `b` from `first` on; what is missing are zeros. `to` may have room for more rows.
#[inline(always)]
pub fn pack_rhs<I: Isa>(isa: I, b: &Matrix, first: usize, to: &mut [I::Packed]) {
    pack_rhs_scaled(isa, b, first, None, to);
}

/// [`pack_rhs`] of the elements times `scale`, where there is one.
#[inline(always)]
pub fn pack_rhs_scaled<I: Isa>(isa: I, b: &Matrix, first: usize, scale: Option<f32>, to: &mut [I::Packed]) {
    for row in b.rows()..to.len() / I::NR {
        for vector in 0..I::NR / I::LANES {
            isa.pack_rhs(isa.simd().splat_f32s(0.0), to, row, vector);
        }
    }
    match b.by_rows() {
        Some(stride) => pack_rhs_by_rows(isa, b, stride, first, scale, to),
        None => pack_rhs_by_columns(isa, b, first, scale, to),
    }
}

/// `value` times `scale`, where there is one.
#[inline(always)]
fn scaled<I: Isa>(isa: I, value: F32s<I>, scale: Option<f32>) -> F32s<I> {
    match scale {
        Some(scale) => isa.simd().mul_f32s(value, isa.simd().splat_f32s(scale)),
        None => value,
    }
}

/// [`pack_rhs_scaled`] of a matrix whose rows lie `stride` apart.
#[inline(always)]
fn pack_rhs_by_rows<I: Isa>(isa: I, b: &Matrix, stride: usize, first: usize, scale: Option<f32>, to: &mut [I::Packed]) {
    let count = I::NR.min(b.columns() - first);
    for row in 0..b.rows() {
        let from = &b.values()[row * stride + first..][..count];
        for vector in 0..I::NR / I::LANES {
            let value = if count == I::NR {
                load::<I::Simd>(&from[vector * I::LANES..])
            } else {
                load_partial::<I::Simd>(from, count.min(vector * I::LANES))
            };
            isa.pack_rhs(scaled(isa, value, scale), to, row, vector);
        }
    }
}

/// [`pack_rhs_scaled`] of a matrix in which the elements of a column lie one after the other.
#[inline(always)]
fn pack_rhs_by_columns<I: Isa>(isa: I, b: &Matrix, first: usize, scale: Option<f32>, to: &mut [I::Packed]) {
    let (simd, stride) = (isa.simd(), b.column_stride());
    let mut line = [simd.splat_f32s(0.0); SEGMENT];
    for vector in 0..I::NR / I::LANES {
        let column = first + vector * I::LANES;
        let count = I::LANES.min(b.columns().saturating_sub(column));
        for start in (0..b.rows()).step_by(SEGMENT) {
            let line = &mut line[..SEGMENT.min(b.rows() - start)];
            if count == 0 {
                line.fill(simd.splat_f32s(0.0));
            } else {
                rows_to_lanes(simd, &b.values()[column * stride + start..], stride, count, line);
            }
            for (row, value) in line.iter().enumerate() {
                isa.pack_rhs(scaled(isa, *value, scale), to, start + row, vector);
            }
        }
    }
}

/// Float32 numbers in row-major order, `NR` to a row, as a packed panel: where they are that as they lie, themselves, else in `space`.
#[inline(always)]
pub fn rows_as_panel<'a, I: Isa>(isa: I, rows: &'a [f32], space: &'a mut Scratch) -> &'a [I::Packed] {
    if I::ROWS_ARE_PANELS {
        return as_packed::<I>(rows);
    }
    if space.len() < storage::<I>(rows.len()) {
        *space = Scratch::take(storage::<I>(rows.len()));
    }
    let to = &mut as_packed_mut::<I>(space)[..rows.len()];
    for (row, from) in rows.chunks_exact(I::NR).enumerate() {
        for vector in 0..I::NR / I::LANES {
            isa.pack_rhs(load::<I::Simd>(&from[vector * I::LANES..]), to, row, vector);
        }
    }
    to
}

/// Packs rows of `a` as the columns from `first` on of a left operand that has `depth` columns in all. Columns up to the next multiple
/// of `KR` are zeros.
#[inline(always)]
pub fn pack_lhs<I: Isa>(isa: I, a: &Matrix, rows: Range<usize>, (first, depth): (usize, usize), to: &mut [I::Packed]) {
    match a.by_rows() {
        Some(stride) => pack_lhs_by_rows(isa, a, stride, rows, (first, depth), to),
        None => pack_lhs_by_columns(isa, a, rows, (first, depth), to),
    }
}

/// [`pack_lhs`] of a matrix whose rows lie `stride` apart.
#[inline(always)]
fn pack_lhs_by_rows<I: Isa>(
    isa: I,
    a: &Matrix,
    stride: usize,
    rows: Range<usize>,
    (first, depth): (usize, usize),
    to: &mut [I::Packed],
) {
    let whole = a.columns() / I::LANES;
    let padded = a.columns().next_multiple_of(I::KR) / I::LANES;
    for tile in row_tiles::<I>(rows.len()) {
        for (index, row) in tile.clone().enumerate() {
            let from = &a.values()[(rows.start + row) * stride..][..a.columns()];
            for (vector, value) in I::Simd::as_simd_f32s(from).0.iter().enumerate() {
                let offset = lhs_offset::<I>(&tile, depth, index, first / I::LANES + vector);
                isa.pack_lhs(*value, &mut to[offset..offset + I::LANES]);
            }
            for vector in whole..padded {
                let offset = lhs_offset::<I>(&tile, depth, index, first / I::LANES + vector);
                let value = load_partial::<I::Simd>(from, from.len().min(vector * I::LANES));
                isa.pack_lhs(value, &mut to[offset..offset + I::LANES]);
            }
        }
    }
}

/// [`pack_lhs`] of a matrix in which the elements of a column lie one after the other.
#[inline(always)]
fn pack_lhs_by_columns<I: Isa>(isa: I, a: &Matrix, rows: Range<usize>, (first, depth): (usize, usize), to: &mut [I::Packed]) {
    let (simd, stride) = (isa.simd(), a.column_stride());
    let all: Vec<Range<usize>> = row_tiles::<I>(rows.len()).collect();
    let mut line = [simd.splat_f32s(0.0); ROWS];
    for some in all.chunks(TILES.min(ROWS / I::MR)) {
        let (start, end) = (some[0].start, some[some.len() - 1].end);
        let line: &mut [F32s<I>] = &mut line[..end - start];
        for (vector, column) in (0..a.columns().next_multiple_of(I::KR)).step_by(I::LANES).enumerate() {
            if column < a.columns() {
                let from = &a.values()[column * stride + rows.start + start..];
                rows_to_lanes(simd, from, stride, I::LANES.min(a.columns() - column), line);
            } else {
                line.fill(simd.splat_f32s(0.0));
            }
            for tile in some {
                let offset = lhs_offset::<I>(tile, depth, 0, first / I::LANES + vector);
                let length = (tile.len() - 1) * I::KR + I::LANES;
                let runs = to[offset..offset + length].chunks_mut(I::KR);
                for (value, to) in line[tile.start - start..tile.end - start].iter().zip(runs) {
                    isa.pack_lhs(*value, &mut to[..I::LANES]);
                }
            }
        }
    }
}
