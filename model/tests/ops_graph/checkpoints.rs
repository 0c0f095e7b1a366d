//! Gradient checkpointing: results and gradients are those of the same computation without it.

use candle_core::{Tensor, Var};
use driftless::ops::{self, GradientSink, Mask};

use crate::{assert_close, gradients, normal, numbers, variable};

/// A block as a transformer's: a frozen layer with a low-rank term, a norm, an activation; two inputs and one that scales.
fn block(down: &Var, up: &Var, [x, context, scale]: [&Tensor; 3]) -> driftless::Result<Tensor> {
    let (frozen, affine) = (normal(&[6, 6], 100), normal(&[6], 101));
    let hidden = ops::layer_norm(x, &affine, &affine, 1e-5)?;
    let term = ops::linear_trainable(&ops::linear_trainable(&hidden, down)?, up)?;
    let hidden = ops::linear(&hidden, &frozen, None)?.add(&term)?;
    let hidden = ops::attention(&hidden, context, context, 2, Mask::None)?;
    Ok(ops::gelu(&hidden.broadcast_mul(scale)?)?.add(x)?)
}

struct Scene {
    x: Var,
    context: Var,
    scale: Tensor,
    down: Var,
    up: Var,
    g: Tensor,
}

impl Scene {
    fn new() -> Self {
        Self {
            x: variable(&[2, 5, 6], 1),
            context: variable(&[2, 3, 6], 2),
            scale: normal(&[6], 3),
            down: variable(&[2, 6], 4),
            up: variable(&[6, 2], 5),
            g: normal(&[2, 5, 6], 6),
        }
    }

    fn sink(&self) -> GradientSink {
        GradientSink::new(vec![self.down.clone(), self.up.clone()])
    }

    fn block(&self) -> impl Fn([&Tensor; 3]) -> driftless::Result<Tensor> + Send + Sync + 'static {
        let (down, up) = (self.down.clone(), self.up.clone());
        move |inputs| block(&down, &up, inputs)
    }

    /// Compares the results, and the gradients of `variables`, of the same computation with and without checkpoints.
    fn compare(&self, plain: &Tensor, checkpointed: &Tensor, sink: &GradientSink, variables: &[&Var]) {
        assert_eq!(numbers(plain), numbers(checkpointed));
        let expected = gradients(plain, &self.g);
        let mut got = gradients(checkpointed, &self.g);
        sink.merge_into(&mut got).unwrap();
        for variable in variables {
            let expected = expected.get(variable).unwrap();
            assert!(numbers(expected).iter().any(|value| *value != 0.0));
            // The same arithmetic; only sums over several uses may be taken in another order.
            assert_close(got.get(variable).unwrap(), expected, 1e-6);
        }
        assert!(sink.take().is_empty(), "merging empties the sink");
    }
}

#[test]
fn a_checkpoint_changes_no_gradient() {
    let scene = Scene::new();
    let (sink, run) = (scene.sink(), scene.block());
    let inputs = [scene.x.as_tensor(), &scene.context, &scene.scale];
    let checkpointed = ops::checkpoint(&sink, inputs, scene.block()).unwrap();
    scene.compare(&run(inputs).unwrap(), &checkpointed, &sink, &[&scene.x, &scene.context, &scene.down, &scene.up]);
}

#[test]
fn a_checkpoint_gives_gradients_to_variables_inside_alone_too() {
    // Only the first input is tracked, as the latents of a network that trains nothing but adapters.
    let scene = Scene::new();
    let (sink, run, context) = (scene.sink(), scene.block(), scene.context.detach());
    let inputs = [scene.x.as_tensor(), &context, &scene.scale];
    let checkpointed = ops::checkpoint(&sink, inputs, scene.block()).unwrap();
    scene.compare(&run(inputs).unwrap(), &checkpointed, &sink, &[&scene.down, &scene.up]);
    // None is tracked: outside the graph, as documented.
    let outside = ops::checkpoint(&sink, [&scene.x.detach(), &context, &scene.scale], scene.block()).unwrap();
    assert!(!ops::is_tracked(&outside));
}

#[test]
fn checkpoints_in_a_row_share_variables() {
    let scene = Scene::new();
    let (sink, run) = (scene.sink(), scene.block());
    let once = run([&scene.x, &scene.context, &scene.scale]).unwrap();
    let plain = run([&once, &scene.context, &scene.scale]).unwrap();
    // The middle one uses the matrices outside of a checkpoint: both ways add up.
    let plain = run([&plain, &scene.context, &scene.scale]).unwrap();
    let once = ops::checkpoint(&sink, [&scene.x, &scene.context, &scene.scale], scene.block()).unwrap();
    let middle = run([&once, &scene.context, &scene.scale]).unwrap();
    let checkpointed = ops::checkpoint(&sink, [&middle, &scene.context, &scene.scale], scene.block()).unwrap();
    scene.compare(&plain, &checkpointed, &sink, &[&scene.x, &scene.context, &scene.down, &scene.up]);
}

#[test]
fn checkpoints_nest() {
    let scene = Scene::new();
    let (sink, run) = (scene.sink(), scene.block());
    let twice = |inputs: [&Tensor; 3]| run([&run(inputs)?, inputs[1], inputs[2]]);
    let plain = twice([&scene.x, &scene.context, &scene.scale]).unwrap();
    let (inner_sink, first, second) = (sink.clone(), scene.block(), std::sync::Arc::new(scene.block()));
    let outer = move |inputs: [&Tensor; 3]| {
        let hidden = first(inputs)?;
        let second = second.clone();
        ops::checkpoint(&inner_sink, [&hidden, inputs[1], inputs[2]], move |inputs| second(inputs))
    };
    let checkpointed = ops::checkpoint(&sink, [&scene.x, &scene.context, &scene.scale], outer).unwrap();
    scene.compare(&plain, &checkpointed, &sink, &[&scene.x, &scene.context, &scene.down, &scene.up]);
}

#[test]
fn a_checkpoint_that_ignores_a_tracked_input_gives_it_zeros() {
    let scene = Scene::new();
    let sink = scene.sink();
    let unused = variable(&[3], 9);
    let output = ops::checkpoint(&sink, [&scene.x, &unused, &scene.scale], |[x, _, _]| Ok(x.sqr()?)).unwrap();
    let gradients = gradients(&output, &scene.g);
    assert_close(gradients.get(&scene.x).unwrap(), &(scene.x.mul(&scene.g).unwrap() * 2.0).unwrap(), 1e-6);
    assert_eq!(numbers(gradients.get(&unused).unwrap()), [0.0; 3]);
    let constant = normal(&[2, 5, 6], 8);
    let output = ops::checkpoint(&sink, [&scene.x, &unused, &scene.scale], move |_| Ok(constant.clone())).unwrap();
    assert!(numbers(output.sum_all().unwrap().backward().unwrap().get(&scene.x).unwrap()).iter().all(|value| *value == 0.0));
}

#[test]
fn the_error_of_a_block_arrives() {
    let scene = Scene::new();
    let error = ops::checkpoint(&scene.sink(), [&scene.x, &scene.x, &scene.x], |[x, _, _]| ops::geglu(&x.narrow(2, 0, 3)?));
    assert_eq!(error.unwrap_err().to_string(), "geglu: expected [.., 2c], got [2, 5, 3]");
}
