//! One basis for many features: the principal components of all positions of all of them together.
//!
//! Features are added one after the other and not kept: what stays is the sum of their positions and the sum of products of channels, in
//! float64 (`channels^2` numbers), so that memory does not grow with the number of features. Sums are taken around the first feature's
//! means, by which channels with a large mean and a small variance lose no digits.

use candle_core::{Device, Tensor};
use nalgebra::DMatrix;

use super::decomposition::leading;
use super::{NoComponents, with_positive_peak};

/// Positions that are multiplied at once, which bounds the memory of a large feature.
const CHUNK: usize = 4096;

/// The positions of features, added up.
#[derive(Clone, Debug)]
pub struct Positions {
    channels: usize,
    count: usize,
    /// What the sums are taken around.
    origin: Vec<f64>,
    sum: Vec<f64>,
    /// Sums of products, `channels` rows of `channels`.
    products: Vec<f64>,
}

/// Directions in the space of channels along which positions vary the most, with their mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Basis {
    /// The mean of every channel.
    pub mean: Vec<f64>,
    /// Unit vectors of `mean.len()` numbers, the one of largest variance first. The entry of largest magnitude of each is positive (of
    /// equal ones the first), so that the same features give the same signs.
    pub axes: Vec<Vec<f64>>,
    /// The variance along each axis, of `positions - 1` degrees of freedom.
    pub variance: Vec<f64>,
    /// The variance of all channels together.
    pub total_variance: f64,
    /// Positions that the basis is made of.
    pub positions: usize,
}

/// A feature of another number of channels than a basis or the features before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("has {found} channels, where {expected} are expected")]
pub struct OtherChannels {
    /// Channels of the basis.
    pub expected: usize,
    /// Channels of the feature.
    pub found: usize,
}

impl Positions {
    /// Of features with so many channels.
    pub fn new(channels: usize) -> Self {
        let zeros = |count: usize| vec![0.0; count];
        Self { channels, count: 0, origin: Vec::new(), sum: zeros(channels), products: zeros(channels * channels) }
    }

    /// Adds a feature, `channels` rows of `positions` numbers.
    ///
    /// # Errors
    /// When it has other channels, or a number is not finite.
    pub fn add(&mut self, values: &[f32], channels: usize, positions: usize) -> Result<(), NoComponents> {
        if channels != self.channels {
            return Err(OtherChannels { expected: self.channels, found: channels }.into());
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err(NoComponents::NotFinite);
        }
        if positions == 0 || channels == 0 {
            return Ok(());
        }
        if self.origin.is_empty() {
            self.origin = values.chunks_exact(positions).map(mean).collect();
        }
        for start in (0..positions).step_by(CHUNK) {
            let width = CHUNK.min(positions - start);
            let rows = values.chunks_exact(positions).zip(&self.origin);
            let part: Vec<f64> = rows
                .flat_map(|(row, origin)| row[start..start + width].iter().map(move |value| f64::from(*value) - origin))
                .collect();
            self.sum.iter_mut().zip(part.chunks_exact(width)).for_each(|(sum, row)| *sum += row.iter().sum::<f64>());
            let part = Tensor::from_vec(part, (channels, width), &Device::Cpu)?;
            let products = part.matmul(&part.t()?)?.flatten_all()?.to_vec1::<f64>()?;
            self.products.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
        }
        self.count += positions;
        Ok(())
    }

    /// All axes along which positions vary, but at most `most` of them, the leading ones.
    ///
    /// # Errors
    /// When there are fewer than two positions, or they are all the same.
    pub fn directions(&self, most: usize) -> Result<Basis, NoComponents> {
        let mut basis = self.basis(most.min(self.channels).min(self.count).max(1))?;
        // What rounding leaves of an eigenvalue that is none (NumPy's `matrix_rank`).
        let largest = basis.variance.first().copied().unwrap_or(0.0);
        let least = largest * self.channels as f64 * f64::EPSILON;
        let rank = basis.variance.iter().take_while(|variance| **variance > least).count();
        if rank == 0 {
            return Err(NoComponents::Constant);
        }
        basis.axes.truncate(rank);
        basis.variance.truncate(rank);
        Ok(basis)
    }

    /// The `count` leading axes; along those behind the rank of the covariance the variance is 0.
    ///
    /// # Errors
    /// When there are fewer channels or positions than axes.
    pub fn basis(&self, count: usize) -> Result<Basis, NoComponents> {
        let (channels, positions) = (self.channels, self.count);
        if channels < count || positions < count || positions < 2 {
            return Err(NoComponents::TooFew { channels, positions, wanted: count });
        }
        let shift: Vec<f64> = self.sum.iter().map(|sum| sum / positions as f64).collect();
        let degrees = (positions - 1) as f64;
        let covariance = DMatrix::from_fn(channels, channels, |row, column| {
            // Of a symmetric matrix the same half for both, so that rounding does not make it another one.
            let (row, column) = (row.min(column), row.max(column));
            (self.products[row * channels + column] - positions as f64 * shift[row] * shift[column]) / degrees
        });
        let eigen = leading(&covariance, count);
        Ok(Basis {
            mean: self.origin.iter().zip(&shift).map(|(origin, shift)| origin + shift).collect(),
            axes: eigen.vectors.column_iter().map(|axis| with_positive_peak(axis.iter().copied().collect())).collect(),
            variance: eigen.values.iter().map(|value| value.max(0.0)).collect(),
            total_variance: covariance.trace(),
            positions,
        })
    }
}

impl Basis {
    /// Every position of a feature along the axes: a list of `positions` numbers per axis. `values` holds `channels` rows of `positions`
    /// numbers.
    ///
    /// # Errors
    /// When the feature has other channels than the basis, or a number is not finite.
    pub fn scores(&self, values: &[f32], channels: usize, positions: usize) -> Result<Vec<Vec<f64>>, NoComponents> {
        if channels != self.mean.len() {
            return Err(OtherChannels { expected: self.mean.len(), found: channels }.into());
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err(NoComponents::NotFinite);
        }
        let along = |axis: &Vec<f64>| {
            let mut scores = vec![0.0; positions];
            for ((row, weight), mean) in values.chunks_exact(positions.max(1)).zip(axis).zip(&self.mean) {
                scores.iter_mut().zip(row).for_each(|(score, value)| *score += weight * (f64::from(*value) - mean));
            }
            scores
        };
        Ok(self.axes.iter().map(along).collect())
    }
}

fn mean(row: &[f32]) -> f64 {
    row.iter().map(|value| f64::from(*value)).sum::<f64>() / row.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture() -> serde_json::Value {
        let path = format!("{}/../tests/fixtures/extract/pca_common.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn numbers<T: serde::de::DeserializeOwned>(value: &serde_json::Value) -> T {
        serde_json::from_value(value.clone()).unwrap()
    }

    // Reference: NumPy's SVD of all positions together, float64 (tests/reference/extract_pca_common.py). The covariance squares the
    // condition, which leaves some eight digits of the axes.
    #[test]
    fn the_basis_equals_the_svd_of_all_positions() {
        let case = fixture();
        let features: Vec<(Vec<usize>, Vec<f32>)> = numbers(&case["features"]);
        let axes: Vec<Vec<f64>> = numbers(&case["axes"]);
        let mut all = Positions::new(features[0].0[0]);
        for (shape, values) in &features {
            all.add(values, shape[0], shape[1] * shape[2]).unwrap();
        }
        let basis = all.basis(axes.len()).unwrap();
        let close = |found: &[f64], expected: &[f64], what: &str| {
            let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-8 && found.len() == expected.len(), "{what}: {worst:e}");
        };
        close(&basis.mean, &numbers::<Vec<f64>>(&case["mean"]), "mean");
        close(&basis.variance, &numbers::<Vec<f64>>(&case["variance"]), "variance");
        close(&[basis.total_variance], &[numbers::<f64>(&case["total_variance"])], "total variance");
        basis.axes.iter().zip(&axes).for_each(|(found, expected)| close(found, expected, "axis"));
        let (shape, values) = &features[1];
        let scores = basis.scores(values, shape[0], shape[1] * shape[2]).unwrap();
        let expected: Vec<Vec<f64>> = numbers(&case["scores_of_the_second"]);
        scores.iter().zip(&expected).for_each(|(found, expected)| close(found, expected, "scores"));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut all = Positions::new(3);
        all.add(&[1.0, 2.0, 3.0, 4.0, 5.0, 7.0], 3, 2).unwrap();
        assert!(all.add(&[0.0; 8], 4, 2).unwrap_err().to_string().contains("has 4 channels, where 3"));
        assert!(matches!(all.add(&[f32::NAN; 3], 3, 1), Err(NoComponents::NotFinite)));
        assert!(matches!(all.basis(3), Err(NoComponents::TooFew { .. })));
        let basis = all.basis(2).unwrap();
        assert!(basis.scores(&[0.0; 2], 2, 1).is_err());
        // Two points have one direction.
        assert!(basis.variance[0] > 1.0 && basis.variance[1] < 1e-12);
    }
}
