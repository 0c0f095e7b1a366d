//! Brings matrices into the order that register blocks (`block.rs`) read: panels of columns, and blocks of rows.

use std::ops::Range;

use crate::kernels::gemm::Matrix;
use crate::kernels::gemm::block;
use crate::kernels::isa::lanes::{Lanes, MOST_LANES, gather, load};

/// Elements of a row or column that are turned at once.
const SEGMENT: usize = 64;
/// Blocks that are turned at once.
const BLOCKS: usize = 16;
/// The most rows of a block of any instruction set.
const MOST_COLUMNS: usize = 12;

/// Lays out a panel: the columns of `b` from `first` on, two vectors of them, row after row; what is missing are zeros. `to` may have
/// room for more rows.
#[inline(always)]
pub fn panel<S: Lanes>(simd: S, b: &Matrix, first: usize, to: &mut [f32]) {
    to[b.rows() * 2 * S::F32_LANES..].fill(0.0);
    match b.by_rows() {
        Some(stride) => copied_panel::<S>(b, stride, first, to),
        None => turned_panel(simd, b, first, to),
    }
}

/// [`panel`] of a matrix whose rows lie `stride` apart.
#[inline(always)]
fn copied_panel<S: Lanes>(b: &Matrix, stride: usize, first: usize, to: &mut [f32]) {
    let width = 2 * S::F32_LANES;
    let count = width.min(b.columns() - first);
    for (row, to) in to.chunks_exact_mut(width).take(b.rows()).enumerate() {
        let from = &b.values()[row * stride + first..][..count];
        if count == width {
            to.copy_from_slice(from);
        } else {
            to[..count].copy_from_slice(from);
            to[count..].fill(0.0);
        }
    }
}

/// [`panel`] of a matrix in which the elements of a column lie one after the other.
#[inline(always)]
fn turned_panel<S: Lanes>(simd: S, b: &Matrix, first: usize, to: &mut [f32]) {
    let (lanes, stride) = (S::F32_LANES, b.column_stride());
    let (to, _) = S::as_mut_simd_f32s(to);
    let mut line = [simd.splat_f32s(0.0); SEGMENT];
    for half in 0..2 {
        let column = first + half * lanes;
        let count = lanes.min(b.columns().saturating_sub(column));
        for start in (0..b.rows()).step_by(SEGMENT) {
            let line = &mut line[..SEGMENT.min(b.rows() - start)];
            if count == 0 {
                line.fill(simd.splat_f32s(0.0));
            } else {
                gather(simd, &b.values()[column * stride + start..], stride, count, line);
            }
            for (row, value) in line.iter().enumerate() {
                to[(start + row) * 2 + half] = *value;
            }
        }
    }
}

/// Lays out rows of `a` in blocks of as many as registers hold: in a block groups of columns, as many as a vector has lanes, in a
/// group a vector per row; missing columns are zeros. The groups are those from `first` on, of `groups` in each block.
#[inline(always)]
pub fn blocks<S: Lanes>(simd: S, a: &Matrix, rows: Range<usize>, (first, groups): (usize, usize), to: &mut [f32]) {
    let (to, _) = S::as_mut_simd_f32s(to);
    match a.by_rows() {
        Some(stride) => copied_blocks::<S>(a, stride, rows, (first, groups), to),
        None => turned_blocks(simd, a, rows, (first, groups), to),
    }
}

/// [`blocks`] of a matrix whose rows lie `stride` apart.
#[inline(always)]
fn copied_blocks<S: Lanes>(a: &Matrix, stride: usize, rows: Range<usize>, (first, groups): (usize, usize), to: &mut [S::f32s]) {
    for block in block::blocks::<S>(rows.len()) {
        let to = &mut to[block.start * groups + first * block.len()..block.end * groups];
        for (index, row) in block.clone().enumerate() {
            let from = &a.values()[(rows.start + row) * stride..][..a.columns()];
            let (whole, rest) = S::as_simd_f32s(from);
            for (group, value) in whole.iter().enumerate() {
                to[group * block.len() + index] = *value;
            }
            if !rest.is_empty() {
                let mut last = [0.0; MOST_LANES];
                last[..rest.len()].copy_from_slice(rest);
                to[whole.len() * block.len() + index] = load::<S>(&last);
            }
        }
    }
}

/// [`blocks`] of a matrix in which the elements of a column lie one after the other.
#[inline(always)]
fn turned_blocks<S: Lanes>(simd: S, a: &Matrix, rows: Range<usize>, (first, groups): (usize, usize), to: &mut [S::f32s]) {
    let (lanes, stride) = (S::F32_LANES, a.column_stride());
    let all: Vec<Range<usize>> = block::blocks::<S>(rows.len()).collect();
    let mut line = [simd.splat_f32s(0.0); BLOCKS * MOST_COLUMNS];
    for some in all.chunks(BLOCKS) {
        let (start, end) = (some[0].start, some[some.len() - 1].end);
        let line = &mut line[..end - start];
        for (group, column) in (0..a.columns()).step_by(lanes).enumerate() {
            let from = &a.values()[column * stride + rows.start + start..];
            gather(simd, from, stride, lanes.min(a.columns() - column), line);
            for block in some {
                let to = &mut to[block.start * groups + (first + group) * block.len()..][..block.len()];
                to.copy_from_slice(&line[block.start - start..block.end - start]);
            }
        }
    }
}
