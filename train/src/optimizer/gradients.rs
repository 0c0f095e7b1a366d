//! Gradients of one optimizer step: added up over batches, and clipped by their common norm.
//!
//! Clipping mirrors `torch.nn.utils.clip_grad_norm_` (PyTorch 2.x), with the same small number in the denominator.

use super::Group;
use candle_core::Tensor;
use candle_core::backprop::GradStore;
use driftless::Result;

/// A gradient, or none yet, for each matrix of each group, in their order.
#[derive(Debug, Default)]
pub struct Gradients {
    groups: Vec<Vec<Option<Tensor>>>,
}

impl Gradients {
    /// Empty ones for `groups`.
    pub fn new(groups: &[Group]) -> Self {
        Self { groups: groups.iter().map(|group| vec![None; group.parameters.len()]).collect() }
    }

    /// Adds what `store` holds for the matrices of `groups`. Matrices that the loss does not depend on stay without.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn add(&mut self, groups: &[Group], store: &mut GradStore) -> Result<()> {
        for (sums, group) in self.groups.iter_mut().zip(groups) {
            for (sum, parameter) in sums.iter_mut().zip(&group.parameters) {
                let Some(gradient) = store.remove(parameter.var.as_tensor()) else { continue };
                // Detached: a gradient kept for the next batch must not keep this batch's graph.
                let gradient = gradient.detach();
                *sum = Some(match sum.take() {
                    Some(sum) => (sum + gradient)?,
                    None => gradient,
                });
            }
        }
        Ok(())
    }

    /// The gradient of a matrix, by the indices of group and matrix.
    pub fn get(&self, group: usize, parameter: usize) -> Option<&Tensor> {
        self.groups.get(group)?.get(parameter)?.as_ref()
    }

    /// The L2 norm of all gradients together.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn norm(&self) -> Result<f64> {
        let mut squares = 0.0;
        for gradient in self.groups.iter().flatten().flatten() {
            squares += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        Ok(squares.sqrt())
    }

    /// Scales all gradients so that their common norm is at most `most` (0: no limit). Returns the norm before.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn clip(&mut self, most: f64) -> Result<f64> {
        let norm = self.norm()?;
        let scale = most / (norm + 1e-6);
        if most > 0.0 && scale < 1.0 {
            for gradient in self.groups.iter_mut().flatten().flatten() {
                *gradient = (&*gradient * scale)?;
            }
        }
        Ok(norm)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Parameter;
    use super::*;
    use candle_core::{Device, Var};

    fn group(values: &[f32]) -> (Vec<Group>, Var) {
        let var = Var::new(values, &Device::Cpu).unwrap();
        let unused = Var::new(&[1f32], &Device::Cpu).unwrap();
        let parameters = [var.clone(), unused].map(|var| Parameter { key: String::new(), var }).to_vec();
        (vec![Group { name: "unet".into(), rate: 1.0, parameters }], var)
    }

    fn values(gradients: &Gradients) -> Vec<f32> {
        gradients.get(0, 0).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn two_batches_add_up() {
        let (groups, var) = group(&[1.0, 2.0]);
        let mut gradients = Gradients::new(&groups);
        for factor in [0.5, 1.5] {
            let loss = (var.as_tensor() * factor).unwrap().sum_all().unwrap();
            gradients.add(&groups, &mut loss.backward().unwrap()).unwrap();
        }
        assert_eq!(values(&gradients), [2.0, 2.0]);
        assert!(gradients.get(0, 1).is_none(), "a matrix that the loss does not see has no gradient");
    }

    #[test]
    fn the_norm_is_clipped_from_above_only() {
        let (groups, var) = group(&[3.0, 4.0]);
        for (most, expected) in [(1.0, [0.6, 0.8]), (0.0, [3.0, 4.0]), (10.0, [3.0, 4.0])] {
            let mut gradients = Gradients::new(&groups);
            let loss = (var.as_tensor().sqr().unwrap() * 0.5).unwrap().sum_all().unwrap();
            gradients.add(&groups, &mut loss.backward().unwrap()).unwrap();
            assert!((gradients.clip(most).unwrap() - 5.0).abs() < 1e-6);
            for (value, expected) in values(&gradients).iter().zip(expected) {
                assert!((value - expected).abs() < 1e-6, "{most}: {value}");
            }
        }
    }
}
