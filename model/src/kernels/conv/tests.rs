//! Winograd's and the direct way against float64, on every instruction set at hand, over sizes that fit no tile, vector or block.

use half::{bf16, f16};
use pulp::Arch;

use super::Way;
use crate::kernels::conv::columns::Geometry;
use crate::kernels::conv::filters::{Filters, Numbers};
use crate::kernels::conv::{direct, winograd};
use crate::kernels::isa::available;
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
    fn turned(&self) -> Vec<f32> {
        let (inputs, taps) = (self.sizes.channels, self.taps());
        let mut turned = vec![0.0; self.weight.len()];
        for (index, &value) in self.weight.iter().enumerate() {
            let (filter, tap) = (index / taps, index % taps);
            turned[(filter % inputs * self.outputs + filter / inputs) * taps + taps - 1 - tap] = value;
        }
        turned
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
                    let place = ((image * channels + channel) * height + y as usize) * width + x as usize;
                    sum += f64::from(self.x[place]) * f64::from(self.weight[output * self.sizes.patch() + tap]);
                }
            }
            out.push(sum);
        }
        out
    }

    fn run(&self, way: Way, arch: Arch, filters: Filters) -> Vec<f32> {
        let length = self.batch * self.outputs * self.sizes.positions();
        // SAFETY: both ways write all of their output; if they did not, it would stay NaN, as this is a test.
        unsafe { written(length, |out| way(arch, out, &self.x, filters, Some(&self.bias), &self.sizes)) }
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
/// rounding per product and sum gives.
fn check(way: Way, case: &Case, limit: f64) {
    let expected = case.reference();
    let turned = case.turned();
    let reversed = Filters::new(Numbers::F32(&turned), case.sizes.channels, case.outputs, case.taps()).reversed();
    let f16s: Vec<f16> = case.weight.iter().map(|&value| f16::from_f32(value)).collect();
    let bf16s: Vec<bf16> = case.weight.iter().map(|&value| bf16::from_f32(value)).collect();
    let halves = [Numbers::F16(&f16s), Numbers::BF16(&bf16s)].map(|numbers| Filters { numbers, ..case.filters() });
    for (name, arch) in available() {
        let plain = case.run(way, arch, case.filters());
        let error = error(&plain, &expected);
        assert!(error <= limit, "{name}: relative error {error:e} at {:?}", case.sizes);
        // The weights have no digits beyond those of bfloat16, so these are the same numbers.
        for other in [reversed, halves[0], halves[1]] {
            assert_eq!(plain, case.run(way, arch, other), "{name}: {:?}", case.sizes);
        }
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let many = rayon::ThreadPoolBuilder::new().num_threads(5).build().unwrap();
        for pool in [alone, many] {
            assert_eq!(plain, pool.install(|| case.run(way, arch, case.filters())), "{name}: threads, {:?}", case.sizes);
        }
    }
}

#[test]
fn winograd_agrees_with_float64_on_every_instruction_set() {
    for (batch, channels, size, pad) in odd_shapes() {
        check(winograd::forward, &Case::new(batch, channels, size, (3, 3), 1, pad), 1.5e-6);
    }
}

#[test]
fn direct_agrees_with_float64_on_every_instruction_set() {
    for (batch, channels, size, pad) in odd_shapes() {
        for (kernel, stride) in [((3, 3), 1), ((3, 3), 2), ((1, 1), 1), ((1, 1), 2), ((3, 2), 3), ((2, 3), 1)] {
            check(direct::forward, &Case::new(batch, channels, size, kernel, stride, pad), 5e-7);
        }
    }
}
