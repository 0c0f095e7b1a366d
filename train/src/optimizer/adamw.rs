//! AdamW: Adam with decoupled weight decay (arXiv 1711.05101, algorithm 2), with moments that can be saved and restored.
//!
//! Mirrors `torch.optim.AdamW` (PyTorch 2.15, `_single_tensor_adamw`), without `amsgrad`. Moments are float32. `candle-nn` and
//! `candle-optimisers` have AdamW too, but keep their moments to themselves, so a run could not be resumed exactly.
//!
//! The arithmetic is `driftless::ops::AdamW`'s.

use super::{Gradients, Group, Optimizer, State};
use candle_core::{Tensor, Var};
use driftless::error::ArgumentCause;
use driftless::{Error, Result, ops};

/// Settings, with PyTorch's defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Decay of the mean of gradients and of their squares.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Share of a weight that is taken away per step and unit of learning rate.
    pub weight_decay: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.01 }
    }
}

/// The optimizer.
#[derive(Debug)]
pub struct AdamW {
    settings: Settings,
    groups: Vec<Vec<Moments>>,
    steps: usize,
}

#[derive(Debug)]
struct Moments {
    key: String,
    var: Var,
    mean: Var,
    square: Var,
}

const MEAN: &str = "exp_avg";
const SQUARE: &str = "exp_avg_sq";

impl AdamW {
    /// For the matrices of `groups`, with moments of zero.
    ///
    /// # Errors
    /// When memory for the moments is lacking.
    pub fn new(groups: &[Group], settings: Settings) -> Result<Self> {
        let moments = |parameter: &super::Parameter| -> Result<Moments> {
            let zeros = || Ok::<_, Error>(Var::from_tensor(&parameter.var.zeros_like()?)?);
            Ok(Moments { key: parameter.key.clone(), var: parameter.var.clone(), mean: zeros()?, square: zeros()? })
        };
        let groups = groups.iter().map(|group| group.parameters.iter().map(moments).collect()).collect::<Result<_>>()?;
        Ok(Self { settings, groups, steps: 0 })
    }
}

/// Why a state is not this optimizer's.
#[derive(Debug, thiserror::Error)]
enum StateFault {
    #[error("the optimizer's `{name}` is missing; the state is of another network")]
    Missing { name: String },
    #[error("the optimizer's `{name}` has another shape; the state is of another network")]
    Shape { name: String },
    #[error("the optimizer's `{name}` belongs to nothing; the state is of another network or optimizer")]
    Unknown { name: String },
}

impl Optimizer for AdamW {
    fn step(&mut self, gradients: &Gradients, rates: &[f64]) -> Result<()> {
        self.steps += 1;
        let Settings { betas, eps, weight_decay } = self.settings;
        for (group, (moments, rate)) in self.groups.iter().zip(rates).enumerate() {
            let step = ops::AdamW::new(betas, eps, weight_decay, *rate, self.steps);
            for (index, moments) in moments.iter().enumerate() {
                // Torch leaves matrices without gradient alone, weight decay included.
                let Some(gradient) = gradients.get(group, index) else { continue };
                step.step(&moments.var, &moments.mean, &moments.square, gradient)?;
            }
        }
        Ok(())
    }

    fn state(&self) -> Option<State> {
        let named = |moments: &Moments| {
            [(MEAN, &moments.mean), (SQUARE, &moments.square)]
                .map(|(kind, var)| (format!("{kind}/{}", moments.key), var.as_detached_tensor()))
        };
        Some(State { steps: self.steps, tensors: self.groups.iter().flatten().flat_map(named).collect() })
    }

    fn restore(&mut self, state: State) -> Result<()> {
        let mut tensors: std::collections::HashMap<String, Tensor> = state.tensors.into_iter().collect();
        for moments in self.groups.iter().flatten() {
            for (kind, var) in [(MEAN, &moments.mean), (SQUARE, &moments.square)] {
                let name = format!("{kind}/{}", moments.key);
                let wrong = |fault: StateFault| Error::argument("--resume", ArgumentCause::above(fault));
                let tensor = tensors.remove(&name).ok_or_else(|| wrong(StateFault::Missing { name: name.clone() }))?;
                if tensor.dims() != var.dims() || tensor.dtype() != var.dtype() {
                    return Err(wrong(StateFault::Shape { name }));
                }
                var.set(&tensor.to_device(var.device())?)?;
            }
        }
        if let Some(name) = tensors.keys().min() {
            let fault = StateFault::Unknown { name: name.clone() };
            return Err(Error::argument("--resume", ArgumentCause::above(fault)));
        }
        self.steps = state.steps;
        Ok(())
    }

    fn description(&self) -> String {
        let Settings { betas, eps, weight_decay } = self.settings;
        format!("AdamW(weight_decay={weight_decay},betas=({}, {}),eps={eps:e})", betas.0, betas.1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Parameter;
    use super::*;
    use candle_core::{DType, Device};
    use serde_json::Value;

    fn floats(value: &Value) -> Vec<f32> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    }

    fn fixture() -> Value {
        serde_json::from_str(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/train/adamw.json"))).unwrap()
    }

    /// The reference's problem: two groups of one matrix each, gradients given.
    struct Problem {
        groups: Vec<Group>,
        gradients: Vec<[Vec<f32>; 2]>,
    }

    impl Problem {
        fn new(case: &Value) -> Self {
            let start = case["start"].as_array().unwrap();
            let groups = start.iter().enumerate().map(|(index, start)| Group {
                name: String::new(),
                rate: 0.0,
                parameters: vec![Parameter { key: format!("k{index}"), var: Var::new(floats(start), &Device::Cpu).unwrap() }],
            });
            let gradients = case["gradients"].as_array().unwrap().iter().map(|step| [floats(&step[0]), floats(&step[1])]);
            Self { groups: groups.collect(), gradients: gradients.collect() }
        }

        fn gradients(&self, step: usize) -> Gradients {
            let mut gradients = Gradients::new(&self.groups);
            for (group, values) in self.groups.iter().zip(&self.gradients[step]) {
                let given = Tensor::new(values.as_slice(), &Device::Cpu).unwrap();
                let loss = (group.parameters[0].var.as_tensor() * given).unwrap().sum_all().unwrap();
                gradients.add(&self.groups, &mut loss.backward().unwrap()).unwrap();
            }
            gradients
        }

        fn weights(&self) -> Vec<Vec<f32>> {
            self.groups.iter().map(|group| group.parameters[0].var.to_vec1().unwrap()).collect()
        }
    }

    fn settings(case: &Value) -> Settings {
        let number = |key: &str| case[key].as_f64().unwrap();
        Settings { betas: (number("beta1"), number("beta2")), eps: number("eps"), weight_decay: number("weight_decay") }
    }

    fn assert_close(found: &[Vec<f32>], expected: &Value, context: &str) {
        for (found, expected) in found.iter().zip(expected.as_array().unwrap()) {
            for (found, expected) in found.iter().zip(floats(expected)) {
                // Both are float32; a step differs by a rounding or two, and 30 steps add few of them up.
                assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{context}: {found}, not {expected}");
            }
        }
    }

    // Reference: torch 2.15.0 AdamW, two parameter groups with own rates that change, float32, CPU: tests/reference/train_adamw.py.
    #[test]
    fn thirty_steps_are_those_of_torch() {
        for case in fixture()["cases"].as_array().unwrap() {
            let problem = Problem::new(case);
            let mut adamw = AdamW::new(&problem.groups, settings(case)).unwrap();
            for (step, expected) in case["weights"].as_array().unwrap().iter().enumerate() {
                let rates: Vec<f64> = case["rates"][step].as_array().unwrap().iter().map(|rate| rate.as_f64().unwrap()).collect();
                adamw.step(&problem.gradients(step), &rates).unwrap();
                assert_close(&problem.weights(), expected, &format!("step {step}"));
            }
        }
    }

    #[test]
    fn a_restored_state_goes_on_exactly() {
        let fixture = fixture();
        let case = &fixture["cases"][0];
        let rates = [1e-2, 1e-3];
        let whole = Problem::new(case);
        let mut adamw = AdamW::new(&whole.groups, settings(case)).unwrap();
        (0..10).for_each(|step| adamw.step(&whole.gradients(step), &rates).unwrap());

        let halved = Problem::new(case);
        let mut first = AdamW::new(&halved.groups, settings(case)).unwrap();
        (0..5).for_each(|step| first.step(&halved.gradients(step), &rates).unwrap());
        let mut second = AdamW::new(&halved.groups, settings(case)).unwrap();
        second.restore(first.state().unwrap()).unwrap();
        (5..10).for_each(|step| second.step(&halved.gradients(step), &rates).unwrap());
        assert_eq!(halved.weights(), whole.weights());
    }

    #[test]
    fn the_state_of_another_network_is_refused() {
        let fixture = fixture();
        let problem = Problem::new(&fixture["cases"][0]);
        let state = AdamW::new(&problem.groups, Settings::default()).unwrap().state().unwrap();
        let mut adamw = AdamW::new(&problem.groups, Settings::default()).unwrap();
        let mut wrong = state.clone();
        wrong.tensors[0].1 = Tensor::zeros(7, DType::F32, &Device::Cpu).unwrap();
        assert!(adamw.restore(wrong).unwrap_err().to_string().contains("exp_avg/k0"));
        let mut wrong = state.clone();
        wrong.tensors.pop();
        assert!(adamw.restore(wrong).unwrap_err().to_string().contains("missing"));
        let mut wrong = state.clone();
        wrong.tensors.push(("exp_avg/k9".into(), wrong.tensors[0].1.clone()));
        assert!(adamw.restore(wrong).unwrap_err().to_string().contains("k9"));
        adamw.restore(state).unwrap();
    }
}
