//! PyTorch's CPU generator: the same seed and the same calls draw the same numbers as `torch.Generator` on CPU, whatever device the
//! tensors end up on.
//!
//! Mirrors PyTorch 2.x: `at::CPUGeneratorImpl`, `at::mt19937` and the CPU kernels behind `torch.rand`, `torch.randn`,
//! `torch.randint`, `torch.randperm` and `Tensor.uniform_`, for contiguous tensors. Integers, uniforms and saved states are equal to
//! the bit.
//!
//! Deliberate differences:
//! - Normals agree to about 1e-6 absolute, not to the bit: PyTorch's vector kernels have their own logarithm, sine and cosine, and
//!   differ between processors themselves. The draws behind them are the same.
//! - [`Generator::randint`] answers an empty range with its lower end, where PyTorch raises.

mod mt19937;
mod normal;
mod state;

use candle_core::{Device, Tensor};

use crate::error::Result;
use mt19937::Mt19937;

/// A random generator that draws what PyTorch's CPU generator draws.
///
/// Every method advances the state as its PyTorch counterpart does, so interleaved calls stay in step too.
#[derive(Clone, PartialEq)]
pub struct Generator {
    engine: Mt19937,
    /// The seed as given; the engine itself uses its low 32 bits.
    seed: u64,
    /// The second value of the last Box-Muller pair drawn in float64, kept for the next short `randn`.
    spare_normal: Option<f64>,
}

impl std::fmt::Debug for Generator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generator").field("seed", &self.seed).field("next", &self.engine.next).finish_non_exhaustive()
    }
}

impl Generator {
    /// The generator after `torch.manual_seed(seed)`. As there, seeds that agree in their low 32 bits draw the same numbers.
    pub fn manual_seed(seed: u64) -> Self {
        Self { engine: Mt19937::new(seed as u32), seed, spare_normal: None }
    }

    /// The seed this generator was started with (`torch.initial_seed()`).
    pub fn initial_seed(&self) -> u64 {
        self.seed
    }

    /// 32 random bits (`CPUGeneratorImpl::random`).
    pub fn random(&mut self) -> u32 {
        self.engine.next_u32()
    }

    /// 64 random bits; the first draw is the upper half (`CPUGeneratorImpl::random64`).
    pub fn random64(&mut self) -> u64 {
        let upper = u64::from(self.random());
        (upper << 32) | u64::from(self.random())
    }

    /// `torch.rand(shape)` in float32: uniform in `[0, 1)`, in row-major order.
    pub fn rand(&mut self, shape: &[usize]) -> Vec<f32> {
        (0..shape.iter().product()).map(|_| self.unit_f32()).collect()
    }

    /// `torch.empty(n).uniform_(low, high)` in float32: uniform in `[low, high)`.
    pub fn uniform(&mut self, low: f32, high: f32, n: usize) -> Vec<f32> {
        let width = high - low;
        // Fused, as PyTorch's AVX2 and AVX-512 builds compile it; its build for processors without it rounds twice.
        (0..n).map(|_| self.unit_f32().mul_add(width, low)).collect()
    }

    /// `torch.randint(low, high, (n,))`: uniform integers with `low <= value < high`.
    ///
    /// The caller makes sure that `low < high`; an empty range gives `low` (and still draws).
    pub fn randint(&mut self, low: i64, high: i64, n: usize) -> Vec<i64> {
        // In 128 bits, so that no range overflows; an i64 range always fits 64 bits.
        let range = (i128::from(high) - i128::from(low)).max(1) as u64;
        // PyTorch takes the remainder of 32 bits as long as that skews the result by less than 5 %.
        let wide = range >= 1 << 28;
        let mut draw = || if wide { self.random64() } else { u64::from(self.random()) };
        (0..n).map(|_| low.wrapping_add((draw() % range) as i64)).collect()
    }

    /// `torch.randperm(n)`: the numbers `0..n` in random order.
    pub fn randperm(&mut self, n: usize) -> Vec<usize> {
        // PyTorch's bound, below which the remainder of 32 bits is near enough to uniform.
        const SMALL: usize = (u32::MAX / 20) as usize;
        let mut order: Vec<usize> = (0..n).collect();
        if n < SMALL {
            for i in 0..n.saturating_sub(1) {
                let offset = self.random() as usize % (n - i);
                order.swap(i, i + offset);
            }
        } else {
            for i in 0..n {
                let other = (self.random64() % (i as u64 + 1)) as usize;
                order.swap(i, other);
            }
        }
        order
    }

    /// [`Generator::randn`] as a float32 tensor on `device`. The numbers are drawn on the CPU, so a seed means the same noise on
    /// every device.
    ///
    /// # Errors
    /// [`crate::Error::Tensors`] when the device has no room.
    pub fn randn_tensor(&mut self, shape: &[usize], device: &Device) -> Result<Tensor> {
        Ok(Tensor::from_vec(self.randn(shape), shape, device)?)
    }

    /// A uniform float32 in `[0, 1)`: the low 24 bits of one draw.
    fn unit_f32(&mut self) -> f32 {
        const BITS: u32 = f32::MANTISSA_DIGITS;
        (self.random() & ((1 << BITS) - 1)) as f32 / (1_u32 << BITS) as f32
    }

    /// A uniform float64 in `[0, 1)`: the low 53 bits of a double draw.
    fn unit_f64(&mut self) -> f64 {
        const BITS: u32 = f64::MANTISSA_DIGITS;
        (self.random64() & ((1 << BITS) - 1)) as f64 / (1_u64 << BITS) as f64
    }
}
