//! The composed operations on a CPU against the kernels, which the integration tests pin to torch.

use candle_core::{Device, Tensor, Var};

use super::super::{
    Mask, Padding, attention, attention_probabilities, attention_probabilities_mean, convolution, upsample_nearest,
};
use crate::Result;
use crate::kernels::attention::Sizes;
use crate::ops;

fn normal(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap()
}

#[track_caller]
fn assert_close(got: &Tensor, expected: &Tensor) {
    assert_eq!(got.dims(), expected.dims());
    let scalar = |tensor: Tensor| tensor.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    let error = scalar(got.sub(expected).unwrap()) / scalar(expected.clone());
    // Two orders of summation of a few hundred float32 products.
    assert!(error <= 1e-5, "relative error {error:e}");
}

/// The gradient of `x` that `operation` has by the kernels under the output gradient `g`.
fn gradient(x: &Tensor, g: &Tensor, operation: impl Fn(&Tensor) -> Result<Tensor>) -> Tensor {
    let x = Var::from_tensor(x).unwrap();
    let gradients = operation(&x).unwrap().mul(g).unwrap().sum_all().unwrap().backward().unwrap();
    gradients.get(&x).unwrap().clone()
}

#[test]
fn linear() {
    let (weight, bias) = (normal(&[7, 5]), normal(&[7]));
    for shape in [&[5][..], &[3, 5], &[2, 3, 5]] {
        let x = normal(shape);
        let expected = ops::linear(&x, &weight, Some(&bias)).unwrap();
        assert_close(&super::linear(&x, &weight, Some(&bias)).unwrap(), &expected);
        let g = normal(expected.dims());
        let to_x = gradient(&x, &g, |x| ops::linear(x, &weight, None));
        assert_close(&super::linear_input_gradient(&g, &weight).unwrap(), &to_x);
        let to_weight = gradient(&weight, &g, |weight| ops::linear_trainable(&x, weight));
        assert_close(&super::linear_weight_gradient(&x, &g).unwrap(), &to_weight);
    }
}

#[test]
fn convolution() {
    let uneven = Padding { top: 2, bottom: 1, left: 0, right: 3 };
    for (kernel, stride, padding) in
        [(3, 1, Padding::same(1)), (3, 2, Padding::same(1)), (1, 1, Padding::same(0)), (3, 2, uneven)]
    {
        let (x, weight, bias) = (normal(&[2, 3, 8, 9]), normal(&[4, 3, kernel, kernel]), normal(&[4]));
        let shape = convolution::Shape::new("conv2d", &x, &weight, Some(&bias), stride, padding).unwrap();
        let expected = ops::conv2d(&x, &weight, Some(&bias), stride, padding).unwrap();
        assert_close(&super::conv2d(&x, &weight, Some(&bias), &shape).unwrap(), &expected);
        let g = normal(expected.dims());
        let to_x = gradient(&x, &g, |x| ops::conv2d(x, &weight, None, stride, padding));
        assert_close(&super::conv2d_input_gradient(&g, &weight, &shape).unwrap(), &to_x);
        let to_weight = gradient(&weight, &g, |weight| ops::conv2d_trainable(&x, weight, stride, padding));
        assert_close(&super::conv2d_weight_gradient(&x, &g, &shape).unwrap(), &to_weight);
    }
}

#[test]
fn normalization() {
    let (x, weight, bias) = ((normal(&[2, 6, 4, 5]) + 3.0).unwrap(), normal(&[6]), normal(&[6]));
    let g = normal(&[2, 6, 4, 5]);
    for silu in [false, true] {
        let expected = ops::group_norm(&x, &weight, &bias, 3, 1e-5, silu).unwrap();
        assert_close(&super::group_norm(&x, &weight, &bias, 3, 1e-5, silu).unwrap(), &expected);
        let expected = gradient(&x, &g, |x| ops::group_norm(x, &weight, &bias, 3, 1e-5, silu));
        assert_close(&super::group_norm_gradient(&x, &weight, &bias, 3, 1e-5, silu, &g).unwrap(), &expected);
    }
    let (x, g) = (normal(&[2, 5, 6]), normal(&[2, 5, 6]));
    let expected = ops::layer_norm(&x, &weight, &bias, 1e-5).unwrap();
    assert_close(&super::layer_norm(&x, &weight, &bias, 1e-5).unwrap(), &expected);
    let expected = gradient(&x, &g, |x| ops::layer_norm(x, &weight, &bias, 1e-5));
    assert_close(&super::layer_norm_gradient(&x, &weight, 1e-5, &g).unwrap(), &expected);
}

#[test]
fn activation() {
    type Function = fn(&Tensor) -> Result<Tensor>;
    let (x, g) = ((normal(&[3, 8]) * 3.0).unwrap(), normal(&[3, 8]));
    let functions: [(Function, Function, Function); 3] = [
        (super::silu, super::silu_slope, ops::silu),
        (super::gelu, super::gelu_slope, ops::gelu),
        (super::quick_gelu, super::quick_gelu_slope, ops::quick_gelu),
    ];
    for (value, slope, expected) in functions {
        assert_close(&value(&x).unwrap(), &expected(&x).unwrap());
        assert_close(&slope(&x).unwrap().mul(&g).unwrap(), &gradient(&x, &g, expected));
    }
    assert_close(&super::geglu(&x).unwrap(), &ops::geglu(&x).unwrap());
    let g = normal(&[3, 4]);
    assert_close(&super::geglu_gradient(&x, &g).unwrap(), &gradient(&x, &g, ops::geglu));
}

#[test]
fn attention_and_its_probabilities() {
    for (queries, keys, mask) in [(1030, 9, Mask::None), (7, 7, Mask::Causal)] {
        let (q, k, v) = (normal(&[2, queries, 6]), normal(&[2, keys, 6]), normal(&[2, keys, 6]));
        let sizes = Sizes { batch: 2, queries, keys, heads: 2, head: 3, causal: mask == Mask::Causal };
        let (output, log_sums) = super::attention(&q, &k, &v, &sizes).unwrap();
        assert_close(&output, &attention(&q, &k, &v, 2, mask).unwrap());
        let g = normal(output.dims());
        let [to_q, to_k, to_v] = super::attention_gradient([&q, &k, &v], &output, &log_sums, &g, &sizes).unwrap();
        assert_close(&to_q, &gradient(&q, &g, |q| attention(q, &k, &v, 2, mask)));
        assert_close(&to_k, &gradient(&k, &g, |k| attention(&q, k, &v, 2, mask)));
        assert_close(&to_v, &gradient(&v, &g, |v| attention(&q, &k, v, 2, mask)));
        if mask == Mask::None {
            let expected = attention_probabilities(&q, &k, 2).unwrap();
            assert_close(&super::attention_probabilities(&q, &k, &sizes).unwrap(), &expected);
            let expected = attention_probabilities_mean(&q, &k, 2).unwrap();
            assert_close(&super::attention_probabilities_mean(&q, &k, &sizes).unwrap(), &expected);
        }
    }
}

#[test]
fn upsampling() {
    let x = normal(&[2, 3, 5, 7]);
    for (height, width) in [(10, 14), (9, 13), (3, 8)] {
        let expected = upsample_nearest(&x, height, width).unwrap();
        assert_close(&super::upsample_nearest(&x, height, width).unwrap(), &expected);
        let g = normal(expected.dims());
        let to_x = gradient(&x, &g, |x| upsample_nearest(x, height, width));
        assert_close(&super::upsample_nearest_gradient(&g, 5, 7).unwrap(), &to_x);
    }
}
