//! The error of a prediction, and the weights of samples and timesteps.

use super::{Noised, Objective};
use crate::options::{HuberSchedule, LossType, ObjectiveOptions};
use candle_core::{DType, Tensor};
use driftless::Result;

pub(super) fn loss(objective: &Objective, prediction: &Tensor, noised: &Noised, weights: &[f64]) -> Result<Tensor> {
    let difference = (prediction.to_dtype(DType::F32)? - noised.target.to_dtype(DType::F32)?)?;
    let batch = noised.timesteps.len();
    let error = match objective.options.loss_type {
        LossType::L2 => difference.sqr()?,
        LossType::L1 => difference.abs()?,
        LossType::Huber | LossType::SmoothL1 => huber(objective, &difference, &noised.timesteps)?,
    };
    let per_sample = error.reshape((batch, ()))?.mean(1)?;
    let mut factors = Vec::with_capacity(batch);
    for (timestep, weight) in noised.timesteps.iter().zip(weights) {
        factors.push((weight * timestep_weight(&objective.options, f64::from(objective.schedule.snr(*timestep)?))) as f32);
    }
    let factors = Tensor::new(factors, per_sample.device())?;
    Ok((per_sample * factors)?.mean_all()?)
}

/// The factors that depend on the timestep, in kohya's order.
fn timestep_weight(options: &ObjectiveOptions, snr: f64) -> f64 {
    // At pure signal the ratio is infinite.
    let bounded = snr.min(1000.0);
    let v_scale = bounded / (bounded + 1.0);
    let mut weight = 1.0;
    // arXiv 2303.09556.
    if let Some(gamma) = options.min_snr_gamma.filter(|gamma| *gamma > 0.0) {
        weight *= if options.v_parameterization { snr.min(gamma) / (snr + 1.0) } else { snr.min(gamma) / snr };
    }
    if options.scale_v_pred_loss_like_noise_pred {
        weight *= v_scale;
    }
    if let Some(factor) = options.v_pred_like_loss.filter(|factor| *factor > 0.0) {
        weight += weight / v_scale * factor;
    }
    // arXiv 2310.08442.
    if options.debiased_estimation_loss {
        weight *= if options.v_parameterization { 1.0 / (bounded + 1.0) } else { 1.0 / bounded.sqrt() };
    }
    weight
}

/// Pseudo-Huber with a threshold that depends on the timestep (arXiv 2403.16728).
fn huber(objective: &Objective, difference: &Tensor, timesteps: &[usize]) -> Result<Tensor> {
    let options = &objective.options;
    let mut thresholds = Vec::with_capacity(timesteps.len());
    for timestep in timesteps {
        let threshold = match options.huber_schedule {
            HuberSchedule::Constant => options.huber_c * options.huber_scale,
            HuberSchedule::Exponential => {
                (options.huber_c.ln() / objective.schedule.alphas_cumprod.len() as f64 * *timestep as f64).exp()
                    * options.huber_scale
            }
            HuberSchedule::Snr => {
                let alpha = f64::from(objective.schedule.alpha(*timestep)?);
                let sigma = ((1.0 - alpha) / alpha).sqrt();
                (1.0 - options.huber_c) / (1.0 + sigma).powi(2) + options.huber_c
            }
        };
        thresholds.push(threshold as f32);
    }
    let threshold = Tensor::from_vec(thresholds, (timesteps.len(), 1, 1, 1), difference.device())?;
    let root = difference.sqr()?.broadcast_add(&threshold.sqr()?)?.sqrt()?;
    let error = (root.broadcast_sub(&threshold)? * 2.0)?;
    Ok(if options.loss_type == LossType::Huber { error.broadcast_mul(&threshold)? } else { error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use candle_core::Device;
    use driftless::rng::Generator;
    use serde_json::Value;

    fn tensor(value: &Value, shape: &[usize]) -> Tensor {
        let values: Vec<f32> = value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn assert_close(found: &Tensor, expected: &Value, tolerance: f32, context: &str) {
        let found = found.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let expected = expected.as_array().unwrap();
        assert_eq!(found.len(), expected.len(), "{context}");
        for (found, expected) in found.iter().zip(expected) {
            let expected = expected.as_f64().unwrap() as f32;
            assert!((found - expected).abs() <= tolerance * expected.abs().max(1.0), "{context}: {found}, not {expected}");
        }
    }

    // Reference: sd-scripts 48d368f get_noise_noisy_latents_and_timesteps, conditional_loss and the weights of custom_train_functions,
    // torch 2.15.0, float32, CPU, with Python's random numbers taken from torch: tests/reference/train_objective.py.
    // 1e-5: the normals themselves agree to about 1e-6, and some weights are sums of a few roundings.
    #[test]
    fn noise_and_loss_are_those_of_kohya() {
        let fixture: Value =
            serde_json::from_str(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/train/objective.json")))
                .unwrap();
        let shape: Vec<usize> = fixture["shape"].as_array().unwrap().iter().map(|side| side.as_u64().unwrap() as usize).collect();
        let latents = tensor(&fixture["latents"], &shape);
        let prediction = tensor(&fixture["prediction"], &shape);
        let cases = fixture["cases"].as_array().unwrap();
        assert!(cases.len() >= 18);
        for case in cases {
            let arguments: Vec<&str> = case["arguments"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
            let context = format!("{arguments:?}");
            let objective = Objective::new(&Options::of(&arguments)).unwrap();
            let mut generator = Generator::manual_seed(fixture["seed"].as_u64().unwrap());
            let noised = objective.noised(&latents, &mut generator).unwrap();
            let timesteps: Vec<u64> = case["timesteps"].as_array().unwrap().iter().map(|t| t.as_u64().unwrap()).collect();
            assert_eq!(noised.timesteps.iter().map(|t| *t as u64).collect::<Vec<_>>(), timesteps, "{context}");
            assert_close(&noised.noisy, &case["noisy"], 1e-5, &context);
            assert_close(&noised.target, &case["target"], 1e-5, &context);
            let loss = objective.loss(&prediction, &noised, &[1.0, 0.25, 1.0]).unwrap();
            let (loss, expected) = (loss.to_scalar::<f32>().unwrap(), case["loss"].as_f64().unwrap() as f32);
            assert!((loss - expected).abs() <= 1e-5 * expected.abs(), "{context}: loss {loss}, not {expected}");
            assert_eq!(generator.randint(0, 1 << 31, 1), [case["next"].as_i64().unwrap()], "{context}: another number of draws");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for (arguments, expected) in [
            (vec!["--min_timestep=500", "--max_timestep=500"], "not below"),
            (vec!["--scale_v_pred_loss_like_noise_pred"], "needs --v_parameterization"),
            (vec!["--v_parameterization", "--v_pred_like_loss=1"], "does not go with"),
            (vec!["--zero_terminal_snr"], "needs --v_parameterization"),
        ] {
            let message = Objective::new(&Options::of(&arguments)).unwrap_err().to_string();
            assert!(message.contains(expected), "{arguments:?}: {message}");
        }
    }
}
