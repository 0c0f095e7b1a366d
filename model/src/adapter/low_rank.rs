//! The best approximation of a matrix by one of low rank (Eckart and Young 1936), from the eigenvectors of its smaller Gram matrix.
//!
//! Works in float64: the rows of the approximation are projections onto eigenvectors, so that an error of those enters squared, and
//! singular values down to 1e-8 of the largest are told from zero; float32 weights hold less.

use candle_core::{DType, Device, Tensor};
use nalgebra::{DMatrix, SymmetricEigen};

use crate::{Error, Result};

/// A matrix by its singular values and vectors.
pub struct Spectrum {
    /// Singular values, largest first; as many as the smaller side.
    pub values: Vec<f64>,
    /// `[smaller, smaller]`: left singular vectors as columns, in the order of the values.
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
        let (rows, columns) = matrix.dims2()?;
        let numbers: Vec<f32> = matrix.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        let turned = rows > columns;
        let at = |i: usize, j: usize| f64::from(numbers[i * columns + j]);
        let matrix = match turned {
            true => DMatrix::from_fn(columns, rows, |i, j| at(j, i)),
            false => DMatrix::from_fn(rows, columns, at),
        };
        drop(numbers);
        let gram = &matrix * matrix.transpose();
        let failed = || Error::argument("singular values", "do not converge; the matrix holds numbers that are not finite");
        if gram.iter().any(|value| !value.is_finite()) {
            return Err(failed());
        }
        let eigen = SymmetricEigen::try_new(gram, f64::EPSILON, 0).ok_or_else(failed)?;
        let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
        order.sort_by(|&i, &j| eigen.eigenvalues[j].total_cmp(&eigen.eigenvalues[i]));
        let values = order.iter().map(|&i| eigen.eigenvalues[i].max(0.0).sqrt()).collect();
        let vectors = eigen.eigenvectors.select_columns(&order);
        Ok(Self { values, vectors, matrix, turned })
    }

    /// The Frobenius norm.
    pub fn norm(&self) -> f64 {
        self.values.iter().map(|value| value * value).sum::<f64>().sqrt()
    }

    /// The Frobenius norm of what an approximation of this rank leaves out, over the matrix's own; 0 for a matrix of zeros.
    pub fn error(&self, rank: usize) -> f64 {
        let norm = self.norm();
        let left: f64 = self.values.iter().skip(rank).map(|value| value * value).sum();
        if norm > 0.0 { left.sqrt() / norm } else { 0.0 }
    }

    /// The smallest rank whose error is at most `error`.
    pub fn rank_within(&self, error: f64) -> usize {
        let most = (error * self.norm()).powi(2);
        let mut left = 0.0;
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
        let rank = rank.clamp(1, short);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Generator;

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
}
