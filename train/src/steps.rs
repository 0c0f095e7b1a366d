//! Steps and epochs: their arithmetic, as sd-scripts' `train_network.py` does it, and what is known after one.

use crate::options::Options;

/// Why a run has no steps.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "a variant's fields are what its message shows")]
pub enum StepsFault {
    #[error("--gradient_accumulation_steps is 0; it must be at least 1")]
    NoAccumulation,
    #[error("the data set has no images")]
    NoImages,
    #[error("the run has no steps; see --max_train_epochs and --max_train_steps")]
    NoSteps,
    #[error(
        "a run of {total} steps in {epochs} epochs is longer than any can be ({LONGEST} steps, {MOST_EPOCHS} epochs); see --max_train_epochs \
         and --max_train_steps"
    )]
    TooLong { total: usize, epochs: usize },
}

/// How long the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// Batches in an epoch.
    pub batches_per_epoch: usize,
    /// Batches whose gradients make one step.
    pub accumulation: usize,
    /// Optimizer steps in an epoch; the last may have fewer batches.
    pub per_epoch: usize,
    /// Epochs, of which the last may end early.
    pub epochs: usize,
    /// Optimizer steps in all.
    pub total: usize,
}

/// What is known after a step.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// Optimizer steps done, this one included.
    pub step: usize,
    /// Current epoch, from 1.
    pub epoch: usize,
    /// Mean loss of the step's batches; `None` when none of their images could be read.
    pub loss: Option<f64>,
    /// The moving average.
    pub loss_average: f64,
    /// Rate of each group at this step.
    pub rates: Vec<(String, f64)>,
    /// Norm of all gradients before clipping.
    pub gradient_norm: f64,
    /// How long the step took.
    pub seconds: f64,
}

/// The most steps of a run: 30 years of one a second.
const LONGEST: usize = 1_000_000_000;
/// The most epochs of a run: seeds count them in 24 bits.
const MOST_EPOCHS: usize = (1 << 24) - 1;

impl Steps {
    /// The length that `options` ask for with so many batches per epoch.
    ///
    /// # Errors
    /// When something is 0 that must not be.
    pub fn new(options: &Options, batches_per_epoch: usize) -> Result<Self, StepsFault> {
        let accumulation = options.optimization.gradient_accumulation_steps;
        if accumulation == 0 {
            return Err(StepsFault::NoAccumulation);
        }
        if batches_per_epoch == 0 {
            return Err(StepsFault::NoImages);
        }
        let per_epoch = batches_per_epoch.div_ceil(accumulation);
        let (epochs, total) = match options.optimization.max_train_epochs {
            Some(epochs) => (epochs, epochs.saturating_mul(per_epoch)),
            None => {
                let total = options.optimization.max_train_steps;
                (total.div_ceil(per_epoch), total)
            }
        };
        if total > LONGEST || epochs > MOST_EPOCHS {
            return Err(StepsFault::TooLong { total, epochs });
        }
        if total == 0 {
            return Err(StepsFault::NoSteps);
        }
        Ok(Self { batches_per_epoch, accumulation, per_epoch, epochs, total })
    }

    /// `--save_every_n_epochs`, or what `--save_n_epoch_ratio` makes of it.
    pub fn save_every_n_epochs(&self, options: &Options) -> Option<usize> {
        match options.output.save_n_epoch_ratio.filter(|ratio| *ratio > 0) {
            Some(ratio) => Some((self.epochs / ratio).max(1)),
            None => options.output.save_every_n_epochs.filter(|every| *every > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(arguments: &[&str], batches: usize) -> Steps {
        Steps::new(&Options::of(arguments), batches).unwrap()
    }

    #[test]
    fn the_papers_recipe() {
        // 3 groups x 30 images x 10 repeats.
        let one = steps(&["--max_train_epochs=100"], 900);
        assert_eq!((one.per_epoch, one.epochs, one.total), (900, 100, 90_000));
        let three = steps(&["--max_train_epochs=100"], 300);
        assert_eq!(three.total, 30_000);
    }

    #[test]
    fn epochs_win_over_steps_and_short_groups_count() {
        let run = steps(&["--max_train_epochs=3", "--max_train_steps=7", "--gradient_accumulation_steps=4"], 10);
        assert_eq!((run.per_epoch, run.epochs, run.total), (3, 3, 9));
    }

    #[test]
    fn steps_may_end_within_an_epoch() {
        let run = steps(&["--max_train_steps=25"], 10);
        assert_eq!((run.per_epoch, run.epochs, run.total), (10, 3, 25));
        assert_eq!(steps(&[], 10).total, 1600);
    }

    #[test]
    fn a_ratio_of_epochs_to_save() {
        let run = steps(&["--max_train_epochs=10"], 5);
        assert_eq!(run.save_every_n_epochs(&Options::of(&["--save_n_epoch_ratio=4"])), Some(2));
        assert_eq!(run.save_every_n_epochs(&Options::of(&["--save_n_epoch_ratio=40"])), Some(1));
        assert_eq!(run.save_every_n_epochs(&Options::of(&["--save_every_n_epochs=3"])), Some(3));
        assert_eq!(run.save_every_n_epochs(&Options::of(&["--save_every_n_epochs=0"])), None);
    }

    #[test]
    fn what_no_run_can_be_is_an_error() {
        for arguments in
            ["--max_train_epochs=99999999999999999", "--max_train_steps=99999999999999", "--max_train_steps=99999999"]
        {
            assert!(Steps::new(&Options::of(&[arguments]), 1).is_err(), "{arguments}");
        }
        assert!(Steps::new(&Options::of(&["--max_train_steps=99999999"]), 100).is_ok());
    }

    #[test]
    fn nothing_to_do_is_an_error() {
        for arguments in [["--max_train_epochs=0"], ["--max_train_steps=0"], ["--gradient_accumulation_steps=0"]] {
            assert!(Steps::new(&Options::of(&arguments), 5).is_err(), "{arguments:?}");
        }
    }
}
