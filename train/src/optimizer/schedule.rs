//! The course of the learning rate: a factor on every group's rate for each optimizer step.
//!
//! Mirrors `transformers.optimization` 4.49.0 as sd-scripts 48d368f calls it (`train_util.get_scheduler_fix`): half the cycles for the
//! two cosines that end at a minimum, and the general learning rate inside `polynomial`.

use crate::options::OptimizationOptions;
use std::f64::consts::PI;

/// Options of a schedule that contradict each other.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "a variant's fields are what its message shows")]
pub enum ScheduleFault {
    #[error("--lr_scheduler: {0} (there are {names})", names = NAMES.join(", "))]
    Unknown(driftless::Error),
    #[error("--lr_scheduler constant has no warm-up; use constant_with_warmup, or --lr_warmup_steps 0")]
    ConstantWithWarmup,
    #[error("--lr_scheduler polynomial ends at {POLYNOMIAL_END:e}; --learning_rate must be above it")]
    BelowTheEnd,
    #[error("--lr_scheduler cosine_with_min_lr needs --lr_scheduler_min_lr_ratio")]
    NoMinimum,
    #[error("warm-up and decay together have {steps} steps; the run has {total}")]
    TooLong { steps: usize, total: usize },
}

/// A factor for each step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    kind: Kind,
    warmup: usize,
    total: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Constant,
    Linear,
    Cosine,
    CosineWithRestarts { cycles: f64 },
    Polynomial { rate: f64, power: f64 },
    InverseSquareRoot { timescale: f64 },
    CosineWithMinimum { cycles: f64, minimum: f64 },
    WarmupStableDecay { decay: usize, cycles: f64, minimum: f64 },
}

/// The names that `--lr_scheduler` takes.
const NAMES: [&str; 9] = [
    "constant",
    "constant_with_warmup",
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "inverse_sqrt",
    "cosine_with_min_lr",
    "warmup_stable_decay",
];

/// The rate at which `polynomial` ends, relative to nothing: transformers' `lr_end`.
const POLYNOMIAL_END: f64 = 1e-7;

impl Schedule {
    /// The schedule that `options` ask for, over `total` optimizer steps.
    ///
    /// # Errors
    /// When the name is not known, or the settings contradict each other.
    pub fn new(options: &OptimizationOptions, total: usize) -> Result<Self, ScheduleFault> {
        let warmup = options.lr_warmup_steps.of(total);
        let half_cycles = options.lr_scheduler_num_cycles as f64 / 2.0;
        let kind = match options.lr_scheduler.as_str() {
            "constant" if warmup > 0 => return Err(ScheduleFault::ConstantWithWarmup),
            "constant" => Kind::Constant,
            "constant_with_warmup" => Kind::Constant,
            "linear" => Kind::Linear,
            "cosine" => Kind::Cosine,
            "cosine_with_restarts" => Kind::CosineWithRestarts { cycles: options.lr_scheduler_num_cycles as f64 },
            "polynomial" => {
                let rate = options.learning_rate;
                if rate <= POLYNOMIAL_END {
                    return Err(ScheduleFault::BelowTheEnd);
                }
                Kind::Polynomial { rate, power: options.lr_scheduler_power }
            }
            "inverse_sqrt" => {
                let default = if warmup > 0 { warmup as u64 } else { 10_000 };
                Kind::InverseSquareRoot { timescale: options.lr_scheduler_timescale.unwrap_or(default) as f64 }
            }
            "cosine_with_min_lr" => {
                let minimum = options.lr_scheduler_min_lr_ratio.ok_or(ScheduleFault::NoMinimum)?;
                Kind::CosineWithMinimum { cycles: half_cycles, minimum }
            }
            "warmup_stable_decay" => {
                let decay = options.lr_decay_steps.of(total);
                if warmup + decay > total {
                    return Err(ScheduleFault::TooLong { steps: warmup + decay, total });
                }
                let minimum = options.lr_scheduler_min_lr_ratio.unwrap_or(0.0);
                Kind::WarmupStableDecay { decay, cycles: half_cycles, minimum }
            }
            unknown => {
                return Err(ScheduleFault::Unknown(driftless::Error::unknown("learning-rate schedule", unknown, NAMES)));
            }
        };
        Ok(Self { kind, warmup, total })
    }

    /// The factor for the step after `done` completed ones. The first step of a warm-up has factor 0.
    pub fn factor(&self, done: usize) -> f64 {
        let (step, warmup, total) = (done as f64, self.warmup as f64, self.total as f64);
        if done < self.warmup {
            let rising = step / warmup.max(1.0);
            return match self.kind {
                Kind::WarmupStableDecay { minimum, .. } => rising * (1.0 - minimum) + minimum,
                _ => rising,
            };
        }
        let rest = total - warmup;
        let progress = (step - warmup) / rest.max(1.0);
        let wave = |cycles: f64, progress: f64| 0.5 * (1.0 + (PI * cycles * 2.0 * progress).cos());
        match self.kind {
            Kind::Constant => 1.0,
            Kind::Linear => ((total - step) / rest.max(1.0)).max(0.0),
            Kind::Cosine => wave(0.5, progress).max(0.0),
            Kind::CosineWithRestarts { .. } if progress >= 1.0 => 0.0,
            Kind::CosineWithRestarts { cycles } => (0.5 * (1.0 + (PI * ((cycles * progress) % 1.0)).cos())).max(0.0),
            Kind::Polynomial { rate, .. } if done > self.total || rest == 0.0 => POLYNOMIAL_END / rate,
            Kind::Polynomial { rate, power } => {
                let left = 1.0 - (step - warmup) / rest;
                ((rate - POLYNOMIAL_END) * left.powf(power) + POLYNOMIAL_END) / rate
            }
            Kind::InverseSquareRoot { timescale } => 1.0 / ((step + timescale - warmup) / timescale).sqrt(),
            Kind::CosineWithMinimum { cycles, minimum } => (wave(cycles, progress) * (1.0 - minimum) + minimum).max(0.0),
            Kind::WarmupStableDecay { decay, .. } if done < self.total - decay => 1.0,
            Kind::WarmupStableDecay { minimum, .. } if done >= self.total => minimum,
            Kind::WarmupStableDecay { decay, cycles, minimum } => {
                let progress = (step - (self.total - decay) as f64) / (decay as f64).max(1.0);
                (wave(cycles, progress) * (1.0 - minimum) + minimum).max(0.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use serde_json::Value;

    fn schedule(arguments: &[&str], total: usize) -> Result<Schedule, ScheduleFault> {
        Schedule::new(&Options::of(arguments).optimization, total)
    }

    // Reference: transformers 4.49.0 schedules called as sd-scripts calls them, float64: tests/reference/train_schedules.py.
    // 1e-12: both compute in float64; only the order of a product and a sum differs.
    #[test]
    fn factors_are_those_of_transformers() {
        let fixture: Value =
            serde_json::from_str(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/train/schedules.json")))
                .unwrap();
        let cases = fixture["cases"].as_array().unwrap();
        assert!(cases.len() >= 12);
        for case in cases {
            let arguments: Vec<&str> = case["arguments"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
            let schedule = schedule(&arguments, case["total"].as_u64().unwrap() as usize).unwrap();
            for (step, expected) in case["factors"].as_array().unwrap().iter().enumerate() {
                let (factor, expected) = (schedule.factor(step), expected.as_f64().unwrap());
                assert!((factor - expected).abs() < 1e-12, "{arguments:?} at step {step}: {factor}, not {expected}");
            }
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for (arguments, expected) in [
            (vec!["--lr_scheduler=constant", "--lr_warmup_steps=10"], "constant_with_warmup"),
            (vec!["--lr_scheduler=cosin"], "did you mean `cosine`"),
            (vec!["--lr_scheduler=cosine_with_min_lr"], "min_lr_ratio"),
            (vec!["--lr_scheduler=polynomial", "--learning_rate=0"], "polynomial"),
            (vec!["--lr_scheduler=warmup_stable_decay", "--lr_warmup_steps=60", "--lr_decay_steps=50"], "110 steps"),
        ] {
            let message = schedule(&arguments, 100).unwrap_err().to_string();
            assert!(message.contains(expected), "{arguments:?}: {message}");
        }
    }
}
