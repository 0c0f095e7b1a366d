//! The first three principal components of a feature, exactly, as scikit-learn's `PCA(n_components=3)` defines them: rows are
//! positions, columns channels; centered, not scaled; for each component the score of largest magnitude is positive. One basis for many
//! features together is [`Positions`] and [`Basis`]; [`Projection`] is those of a file, on which features are projected as they are written.

mod colors;
mod common;
mod decomposition;
mod file;

use candle_core::{Device, Tensor};
use nalgebra::DMatrix;

use decomposition::leading;

pub use colors::colored;
pub use common::{Basis, OtherChannels, Positions};
pub use file::{Projection, has_basis, write_bases};

/// Red, green and blue.
pub const COMPONENTS: usize = 3;

/// A feature that has no three principal components.
#[derive(Debug, thiserror::Error)]
pub enum NoComponents {
    /// Too small.
    #[error("has {channels} channels and {positions} positions; {wanted} components need at least {wanted} of each")]
    TooFew {
        /// Its channels.
        channels: usize,
        /// Its positions.
        positions: usize,
        /// Components that were asked for.
        wanted: usize,
    },
    /// Of other channels than the features or the basis that it has to fit.
    #[error(transparent)]
    OtherChannels(#[from] OtherChannels),
    /// With numbers that are not finite.
    #[error("holds numbers that are not finite")]
    NotFinite,
    /// With one value everywhere.
    #[error("is the same everywhere, and has no components")]
    Constant,
    /// Memory is short.
    #[error(transparent)]
    Tensors(#[from] candle_core::Error),
}

/// Scores of every position, component by component: three lists of `positions` numbers.
///
/// `values` holds `channels` rows of `positions` numbers.
///
/// # Errors
/// When there are fewer than three channels or positions, or a number is not finite.
pub fn scores(values: &[f32], channels: usize, positions: usize) -> Result<[Vec<f64>; COMPONENTS], NoComponents> {
    if channels < COMPONENTS || positions < COMPONENTS {
        return Err(NoComponents::TooFew { channels, positions, wanted: COMPONENTS });
    }
    if values.iter().any(|value| !value.is_finite()) {
        return Err(NoComponents::NotFinite);
    }
    let centered: Vec<f64> = values.chunks_exact(positions).flat_map(center).collect();
    Ok(project(&centered, channels, positions)?.map(with_positive_peak))
}

/// A channel without its mean.
fn center(channel: &[f32]) -> impl Iterator<Item = f64> {
    let mean = channel.iter().map(|value| f64::from(*value)).sum::<f64>() / channel.len() as f64;
    channel.iter().map(move |value| f64::from(*value) - mean)
}

/// The centered positions along the leading axes. The smaller of the two products, of channels or of positions, is decomposed.
fn project(centered: &[f64], channels: usize, positions: usize) -> candle_core::Result<[Vec<f64>; COMPONENTS]> {
    let rows = Tensor::from_slice(centered, (channels, positions), &Device::Cpu)?;
    let by_channel = channels <= positions;
    let (side, gram) = match by_channel {
        true => (channels, rows.matmul(&rows.t()?)?),
        false => (positions, rows.t()?.matmul(&rows)?),
    };
    // Symmetric, so that the order of rows and columns does not matter.
    let gram = DMatrix::from_vec(side, side, gram.flatten_all()?.to_vec1::<f64>()?);
    let eigen = leading(&gram, COMPONENTS);
    let component = |i: usize| -> candle_core::Result<Vec<f64>> {
        // A matrix of low rank has fewer directions than components; along the others nothing varies.
        if i >= eigen.values.len() {
            return Ok(vec![0.0; positions]);
        }
        let axis: Vec<f64> = eigen.vectors.column(i).iter().copied().collect();
        if by_channel {
            let axis = Tensor::from_vec(axis, (1, channels), &Device::Cpu)?;
            return axis.matmul(&rows)?.flatten_all()?.to_vec1::<f64>();
        }
        let scale = eigen.values[i].max(0.0).sqrt();
        Ok(axis.into_iter().map(|value| value * scale).collect())
    };
    Ok([component(0)?, component(1)?, component(2)?])
}

fn with_positive_peak(scores: Vec<f64>) -> Vec<f64> {
    // The first of equal magnitudes, as NumPy's argmax.
    let peak = scores.iter().fold(0.0_f64, |peak, score| if score.abs() > peak.abs() { *score } else { peak });
    if peak < 0.0 { scores.into_iter().map(|score| -score).collect() } else { scores }
}
