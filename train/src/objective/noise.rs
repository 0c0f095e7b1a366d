//! Noise, timesteps, and the noisy latents that the model is shown.

use super::Objective;
use candle_core::Tensor;
use driftless::Result;
use driftless::rng::Generator;

/// What the model is shown, and what it should answer.
#[derive(Debug, Clone)]
pub struct Noised {
    /// `[b, c, h, w]`.
    pub noisy: Tensor,
    /// `[b, c, h, w]`: the noise, or the velocity.
    pub target: Tensor,
    /// One per sample.
    pub timesteps: Vec<usize>,
}

pub(super) fn noised(objective: &Objective, latents: &Tensor, fixed: Option<usize>, generator: &mut Generator) -> Result<Noised> {
    let options = &objective.options;
    let (device, shape) = (latents.device(), latents.dims());
    let mut noise = generator.randn_tensor(shape, device)?;
    if options.noise_offset.is_some_and(|offset| offset != 0.0) {
        noise = (noise + offset(objective, latents, generator)?)?;
    }
    if let Some(iterations) = options.multires_noise_iterations.filter(|iterations| *iterations > 0) {
        noise = multires(&noise, iterations, options.multires_noise_discount, generator)?;
    }
    let range = &objective.timesteps;
    let timesteps = match fixed {
        Some(timestep) => vec![timestep; shape[0]],
        None => {
            let drawn = generator.randint(range.start as i64, range.end as i64, shape[0]);
            drawn.into_iter().map(|timestep| timestep as usize).collect()
        }
    };
    let noisy = match options.ip_noise_gamma.filter(|gamma| *gamma > 0.0) {
        Some(gamma) => {
            let strength = if options.ip_noise_gamma_random_strength { gamma * uniform(generator) } else { gamma };
            let further = (generator.randn_tensor(shape, device)? * strength)?;
            objective.schedule.add_noise(latents, &(&noise + further)?, &timesteps)?
        }
        None => objective.schedule.add_noise(latents, &noise, &timesteps)?,
    };
    let target = if options.v_parameterization { objective.schedule.velocity(latents, &noise, &timesteps)? } else { noise };
    Ok(Noised { noisy, target, timesteps })
}

/// Uniform in [0, 1).
fn uniform(generator: &mut Generator) -> f64 {
    generator.rand(&[1]).first().copied().map_or(0.0, f64::from)
}

/// A constant per sample and channel, `[b, c, h, w]` by broadcasting. (N. Guttenberg, "Diffusion with offset noise", 2023.)
fn offset(objective: &Objective, latents: &Tensor, generator: &mut Generator) -> Result<Tensor> {
    let options = &objective.options;
    let (batch, channels, _, _) = latents.dims4()?;
    let mut strength = options.noise_offset.unwrap_or_default();
    if options.noise_offset_random_strength {
        strength *= uniform(generator);
    }
    let strength = match options.adaptive_noise_scale {
        Some(scale) => {
            let mean = latents.mean_keepdim(3)?.mean_keepdim(2)?.abs()?;
            ((mean * scale)? + strength)?.maximum(0f32)?
        }
        None => Tensor::full(strength as f32, (batch, channels, 1, 1), latents.device())?,
    };
    let draws = generator.randn_tensor(&[batch, channels, 1, 1], latents.device())?;
    Ok((strength * draws)?.broadcast_as(latents.shape())?)
}

/// Noise of several resolutions, brought back to unit variance. (J. Whitaker, "Multi-resolution noise", 2023.)
fn multires(noise: &Tensor, iterations: usize, discount: f64, generator: &mut Generator) -> Result<Tensor> {
    let (batch, channels, height, width) = noise.dims4()?;
    let mut sum = noise.flatten_all()?.to_vec1::<f32>()?;
    for iteration in 0..iterations as i32 {
        let shrink = (uniform(generator) * 2.0 + 2.0).powi(iteration);
        let coarse = |side: usize| ((side as f64 / shrink) as usize).max(1);
        let (coarse_height, coarse_width) = (coarse(height), coarse(width));
        let draws = generator.randn(&[batch, channels, coarse_height, coarse_width]);
        let weight = discount.powi(iteration) as f32;
        let planes = draws.chunks(coarse_height * coarse_width).zip(sum.chunks_mut(height * width));
        planes.for_each(|(from, to)| add_upscaled(from, (coarse_height, coarse_width), to, (height, width), weight));
        if coarse_height == 1 || coarse_width == 1 {
            break;
        }
    }
    // torch's standard deviation: over all values, with n - 1.
    let count = sum.len() as f64;
    let mean = sum.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let variance = sum.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let scale = (1.0 / variance.sqrt()) as f32;
    sum.iter_mut().for_each(|x| *x *= scale);
    Ok(Tensor::from_vec(sum, noise.shape(), noise.device())?)
}

/// Adds `weight` times a plane, enlarged bilinearly (`torch.nn.Upsample(mode="bilinear")`, corners not aligned).
fn add_upscaled(from: &[f32], (rows, columns): (usize, usize), to: &mut [f32], (height, width): (usize, usize), weight: f32) {
    let source = |index: usize, from: usize, to: usize| {
        let position = ((index as f32 + 0.5) * (from as f32 / to as f32) - 0.5).max(0.0);
        let first = position as usize;
        (first, (first + 1).min(from - 1), position - first as f32)
    };
    for y in 0..height {
        let (top, bottom, down) = source(y, rows, height);
        for x in 0..width {
            let (left, right, across) = source(x, columns, width);
            let row = |row: usize| from[row * columns + left] * (1.0 - across) + from[row * columns + right] * across;
            to[y * width + x] += weight * (row(top) * (1.0 - down) + row(bottom) * down);
        }
    }
}
