//! The best approximation of a matrix by one of low rank (Eckart and Young 1936), from the eigenvectors of its smaller Gram matrix, or
//! where a few singular values are enough by subspace iteration from random vectors (Halko, Martinsson and Tropp 2011, algorithm 4.4).
//!
//! Works in float64: the rows of the approximation are projections onto eigenvectors, so that an error of those enters squared, and
//! singular values down to 1e-8 of the largest are told from zero; float32 weights hold less.
//!
//! The iteration ends when what it leaves out is within `NEAR` of the least that any matrix of the rank leaves out, as the last gains
//! tell; where they do not shrink fast enough, all eigenvectors are computed.

use candle_core::{DType, Device, Tensor};
use nalgebra::{DMatrix, SymmetricEigen};

use crate::error::ArgumentCause;
use crate::rng::Generator;
use crate::{Error, Result};

/// How much more than the least the squared error of an iterated approximation may be, as a share of it.
const NEAR: f64 = 1e-4;
/// What rounding in float64 leaves of a squared norm.
const ROUNDING: f64 = 1e-14;
/// Random vectors beyond the rank.
const OVERSAMPLING: usize = 16;
/// Most iterations.
const ITERATIONS: usize = 12;

/// A matrix by its singular values and vectors, all of them or the leading ones.
pub struct Spectrum {
    /// Singular values, largest first: as many as the smaller side, or some more than were asked for.
    pub values: Vec<f64>,
    /// The squared norm beyond `values`.
    beyond: f64,
    /// `[smaller, count]`: left singular vectors as columns, in the order of the values.
    vectors: DMatrix<f64>,
    /// The matrix, turned so that it has no more rows than columns.
    matrix: DMatrix<f64>,
    turned: bool,
}

impl Spectrum {
    /// Decomposes a matrix `[m, n]`.
    ///
    /// # Errors
    /// When it is no matrix, or holds numbers that are not finite.
    pub fn of(matrix: &Tensor) -> Result<Self> {
        let (matrix, turned) = wide(matrix)?;
        Self::whole(matrix, turned)
    }

    /// The leading singular values and vectors of a matrix `[m, n]`, enough for an approximation of rank `rank`, which leaves out as
    /// little as any to within a share of 1e-4 of its squared error. The values beyond `rank` are lower bounds.
    ///
    /// # Errors
    /// As [`Spectrum::of`].
    pub fn leading(matrix: &Tensor, rank: usize) -> Result<Self> {
        let (matrix, turned) = wide(matrix)?;
        let count = rank + OVERSAMPLING;
        // Where many are wanted, all cost little more.
        if 3 * count > matrix.nrows() {
            return Self::whole(matrix, turned);
        }
        match iterate(&matrix, rank, count)? {
            Some((values, vectors)) => {
                let beyond = (matrix.norm_squared() - values.iter().map(|value| value * value).sum::<f64>()).max(0.0);
                Ok(Self { values, beyond, vectors, matrix, turned })
            }
            None => Self::whole(matrix, turned),
        }
    }

    fn whole(matrix: DMatrix<f64>, turned: bool) -> Result<Self> {
        let (values, vectors) = eigen(&matrix * matrix.transpose())?;
        Ok(Self { values, beyond: 0.0, vectors, matrix, turned })
    }

    /// The Frobenius norm.
    pub fn norm(&self) -> f64 {
        (self.values.iter().map(|value| value * value).sum::<f64>() + self.beyond).sqrt()
    }

    /// The Frobenius norm of what an approximation of this rank leaves out, over the matrix's own; 0 for a matrix of zeros.
    pub fn error(&self, rank: usize) -> f64 {
        let norm = self.norm();
        let left = self.beyond + self.values.iter().skip(rank).map(|value| value * value).sum::<f64>();
        if norm > 0.0 { left.sqrt() / norm } else { 0.0 }
    }

    /// The smallest rank whose error is at most `error`; the count of values where none of the known ones is.
    pub fn rank_within(&self, error: f64) -> usize {
        let most = (error * self.norm()).powi(2);
        let mut left = self.beyond;
        let dropped = self.values.iter().rev().take_while(|value| {
            left += *value * *value;
            left <= most
        });
        self.values.len() - dropped.count()
    }

    /// The best approximation of this rank as a product `up down`, float32, with the singular values shared evenly, so that both
    /// stay well inside half precision's range.
    ///
    /// # Shapes
    /// `up` `[m, rank]`, `down` `[rank, n]`.
    /// # Errors
    /// When there is no memory for it.
    pub fn factors(&self, rank: usize) -> Result<(Tensor, Tensor)> {
        let (short, long) = (self.matrix.nrows(), self.matrix.ncols());
        let rank = rank.clamp(1, self.values.len());
        let vectors = self.vectors.columns(0, rank);
        let projected = vectors.transpose() * &self.matrix;
        let root: Vec<f64> = self.values[..rank].iter().map(|value| value.sqrt()).collect();
        let inverse = |k: usize| if root[k] > 0.0 { 1.0 / root[k] } else { 0.0 };
        let tensor = |rows: usize, columns: usize, at: &dyn Fn(usize, usize) -> f64| -> Result<Tensor> {
            let numbers: Vec<f32> =
                (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))).map(|(i, j)| at(i, j) as f32).collect();
            Ok(Tensor::from_vec(numbers, (rows, columns), &Device::Cpu)?)
        };
        if self.turned {
            let up = tensor(long, rank, &|i, k| projected[(k, i)] * inverse(k))?;
            let down = tensor(rank, short, &|k, j| vectors[(j, k)] * root[k])?;
            return Ok((up, down));
        }
        let up = tensor(short, rank, &|i, k| vectors[(i, k)] * root[k])?;
        Ok((up, tensor(rank, long, &|k, j| projected[(k, j)] * inverse(k))?))
    }
}

/// The matrix in float64, turned so that it has no more rows than columns, and whether it was turned.
fn wide(matrix: &Tensor) -> Result<(DMatrix<f64>, bool)> {
    let (rows, columns) = matrix.dims2()?;
    let numbers: Vec<f32> = matrix.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    let turned = rows > columns;
    let at = |i: usize, j: usize| f64::from(numbers[i * columns + j]);
    let matrix = match turned {
        true => DMatrix::from_fn(columns, rows, |i, j| at(j, i)),
        false => DMatrix::from_fn(rows, columns, at),
    };
    Ok((matrix, turned))
}

/// Square roots of a Gram matrix's eigenvalues, largest first, and its eigenvectors as columns.
fn eigen(gram: DMatrix<f64>) -> Result<(Vec<f64>, DMatrix<f64>)> {
    let failed = || Error::argument("singular values", ArgumentCause::NoConvergence);
    // With other numbers the search for eigenvalues would not end.
    if gram.iter().any(|value| !value.is_finite()) {
        return Err(failed());
    }
    let eigen = SymmetricEigen::try_new(gram, f64::EPSILON, 0).ok_or_else(failed)?;
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|&i, &j| eigen.eigenvalues[j].total_cmp(&eigen.eigenvalues[i]));
    let values = order.iter().map(|&i| eigen.eigenvalues[i].max(0.0).sqrt()).collect();
    Ok((values, eigen.eigenvectors.select_columns(&order)))
}

/// `count` leading singular values and left vectors by subspace iteration; `None` when the best `rank` of them are not found in time.
fn iterate(matrix: &DMatrix<f64>, rank: usize, count: usize) -> Result<Option<(Vec<f64>, DMatrix<f64>)>> {
    let (norm, transposed) = (matrix.norm_squared(), matrix.transpose());
    let random = Generator::manual_seed(0).randn(&[matrix.ncols() * count]);
    let start = DMatrix::from_fn(matrix.ncols(), count, |i, j| f64::from(random[i * count + j]));
    let mut basis = (matrix * &start).qr().q();
    let (mut held, mut gain) = (0.0, f64::INFINITY);
    for iteration in 0..ITERATIONS {
        let projected = &transposed * &basis;
        let (values, turn) = eigen(projected.transpose() * &projected)?;
        let now: f64 = values[..rank].iter().map(|value| value * value).sum();
        let (last_gain, enough) = (gain, (NEAR * (norm - now)).max(ROUNDING * norm));
        (gain, held) = ((now - held).max(0.0), now);
        // Gains shrink by a constant factor at least, so that all that are to come are a geometric series; the first says nothing.
        let factor = if iteration > 1 { gain / last_gain } else { 0.5 };
        if iteration > 0 && (gain <= ROUNDING * norm || factor < 1.0 && gain * factor / (1.0 - factor) <= enough) {
            return Ok(Some((values, basis * turn)));
        }
        basis = (matrix * projected).qr().q();
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(rows: usize, columns: usize, seed: u64) -> Tensor {
        Generator::manual_seed(seed).randn_tensor(&[rows, columns], &Device::Cpu).unwrap()
    }

    fn difference(a: &Tensor, b: &Tensor) -> f64 {
        let norm =
            |t: &Tensor| t.to_dtype(DType::F64).unwrap().sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
        norm(&(a - b).unwrap()) / norm(b)
    }

    #[test]
    fn products_of_low_rank_come_back() {
        for (rows, columns) in [(20, 50), (50, 20), (7, 7), (1, 9)] {
            let rank = 3.min(rows).min(columns);
            let matrix = random(rows, rank, 1).matmul(&random(rank, columns, 2)).unwrap();
            let spectrum = Spectrum::of(&matrix).unwrap();
            assert_eq!(spectrum.rank_within(1e-5), rank, "{rows} x {columns}");
            let (up, down) = spectrum.factors(rank).unwrap();
            // A few float32 roundings.
            assert!(difference(&up.matmul(&down).unwrap(), &matrix) < 5e-7);
            let size = |t: &Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
            assert!((size(&up) / size(&down) - 1.0).abs() < 1e-4, "the singular values are not shared evenly");
        }
    }

    #[test]
    fn the_stated_error_is_the_error() {
        for (rows, columns) in [(12, 30), (30, 12)] {
            let matrix = random(rows, columns, 3);
            let spectrum = Spectrum::of(&matrix).unwrap();
            for rank in [1, 4, 11] {
                let (up, down) = spectrum.factors(rank).unwrap();
                let found = difference(&up.matmul(&down).unwrap(), &matrix);
                assert!((found - spectrum.error(rank)).abs() < 1e-6, "{found} is not {}", spectrum.error(rank));
            }
            assert_eq!(spectrum.rank_within(spectrum.error(4) + 1e-9), 4);
            assert_eq!((spectrum.rank_within(0.0), spectrum.rank_within(1.0 + 1e-9)), (12, 0));
        }
        let zeros = Spectrum::of(&Tensor::zeros((3, 4), DType::F32, &Device::Cpu).unwrap()).unwrap();
        assert_eq!((zeros.rank_within(0.1), zeros.error(1)), (0, 0.0));
    }

    /// A matrix with these singular values and random vectors.
    fn with_values(rows: usize, columns: usize, value: impl Fn(usize) -> f64) -> Tensor {
        let side = rows.min(columns);
        let orthonormal = |size: usize, seed: u64| {
            let numbers = Generator::manual_seed(seed).randn(&[size * side]);
            DMatrix::from_fn(size, side, |i, j| f64::from(numbers[i * side + j])).qr().q()
        };
        let (left, right) = (orthonormal(rows, 4), orthonormal(columns, 5));
        let scaled = DMatrix::from_fn(rows, side, |i, j| left[(i, j)] * value(j));
        let product = scaled * right.transpose();
        let numbers: Vec<f32> = (0..rows * columns).map(|i| product[(i / columns, i % columns)] as f32).collect();
        Tensor::from_vec(numbers, (rows, columns), &Device::Cpu).unwrap()
    }

    #[test]
    fn leading_values_leave_out_as_little_as_all_of_them() {
        let spectra: [(&str, fn(usize) -> f64); 5] = [
            ("low rank", |i| if i < 8 { 1.0 / (i + 1) as f64 } else { 0.0 }),
            ("low rank and noise", |i| if i < 8 { 1.0 / (i + 1) as f64 } else { 1e-3 }),
            ("noise as large as the last", |i| if i < 8 { 1.0 / (i + 1) as f64 } else { 0.12 }),
            ("a slow fall", |i| 1.0 / (1.0 + i as f64).sqrt()),
            ("flat", |_| 1.0),
        ];
        for (name, value) in spectra {
            for (rows, columns) in [(90, 200), (200, 90)] {
                let matrix = with_values(rows, columns, value);
                let (all, leading) = (Spectrum::of(&matrix).unwrap(), Spectrum::leading(&matrix, 8).unwrap());
                assert!((leading.norm() / all.norm() - 1.0).abs() < 1e-12);
                for rank in [1, 5, 8] {
                    let (found, least) = (leading.error(rank).powi(2), all.error(rank).powi(2));
                    // Rounding of squared norms; the factor is what is promised for the rank, and holds below it.
                    let excess = found - least;
                    assert!(excess > -1e-13 && excess <= 1e-4 * least + 1e-13, "{name}, rank {rank}: {found:e}, not {least:e}");
                }
                let (up, down) = leading.factors(8).unwrap();
                let found = difference(&up.matmul(&down).unwrap(), &matrix);
                assert!((found - all.error(8)).abs() < 1e-4 * all.error(8) + 5e-7, "{name}: {found:e}, not {:e}", all.error(8));
            }
        }
    }

    #[test]
    fn a_part_of_the_spectrum_tells_a_rank_or_that_it_does_not_know() {
        let matrix = with_values(90, 150, |i| if i < 8 { 1.0 } else { 0.01 });
        let spectrum = Spectrum::leading(&matrix, 12).unwrap();
        assert!(spectrum.values.len() < 90);
        assert_eq!(spectrum.rank_within(0.05), 8);
        assert_eq!(spectrum.rank_within(1e-3), spectrum.values.len());
    }
}
