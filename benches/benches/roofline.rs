//! What each operation reaches at Stable Diffusion 1.5's sizes for 512 x 512 images, beside what the machine can do: a table of GFLOP/s
//! for products and of GB/s for what only passes over memory. Run: `cargo bench -p benches --bench roofline [-- PART]`, with a part of
//! the names for those rows alone.
//!
//! The machine's peaks are measured first, in the same process and on the same threads: multiplications and additions in registers,
//! and sums of two arrays into a third that no cache holds. Products count two operations per multiplication; the gradient of
//! attention, which computes the scores again, counts five products. Bytes are each operand once. Times are the least of several,
//! of a backward pass as candle runs it.

use std::hint::black_box;
use std::time::Instant;

use candle_core::{Device, Tensor, Var};
use driftless::ops::{self, Before, LowRank, Mask, Padding, ReusingAllocator};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

#[global_allocator]
static ALLOCATOR: ReusingAllocator = ReusingAllocator::new();

const ROUNDS: usize = 7;

/// The least time of several runs, in seconds; the first is not counted.
fn least(mut work: impl FnMut()) -> f64 {
    work();
    let time = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(|_| time(&mut work)).fold(f64::INFINITY, f64::min)
}

/// Twelve independent sums of products, so many times.
struct Registers(usize);

impl WithSimd for Registers {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let (factor, term) = (simd.splat_f32s(black_box(0.999)), simd.splat_f32s(black_box(0.001)));
        let mut sums = [simd.splat_f32s(1.0); 12];
        for _ in 0..self.0 {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(*sum, factor, term);
            }
        }
        let total = sums.into_iter().fold(simd.splat_f32s(0.0), |total, sum| simd.add_f32s(total, sum));
        black_box(simd.reduce_sum_f32s(total));
        (self.0 * sums.len() * S::F32_LANES * 2) as f64
    }
}

/// GFLOP/s of all threads.
fn arithmetic_peak() -> f64 {
    let mut operations = 0.0;
    let seconds = least(|| {
        let threads = 0..rayon::current_num_threads();
        operations = threads.into_par_iter().with_max_len(1).map(|_| pulp::Arch::new().dispatch(Registers(5_000_000))).sum();
    });
    operations / seconds / 1e9
}

/// GB/s of all threads.
fn memory_peak() -> f64 {
    let (a, b) = (vec![1f32; 1 << 24], vec![2f32; 1 << 24]);
    let mut sum = vec![0f32; 1 << 24];
    let seconds = least(|| {
        let parts = sum.par_chunks_mut(1 << 16).zip(a.par_chunks(1 << 16)).zip(b.par_chunks(1 << 16));
        parts.for_each(|((sum, a), b)| sum.iter_mut().zip(a).zip(b).for_each(|((sum, a), b)| *sum = a + b));
    });
    (3 * 4 * sum.len()) as f64 / seconds / 1e9
}

/// The table's head with the peaks, and its rows.
struct Table {
    arithmetic: f64,
    memory: f64,
    /// What the names of the rows contain.
    part: String,
}

impl Table {
    fn row(&self, name: &str, work: impl FnMut(), amount: f64, unit: &str, peak: f64) {
        if !name.contains(&self.part) {
            return;
        }
        let seconds = least(work);
        let rate = amount / seconds / 1e9;
        println!("| {name} | {:.2} | {rate:.0} {unit} | {:.0} % |", seconds * 1e3, 100.0 * rate / peak);
    }

    fn product(&self, name: &str, operations: usize, work: impl FnMut()) {
        self.row(name, work, operations as f64, "GFLOP/s", self.arithmetic);
    }

    fn pass(&self, name: &str, numbers: usize, work: impl FnMut()) {
        self.row(name, work, 4.0 * numbers as f64, "GB/s", self.memory);
    }
}

fn normal(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1.0, shape, &Device::Cpu).expect("a CPU tensor")
}

fn variable(shape: &[usize]) -> Var {
    Var::from_tensor(&normal(shape)).expect("a variable")
}

/// A backward pass alone: the graph is recorded once.
fn backward(output: driftless::Result<Tensor>) -> impl FnMut() {
    let loss = output.expect("shapes fit").sum_all().expect("a sum");
    move || drop(loss.backward().expect("gradients"))
}

fn convolution(table: &Table) {
    for (inputs, outputs, side, kernel, stride) in [
        (320, 320, 64, 3, 1),
        (640, 640, 32, 3, 1),
        (1280, 1280, 16, 3, 1),
        (2560, 1280, 8, 3, 1),
        (128, 128, 256, 3, 1),
        (320, 320, 64, 3, 2),
        (320, 320, 64, 1, 1),
    ] {
        let (x, weight) = (normal(&[1, inputs, side, side]), normal(&[outputs, inputs, kernel, kernel]));
        let (bias, padding) = (normal(&[outputs]), Padding::same(kernel / 2));
        let operations = 2 * inputs * outputs * kernel * kernel * (side / stride).pow(2);
        let name = format!("conv2d {kernel}x{kernel} {inputs} to {outputs} at {side}x{side}, stride {stride}");
        table.product(&name, operations, || drop(ops::conv2d(&x, &weight, Some(&bias), stride, padding)));
        let x = variable(x.dims());
        let gradient = backward(ops::conv2d(&x, &weight, None, stride, padding));
        table.product(&format!("{name}, gradient"), operations, gradient);
    }
}

fn linear(table: &Table) {
    for (rows, inputs, outputs) in [
        (4096, 320, 320),
        (4096, 320, 2560),
        (4096, 1280, 320),
        (1024, 640, 640),
        (1024, 640, 5120),
        (1024, 2560, 640),
        (256, 1280, 1280),
        (256, 1280, 10240),
        (256, 5120, 1280),
        (77, 768, 320),
    ] {
        let (x, weight, bias) = (normal(&[1, rows, inputs]), normal(&[outputs, inputs]), normal(&[outputs]));
        let (name, operations) = (format!("linear {rows} x {inputs} to {outputs}"), 2 * rows * inputs * outputs);
        table.product(&name, operations, || drop(ops::linear(&x, &weight, Some(&bias))));
        let (x, down, up) = (variable(x.dims()), variable(&[64, inputs]), variable(&[outputs, 64]));
        table.product(&format!("{name}, gradient"), operations, backward(ops::linear(&x, &weight, Some(&bias))));
        let term = LowRank { down: &down, up: &up, scale: 0.5 };
        let thin = 2 * rows * 64 * (inputs + outputs);
        let fused = || ops::linear_low_rank(&x, Before::Nothing, &weight, Some(&bias), term);
        table.product(&format!("{name}, rank 64"), operations + thin, || drop(fused()));
        // Twice the forward pass's thin products, and the inner product again.
        let again = 2 * rows * 64 * inputs;
        table.product(&format!("{name}, rank 64, gradients"), operations + 2 * thin + again, backward(fused()));
    }
}

fn attention(table: &Table) {
    for (queries, keys, heads, head) in [(4096, 4096, 8, 40), (1024, 1024, 8, 80), (256, 256, 8, 160), (4096, 77, 8, 40)] {
        let (q, k, v) = (normal(&[1, queries, heads * head]), normal(&[1, keys, heads * head]), normal(&[1, keys, heads * head]));
        let (name, product) =
            (format!("attention {heads} heads, {queries} x {keys} x {head}"), 2 * heads * queries * keys * head);
        table.product(&name, 2 * product, || drop(ops::attention(&q, &k, &v, heads, Mask::None)));
        let [q, k, v] = [variable(q.dims()), variable(k.dims()), variable(v.dims())];
        table.product(&format!("{name}, gradients"), 5 * product, backward(ops::attention(&q, &k, &v, heads, Mask::None)));
    }
    let x = normal(&[1, 4096, 512]);
    table.product("attention 1 head, 4096 x 4096 x 512", 4 * 4096 * 4096 * 512, || {
        drop(ops::attention(&x, &x, &x, 1, Mask::None))
    });
}

fn passes(table: &Table) {
    let (x, weight, bias) = (normal(&[1, 320, 64, 64]), normal(&[320]), normal(&[320]));
    let count = x.elem_count();
    table.pass("group norm and SiLU 320 at 64x64", 2 * count, || drop(ops::group_norm(&x, &weight, &bias, 32, 1e-5, true)));
    let tracked = variable(x.dims());
    let gradient = backward(ops::group_norm(&tracked, &weight, &bias, 32, 1e-5, true));
    table.pass("group norm and SiLU 320 at 64x64, gradient", 3 * count, gradient);
    let tokens = normal(&[1, 4096, 320]);
    table.pass("layer norm 4096 x 320", 2 * count, || drop(ops::layer_norm(&tokens, &weight, &bias, 1e-5)));
    let gated = normal(&[1, 4096, 2560]);
    table.pass("GEGLU 4096 x 2560", 3 * gated.elem_count() / 2, || drop(ops::geglu(&gated)));
    let tracked = variable(gated.dims());
    table.pass("GEGLU 4096 x 2560, gradient", 5 * gated.elem_count() / 2, backward(ops::geglu(&tracked)));
    table.pass("tokens of 320 at 64x64", 2 * count, || drop(ops::to_tokens(&x)));
    let (x, mut sum) = (ops::Activation::shared(x.clone()), ops::Activation::copied(&x).ok());
    table.pass("sum of two of 320 at 64x64", 3 * count, || sum = sum.take().and_then(|sum| sum.add(&x).ok()));
}

fn main() {
    let part = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let table = Table { arithmetic: arithmetic_peak(), memory: memory_peak(), part };
    println!("{} threads, {:?}", rayon::current_num_threads(), pulp::Arch::new());
    println!("peak: {:.0} GFLOP/s, {:.0} GB/s\n", table.arithmetic, table.memory);
    println!("| operation | ms | reached | of the peak |\n| --- | --- | --- | --- |");
    convolution(&table);
    linear(&table);
    attention(&table);
    passes(&table);
}
