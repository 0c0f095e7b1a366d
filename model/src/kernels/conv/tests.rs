//! Winograd's algorithm and the implicit matrix product against float64, on every instruction set at hand, over sizes that fit no tile
//! or vector; gradients where the stride leaves out pixels; inputs that do not have their sizes.

use half::{bf16, f16};

use super::{Filters, Geometry, Numbers, Way, forward, implicit, input_gradient, winograd};
use crate::kernels::isa::{InstructionSet, available};
use crate::kernels::memory::scratch::written;

/// One convolution with everything it reads.
struct Case {
    batch: usize,
    outputs: usize,
    sizes: Geometry,
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// Numbers about 1 in size, the same in every run (Knuth's MMIX generator), with few enough digits for bfloat16.
fn numbers(count: usize, mut state: u64) -> Vec<f32> {
    let next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as i64
    };
    std::iter::repeat_with(next).map(|value| (value % 255 - 127) as f32 / 64.0).take(count).collect()
}

impl Case {
    fn new(
        batch: usize,
        (inputs, outputs): (usize, usize),
        size: (usize, usize),
        kernel: (usize, usize),
        stride: usize,
        pad: [isize; 4],
    ) -> Self {
        let [top, bottom, left, right] = pad;
        let out = |size: usize, before: isize, behind: isize, kernel: usize| {
            ((size as isize + before + behind) as usize - kernel) / stride + 1
        };
        let sizes = Geometry {
            channels: inputs,
            height: size.0,
            width: size.1,
            kernel_height: kernel.0,
            kernel_width: kernel.1,
            top,
            left,
            stride,
            out_height: out(size.0, top, bottom, kernel.0),
            out_width: out(size.1, left, right, kernel.1),
        };
        let x = numbers(batch * inputs * sizes.plane(), 1);
        Self { batch, outputs, sizes, x, weight: numbers(outputs * sizes.patch(), 2), bias: numbers(outputs, 3) }
    }

    fn taps(&self) -> usize {
        self.sizes.kernel_height * self.sizes.kernel_width
    }

    fn filters(&self) -> Filters<'_> {
        Filters::new(Numbers::F32(&self.weight), self.outputs, self.sizes.channels, self.taps())
    }

    /// The weight whose reversed filters are this case's.
    fn reversed_weight(&self) -> Vec<f32> {
        let (inputs, taps) = (self.sizes.channels, self.taps());
        let mut reversed = vec![0.0; self.weight.len()];
        for (index, &value) in self.weight.iter().enumerate() {
            let (filter, tap) = (index / taps, index % taps);
            reversed[(filter % inputs * self.outputs + filter / inputs) * taps + taps - 1 - tap] = value;
        }
        reversed
    }

    fn reference(&self) -> Vec<f64> {
        let Geometry { channels, height, width, kernel_height, kernel_width, top, left, stride, out_height, out_width } =
            self.sizes;
        let mut out = Vec::new();
        for (image, output, y, x) in (0..self.batch).flat_map(|image| {
            (0..self.outputs)
                .flat_map(move |output| (0..out_height).flat_map(move |y| (0..out_width).map(move |x| (image, output, y, x))))
        }) {
            let mut sum = f64::from(self.bias[output]);
            for tap in 0..self.sizes.patch() {
                let (channel, ky, kx) = (tap / self.taps(), tap % self.taps() / kernel_width, tap % kernel_width);
                debug_assert!(ky < kernel_height);
                let (y, x) = ((y * stride + ky) as isize - top, (x * stride + kx) as isize - left);
                if (0..height as isize).contains(&y) && (0..width as isize).contains(&x) {
                    let offset = ((image * channels + channel) * height + y as usize) * width + x as usize;
                    sum += f64::from(self.x[offset]) * f64::from(self.weight[output * self.sizes.patch() + tap]);
                }
            }
            out.push(sum);
        }
        out
    }

    fn run(&self, way: Way, set: InstructionSet, filters: Filters) -> Vec<f32> {
        let length = self.batch * self.outputs * self.sizes.positions();
        // SAFETY: both ways write all of their output; if they did not, it would stay NaN, as this is a test.
        unsafe { written(length, |out| way(set, out, &self.x, filters, Some(&self.bias), &self.sizes)) }
    }
}

fn error(got: &[f32], expected: &[f64]) -> f64 {
    let sum = |terms: &mut dyn Iterator<Item = f64>| terms.map(|term| term * term).sum::<f64>();
    assert_eq!(got.len(), expected.len());
    let difference = sum(&mut got.iter().zip(expected).map(|(&got, expected)| f64::from(got) - expected));
    (difference / sum(&mut expected.iter().copied())).sqrt()
}

/// Channels, sizes and paddings that leave remainders everywhere, and more channels than one sum takes.
fn odd_shapes() -> Vec<(usize, (usize, usize), (usize, usize), [isize; 4])> {
    vec![
        (1, (1, 1), (1, 1), [1, 1, 1, 1]),
        (1, (3, 5), (7, 9), [1, 1, 1, 1]),
        (2, (16, 33), (4, 4), [1, 1, 1, 1]),
        (1, (17, 16), (5, 70), [0, 1, 0, 1]),
        (3, (20, 40), (13, 6), [2, 2, 3, 0]),
        (1, (70, 9), (3, 3), [1, 1, 1, 1]),
        (2, (18, 34), (9, 131), [1, 1, 1, 1]),
        (1, (24, 24), (12, 11), [-2, 1, -1, 0]),
        (1, (330, 21), (6, 6), [1, 1, 1, 1]),
    ]
}

/// Checks a way forwards, reversed and with half-precision weights, on every instruction set. The limit is a few times what one
/// rounding per product and sum gives; it is another one for instruction sets that round their operands.
fn check(way: Way, case: &Case, limit: f64, limit_of_rounded: f64) {
    let expected = case.reference();
    let reversed = case.reversed_weight();
    let reversed = Filters::new(Numbers::F32(&reversed), case.sizes.channels, case.outputs, case.taps()).reversed();
    let f16s: Vec<f16> = case.weight.iter().map(|&value| f16::from_f32(value)).collect();
    let bf16s: Vec<bf16> = case.weight.iter().map(|&value| bf16::from_f32(value)).collect();
    let halves = [Numbers::F16(&f16s), Numbers::BF16(&bf16s)].map(|numbers| Filters { numbers, ..case.filters() });
    for (name, set) in available() {
        let plain = case.run(way, set, case.filters());
        let error = error(&plain, &expected);
        let limit = if set.is_float32() { limit } else { limit_of_rounded };
        assert!(error <= limit, "{name}: relative error {error:e} at {:?}", case.sizes);
        // The weights have no digits beyond those of bfloat16, so these are the same numbers.
        for other in [reversed, halves[0], halves[1]] {
            assert_eq!(plain, case.run(way, set, other), "{name}: {:?}", case.sizes);
        }
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let many = rayon::ThreadPoolBuilder::new().num_threads(5).build().unwrap();
        for pool in [alone, many] {
            assert_eq!(plain, pool.install(|| case.run(way, set, case.filters())), "{name}: threads, {:?}", case.sizes);
        }
    }
}

#[test]
fn winograd_agrees_with_float64_on_every_instruction_set() {
    for (batch, channels, size, pad) in odd_shapes() {
        check(winograd::forward, &Case::new(batch, channels, size, (3, 3), 1, pad), 1.5e-6, 2e-2);
    }
}

#[test]
fn implicit_gemm_agrees_with_float64_on_every_instruction_set() {
    for (batch, channels, size, pad) in odd_shapes() {
        for (kernel, stride) in [((3, 3), 1), ((3, 3), 2), ((1, 1), 1), ((1, 1), 2), ((3, 2), 3), ((2, 3), 1)] {
            // The inputs have no digits beyond those of bfloat16: rounding changes nothing.
            check(implicit::forward, &Case::new(batch, channels, size, kernel, stride, pad), 5e-7, 5e-7);
        }
    }
}

/// The input's gradient by plain sums.
fn plain_input_gradient(case: &Case, gradient: &[f32]) -> Vec<f64> {
    let sizes = case.sizes;
    let mut out = vec![0.0; case.batch * sizes.channels * sizes.plane()];
    for (index, &gradient) in gradient.iter().enumerate() {
        let (image, output) = (index / sizes.positions() / case.outputs, index / sizes.positions() % case.outputs);
        let (y, x) = (index % sizes.positions() / sizes.out_width, index % sizes.out_width);
        for tap in 0..sizes.patch() {
            let (channel, ky, kx) = (tap / case.taps(), tap % case.taps() / sizes.kernel_width, tap % sizes.kernel_width);
            let (y, x) = ((y * sizes.stride + ky) as isize - sizes.top, (x * sizes.stride + kx) as isize - sizes.left);
            if (0..sizes.height as isize).contains(&y) && (0..sizes.width as isize).contains(&x) {
                let offset = ((image * sizes.channels + channel) * sizes.height + y as usize) * sizes.width + x as usize;
                out[offset] += f64::from(gradient) * f64::from(case.weight[output * sizes.patch() + tap]);
            }
        }
    }
    out
}

#[test]
fn pixels_that_a_stride_leaves_out_have_no_gradient() {
    for (kernel, stride, pad) in [((1, 1), 2, [0; 4]), ((2, 2), 3, [0; 4]), ((1, 3), 4, [1; 4]), ((3, 3), 2, [1; 4])] {
        let case = Case::new(2, (17, 20), (11, 13), kernel, stride, pad);
        let gradient = numbers(case.batch * case.outputs * case.sizes.positions(), 4);
        let got = input_gradient(&gradient, case.filters(), case.batch, &case.sizes);
        assert!(error(&got, &plain_input_gradient(&case, &gradient)) <= 1e-6, "{kernel:?}, stride {stride}");
    }
}

#[test]
fn inputs_that_do_not_have_their_sizes_are_refused() {
    for kernel in [(1, 1), (3, 3)] {
        let case = Case::new(1, (20, 20), (8, 8), kernel, 1, [kernel.0 as isize / 2; 4]);
        let short = &case.x[1..];
        let refused = std::panic::catch_unwind(|| forward(short, case.filters(), None, case.batch, &case.sizes));
        assert!(refused.is_err(), "{kernel:?}");
    }
}
