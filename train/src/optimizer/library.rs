//! The optimizers of `candle-optimisers` 0.10.2, one instance per group so that each group has its own rate.
//!
//! They do not hand out their state, so a run with one of them cannot save a state to resume from.

use super::{Gradients, Group, Optimizer, State};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use driftless::error::ArgumentCause;
use driftless::{Error, Result};

/// One of the library's optimizers.
pub struct Library<O> {
    groups: Vec<(O, Vec<Var>)>,
    description: String,
}

/// A state was given to an optimizer that takes none.
#[derive(Debug, thiserror::Error)]
#[error("{optimizer} cannot take back its state; use AdamW")]
struct NoState {
    optimizer: String,
}

impl<O: candle_nn::Optimizer> Library<O> {
    /// For the matrices of `groups`; `params` are the library's settings.
    ///
    /// # Errors
    /// When memory for its state is lacking.
    pub fn new(groups: &[Group], params: O::Config, description: String) -> Result<Self>
    where
        O::Config: Clone,
    {
        let optimizer = |group: &Group| -> Result<(O, Vec<Var>)> {
            let vars: Vec<Var> = group.parameters.iter().map(|parameter| parameter.var.clone()).collect();
            Ok((O::new(vars.clone(), params.clone())?, vars))
        };
        Ok(Self { groups: groups.iter().map(optimizer).collect::<Result<_>>()?, description })
    }
}

impl<O: candle_nn::Optimizer> Optimizer for Library<O> {
    fn step(&mut self, gradients: &Gradients, rates: &[f64]) -> Result<()> {
        for (group, ((optimizer, vars), rate)) in self.groups.iter_mut().zip(rates).enumerate() {
            let mut store = empty_store()?;
            for (index, var) in vars.iter().enumerate() {
                if let Some(gradient) = gradients.get(group, index) {
                    store.insert(var.as_tensor(), gradient.clone());
                }
            }
            optimizer.set_learning_rate(*rate);
            optimizer.step(&store)?;
        }
        Ok(())
    }

    fn state(&self) -> Option<State> {
        None
    }

    fn restore(&mut self, _: State) -> Result<()> {
        Err(Error::argument("--resume", ArgumentCause::above(NoState { optimizer: self.description.clone() })))
    }

    fn description(&self) -> String {
        self.description.clone()
    }
}

/// A store without gradients. It has no public constructor, but differentiating a constant gives one.
fn empty_store() -> Result<GradStore> {
    Ok(Tensor::zeros((), DType::F32, &Device::Cpu)?.backward()?)
}
