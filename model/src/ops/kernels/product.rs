//! The matrix product: a safe wrapper over the `gemm` crate, which candle uses too.

use gemm::Parallelism;

/// A matrix over a slice: element `(i, j)` is at `i * row_stride + j * column_stride`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix in row-major order whose rows start `row_stride` elements apart.
    ///
    /// Panics where the slice is too short, which is a mistake in the calling kernel.
    pub fn new(values: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(fits(values.len(), rows, columns, row_stride, 1), "matrix {rows} x {columns} exceeds its slice");
        Self { values, rows, columns, row_stride, column_stride: 1 }
    }

    /// Rows and columns exchanged, without moving anything.
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }
}

/// A matrix to write into, in row-major order with rows `row_stride` elements apart.
pub struct MatrixMut<'a> {
    values: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// See [`Matrix::new`]; rows must not overlap.
    pub fn new(values: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(fits(values.len(), rows, columns, row_stride, 1), "matrix {rows} x {columns} exceeds its slice");
        assert!(rows <= 1 || row_stride >= columns, "rows of {columns} elements overlap at a distance of {row_stride}");
        Self { values, rows, columns, row_stride }
    }
}

/// Whether the last element of such a matrix lies inside a slice of `length` elements.
fn fits(length: usize, rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> bool {
    if rows == 0 || columns == 0 {
        return true;
    }
    let last = (rows - 1)
        .checked_mul(row_stride)
        .zip((columns - 1).checked_mul(column_stride))
        .and_then(|(down, across)| down.checked_add(across));
    last.is_some_and(|last| last < length && isize::try_from(length).is_ok())
}

/// What becomes of the values already in the destination.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// They are overwritten.
    Replace,
    /// The product is added to them.
    Add,
}

/// Who computes a product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The calling thread: the caller runs several products at once.
    One,
    /// All threads of the pool, for products large enough.
    All,
}

/// `out = scale * a * b`, or `out += scale * a * b`.
///
/// Panics where the sizes do not agree, which is a mistake in the calling kernel.
pub fn product(out: MatrixMut, destination: Destination, scale: f32, a: Matrix, b: Matrix, threads: Threads) {
    assert!(out.rows == a.rows && out.columns == b.columns && a.columns == b.rows, "matrix sizes do not agree");
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(0),
    };
    // SAFETY: `Matrix` and `MatrixMut` assert on construction that every element (i, j) of their rows x columns lies inside their
    // slice and that strides fit isize; the slices are borrowed for the length of the call, the destination exclusively; its rows
    // do not overlap, so no element is written by two threads; the sizes agree. The slices are initialised.
    unsafe {
        gemm::gemm(
            out.rows,
            out.columns,
            a.columns,
            out.values.as_mut_ptr(),
            1,
            out.row_stride as isize,
            destination == Destination::Add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}
