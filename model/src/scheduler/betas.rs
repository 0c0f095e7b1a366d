//! The noise added per training timestep, in float32 and in PyTorch's order of rounding.
//!
//! Mirrors the constructors of diffusers 0.32.2 schedulers on torch 2.x, as built for processors with AVX2 or AVX-512 (where
//! `torch.linspace` fuses its multiplication and addition); equal to the bit there, but for the stretch to zero SNR, where torch's
//! vector square root is off by a unit in the last place. `torch.cumprod` of float32 multiplies in float64 on the CPU and rounds each
//! partial product.

use super::config::{BetaSchedule, SchedulerConfig};

/// The betas that `config` describes, one per training timestep.
pub(super) fn betas(config: &SchedulerConfig) -> Vec<f32> {
    let n = config.num_train_timesteps;
    let betas = match (&config.trained_betas, config.beta_schedule) {
        (Some(betas), _) => betas.iter().map(|&beta| beta as f32).collect(),
        (None, BetaSchedule::Linear) => linspace(config.beta_start, config.beta_end, n),
        (None, BetaSchedule::ScaledLinear) => {
            linspace(config.beta_start.sqrt(), config.beta_end.sqrt(), n).into_iter().map(|root| root * root).collect()
        }
        (None, BetaSchedule::SquaredCosine) => squared_cosine(n),
    };
    if config.rescale_betas_zero_snr { rescale_zero_terminal_snr(&betas) } else { betas }
}

/// `a(t)`: the products of `1 - beta` over timesteps `0..=t`.
pub(super) fn cumulative_alphas(betas: &[f32]) -> Vec<f32> {
    let mut product = 1.0_f64;
    let multiply = |beta: &f32| {
        product *= f64::from(1.0 - beta);
        product as f32
    };
    betas.iter().map(multiply).collect()
}

/// Betas whose last timestep keeps nothing of the sample while the first keeps what it did (arXiv 2305.08891, algorithm 1).
pub(super) fn rescale_zero_terminal_snr(betas: &[f32]) -> Vec<f32> {
    let mut roots: Vec<f32> = cumulative_alphas(betas).into_iter().map(f32::sqrt).collect();
    let (Some(&first), Some(&last)) = (roots.first(), roots.last()) else { return Vec::new() };
    let stretch = first / (first - last);
    for root in &mut roots {
        *root = (*root - last) * stretch;
    }
    let products: Vec<f32> = roots.into_iter().map(|root| root * root).collect();
    (0..products.len()).map(|t| 1.0 - if t == 0 { products[0] } else { products[t] / products[t - 1] }).collect()
}

/// `torch.linspace(start, end, n)` in float32: counted from both ends towards the middle.
fn linspace(start: f64, end: f64, n: usize) -> Vec<f32> {
    let (start, end) = (start as f32, end as f32);
    if n == 1 {
        return vec![start];
    }
    let step = (end - start) / (n - 1) as f32;
    let value = |i: usize| if i < n / 2 { step.mul_add(i as f32, start) } else { (-step).mul_add((n - 1 - i) as f32, end) };
    (0..n).map(value).collect()
}

/// `betas_for_alpha_bar` with the cosine (arXiv 2102.09672, equation 17).
fn squared_cosine(n: usize) -> Vec<f32> {
    const LARGEST: f64 = 0.999;
    let kept = |time: f64| ((time + 0.008) / 1.008 * std::f64::consts::PI / 2.0).cos().powi(2);
    let beta = |i: usize| {
        let (from, to) = (i as f64 / n as f64, (i + 1) as f64 / n as f64);
        (1.0 - kept(to) / kept(from)).min(LARGEST) as f32
    };
    (0..n).map(beta).collect()
}
