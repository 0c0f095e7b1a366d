//! PNDM: pseudo numerical methods on the diffusion equation, Stable Diffusion 1.5's own scheduler.
//!
//! Source: L. Liu, Y. Ren, Z. Lin, Z. Zhao, "Pseudo Numerical Methods for Diffusion Models on Manifolds", arXiv 2202.09778, equations
//! 9, 12 and 13; diffusers 0.32.2 `PNDMScheduler`. With `skip_prk_steps` it is the linear multistep method (PLMS) alone, whose list
//! holds the second timestep twice; otherwise twelve evaluations of the Runge-Kutta method (PRK) come first.
//!
//! As in the reference, the rules go by the number of steps done and not by the timestep: started in the middle of the list, the
//! second step still takes the first one back, and the latents lag one step behind from then on.
//!
//! Deliberate difference: fewer than four steps with PRK are refused; the reference stops there on arrays of unequal length.

use candle_core::Tensor;

use super::ScheduleError;
use super::arithmetic::{combine, divide, in_float32, scale, whole};
use super::config::{PredictionType, SchedulerConfig};
use super::noise_schedule::NoiseSchedule;
use super::timesteps::{check_steps, whole_timesteps};
use super::{Scheduler, no_timesteps};
use crate::error::Result;

/// Estimates that the multistep method looks back on, and timesteps that the Runge-Kutta method handles.
const ORDER: usize = 4;

/// diffusers' `PNDMScheduler`.
#[derive(Clone, Debug)]
pub struct Pndm {
    config: SchedulerConfig,
    schedule: NoiseSchedule,
    timesteps: Vec<f64>,
    /// The evaluations at the head of `timesteps` that belong to PRK.
    prk_timesteps: Vec<i64>,
    /// Training timesteps per inference step, once set.
    stride: Option<i64>,
    /// Steps done.
    counter: usize,
    /// Noise estimates of earlier steps, the newest last.
    estimates: Vec<Tensor>,
    /// Weighted sum of the estimates of the Runge-Kutta step under way.
    weighted: Option<Tensor>,
    /// The sample that a step of several evaluations started from.
    kept_sample: Option<Tensor>,
}

impl Pndm {
    /// The scheduler before [`Scheduler::set_timesteps`].
    pub fn new(config: &SchedulerConfig) -> Self {
        Self {
            config: config.clone(),
            schedule: NoiseSchedule::new(config),
            timesteps: Vec::new(),
            prk_timesteps: Vec::new(),
            stride: None,
            counter: 0,
            estimates: Vec::new(),
            weighted: None,
            kept_sample: None,
        }
    }

    /// `a(t)`; after the last step that of a clean sample or of timestep 0, as the configuration says.
    fn alpha(&self, timestep: i64) -> Result<f32> {
        match usize::try_from(timestep) {
            Ok(timestep) => self.schedule.alpha(timestep),
            Err(_) if self.config.set_alpha_to_one => Ok(1.0),
            Err(_) => self.schedule.alpha(0),
        }
    }

    fn prk_step(&mut self, output: &Tensor, timestep: i64, sample: &Tensor, stride: i64) -> Result<Tensor> {
        let half_way = if self.counter % 2 == 1 { 0 } else { stride / 2 };
        let start = self.prk_timesteps[self.counter / ORDER * ORDER];
        let weight = if matches!(self.counter % ORDER, 0 | 3) { 1.0 / 6.0 } else { 1.0 / 3.0 };
        let weighted = match self.weighted.take() {
            Some(sum) => (sum + scale(output, weight)?)?,
            None => scale(output, weight)?,
        };
        if self.counter.is_multiple_of(ORDER) {
            self.estimates.push(output.clone());
            self.kept_sample = Some(sample.clone());
        }
        let estimate = if self.counter % ORDER == 3 {
            weighted
        } else {
            self.weighted = Some(weighted);
            output.clone()
        };
        let from = self.kept_sample.clone().unwrap_or_else(|| sample.clone());
        self.transfer(&from, start, timestep - half_way, &estimate)
    }

    fn plms_step(&mut self, output: &Tensor, timestep: i64, sample: &Tensor, stride: i64) -> Result<Tensor> {
        let (mut from, mut to) = (timestep, timestep - stride);
        if self.counter == 1 {
            (from, to) = (timestep + stride, timestep);
        } else {
            let surplus = (self.estimates.len() + 1).saturating_sub(ORDER);
            self.estimates.drain(..surplus);
            self.estimates.push(output.clone());
        }
        let mut start = sample.clone();
        let estimate = match self.estimates.as_slice() {
            [_] if self.counter == 0 => {
                self.kept_sample = Some(sample.clone());
                output.clone()
            }
            [first] => {
                start = self.kept_sample.take().unwrap_or(start);
                divide(&(output + first)?, 2.0)?
            }
            [e2, e1] => divide(&combine(e1, 3.0, e2, -1.0)?, 2.0)?,
            [e3, e2, e1] => divide(&(combine(e1, 23.0, e2, -16.0)? + scale(e3, 5.0)?)?, 12.0)?,
            [e4, e3, e2, e1, ..] => {
                let sum = ((combine(e1, 55.0, e2, -59.0)? + scale(e3, 37.0)?)? - scale(e4, 9.0)?)?;
                scale(&sum, 1.0 / 24.0)?
            }
            // Every step but the second has just added an estimate, and the second finds the first one's.
            [] => output.clone(),
        };
        self.transfer(&start, from, to, &estimate)
    }

    /// Equation 9: `sample` carried from one timestep to another along `output`.
    fn transfer(&self, sample: &Tensor, from: i64, to: i64, output: &Tensor) -> Result<Tensor> {
        let (alpha, alpha_to) = (self.alpha(from)?, self.alpha(to)?);
        let (beta, beta_to) = (1.0 - alpha, 1.0 - alpha_to);
        let velocity;
        let noise = match self.config.prediction_type {
            PredictionType::Velocity => {
                velocity = combine(output, alpha.sqrt(), sample, beta.sqrt())?;
                &velocity
            }
            _ => output,
        };
        let denominator = alpha * beta_to.sqrt() + (alpha * beta * alpha_to).sqrt();
        let carried = scale(sample, (alpha_to / alpha).sqrt())?;
        Ok((carried - divide(&scale(noise, alpha_to - alpha)?, denominator)?)?)
    }
}

/// The evaluations of the Runge-Kutta method: each of the noisiest steps at its start, twice half-way, and at its end.
fn prk_timesteps(ascending: &[i64], half_stride: i64) -> Vec<i64> {
    let pairs: Vec<i64> = ascending[ascending.len() - ORDER..].iter().flat_map(|&t| [t, t + half_stride]).collect();
    let twice: Vec<i64> = pairs[..pairs.len() - 1].iter().flat_map(|&t| [t, t]).collect();
    twice[1..twice.len() - 1].iter().rev().copied().collect()
}

impl Scheduler for Pndm {
    fn set_timesteps(&mut self, num_inference_steps: usize) -> Result<()> {
        let n = num_inference_steps;
        check_steps(&self.config, n)?;
        let stride = (self.config.num_train_timesteps / n) as i64;
        let ascending = whole_timesteps(&self.config, n);
        let plms: Vec<i64> = if self.config.skip_prk_steps {
            self.prk_timesteps = Vec::new();
            let last = ascending[n - 1..].iter();
            last.chain(ascending[..n - 1].last()).chain(ascending[..n - 1].iter().rev()).copied().collect()
        } else if n < ORDER {
            return Err(ScheduleError::RungeKutta { found: n }.into());
        } else {
            self.prk_timesteps = prk_timesteps(&ascending, stride / 2);
            ascending[..n - 3].iter().rev().copied().collect()
        };
        self.timesteps = self.prk_timesteps.iter().chain(&plms).map(|&t| t as f64).collect();
        self.stride = Some(stride);
        self.counter = 0;
        self.estimates.clear();
        self.weighted = None;
        self.kept_sample = None;
        Ok(())
    }

    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn step(&mut self, model_output: &Tensor, timestep: f64, sample: &Tensor) -> Result<Tensor> {
        let stride = self.stride.ok_or_else(no_timesteps)?;
        let timestep = whole(timestep)?;
        let (output, start) = in_float32(model_output, sample)?;
        let next = if self.counter < self.prk_timesteps.len() {
            self.prk_step(&output, timestep, &start, stride)?
        } else {
            self.plms_step(&output, timestep, &start, stride)?
        };
        self.counter += 1;
        Ok(next.to_dtype(sample.dtype())?)
    }

    fn config(&self) -> &SchedulerConfig {
        &self.config
    }

    fn noise_schedule(&self) -> &NoiseSchedule {
        &self.schedule
    }

    fn boxed_clone(&self) -> Box<dyn Scheduler> {
        Box::new(self.clone())
    }
}
