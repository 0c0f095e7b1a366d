//! The moving average of the loss: over the batches so far in the first epoch, then over a window of one epoch.
//!
//! Mirrors `train_util.LossRecorder` of sd-scripts 48d368f. Deliberate difference: the sum is taken anew each time, so rounding does not
//! gather over a long run.

/// Losses of the last epoch's worth of batches.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LossAverage {
    losses: Vec<f32>,
}

impl LossAverage {
    /// Goes on from what [`LossAverage::losses`] gave.
    pub fn from_losses(losses: Vec<f32>) -> Self {
        Self { losses }
    }

    /// The losses by batch of the epoch.
    pub fn losses(&self) -> &[f32] {
        &self.losses
    }

    /// Takes in the loss of the batch numbered `batch` of an epoch.
    pub fn add(&mut self, batch: usize, loss: f32) {
        match self.losses.get_mut(batch) {
            Some(old) => *old = loss,
            None => self.losses.push(loss),
        }
    }

    /// The average; 0 before the first batch.
    pub fn average(&self) -> f64 {
        self.losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / self.losses.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_one_epoch() {
        let mut average = LossAverage::default();
        assert_eq!(average.average(), 0.0);
        for (batch, loss) in [1.0, 2.0, 6.0].into_iter().enumerate() {
            average.add(batch, loss);
        }
        assert_eq!(average.average(), 3.0);
        average.add(0, 4.0);
        assert_eq!(average.average(), 4.0);
        assert_eq!(LossAverage::from_losses(average.losses().to_vec()), average);
    }
}
