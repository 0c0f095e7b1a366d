//! The operations at Stable Diffusion 1.5's sizes for 512 x 512 images. Run: `cargo bench -p benches --bench ops`.

use candle_core::{Device, Tensor, Var};
use criterion::{Criterion, criterion_group, criterion_main};
use driftless::ops::{self, Mask, Padding};

fn normal(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1.0, shape, &Device::Cpu).expect("a CPU tensor")
}

/// Times the backward pass alone: the graph is recorded once.
fn backward(criterion: &mut Criterion, name: &str, output: driftless::Result<Tensor>) {
    let loss = output.expect("shapes fit").sum_all().expect("a sum");
    criterion.bench_function(name, |bencher| bencher.iter(|| loss.backward().expect("gradients")));
}

fn convolution(criterion: &mut Criterion) {
    for (inputs, outputs, side) in [(320, 320, 64), (640, 640, 32), (1280, 1280, 16), (2560, 1280, 8), (128, 128, 256)] {
        let (x, weight, bias) = (normal(&[1, inputs, side, side]), normal(&[outputs, inputs, 3, 3]), normal(&[outputs]));
        let name = format!("conv2d 3x3 {inputs} to {outputs} at {side}x{side}");
        criterion.bench_function(&name, |bencher| {
            bencher.iter(|| ops::conv2d(&x, &weight, Some(&bias), 1, Padding::same(1)).expect("shapes fit"))
        });
    }
    let x = Var::from_tensor(&normal(&[1, 320, 64, 64])).expect("a variable");
    let weight = normal(&[320, 320, 3, 3]);
    for stride in [1, 2] {
        let name = format!("conv2d 3x3 320 at 64x64 stride {stride} backward");
        backward(criterion, &name, ops::conv2d(&x, &weight, None, stride, Padding::same(1)));
    }
    let down = Var::from_tensor(&normal(&[64, 320, 3, 3])).expect("a variable");
    backward(criterion, "conv2d 3x3 320 to 64 at 64x64 both gradients", ops::conv2d_trainable(&x, &down, 1, Padding::same(1)));
}

fn linear(criterion: &mut Criterion) {
    for (rows, inputs, outputs) in [(4096, 320, 320), (4096, 320, 2560), (4096, 1280, 320), (1024, 640, 5120), (77, 768, 320)] {
        let (x, weight, bias) = (normal(&[1, rows, inputs]), normal(&[outputs, inputs]), normal(&[outputs]));
        criterion.bench_function(&format!("linear {rows} x {inputs} to {outputs}"), |bencher| {
            bencher.iter(|| ops::linear(&x, &weight, Some(&bias)).expect("shapes fit"))
        });
    }
}

fn attention(criterion: &mut Criterion) {
    for (queries, keys, head) in [(4096, 4096, 40), (1024, 1024, 80), (256, 256, 160), (4096, 77, 40)] {
        let q = Var::from_tensor(&normal(&[1, queries, 8 * head])).expect("a variable");
        let (k, v) = (normal(&[1, keys, 8 * head]), normal(&[1, keys, 8 * head]));
        let name = format!("attention 8 heads, {queries} x {keys} x {head}");
        let detached = q.detach();
        criterion.bench_function(&name, |bencher| {
            bencher.iter(|| ops::attention(&detached, &k, &v, 8, Mask::None).expect("shapes fit"))
        });
        backward(criterion, &format!("{name} backward"), ops::attention(&q, &k, &v, 8, Mask::None));
    }
}

fn elementwise(criterion: &mut Criterion) {
    let (x, weight, bias) = (normal(&[1, 320, 64, 64]), normal(&[320]), normal(&[320]));
    criterion.bench_function("group norm and SiLU 320 at 64x64", |bencher| {
        bencher.iter(|| ops::group_norm(&x, &weight, &bias, 32, 1e-5, true).expect("shapes fit"))
    });
    let variable = Var::from_tensor(&x).expect("a variable");
    let output = ops::group_norm(&variable, &weight, &bias, 32, 1e-5, true);
    backward(criterion, "group norm and SiLU 320 at 64x64 backward", output);
    let tokens = normal(&[1, 4096, 320]);
    criterion.bench_function("layer norm 4096 x 320", |bencher| {
        bencher.iter(|| ops::layer_norm(&tokens, &weight, &bias, 1e-5).expect("shapes fit"))
    });
    let gated = normal(&[1, 4096, 2560]);
    criterion.bench_function("GEGLU 4096 x 2560", |bencher| bencher.iter(|| ops::geglu(&gated).expect("shapes fit")));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = convolution, linear, attention, elementwise
}
criterion_main!(benches);
