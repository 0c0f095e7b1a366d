//! The matrix product: which of two ways computes it. Most go through the blocked driver (`driver.rs`); those too small to be worth
//! packing through the `gemm` crate, which candle uses too.

mod driver;
pub mod macrokernel;
mod matrix;
pub mod packing;

use std::mem::MaybeUninit;

use gemm::Parallelism;

use self::driver::Gemm;
pub use self::matrix::{Matrix, MatrixMut};
use crate::kernels::isa::{self, InstructionSet};
use crate::kernels::memory::scratch::written;
use crate::kernels::memory::shared::SharedMatrix;
use crate::kernels::tuning::gemm::{PACKED_DEPTH, PACKED_SIZE};

/// How the sums of a product go to the destination.
#[derive(Clone, Copy, PartialEq)]
pub enum Epilogue<'a> {
    /// What was there is overwritten.
    Overwrite,
    /// They are added to what was there.
    Accumulate,
    /// What was there is overwritten by them and these numbers, one per column.
    ColumnBias(&'a [f32]),
    /// What was there is overwritten by them and these numbers, one per row.
    RowBias(&'a [f32]),
}

impl<'a> Epilogue<'a> {
    /// Overwritten, by a bias per column too where there is one.
    pub fn bias(bias: Option<&'a [f32]>) -> Self {
        bias.map_or(Self::Overwrite, Self::ColumnBias)
    }

    /// Overwritten, by a bias per row too where there is one.
    pub fn row_bias(bias: Option<&'a [f32]>) -> Self {
        bias.map_or(Self::Overwrite, Self::RowBias)
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

/// `dst = scale * lhs * rhs`, or that added to something: see [`Epilogue`].
///
/// Panics where the sizes do not agree, which is a mistake in the calling kernel.
pub fn product(dst: MatrixMut, epilogue: Epilogue, scale: f32, lhs: Matrix, rhs: Matrix, threads: Threads) {
    sum_on(isa::current(), dst, epilogue, scale, &[(lhs, rhs)], threads);
}

/// [`product`] for the sum of the products of pairs of matrices.
pub fn sum(dst: MatrixMut, epilogue: Epilogue, scale: f32, operands: &[(Matrix, Matrix)], threads: Threads) {
    sum_on(isa::current(), dst, epilogue, scale, operands, threads);
}

/// The sum of the products of pairs of matrices, of which there is at least one, times `scale`, as a matrix of its own in row-major
/// order, with the bias of its columns added.
///
/// Panics where the sizes do not agree, which is a mistake in the calling kernel.
pub fn new_sum(bias: Option<&[f32]>, scale: f32, operands: &[(Matrix, Matrix)], threads: Threads) -> Vec<f32> {
    let (rows, columns) = (operands[0].0.rows, operands[0].1.columns);
    let write = |dst: &mut [MaybeUninit<f32>]| {
        let dst = MatrixMut::unwritten(dst, rows, columns, columns);
        sum_on(isa::current(), dst, Epilogue::bias(bias), scale, operands, threads);
    };
    // SAFETY: the matrix is the whole slice, and all its elements are overwritten.
    unsafe { written(rows * columns, write) }
}

/// [`new_sum`] of one product without a bias.
pub fn new_product(scale: f32, lhs: Matrix, rhs: Matrix, threads: Threads) -> Vec<f32> {
    new_sum(None, scale, &[(lhs, rhs)], threads)
}

/// The sum of products with an instruction set.
fn sum_on(set: InstructionSet, dst: MatrixMut, epilogue: Epilogue, scale: f32, operands: &[(Matrix, Matrix)], threads: Threads) {
    for (lhs, rhs) in operands {
        assert!(dst.rows == lhs.rows && dst.columns == rhs.columns && lhs.columns == rhs.rows, "matrix sizes do not agree");
    }
    assert!(dst.written || epilogue != Epilogue::Accumulate, "there is nothing to add to");
    let bias_fits = match epilogue {
        Epilogue::Overwrite | Epilogue::Accumulate => true,
        Epilogue::ColumnBias(bias) => bias.len() == dst.columns,
        Epilogue::RowBias(bias) => bias.len() == dst.rows,
    };
    assert!(bias_fits, "the bias has not as many numbers as the matrix rows or columns");
    let depth = operands.iter().map(|(lhs, _)| lhs.columns).max().unwrap_or(0);
    if dst.rows.min(dst.columns) >= PACKED_SIZE && depth >= PACKED_DEPTH {
        // SAFETY: `MatrixMut` holds a slice, borrowed exclusively, in which all elements of rows that do not overlap lie.
        let dst = unsafe { SharedMatrix::new(dst.start, dst.rows, dst.columns, dst.row_stride) };
        Gemm { dst, epilogue, scale, operands }.compute(set, threads);
    } else {
        let mut epilogue = epilogue;
        for (lhs, rhs) in operands {
            small(&dst, epilogue, scale, *lhs, *rhs, threads);
            epilogue = Epilogue::Accumulate;
        }
    }
}

/// The product by the `gemm` crate.
fn small(dst: &MatrixMut, epilogue: Epilogue, scale: f32, lhs: Matrix, rhs: Matrix, threads: Threads) {
    for row in 0..dst.rows {
        // SAFETY: the row lies in the matrix, which is borrowed exclusively; elements without a value may be written.
        let to = unsafe { std::slice::from_raw_parts_mut(dst.start.add(row * dst.row_stride).cast(), dst.columns) };
        match epilogue {
            Epilogue::Overwrite | Epilogue::Accumulate => {}
            Epilogue::ColumnBias(bias) => to.iter_mut().zip(bias).for_each(|(to, &bias)| *to = MaybeUninit::new(bias)),
            Epilogue::RowBias(bias) => to.fill(MaybeUninit::new(bias[row])),
        }
    }
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(0),
    };
    // SAFETY: `Matrix` and `MatrixMut` assert on construction that every element (i, j) of their rows x columns lies inside their
    // slice and that strides fit isize; the slices are borrowed for the length of the call, the destination exclusively; its rows
    // do not overlap, so no element is written by two threads; the sizes agree. The operands are initialized, and so is the destination
    // where it is read, as asserted by `sum_on` or by what was just written.
    unsafe {
        gemm::gemm(
            dst.rows,
            dst.columns,
            lhs.columns,
            dst.start,
            1,
            dst.row_stride as isize,
            epilogue != Epilogue::Overwrite,
            lhs.values.as_ptr(),
            lhs.column_stride as isize,
            lhs.row_stride as isize,
            rhs.values.as_ptr(),
            rhs.column_stride as isize,
            rhs.row_stride as isize,
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
                let [a_transposed, b_transposed] = [layout & 1 == 1, layout & 2 == 2];
                let (a_shape, b_shape) = (
                    if a_transposed { (depth, rows) } else { (rows, depth) },
                    if b_transposed { (columns, depth) } else { (depth, columns) },
                );
                let (a_values, b_values) = (numbers(a_shape.0 * (a_shape.1 + 3), 1), numbers(b_shape.0 * (b_shape.1 + 5), 2));
                let stored = |matrix: Matrix<'static>, transposed| if transposed { matrix.transposed() } else { matrix };
                let (a_values, b_values): (&'static [f32], &'static [f32]) = (a_values.leak(), b_values.leak());
                let a = stored(Matrix::new(a_values, a_shape.0, a_shape.1, a_shape.1 + 3), a_transposed);
                let b = stored(Matrix::new(b_values, b_shape.0, b_shape.1, b_shape.1 + 5), b_transposed);
                let (bias, row_bias) = (numbers(columns, 3), numbers(rows, 5));
                for (_, set) in isa::available() {
                    let biases = [Epilogue::ColumnBias(&bias), Epilogue::RowBias(&row_bias)];
                    for epilogue in [Epilogue::Overwrite, Epilogue::Accumulate].into_iter().chain(biases) {
                        for threads in [Threads::One, Threads::All] {
                            let mut out = numbers(rows * (columns + 2), 4);
                            let before = out.clone();
                            let to = MatrixMut::new(&mut out, rows, columns, columns + 2);
                            sum_on(set, to, epilogue, 0.5, &[(a, b)], threads);
                            for (index, (&value, &old)) in out.iter().zip(&before).enumerate() {
                                let (row, column) = (index / (columns + 2), index % (columns + 2));
                                if column >= columns {
                                    assert_eq!(value, old, "written between the rows");
                                    continue;
                                }
                                let sum: f64 = (0..depth)
                                    .map(|inner| {
                                        element(a_values, (row, inner), a_shape.1 + 3, a_transposed)
                                            * element(b_values, (inner, column), b_shape.1 + 5, b_transposed)
                                    })
                                    .sum();
                                let term = match epilogue {
                                    Epilogue::Overwrite => 0.0,
                                    Epilogue::Accumulate => old,
                                    Epilogue::ColumnBias(bias) => bias[column],
                                    Epilogue::RowBias(bias) => bias[row],
                                };
                                let expected = 0.5 * sum + f64::from(term);
                                let rounding = if set.is_float32() { 1e-6 } else { 1e-2 };
                                let tolerance = rounding * (depth as f64).sqrt();
                                let at = format!("{rows} x {depth} x {columns}, {layout}, {set:?}, ({row}, {column})");
                                assert!((f64::from(value) - expected).abs() <= tolerance, "{at}: {value}, expected {expected}");
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
