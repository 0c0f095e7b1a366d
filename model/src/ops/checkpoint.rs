//! Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174; `torch.utils.checkpoint`): a block keeps its inputs only, and is
//! computed again when the backward pass reaches it.
//!
//! Difference from torch: candle's backward pass returns its gradients instead of adding them to variables, so the gradients of
//! variables inside a block are collected in a [`GradientSink`] and merged at the end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::backprop::GradStore;
use candle_core::{Tensor, TensorId, Var};

use super::graph::{attach, is_tracked};
use crate::Result;

/// Collects the gradients of trainable matrices found inside checkpointed blocks. Clones share what they collect.
#[derive(Clone, Debug)]
pub struct GradientSink {
    variables: Arc<Vec<Var>>,
    gradients: Arc<Mutex<HashMap<TensorId, Tensor>>>,
}

impl GradientSink {
    /// A sink for the gradients of these variables; gradients of others inside blocks are dropped.
    pub fn new(variables: Vec<Var>) -> Self {
        Self { variables: Arc::new(variables), gradients: Arc::default() }
    }

    /// Adds what was collected to `gradients`, the result of the backward pass outside, and empties the sink.
    pub fn merge_into(&self, gradients: &mut GradStore) -> Result<()> {
        for (id, collected) in self.take() {
            let sum = match gradients.get_id(id) {
                Some(present) => present.add(&collected)?,
                None => collected,
            };
            gradients.insert_id(id, sum);
        }
        Ok(())
    }

    /// What was collected, by the variables' ids; empties the sink.
    pub fn take(&self) -> HashMap<TensorId, Tensor> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TensorId, Tensor>> {
        self.gradients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the sink's variables' gradients out of one block's backward pass.
    fn collect(&self, store: &mut GradStore) -> Result<()> {
        let mut collected = self.lock();
        for variable in self.variables.iter() {
            let Some(gradient) = store.remove(variable) else { continue };
            let sum = match collected.get(&variable.id()) {
                Some(present) => present.add(&gradient)?.detach(),
                None => gradient.detach(),
            };
            collected.insert(variable.id(), sum);
        }
        Ok(())
    }
}

/// Runs `block` on three inputs without keeping what it computes on the way, and runs it again in the backward pass.
///
/// Gradients of tracked inputs flow on as usual; gradients of variables used inside `block` go to `sink`. At least one input has
/// to be tracked, or the block stays outside the graph and its variables get no gradient: a network whose variables are all
/// inside such blocks makes its first input (the noisy latents) a variable.
///
/// `block` must be a function of its inputs and of variables alone: a tracked tensor that it captures is reached by the recomputed
/// backward pass too, and then only the part that leads to the sink's variables is kept. While the block runs, its intermediate
/// results live as in any recorded computation; they are dropped when it returns. Blocks may be nested and used repeatedly.
///
/// Errors are the block's own.
pub fn checkpoint(
    sink: &GradientSink,
    inputs: [&Tensor; 3],
    block: impl Fn([&Tensor; 3]) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let detached = inputs.map(Tensor::detach);
    let output = block([&detached[0], &detached[1], &detached[2]])?.detach();
    let sink = sink.clone();
    attach("checkpoint", &inputs, output.into(), move |call| {
        let mut leaves = Vec::with_capacity(3);
        for (input, &tracked) in call.inputs.iter().zip(&call.tracked) {
            leaves.push(if tracked { Var::from_tensor(input)?.as_tensor().clone() } else { input.clone() });
        }
        let output = block([&leaves[0], &leaves[1], &leaves[2]])?;
        if !is_tracked(&output) {
            return Ok(vec![None, None, None]);
        }
        let mut gradients = start(&output, &call.gradient)?.backward()?;
        sink.collect(&mut gradients)?;
        Ok(leaves.iter().map(|leaf| gradients.remove(leaf)).collect())
    })
}

/// A number whose backward pass gives `output` this gradient: the sum of their products, but for its value, which nobody needs.
fn start(output: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let number = Tensor::zeros((), output.dtype(), output.device())?;
    let gradient = gradient.clone();
    attach("start", &[output], number.into(), move |_| Ok(vec![Some(gradient.clone())]))
}
