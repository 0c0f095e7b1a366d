//! The operations against torch (fixtures of tests/reference/ops.py): results, input gradients and weight gradients, for contiguous
//! and for strided inputs.
//!
//! Errors are relative to the greatest magnitude of the expected tensor, or to 0.1 where that is greater (gradients that cancel to
//! nothing, as a softmax's over one key). The tolerance, 1e-5, is some 80 units in float32's last
//! place: both sides sum up to a few thousand rounded products in different orders.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor, Var};
use driftless::ops::{self, Mask, Padding};

const TOLERANCE: f64 = 1e-5;

struct Fixture {
    tensors: HashMap<String, Tensor>,
}

impl Fixture {
    fn load(name: &str) -> Self {
        let path = format!("{}/../tests/fixtures/ops/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        Self { tensors: candle_core::safetensors::load(path, &Device::Cpu).unwrap() }
    }

    fn get(&self, key: String) -> Tensor {
        self.tensors.get(&key).unwrap_or_else(|| panic!("no {key}")).clone()
    }

    fn numbers(&self, key: String) -> Vec<usize> {
        self.get(key).to_vec1::<i64>().unwrap().into_iter().map(|number| number as usize).collect()
    }

    /// The names of the cases that have a tensor `part`, each with a point behind.
    fn cases(&self, part: &str) -> Vec<String> {
        let names = self.tensors.keys().filter_map(|key| key.strip_suffix(part).filter(|case| case.ends_with('.')));
        let mut cases: Vec<String> = names.map(str::to_owned).collect();
        cases.sort();
        assert!(!cases.is_empty());
        cases
    }
}

#[track_caller]
fn assert_close(context: &str, got: &Tensor, expected: &Tensor) {
    assert_eq!(got.dims(), expected.dims(), "{context}");
    let wide = |tensor: &Tensor| tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    let scalar = |tensor: Tensor| tensor.max(0).unwrap().to_scalar::<f64>().unwrap();
    let (got, expected) = (wide(got), wide(expected));
    let greatest = scalar(expected.abs().unwrap());
    let error = scalar((got - expected).unwrap().abs().unwrap()) / greatest.max(0.1);
    assert!(error <= TOLERANCE, "{context}: relative error {error:e}");
}

/// The same values as they come, with exchanged strides, and inside a greater tensor.
fn layouts(tensor: &Tensor) -> Vec<Tensor> {
    let mut all = vec![tensor.clone()];
    if tensor.rank() >= 2 {
        let last = tensor.rank() - 1;
        all.push(tensor.transpose(last - 1, last).unwrap().contiguous().unwrap().transpose(last - 1, last).unwrap());
        let wider = Tensor::cat(&[&tensor.ones_like().unwrap(), tensor, &tensor.ones_like().unwrap()], last).unwrap();
        all.push(wider.narrow(last, tensor.dim(last).unwrap(), tensor.dim(last).unwrap()).unwrap());
        let taller = Tensor::cat(&[&tensor.ones_like().unwrap(), tensor], 0).unwrap();
        all.push(taller.narrow(0, tensor.dim(0).unwrap(), tensor.dim(0).unwrap()).unwrap());
    }
    for other in &all[1..] {
        assert_eq!(other.dims(), tensor.dims());
    }
    all
}

/// Checks `operation` on the case's `inputs`: its result `y`, and the gradients of all inputs under the output gradient `g`. Every
/// input is a strided view of a variable.
fn check(fixture: &Fixture, case: &str, inputs: &[&str], operation: impl Fn(&[Tensor]) -> driftless::Result<Tensor>) {
    let values: Vec<Tensor> = inputs.iter().map(|input| fixture.get(format!("{case}{input}"))).collect();
    for layout in 0..layouts(&values[0]).len() {
        let context = format!("{case} layout {layout}");
        let variables: Vec<Var> = values.iter().map(|value| Var::from_tensor(value).unwrap()).collect();
        let views: Vec<Tensor> =
            variables.iter().map(|variable| layouts(variable).into_iter().cycle().nth(layout).unwrap()).collect();
        let y = operation(&views).unwrap();
        assert_close(&format!("{context}: y"), &y, &fixture.get(format!("{case}y")));
        let untracked: Vec<Tensor> = views.iter().map(Tensor::detach).collect();
        let outside = operation(&untracked).unwrap();
        assert!(!ops::is_tracked(&outside), "{context}: nothing to record");
        assert_eq!(outside.flatten_all().unwrap().to_vec1::<f32>().unwrap(), y.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        // A strided output gradient as well.
        let g = layouts(&fixture.get(format!("{case}g"))).into_iter().cycle().nth(layout + 1).unwrap();
        let gradients = (y * g).unwrap().sum_all().unwrap().backward().unwrap();
        for (variable, input) in variables.iter().zip(inputs) {
            let gradient = gradients.get(variable).unwrap_or_else(|| panic!("{context}: no gradient of {input}"));
            assert_close(&format!("{context}: d{input}"), gradient, &fixture.get(format!("{case}d{input}")));
        }
    }
}

#[test]
fn linear_agrees_with_torch() {
    let fixture = Fixture::load("linear");
    for case in fixture.cases("input") {
        let [weight, bias] = ["weight", "bias"].map(|part| fixture.get(format!("{case}{part}")));
        check(&fixture, &case, &["input"], |inputs| ops::linear(&inputs[0], &weight, Some(&bias)));
        for weight in layouts(&weight) {
            check(&fixture, &case, &["input"], |inputs| ops::linear(&inputs[0], &weight, Some(&bias)));
        }
        check(&fixture, &case, &["input", "weight"], |inputs| {
            Ok(ops::linear_trainable(&inputs[0], &inputs[1])?.broadcast_add(&bias)?)
        });
    }
}

#[test]
fn conv2d_agrees_with_torch() {
    let fixture = Fixture::load("convolution");
    for case in fixture.cases("x") {
        let [weight, bias] = ["weight", "bias"].map(|part| fixture.get(format!("{case}{part}")));
        let sizes = fixture.numbers(format!("{case}sizes"));
        let (stride, padding) = (sizes[0], Padding { top: sizes[1], bottom: sizes[2], left: sizes[3], right: sizes[4] });
        for weight in layouts(&weight) {
            check(&fixture, &case, &["x"], |inputs| ops::conv2d(&inputs[0], &weight, Some(&bias), stride, padding));
        }
        let bias = bias.reshape((1, (), 1, 1)).unwrap();
        check(&fixture, &case, &["x", "weight"], |inputs| {
            Ok(ops::conv2d_trainable(&inputs[0], &inputs[1], stride, padding)?.broadcast_add(&bias)?)
        });
    }
}

#[test]
fn group_norm_agrees_with_torch() {
    let fixture = Fixture::load("normalization");
    for case in fixture.cases("groups") {
        let groups = fixture.numbers(format!("{case}groups"))[0];
        for (case, eps, silu) in [(case.clone(), 1e-5, false), (case.replacen("group.", "group_silu.", 1), 1e-6, true)] {
            let [weight, bias] = ["weight", "bias"].map(|part| fixture.get(format!("{case}{part}")));
            check(&fixture, &case, &["x"], |inputs| ops::group_norm(&inputs[0], &weight, &bias, groups, eps, silu));
        }
    }
}

#[test]
fn layer_norm_agrees_with_torch() {
    let fixture = Fixture::load("normalization");
    for case in ["layer.rows.", "layer.one.", "layer.wide."] {
        let [weight, bias] = ["weight", "bias"].map(|part| fixture.get(format!("{case}{part}")));
        check(&fixture, case, &["x"], |inputs| ops::layer_norm(&inputs[0], &weight, &bias, 1e-5));
    }
}

#[test]
fn activations_agree_with_torch() {
    let fixture = Fixture::load("activation");
    check(&fixture, "silu.", &["input"], |inputs| ops::silu(&inputs[0]));
    check(&fixture, "gelu.", &["input"], |inputs| ops::gelu(&inputs[0]));
    check(&fixture, "quick_gelu.", &["input"], |inputs| ops::quick_gelu(&inputs[0]));
    check(&fixture, "geglu.", &["input"], |inputs| ops::geglu(&inputs[0]));
}

#[test]
fn attention_agrees_with_torch() {
    let fixture = Fixture::load("attention");
    for case in fixture.cases("q") {
        let sizes = fixture.numbers(format!("{case}sizes"));
        let mask = if sizes[1] == 1 { Mask::Causal } else { Mask::None };
        check(&fixture, &case, &["q", "k", "v"], |inputs| ops::attention(&inputs[0], &inputs[1], &inputs[2], sizes[0], mask));
    }
}

#[test]
fn attention_probabilities_agree_with_torch() {
    let fixture = Fixture::load("attention");
    for case in fixture.cases("probabilities") {
        let [q, k] = ["q", "k"].map(|part| fixture.get(format!("{case}{part}")));
        let heads = fixture.numbers(format!("{case}sizes"))[0];
        for (q, k) in layouts(&q).into_iter().zip(layouts(&k)) {
            let all = ops::attention_probabilities(&q, &k, heads).unwrap();
            assert_close(&case, &all, &fixture.get(format!("{case}probabilities")));
            let mean = ops::attention_probabilities_mean(&q, &k, heads).unwrap();
            assert_close(&case, &mean, &fixture.get(format!("{case}mean")));
        }
    }
}

#[test]
fn upsample_nearest_agrees_with_torch() {
    let fixture = Fixture::load("upsample");
    for case in ["double.", "odd.", "same.", "uneven.", "down."] {
        let (_, _, height, width) = fixture.get(format!("{case}y")).dims4().unwrap();
        check(&fixture, case, &["x"], |inputs| ops::upsample_nearest(&inputs[0], height, width));
    }
}

#[test]
fn upsample_nearest_takes_the_pixels_that_torch_takes() {
    let fixture = Fixture::load("upsample");
    for length in [3usize, 7, 11, 33, 49] {
        let table = fixture.get(format!("source.{length}")).to_vec2::<u8>().unwrap();
        let row = Tensor::arange(0f32, length as f32, &Device::Cpu).unwrap().reshape((1, 1, 1, length)).unwrap();
        for to in 1..=100 {
            let got = ops::upsample_nearest(&row, 1, to).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let got: Vec<u8> = got.into_iter().map(|source| source as u8).collect();
            assert_eq!(got, table[to - 1][..to], "{length} to {to}");
        }
    }
}

#[test]
fn padding_beyond_all_memory_is_refused() {
    let (x, weight) =
        (Tensor::zeros((1, 1, 3, 3), DType::F32, &Device::Cpu), Tensor::zeros((1, 1, 3, 3), DType::F32, &Device::Cpu));
    let (x, weight) = (x.unwrap(), weight.unwrap());
    for pixels in [usize::MAX, usize::MAX / 2, (1 << 32) - 1] {
        let error = ops::conv2d(&x, &weight, None, 1, Padding::same(pixels)).unwrap_err().to_string();
        assert!(error.contains("does not fit a padded input"), "{error}");
    }
}
