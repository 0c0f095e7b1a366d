//! One layer: its difference, cut to a rank.

use super::noise;
use crate::args::{ExtractOptions, RankChoice};
use candle_core::{DType, Device, Tensor};
use driftless::adapter::Adapter;
use driftless::adapter::files::Network;
use driftless::adapter::low_rank::Spectrum;
use driftless::adapter::plain::lora_of;
use driftless::formats::require_finite;
use driftless::weights::Component;
use driftless::{Error, Result};

/// A layer of both models.
pub struct Layer<'a> {
    /// The network.
    pub network: Network,
    /// The module path.
    pub path: String,
    /// The tuned network.
    pub tuned: &'a Component,
    /// The base's.
    pub base: &'a Component,
}

/// A layer's adapter and how much of the difference it holds.
pub struct Outcome {
    /// The network.
    pub network: Network,
    /// The module path.
    pub path: String,
    /// The layer's adapter; none where the layers differ by rounding alone.
    pub adapter: Option<Adapter>,
    /// The squared norm of the difference.
    pub energy: f64,
    /// The squared norm of what the rank leaves out.
    pub left_out: f64,
    /// The squared norm that rounding the tuned model explains.
    pub rounding: f64,
    /// Whether the next singular value stands well above what rounding makes.
    pub goes_on: bool,
}

/// How far above rounding's largest singular value one must be to count as a part of the change.
const ABOVE_ROUNDING: f64 = 2.0;

impl Layer<'_> {
    /// Cuts the layer's difference to a rank.
    pub fn extract(&self, options: &ExtractOptions) -> Result<Outcome> {
        let name = format!("{}.weight", self.path);
        let read = |component: &Component| -> Result<Vec<f32>> {
            let tensor = component.tensor(&name, &Device::Cpu)?;
            let stored = component.stored_name(&name).unwrap_or(&name);
            require_finite(&tensor).map_err(|cause| Error::tensor(component.file().path(), stored, cause))?;
            Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
        };
        let (mut tuned, base) = (read(self.tuned)?, read(self.base)?);
        let step = noise::step(self.tuned.info(&name).and_then(|info| info.tensor_dtype()));
        let shape = self.base.info(&name).map(|info| info.shape.clone()).unwrap_or_default();
        let same = tuned.iter().zip(&base).all(|(a, b)| noise::rounds_to(*a, *b, step));
        let rounding = noise::energy(&tuned, step);
        // The tuned weight is dropped for the difference: the largest layers are some 100 MB each.
        tuned.iter_mut().zip(&base).for_each(|(tuned, base)| *tuned -= base);
        drop(base);
        let mut outcome = Outcome {
            network: self.network,
            path: self.path.clone(),
            adapter: None,
            energy: tuned.iter().map(|difference| f64::from(*difference).powi(2)).sum(),
            left_out: 0.0,
            rounding,
            goes_on: false,
        };
        if same {
            outcome.left_out = outcome.energy;
            return Ok(outcome);
        }
        let matrix = Tensor::from_vec(tuned, shape.as_slice(), &Device::Cpu)?.flatten_from(1)?;
        let (rows, columns) = matrix.dims2()?;
        let (spectrum, rank) = match options.rank {
            RankChoice::Fixed(rank) => (Spectrum::leading(&matrix, rank)?, rank.min(rows.min(columns))),
            RankChoice::Auto => {
                // Rounding is white: no rank holds it, and none needs to.
                let change = (outcome.energy - outcome.rounding).max(0.0);
                let left_out = outcome.energy - options.share * change;
                smallest_rank(&matrix, (left_out / outcome.energy).max(0.0).sqrt())?
            }
        };
        drop(matrix);
        // The largest singular value of a matrix of independent numbers (Marchenko and Pastur 1967).
        let deviation = (outcome.rounding / (rows * columns) as f64).sqrt();
        let rounding = deviation * ((rows as f64).sqrt() + (columns as f64).sqrt());
        let next = spectrum.values.get(rank).copied().unwrap_or(0.0);
        outcome.goes_on = next > (ABOVE_ROUNDING * rounding).max(1e-6 * spectrum.norm());
        outcome.left_out = spectrum.error(rank).powi(2) * outcome.energy;
        let (up, down) = spectrum.factors(rank)?;
        outcome.adapter = Some(lora_of(up, down, &shape)?);
        Ok(outcome)
    }
}

/// The smallest rank whose error is at most `error`, with the spectrum that tells it: most changes are of a low rank, which the leading
/// values alone show.
fn smallest_rank(matrix: &Tensor, error: f64) -> Result<(Spectrum, usize)> {
    let (rows, columns) = matrix.dims2()?;
    for most in [32, 128] {
        let spectrum = Spectrum::leading(matrix, most)?;
        let rank = spectrum.rank_within(error).max(1);
        if rank <= most || spectrum.values.len() == rows.min(columns) {
            return Ok((spectrum, rank));
        }
    }
    let spectrum = Spectrum::of(matrix)?;
    let rank = spectrum.rank_within(error).max(1);
    Ok((spectrum, rank))
}
