//! Matrices over slices, as operands and as destinations of products.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use crate::kernels::isa::vector::fits;

/// A matrix over a slice: element `(i, j)` is at `i * row_stride + j * column_stride`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub(super) values: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix in row-major order whose rows start `row_stride` elements apart.
    ///
    /// Panics where the slice is too short, which is a mistake in the calling kernel.
    pub fn new(values: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(fits(values.len(), rows, columns, row_stride), "matrix {rows} x {columns} exceeds its slice");
        Self { values, rows, columns, row_stride, column_stride: 1 }
    }

    /// Rows and columns exchanged, without moving anything.
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }

    /// Some of the columns.
    pub fn some_columns(self, columns: std::ops::Range<usize>) -> Self {
        let inside = columns.start <= columns.end && columns.end <= self.columns;
        assert!(inside, "columns {columns:?} exceed a matrix of {}", self.columns);
        let start = (columns.start * self.column_stride).min(self.values.len());
        Self { values: &self.values[start..], columns: columns.len(), ..self }
    }

    /// The slice.
    pub fn values(&self) -> &'a [f32] {
        self.values
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// How far apart rows are, where the elements of a row lie one after the other; else those of a column do.
    pub fn by_rows(&self) -> Option<usize> {
        (self.column_stride == 1).then_some(self.row_stride)
    }

    /// How far apart columns are.
    pub fn column_stride(&self) -> usize {
        self.column_stride
    }
}

/// A matrix to write into, in row-major order with rows `row_stride` elements apart.
pub struct MatrixMut<'a> {
    pub(super) start: *mut f32,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) written: bool,
    slice: PhantomData<&'a mut [f32]>,
}

impl<'a> MatrixMut<'a> {
    /// See [`Matrix::new`]; rows must not overlap.
    pub fn new(values: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        Self::over(values.as_mut_ptr(), values.len(), (rows, columns, row_stride), true)
    }

    /// The same over a slice whose elements have no value yet, so that nothing can be added to them.
    pub fn unwritten(values: &'a mut [MaybeUninit<f32>], rows: usize, columns: usize, row_stride: usize) -> Self {
        Self::over(values.as_mut_ptr().cast(), values.len(), (rows, columns, row_stride), false)
    }

    fn over(start: *mut f32, length: usize, (rows, columns, row_stride): (usize, usize, usize), written: bool) -> Self {
        assert!(fits(length, rows, columns, row_stride), "matrix {rows} x {columns} exceeds its slice");
        assert!(rows <= 1 || row_stride >= columns, "rows of {columns} elements overlap at a distance of {row_stride}");
        Self { start, rows, columns, row_stride, written, slice: PhantomData }
    }
}
