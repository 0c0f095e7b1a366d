//! The matrix product: which of two ways computes it. Most go through register blocks (`packed.rs`); those too small to be worth laying
//! out through the `gemm` crate, which candle uses too.

pub mod block;
pub mod driver;
pub mod packing;

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use gemm::Parallelism;
use pulp::Arch;

use crate::kernels::gemm::driver::Packed;
use crate::kernels::isa;
use crate::kernels::memory::scratch::written;
use crate::kernels::memory::shared::Places;

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
        assert!(fits(values.len(), rows, columns, row_stride), "matrix {rows} x {columns} exceeds its slice");
        Self { values, rows, columns, row_stride, column_stride: 1 }
    }

    /// Rows and columns exchanged, without moving anything.
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }

    /// Some of the columns.
    pub fn some_columns(self, columns: std::ops::Range<usize>) -> Self {
        assert!(columns.end <= self.columns, "columns {columns:?} exceed a matrix of {}", self.columns);
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
    start: *mut f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    written: bool,
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

/// Whether the last element of such a matrix lies inside a slice of `length` elements.
fn fits(length: usize, rows: usize, columns: usize, row_stride: usize) -> bool {
    if rows == 0 || columns == 0 {
        return true;
    }
    let last = (rows - 1).checked_mul(row_stride).and_then(|down| down.checked_add(columns - 1));
    last.is_some_and(|last| last < length && isize::try_from(length).is_ok())
}

/// What becomes of the values already in the destination.
#[derive(Clone, Copy, PartialEq)]
pub enum Destination<'a> {
    /// They are overwritten.
    Replace,
    /// The product is added to them.
    Add,
    /// They are overwritten by the product and these numbers, one per column.
    Bias(&'a [f32]),
    /// They are overwritten by the product and these numbers, one per row.
    RowBias(&'a [f32]),
}

impl<'a> Destination<'a> {
    /// Overwritten, by a bias per column too where there is one.
    pub fn bias(bias: Option<&'a [f32]>) -> Self {
        bias.map_or(Self::Replace, Self::Bias)
    }

    /// Overwritten, by a bias per row too where there is one.
    pub fn row_bias(bias: Option<&'a [f32]>) -> Self {
        bias.map_or(Self::Replace, Self::RowBias)
    }
}

/// Who computes a product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The calling thread: the caller runs several products at once.
    One,
    /// All threads of the pool, for products large enough.
    All,
}

/// The fewest rows and columns, and the least depth, for which laying out the factors pays.
const SMALLEST: usize = 16;
const SHALLOWEST: usize = 8;

/// `out = scale * a * b`, or that added to something: see [`Destination`].
///
/// Panics where the sizes do not agree, which is a mistake in the calling kernel.
pub fn product(out: MatrixMut, destination: Destination, scale: f32, a: Matrix, b: Matrix, threads: Threads) {
    sum_on(isa::arch(), out, destination, scale, &[(a, b)], threads);
}

/// [`product`] for the sum of the products of pairs of matrices.
pub fn sum(out: MatrixMut, destination: Destination, scale: f32, factors: &[(Matrix, Matrix)], threads: Threads) {
    sum_on(isa::arch(), out, destination, scale, factors, threads);
}

/// The sum of the products of pairs of matrices, of which there is at least one, times `scale`, as a matrix of its own in row-major
/// order, with the bias of its columns added.
///
/// Panics where the sizes do not agree, which is a mistake in the calling kernel.
pub fn new_sum(bias: Option<&[f32]>, scale: f32, factors: &[(Matrix, Matrix)], threads: Threads) -> Vec<f32> {
    let (rows, columns) = (factors[0].0.rows, factors[0].1.columns);
    let write = |out: &mut [MaybeUninit<f32>]| {
        let out = MatrixMut::unwritten(out, rows, columns, columns);
        sum_on(isa::arch(), out, Destination::bias(bias), scale, factors, threads);
    };
    // SAFETY: the matrix is the whole slice, and all its elements are overwritten.
    unsafe { written(rows * columns, write) }
}

/// [`new_sum`] of one product without a bias.
pub fn new_product(scale: f32, a: Matrix, b: Matrix, threads: Threads) -> Vec<f32> {
    new_sum(None, scale, &[(a, b)], threads)
}

/// The sum of products with an instruction set.
fn sum_on(arch: Arch, out: MatrixMut, destination: Destination, scale: f32, factors: &[(Matrix, Matrix)], threads: Threads) {
    for (a, b) in factors {
        assert!(out.rows == a.rows && out.columns == b.columns && a.columns == b.rows, "matrix sizes do not agree");
    }
    assert!(out.written || destination != Destination::Add, "there is nothing to add to");
    let bias_fits = match destination {
        Destination::Replace | Destination::Add => true,
        Destination::Bias(bias) => bias.len() == out.columns,
        Destination::RowBias(bias) => bias.len() == out.rows,
    };
    assert!(bias_fits, "the bias has not as many numbers as the matrix rows or columns");
    let depth = factors.iter().map(|(a, _)| a.columns).max().unwrap_or(0);
    if out.rows.min(out.columns) >= SMALLEST && depth >= SHALLOWEST {
        // SAFETY: `MatrixMut` holds a slice, borrowed exclusively, in which all elements of rows that do not overlap lie.
        let out = unsafe { Places::new(out.start, out.rows, out.columns, out.row_stride) };
        Packed { out, destination, scale, factors }.compute(arch, threads);
    } else {
        let mut destination = destination;
        for (a, b) in factors {
            small(&out, destination, scale, *a, *b, threads);
            destination = Destination::Add;
        }
    }
}

/// The product by the `gemm` crate.
fn small(out: &MatrixMut, destination: Destination, scale: f32, a: Matrix, b: Matrix, threads: Threads) {
    for row in 0..out.rows {
        // SAFETY: the row lies in the matrix, which is borrowed exclusively; elements without a value may be written.
        let to = unsafe { std::slice::from_raw_parts_mut(out.start.add(row * out.row_stride).cast(), out.columns) };
        match destination {
            Destination::Replace | Destination::Add => {}
            Destination::Bias(bias) => to.iter_mut().zip(bias).for_each(|(to, &bias)| *to = MaybeUninit::new(bias)),
            Destination::RowBias(bias) => to.fill(MaybeUninit::new(bias[row])),
        }
    }
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(0),
    };
    // SAFETY: `Matrix` and `MatrixMut` assert on construction that every element (i, j) of their rows x columns lies inside their
    // slice and that strides fit isize; the slices are borrowed for the length of the call, the destination exclusively; its rows
    // do not overlap, so no element is written by two threads; the sizes agree. The factors are initialized, and so is the destination
    // where it is read, as asserted by `sum_on` or by what was just written.
    unsafe {
        gemm::gemm(
            out.rows,
            out.columns,
            a.columns,
            out.start,
            1,
            out.row_stride as isize,
            destination != Destination::Replace,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|index| ((index * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0).collect()
    }

    /// Elements of a factor in row-major order, from a slice in that order or the other.
    fn element(values: &[f32], (row, column): (usize, usize), stride: usize, transposed: bool) -> f64 {
        f64::from(if transposed { values[column * stride + row] } else { values[row * stride + column] })
    }

    /// Every instruction set, layout and destination, over odd sizes and distances of rows, against sums in float64.
    #[test]
    fn products_are_sums_of_products() {
        let sizes = [
            (1, 1, 1),
            (3, 17, 5),
            (16, 8, 16),
            (17, 9, 33),
            (40, 77, 256),
            (256, 40, 77),
            (193, 321, 35),
            (25, 700, 18),
            (500, 64, 31),
        ];
        for (rows, depth, columns) in sizes {
            for layout in 0..4 {
                let [a_turned, b_turned] = [layout & 1 == 1, layout & 2 == 2];
                let (a_shape, b_shape) = (
                    if a_turned { (depth, rows) } else { (rows, depth) },
                    if b_turned { (columns, depth) } else { (depth, columns) },
                );
                let (a_values, b_values) = (numbers(a_shape.0 * (a_shape.1 + 3), 1), numbers(b_shape.0 * (b_shape.1 + 5), 2));
                let turn = |matrix: Matrix<'static>, turned| if turned { matrix.transposed() } else { matrix };
                let (a_values, b_values): (&'static [f32], &'static [f32]) = (a_values.leak(), b_values.leak());
                let a = turn(Matrix::new(a_values, a_shape.0, a_shape.1, a_shape.1 + 3), a_turned);
                let b = turn(Matrix::new(b_values, b_shape.0, b_shape.1, b_shape.1 + 5), b_turned);
                let (bias, row_bias) = (numbers(columns, 3), numbers(rows, 5));
                for (_, arch) in isa::available() {
                    let biases = [Destination::Bias(&bias), Destination::RowBias(&row_bias)];
                    for destination in [Destination::Replace, Destination::Add].into_iter().chain(biases) {
                        for threads in [Threads::One, Threads::All] {
                            let mut out = numbers(rows * (columns + 2), 4);
                            let before = out.clone();
                            let to = MatrixMut::new(&mut out, rows, columns, columns + 2);
                            sum_on(arch, to, destination, 0.5, &[(a, b)], threads);
                            for (index, (&value, &old)) in out.iter().zip(&before).enumerate() {
                                let (row, column) = (index / (columns + 2), index % (columns + 2));
                                if column >= columns {
                                    assert_eq!(value, old, "written between the rows");
                                    continue;
                                }
                                let sum: f64 = (0..depth)
                                    .map(|inner| {
                                        element(a_values, (row, inner), a_shape.1 + 3, a_turned)
                                            * element(b_values, (inner, column), b_shape.1 + 5, b_turned)
                                    })
                                    .sum();
                                let term = match destination {
                                    Destination::Replace => 0.0,
                                    Destination::Add => old,
                                    Destination::Bias(bias) => bias[column],
                                    Destination::RowBias(bias) => bias[row],
                                };
                                let expected = 0.5 * sum + f64::from(term);
                                let tolerance = 1e-6 * (depth as f64).sqrt();
                                let place = format!("{rows} x {depth} x {columns}, {layout}, {arch:?}, ({row}, {column})");
                                assert!(
                                    (f64::from(value) - expected).abs() <= tolerance,
                                    "{place}: {value}, expected {expected}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    /// A sum of products is that of its products.
    #[test]
    fn products_are_summed() {
        for (rows, columns, depths) in [(40, 50, [33, 16]), (5, 50, [33, 16]), (70, 18, [400, 3])] {
            let all: Vec<[Vec<f32>; 2]> =
                depths.into_iter().map(|depth| [numbers(rows * depth, depth), numbers(depth * columns, depth + 1)]).collect();
            let pair = |(depth, [a, b]): (usize, &'static [Vec<f32>; 2])| {
                (Matrix::new(a, rows, depth, depth), Matrix::new(b, columns, depth, depth).transposed())
            };
            let all: &'static [[Vec<f32>; 2]] = all.leak();
            let factors: Vec<_> = depths.into_iter().zip(all).map(pair).collect();
            let bias = numbers(columns, 3);
            let sum = new_sum(Some(&bias), 0.5, &factors, Threads::All);
            let parts = factors.iter().map(|&(a, b)| new_product(0.5, a, b, Threads::One)).collect::<Vec<_>>();
            for (index, value) in sum.iter().enumerate() {
                let expected = bias[index % columns] + parts[0][index] + parts[1][index];
                assert!((value - expected).abs() < 1e-5, "{value}, expected {expected}");
            }
        }
    }

    /// Neither the number of threads nor the share of each changes a bit.
    #[test]
    fn threads_change_nothing() {
        let (rows, depth, columns) = (100, 333, 700);
        let (a, b) = (numbers(rows * depth, 1), numbers(depth * columns, 2));
        let (a, b) = (Matrix::new(&a, rows, depth, depth), Matrix::new(&b, depth, columns, columns));
        let one = new_product(1.0, a, b, Threads::One);
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| new_product(1.0, a, b, Threads::All)), one);
        }
    }
}
