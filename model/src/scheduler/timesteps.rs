//! Which training timesteps an inference of `n` steps visits, as numpy computes them in diffusers 0.32.2 schedulers.
//!
//! Deliberate difference: for 62 numbers of steps (61 and 103 among them) numpy's `arange` overshoots under "trailing" spacing and
//! diffusers' list ends in timestep -1; here the list has the asked number of steps.

use super::ScheduleError;
use super::config::{SchedulerConfig, TimestepSpacing};
use crate::error::Result;

/// The number of inference steps, checked.
///
/// Deliberate difference: diffusers leaves more steps than training had to some schedulers, where timesteps would repeat.
pub(super) fn check_steps(config: &SchedulerConfig, num_inference_steps: usize) -> Result<()> {
    let most = config.num_train_timesteps;
    if (1..=most).contains(&num_inference_steps) {
        return Ok(());
    }
    Err(ScheduleError::Steps { most, found: num_inference_steps }.into())
}

/// Whole timesteps in ascending order.
pub(super) fn whole_timesteps(config: &SchedulerConfig, n: usize) -> Vec<i64> {
    let train = config.num_train_timesteps;
    match config.timestep_spacing {
        TimestepSpacing::Linspace => linspace(train, n).into_iter().map(|t| t.round_ties_even() as i64).collect(),
        TimestepSpacing::Leading => (0..n).map(|i| (i * (train / n) + config.steps_offset) as i64).collect(),
        TimestepSpacing::Trailing => trailing(train, n),
    }
}

/// Timesteps of the Euler schedulers in descending order: under "linspace" they fall between training timesteps, in float32.
pub(super) fn euler_timesteps(config: &SchedulerConfig, n: usize) -> Vec<f64> {
    let mut timesteps: Vec<f64> = match config.timestep_spacing {
        TimestepSpacing::Linspace => linspace(config.num_train_timesteps, n).into_iter().map(|t| f64::from(t as f32)).collect(),
        _ => whole_timesteps(config, n).into_iter().map(|t| t as f64).collect(),
    };
    timesteps.reverse();
    timesteps
}

/// `np.linspace(0, train - 1, n)`.
fn linspace(train: usize, n: usize) -> Vec<f64> {
    let last = (train - 1) as f64;
    let step = last / n.saturating_sub(1).max(1) as f64;
    (0..n).map(|i| if i > 0 && i == n - 1 { last } else { i as f64 * step }).collect()
}

/// `np.round(np.arange(train, 0, -train / n)) - 1`, ascending.
fn trailing(train: usize, n: usize) -> Vec<i64> {
    let start = train as f64;
    // numpy takes the difference of the first two entries, not the step itself.
    let step = (start - start / n as f64) - start;
    (0..n).rev().map(|i| (start + i as f64 * step).round_ties_even() as i64 - 1).collect()
}
