//! The operations inside candle's graph: derivatives by finite differences, values used twice, frozen weights, half-precision
//! weights, threads, and refusals; checkpoints in a file of their own.

mod checkpoints;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use driftless::ops::{self, Activation, Before, GradientSink, LowRank, Mask, Padding};

/// Normally distributed numbers that are the same in every run: a linear congruential generator (Knuth's MMIX constants) and
/// Box and Muller's transform.
fn normal(shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f64 + 0.5) / (1u64 << 24) as f64
    };
    let count: usize = shape.iter().product();
    let values: Vec<f32> =
        (0..count).map(|_| ((-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn variable(shape: &[usize], seed: u64) -> Var {
    Var::from_tensor(&normal(shape, seed)).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    numbers(a).iter().zip(numbers(b)).map(|(a, b)| a * b).sum()
}

/// The gradients of sum(output * g).
fn gradients(output: &Tensor, g: &Tensor) -> GradStore {
    output.mul(g).unwrap().sum_all().unwrap().backward().unwrap()
}

#[track_caller]
fn assert_close(got: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(got.dims(), expected.dims());
    let (got, expected) = (numbers(got), numbers(expected));
    let greatest = expected.iter().fold(0.0_f64, |greatest, value| greatest.max(value.abs()));
    let error = got.iter().zip(&expected).fold(0.0_f64, |error, (a, b)| error.max((a - b).abs()));
    assert!(error <= tolerance * greatest, "relative error {:e}", error / greatest);
}

type Operation = Box<dyn Fn(&[&Tensor]) -> driftless::Result<Tensor>>;

fn low_rank(x: &[&Tensor], before: Before, weight: &Tensor, bias: &Tensor) -> driftless::Result<Tensor> {
    ops::linear_low_rank(x[0], before, weight, Some(bias), LowRank { down: x[1], up: x[2], scale: 0.7 })
}

/// A sum in the memory of a copy of `y`.
fn add(x: &Tensor, y: Tensor) -> driftless::Result<Tensor> {
    Ok(Activation::copied(&y)?.add(&Activation::shared(x.clone()))?.into_tensor())
}

/// The same of channels, in that of a copy of `x`.
fn add_channels(x: Tensor, channels: &Tensor) -> driftless::Result<Tensor> {
    Ok(Activation::copied(&x)?.add_channels(&Activation::shared(channels.clone()))?.into_tensor())
}

/// Every differentiable operation with the shapes of its differentiable inputs.
fn operations() -> Vec<(&'static str, Vec<Vec<usize>>, Operation)> {
    let padding = Padding { top: 1, bottom: 0, left: 2, right: 1 };
    let (linear, bias) = (normal(&[6, 5], 1), normal(&[6], 2));
    let (kernel, kernel_bias) = (normal(&[4, 3, 3, 3], 3), normal(&[4], 4));
    let (channels, channels_bias) = (normal(&[6], 5), normal(&[6], 6));
    let (silu_channels, silu_bias) = (channels.clone(), channels_bias.clone());
    let (layer, layer_bias) = (channels.clone(), channels_bias.clone());
    let [thin, gated] = [(); 2].map(|()| normal(&[4, 5], 7));
    let [thin_bias, gated_bias] = [(); 2].map(|()| normal(&[4], 8));
    let tokens = || vec![vec![2, 7, 6], vec![2, 5, 6], vec![2, 5, 6]];
    let square = || vec![vec![2, 7, 6]; 3];
    vec![
        ("linear", vec![vec![2, 3, 5]], Box::new(move |x: &[&Tensor]| ops::linear(x[0], &linear, Some(&bias)))),
        ("linear_trainable", vec![vec![2, 3, 5], vec![4, 5]], Box::new(|x: &[&Tensor]| ops::linear_trainable(x[0], x[1]))),
        (
            "conv2d",
            vec![vec![2, 3, 5, 6]],
            Box::new(move |x: &[&Tensor]| ops::conv2d(x[0], &kernel, Some(&kernel_bias), 2, padding)),
        ),
        (
            "conv2d_trainable",
            vec![vec![2, 3, 5, 6], vec![4, 3, 3, 3]],
            Box::new(move |x: &[&Tensor]| ops::conv2d_trainable(x[0], x[1], 2, padding)),
        ),
        (
            "group_norm",
            vec![vec![2, 6, 3, 4]],
            Box::new(move |x: &[&Tensor]| ops::group_norm(x[0], &channels, &channels_bias, 2, 1e-5, false)),
        ),
        (
            "group_norm with silu",
            vec![vec![2, 6, 3, 4]],
            Box::new(move |x: &[&Tensor]| ops::group_norm(x[0], &silu_channels, &silu_bias, 2, 1e-5, true)),
        ),
        ("layer_norm", vec![vec![2, 3, 6]], Box::new(move |x: &[&Tensor]| ops::layer_norm(x[0], &layer, &layer_bias, 1e-5))),
        ("geglu", vec![vec![2, 3, 10]], Box::new(|x: &[&Tensor]| ops::geglu(x[0]))),
        ("silu", vec![vec![3, 5]], Box::new(|x: &[&Tensor]| ops::silu(x[0]))),
        ("gelu", vec![vec![3, 5]], Box::new(|x: &[&Tensor]| ops::gelu(x[0]))),
        ("quick_gelu", vec![vec![3, 5]], Box::new(|x: &[&Tensor]| ops::quick_gelu(x[0]))),
        ("attention", tokens(), Box::new(|x: &[&Tensor]| ops::attention(x[0], x[1], x[2], 2, Mask::None))),
        ("causal attention", square(), Box::new(|x: &[&Tensor]| ops::attention(x[0], x[1], x[2], 2, Mask::Causal))),
        (
            "linear_low_rank",
            vec![vec![2, 3, 5], vec![2, 5], vec![4, 2]],
            Box::new(move |x: &[&Tensor]| low_rank(x, Before::Nothing, &thin, &thin_bias)),
        ),
        (
            "linear_low_rank after geglu",
            vec![vec![2, 3, 10], vec![2, 5], vec![4, 2]],
            Box::new(move |x: &[&Tensor]| low_rank(x, Before::Geglu, &gated, &gated_bias)),
        ),
        // What is taken over has to be a result.
        ("add", vec![vec![2, 3, 5]; 2], Box::new(|x: &[&Tensor]| add(x[0], ops::silu(x[1])?))),
        ("add_channels", vec![vec![2, 3, 4, 5], vec![2, 3]], Box::new(|x: &[&Tensor]| add_channels(ops::silu(x[0])?, x[1]))),
        ("add_channels to all", vec![vec![2, 3, 4, 5], vec![1, 3]], Box::new(|x| add_channels(ops::silu(x[0])?, x[1]))),
        ("to_tokens", vec![vec![2, 19, 3, 5]], Box::new(|x: &[&Tensor]| ops::to_tokens(x[0]))),
        ("from_tokens", vec![vec![2, 6, 5]], Box::new(|x: &[&Tensor]| ops::from_tokens(x[0], 2, 3))),
        ("upsample_nearest", vec![vec![2, 3, 3, 4]], Box::new(|x: &[&Tensor]| ops::upsample_nearest(x[0], 7, 8))),
        (
            "checkpoint",
            vec![vec![2, 3], vec![2, 3], vec![2, 3]],
            Box::new(|x: &[&Tensor]| {
                ops::checkpoint(&GradientSink::new(vec![]), [x[0], x[1], x[2]], |[a, b, c]| Ok(a.mul(b)?.add(&c.sqr()?)?))
            }),
        ),
    ]
}

#[test]
fn derivatives_are_those_of_finite_differences() {
    for (name, shapes, operation) in operations() {
        let variables: Vec<Var> = shapes.iter().zip(10..).map(|(shape, seed)| variable(shape, seed)).collect();
        let inputs: Vec<&Tensor> = variables.iter().map(Var::as_tensor).collect();
        let output = operation(&inputs).unwrap();
        let g = normal(output.dims(), 20);
        let gradients = gradients(&output, &g);
        for index in 0..inputs.len() {
            let direction = normal(inputs[index].dims(), 30);
            let step = 1e-2;
            let moved = |by: f64| {
                let there = (inputs[index].detach() + (&direction * by).unwrap()).unwrap();
                let mut inputs = inputs.clone();
                inputs[index] = &there;
                dot(&operation(&inputs).unwrap(), &g)
            };
            let expected = (moved(step) - moved(-step)) / (2.0 * step);
            let gradient = gradients.get(inputs[index]).unwrap_or_else(|| panic!("{name}: no gradient of input {index}"));
            let got = dot(gradient, &direction);
            // A central difference of step 1e-2 leaves a third derivative times 1e-4 / 6; values of this size round to 1e-5 of it.
            let error = (got - expected).abs() / expected.abs().max(1.0);
            assert!(error < 3e-3, "{name}, input {index}: {got} instead of {expected}");
        }
    }
}

#[test]
fn gradients_of_a_value_used_twice_add_up() {
    for (name, shapes, operation) in operations() {
        let variables: Vec<Var> = shapes.iter().zip(10..).map(|(shape, seed)| variable(shape, seed)).collect();
        // Not the variables themselves: nodes of the graph, whose gradients candle removes as it passes.
        let nodes: Vec<Tensor> = variables.iter().map(|variable| (variable.as_tensor() * 1.0).unwrap()).collect();
        let inputs: Vec<&Tensor> = nodes.iter().collect();
        let (first, second) = (operation(&inputs).unwrap(), operation(&inputs).unwrap());
        let (g, h) = (normal(first.dims(), 40), normal(first.dims(), 41));
        let loss = first.mul(&g).unwrap().sum_all().unwrap().add(&second.mul(&h).unwrap().sum_all().unwrap()).unwrap();
        let both = loss.backward().unwrap();
        let once = gradients(&operation(&inputs).unwrap(), &g.add(&h).unwrap());
        for variable in &variables {
            println!("{name}");
            assert_close(both.get(variable).unwrap(), once.get(variable).unwrap(), 1e-5);
        }
    }
}

#[test]
fn one_tensor_may_be_query_key_and_value() {
    let x = variable(&[2, 9, 8], 1);
    let output = ops::attention(&x, &x, &x, 2, Mask::None).unwrap();
    let g = normal(output.dims(), 2);
    let together = gradients(&output, &g);
    let [q, k, v] = [0; 3].map(|_| Var::from_tensor(&x.detach()).unwrap());
    let apart = gradients(&ops::attention(&q, &k, &v, 2, Mask::None).unwrap(), &g);
    let sum = [&q, &k, &v].map(|part| apart.get(part).unwrap());
    assert_close(together.get(&x).unwrap(), &sum[0].add(sum[1]).unwrap().add(sum[2]).unwrap(), 1e-5);
}

#[test]
fn untracked_inputs_of_a_tracked_operation_get_no_gradient() {
    let (q, k, v) = (normal(&[1, 4, 6], 1), variable(&[1, 5, 6], 2), normal(&[1, 5, 6], 3));
    let gradients = ops::attention(&q, &k, &v, 2, Mask::None).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(gradients.get(&k).is_some());
    assert!(gradients.get(&q).is_none() && gradients.get(&v).is_none());
    let (x, weight) = (normal(&[3, 6], 4), variable(&[2, 6], 5));
    let gradients = ops::linear_trainable(&x, &weight).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(gradients.get(&weight).is_some() && gradients.get(&x).is_none());
}

#[test]
fn frozen_weights_get_no_gradient_even_as_variables() {
    let (image, tokens) = (variable(&[1, 4, 5, 5], 1), variable(&[1, 3, 4], 2));
    let (kernel, matrix, vector) = (variable(&[4, 4, 3, 3], 3), variable(&[4, 4], 4), variable(&[4], 5));
    let outputs = [
        (ops::conv2d(&image, &kernel, Some(&vector), 1, Padding::same(1)).unwrap(), &image),
        (ops::linear(&tokens, &matrix, Some(&vector)).unwrap(), &tokens),
        (ops::group_norm(&image, &vector, &vector, 2, 1e-5, true).unwrap(), &image),
        (ops::layer_norm(&tokens, &vector, &vector, 1e-5).unwrap(), &tokens),
    ];
    for (output, input) in outputs {
        let g = normal(output.dims(), 6);
        let gradients = gradients(&output, &g);
        assert!(numbers(gradients.get(input).unwrap()).iter().any(|value| *value != 0.0));
        for frozen in [&kernel, &matrix, &vector] {
            assert!(gradients.get(frozen).is_none());
        }
    }
    // Nothing to train in sight: nothing is recorded.
    assert!(!ops::is_tracked(&ops::linear(&tokens.detach(), &matrix, Some(&vector)).unwrap()));
}

#[test]
fn half_precision_weights_act_as_their_float32_conversions() {
    let (image, tokens) = (variable(&[2, 4, 5, 6], 1), variable(&[2, 3, 4], 2));
    for dtype in [DType::F16, DType::BF16] {
        let weights = [normal(&[5, 4, 3, 3], 3), normal(&[5, 4, 1, 1], 3), normal(&[5, 4], 4), normal(&[5], 5), normal(&[4], 6)];
        let half = weights.map(|weight| weight.to_dtype(dtype).unwrap());
        let full = half.each_ref().map(|weight| weight.to_dtype(DType::F32).unwrap());
        let run = |[kernel, point, matrix, bias, affine]: &[Tensor; 5]| {
            let outputs = [
                (ops::conv2d(&image, kernel, Some(bias), 1, Padding::same(1)).unwrap(), &image),
                (ops::conv2d(&image, point, Some(bias), 1, Padding::same(0)).unwrap(), &image),
                (ops::linear(&tokens, matrix, Some(bias)).unwrap(), &tokens),
                (ops::group_norm(&image, affine, affine, 2, 1e-5, true).unwrap(), &image),
                (ops::layer_norm(&tokens, affine, affine, 1e-5).unwrap(), &tokens),
            ];
            outputs.map(|(output, input)| {
                let gradient = gradients(&output, &normal(output.dims(), 7)).get(input).unwrap().clone();
                (numbers(&output), numbers(&gradient))
            })
        };
        assert_eq!(run(&half), run(&full));
    }
}

#[test]
fn the_fused_low_rank_layer_is_the_sum_of_its_parts() {
    let (x, down, up) = (variable(&[2, 7, 12], 1), variable(&[3, 6], 2), variable(&[5, 3], 3));
    let (weight, bias, g) = (normal(&[5, 6], 4), normal(&[5], 5), normal(&[2, 7, 5], 6));
    let parts = |x: &Tensor| {
        let x = ops::geglu(x)?;
        let term = ops::linear_trainable(&ops::linear_trainable(&x, &down)?, &up)?;
        Ok::<_, driftless::Error>((ops::linear(&x, &weight, Some(&bias))? + (term * 0.3)?)?)
    };
    let term = LowRank { down: &down, up: &up, scale: 0.3 };
    let fused = ops::linear_low_rank(&x, Before::Geglu, &weight, Some(&bias), term).unwrap();
    let separate = parts(&x).unwrap();
    assert_close(&fused, &separate, 1e-6);
    let (fused, separate) = (gradients(&fused, &g), gradients(&separate, &g));
    for variable in [&x, &down, &up] {
        assert_close(fused.get(variable).unwrap(), separate.get(variable).unwrap(), 1e-6);
    }
}

#[test]
fn sums_take_over_results_and_leave_everything_else_as_it_was() {
    let (x, y) = (normal(&[3, 4], 1), normal(&[3, 4], 2));
    let shared = |tensor: &Tensor| Activation::shared(tensor.clone());
    let expected = numbers(&(&x + &y).unwrap());
    assert_eq!(numbers(&add(&x, y.clone()).unwrap()), expected);
    // What others hold, variables, parts of tensors and a tensor twice keep their values.
    let variable = Var::from_tensor(&y).unwrap();
    for held in [&y, variable.as_tensor()] {
        assert_eq!(numbers(&shared(held).add(&shared(&x)).unwrap().into_tensor()), expected);
    }
    shared(&y.narrow(0, 1, 1).unwrap()).add(&shared(&x.narrow(0, 1, 1).unwrap())).unwrap();
    assert_eq!(numbers(&shared(&x).add(&shared(&x)).unwrap().into_tensor()), numbers(&(&x * 2.0).unwrap()));
    assert_eq!(numbers(&variable), numbers(&y));
    assert_eq!((numbers(&x).len(), numbers(&y).len()), (12, 12));
    assert!(add(&x, normal(&[4, 3], 3)).is_err());
}

/// A handle taken before a sum, before an operation that lets go of its input, or before the end of the owner stays good, inside the
/// graph and outside.
#[test]
fn kept_values_survive_everything_that_happens_to_their_owner() {
    let (x, kernel) = (normal(&[1, 3, 4, 5], 1), normal(&[2, 3, 3, 3], 2));
    for tensor in [x.clone(), variable(&[1, 3, 4, 5], 1).affine(1.0, 0.0).unwrap()] {
        let other = Activation::shared(normal(&[1, 3, 4, 5], 3));
        let channels = Activation::shared(normal(&[1, 3], 4));
        let ends: [&dyn Fn(Activation); 5] = [
            &|owner| drop(owner.add(&other).unwrap()),
            &|owner| drop(owner.add_channels(&channels).unwrap()),
            &|owner| drop(owner.conv2d(&kernel, None, 1, Padding::same(1)).unwrap()),
            &|owner| drop(owner.to_tokens().unwrap()),
            &drop,
        ];
        for (number, end) in ends.iter().enumerate() {
            let owner = Activation::copied(&tensor).unwrap();
            let kept = owner.keep();
            end(owner);
            assert_eq!(numbers(&kept), numbers(&x), "{number}");
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let (image, kernel) = (variable(&[2, 8, 37, 41], 1), variable(&[6, 8, 3, 3], 2));
    let (q, k) = (variable(&[1, 300, 24], 3), variable(&[1, 530, 24], 4));
    let (affine, matrix) = (normal(&[8], 5), variable(&[70, 24], 6));
    let everything = || {
        let outputs = [
            ops::conv2d_trainable(&image, &kernel, 1, Padding::same(1)).unwrap(),
            ops::conv2d_trainable(&image, &kernel, 2, Padding::same(1)).unwrap(),
            ops::attention(&q, &k, &k, 3, Mask::None).unwrap(),
            ops::group_norm(&image, &affine, &affine, 2, 1e-5, true).unwrap(),
            ops::linear_trainable(&k, &matrix).unwrap(),
        ];
        let mut all = Vec::new();
        for output in outputs {
            let gradients = gradients(&output, &normal(output.dims(), 7));
            all.push(numbers(&output));
            all.extend([&image, &kernel, &q, &k, &matrix].iter().filter_map(|input| gradients.get(input)).map(numbers));
        }
        all
    };
    let with = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(everything);
    let one = with(1);
    assert_eq!(one.len(), 5 + 2 + 2 + 2 + 1 + 2);
    assert_eq!(one, with(3));
    assert_eq!(one, with(16));
}

#[test]
fn not_a_number_is_not_hidden() {
    let mut values = vec![0.5f32; 2 * 64 * 8];
    values[64 * 8 + 11] = f32::NAN;
    let x = Tensor::from_vec(values, (2, 64, 8), &Device::Cpu).unwrap();
    let clean = normal(&[2, 64, 8], 1);
    let affine = normal(&[8], 2);
    let image = x.reshape((2, 8, 8, 8)).unwrap();
    let outputs = [
        ops::attention(&clean, &x, &clean, 2, Mask::None).unwrap(),
        ops::attention_probabilities(&clean, &x, 2).unwrap(),
        ops::attention_probabilities_mean(&clean, &x, 2).unwrap(),
        ops::group_norm(&image, &affine, &affine, 1, 1e-5, true).unwrap(),
        ops::layer_norm(&x, &affine, &affine, 1e-5).unwrap(),
        ops::silu(&x).unwrap(),
        ops::gelu(&x).unwrap(),
        ops::quick_gelu(&x).unwrap(),
        ops::geglu(&x).unwrap(),
    ];
    for (index, output) in outputs.iter().enumerate() {
        let samples = numbers(output);
        let (first, second) = samples.split_at(samples.len() / 2);
        assert!(first.iter().all(|value| value.is_finite()), "operation {index}");
        assert!(second.iter().any(|value| value.is_nan()), "operation {index}");
    }
}

#[test]
fn empty_inputs_give_empty_results() {
    let none = Tensor::zeros((0, 6), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(ops::linear(&none, &normal(&[4, 6], 1), Some(&normal(&[4], 2))).unwrap().dims(), [0, 4]);
    assert_eq!(ops::layer_norm(&none, &normal(&[6], 1), &normal(&[6], 2), 1e-5).unwrap().dims(), [0, 6]);
    assert_eq!(ops::geglu(&none).unwrap().dims(), [0, 3]);
    let none = Tensor::zeros((0, 6, 4, 4), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(ops::conv2d(&none, &normal(&[2, 6, 3, 3], 1), None, 1, Padding::same(1)).unwrap().dims(), [0, 2, 4, 4]);
    let none = Tensor::zeros((1, 0, 6), DType::F32, &Device::Cpu).unwrap();
    let keys = normal(&[1, 3, 6], 1);
    assert_eq!(ops::attention(&none, &keys, &keys, 2, Mask::None).unwrap().dims(), [1, 0, 6]);
    assert_eq!(ops::attention_probabilities(&none, &keys, 2).unwrap().dims(), [1, 2, 0, 3]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let refusals = [
        (ops::linear(&normal(&[2, 5], 1), &normal(&[3, 4], 2), None), "linear: the input has 5 channels, the weight 4"),
        (
            ops::linear(&normal(&[2, 5], 1), &normal(&[3, 5], 2), Some(&normal(&[5], 3))),
            "linear: the bias has shape [5], expected [3]",
        ),
        (
            ops::conv2d(&normal(&[1, 3, 4, 4], 1), &normal(&[2, 4, 3, 3], 2), None, 1, Padding::same(1)),
            "conv2d: the input has 3 channels, the kernel 4",
        ),
        (
            ops::conv2d(&normal(&[1, 3, 2, 2], 1), &normal(&[2, 3, 3, 3], 2), None, 1, Padding::same(0)),
            "conv2d: a kernel of 3 x 3 with stride 1 does not fit a padded input of 2 x 2",
        ),
        (
            ops::group_norm(&normal(&[1, 6, 2, 2], 1), &normal(&[6], 2), &normal(&[6], 3), 4, 1e-5, false),
            "group_norm: 4 groups do not divide 6 channels",
        ),
        (
            ops::layer_norm(&normal(&[1, 6], 1), &normal(&[5], 2), &normal(&[6], 3), 1e-5),
            "layer_norm: weight and bias have shapes [5] and [6], expected [6]",
        ),
        (
            ops::attention(&normal(&[1, 4, 6], 1), &normal(&[1, 4, 6], 2), &normal(&[1, 4, 6], 3), 4, Mask::None),
            "attention: 4 heads do not divide 6 channels",
        ),
        (
            ops::attention(&normal(&[1, 4, 6], 1), &normal(&[1, 5, 6], 2), &normal(&[1, 5, 6], 3), 2, Mask::Causal),
            "attention: a causal mask needs as many queries as keys, got 4 and 5",
        ),
        (ops::geglu(&normal(&[2, 5], 1)), "geglu: expected [.., 2c], got [2, 5]"),
        (ops::silu(&normal(&[2, 5], 1).to_dtype(DType::F16).unwrap()), "silu: activations on a CPU are float32, these are f16"),
        (ops::upsample_nearest(&normal(&[2, 5], 1), 4, 4), "upsample_nearest: expected [b, c, h, w], got [2, 5]"),
    ];
    for (result, expected) in refusals {
        assert_eq!(result.unwrap_err().to_string(), expected);
    }
}
