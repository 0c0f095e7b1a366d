//! Normal draws by Box-Muller, in the two orders that PyTorch 2.x uses on the CPU (`normal_` in
//! `ATen/native/cpu/DistributionTemplates.h`): float32 in blocks of sixteen, and below sixteen elements one by one in float64.

use super::Generator;

/// Elements that the vector kernel transforms together.
const BLOCK: usize = 16;

impl Generator {
    /// `torch.randn(shape)` in float32, in row-major order; agrees to 1e-6 absolute.
    ///
    /// From sixteen elements on, the values come in blocks. A last incomplete block is drawn anew as the last *sixteen* elements, so
    /// it overwrites some of the block before. Below sixteen elements, values come in pairs drawn in float64; when one of a pair is
    /// left over, the next short call starts with it.
    pub fn randn(&mut self, shape: &[usize]) -> Vec<f32> {
        let n = shape.iter().product();
        if n < BLOCK { (0..n).map(|_| self.normal_f64() as f32).collect() } else { self.normal_blocks(n) }
    }

    fn normal_blocks(&mut self, n: usize) -> Vec<f32> {
        let mut values: Vec<f32> = (0..n).map(|_| self.unit_f32()).collect();
        for block in values.chunks_exact_mut(BLOCK) {
            box_muller(block);
        }
        if !n.is_multiple_of(BLOCK) {
            let last = &mut values[n - BLOCK..];
            last.fill_with(|| self.unit_f32());
            box_muller(last);
        }
        values
    }

    /// One value of `at::normal_distribution<double>`, with its memory of the pair's second half.
    fn normal_f64(&mut self) -> f64 {
        if let Some(spare) = self.spare_normal.take() {
            return spare;
        }
        let turn = self.unit_f64();
        let radius = (-2.0 * (-self.unit_f64()).ln_1p()).sqrt();
        let (sine, cosine) = (2.0 * std::f64::consts::PI * turn).sin_cos();
        self.spare_normal = Some(radius * sine);
        radius * cosine
    }
}

/// Sixteen uniforms become sixteen normals: the first eight give the radii, the last eight the angles.
fn box_muller(block: &mut [f32]) {
    let (radii, angles) = block.split_at_mut(BLOCK / 2);
    for (radius, angle) in radii.iter_mut().zip(angles) {
        // 1 - u lies in (0, 1], so the logarithm is finite.
        let length = (-2.0 * (1.0 - *radius).ln()).sqrt();
        let (sine, cosine) = (2.0 * std::f32::consts::PI * *angle).sin_cos();
        *radius = length * cosine;
        *angle = length * sine;
    }
}
