//! A step of AdamW: Adam with decoupled weight decay (arXiv 1711.05101, algorithm 2), as `torch.optim.AdamW` computes it (PyTorch 2.15,
//! `_single_tensor_adamw`), in place.

use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Tensor, Var};
use rayon::prelude::*;

use super::Misfit;
use crate::Result;

/// Numbers that one task updates.
const CHUNK: usize = 1 << 15;

/// What a step depends on beside the gradient.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// How much of the mean and of the mean square stays, each in 0..1.
    pub betas: (f64, f64),
    /// What the weight is multiplied by: one less rate times weight decay.
    pub keep: f64,
    /// The rate, divided by the mean's correction `1 - beta1^steps`.
    pub step_size: f64,
    /// The root of the mean square's correction `1 - beta2^steps`.
    pub root_correction: f64,
    /// Added to the denominator.
    pub eps: f64,
}

impl AdamW {
    /// The numbers of step `steps`, counted from 1.
    pub fn new(betas: (f64, f64), eps: f64, weight_decay: f64, rate: f64, steps: usize) -> Self {
        let correction = |beta: f64| 1.0 - beta.powi(i32::try_from(steps).unwrap_or(i32::MAX));
        Self {
            betas,
            keep: 1.0 - rate * weight_decay,
            step_size: rate / correction(betas.0),
            root_correction: correction(betas.1).sqrt(),
            eps,
        }
    }

    /// Updates `weight` and its moments, the gradients' running mean and mean square: all four float32, of one shape, on one device.
    ///
    /// Errors where they are not.
    pub fn step(&self, weight: &Var, mean: &Var, square: &Var, gradient: &Tensor) -> Result<()> {
        if [mean.dims(), square.dims(), gradient.dims()] != [weight.dims(); 3] {
            let (expected, found) = (weight.dims().to_vec(), gradient.dims().to_vec());
            return Err(Misfit::Gradient { expected, found }.of("adamw"));
        }
        let (beta1, beta2) = self.betas;
        if weight.device().is_cpu() {
            let gradient = gradient.contiguous()?;
            mean.inplace_op2(&gradient, &Blend { beta: beta1 as f32, squared: false })?;
            square.inplace_op2(&gradient, &Blend { beta: beta2 as f32, squared: true })?;
            weight.inplace_op3(mean, square, self)?;
            return Ok(());
        }
        let [new_weight, new_mean, new_square] = self.composed(weight, mean, square, gradient)?;
        mean.set(&new_mean)?;
        square.set(&new_square)?;
        weight.set(&new_weight)?;
        Ok(())
    }

    /// The new weight and moments by candle's operations.
    fn composed(&self, weight: &Tensor, mean: &Tensor, square: &Tensor, gradient: &Tensor) -> Result<[Tensor; 3]> {
        let (beta1, beta2) = self.betas;
        let mean = ((mean * beta1)? + (gradient * (1.0 - beta1))?)?;
        let square = ((square * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
        let denominator = ((square.sqrt()? / self.root_correction)? + self.eps)?;
        let weight = ((weight * self.keep)? - ((&mean / denominator)? * self.step_size)?)?;
        Ok([weight, mean, square])
    }
}

/// `moment <- beta moment + (1 - beta) g`, or `g^2`.
struct Blend {
    beta: f32,
    squared: bool,
}

impl InplaceOp2 for Blend {
    fn name(&self) -> &'static str {
        "adamw-moment"
    }

    fn cpu_fwd(
        &self,
        moment: &mut CpuStorage,
        moment_at: &Layout,
        gradient: &CpuStorage,
        at: &Layout,
    ) -> candle_core::Result<()> {
        let (moment, gradient) = (values_mut(moment, moment_at)?, values(gradient, at)?);
        let (beta, rest) = (self.beta, 1.0 - self.beta);
        moment.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)).for_each(|(moment, gradient)| {
            for (moment, g) in moment.iter_mut().zip(gradient) {
                let new = if self.squared { g * g } else { *g };
                *moment = beta * *moment + rest * new;
            }
        });
        Ok(())
    }
}

/// `weight <- keep weight - step_size mean / (sqrt(square) / root_correction + eps)`.
impl InplaceOp3 for AdamW {
    fn name(&self) -> &'static str {
        "adamw-update"
    }

    fn cpu_fwd(
        &self,
        weight: &mut CpuStorage,
        weight_at: &Layout,
        mean: &CpuStorage,
        mean_at: &Layout,
        square: &CpuStorage,
        square_at: &Layout,
    ) -> candle_core::Result<()> {
        let (mean, square) = (values(mean, mean_at)?, values(square, square_at)?);
        let weight = values_mut(weight, weight_at)?;
        let (keep, step_size) = (self.keep as f32, self.step_size as f32);
        let (root_correction, eps) = (self.root_correction as f32, self.eps as f32);
        let moments = mean.par_chunks(CHUNK).zip(square.par_chunks(CHUNK));
        weight.par_chunks_mut(CHUNK).zip(moments).for_each(|(weight, (mean, square))| {
            for ((weight, mean), square) in weight.iter_mut().zip(mean).zip(square) {
                *weight = keep * *weight - step_size * (mean / (square.sqrt() / root_correction + eps));
            }
        });
        Ok(())
    }
}

fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    let (start, end) = contiguous(layout)?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

fn values_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> candle_core::Result<&'a mut [f32]> {
    let (start, end) = contiguous(layout)?;
    match storage {
        CpuStorage::F32(values) => Ok(&mut values[start..end]),
        _ => candle_core::bail!("adamw: weights and moments are float32"),
    }
}

fn contiguous(layout: &Layout) -> candle_core::Result<(usize, usize)> {
    match layout.contiguous_offsets() {
        Some(range) => Ok(range),
        None => candle_core::bail!("adamw: a matrix is not contiguous"),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn in_place_and_by_operations_is_the_same() {
        let step = AdamW { betas: (0.9, 0.99), keep: 0.99, step_size: 0.1, root_correction: 0.5, eps: 1e-8 };
        let var = |values: &[f32]| Var::new(values, &Device::Cpu).unwrap();
        let (weight, mean, square) = (var(&[1.0, -2.0, 0.5]), var(&[0.1, 0.2, -0.3]), var(&[0.04, 0.0, 0.5]));
        let gradient = Tensor::new(&[0.3f32, -0.7, 0.0], &Device::Cpu).unwrap();
        let expected = step.composed(&weight, &mean, &square, &gradient).unwrap();
        step.step(&weight, &mean, &square, &gradient).unwrap();
        for (found, expected) in [weight, mean, square].iter().zip(expected) {
            let (found, expected): (Vec<f32>, Vec<f32>) = (found.to_vec1().unwrap(), expected.to_vec1().unwrap());
            for (found, expected) in found.into_iter().zip(expected) {
                assert!((found - expected).abs() <= 1e-6 * expected.abs(), "{found}, not {expected}");
            }
        }
        let narrow = Tensor::new(&[0.3f32], &Device::Cpu).unwrap();
        assert!(step.step(&var(&[1.0, 2.0]), &var(&[0.0, 0.0]), &var(&[0.0, 0.0]), &narrow).is_err());
    }
}
