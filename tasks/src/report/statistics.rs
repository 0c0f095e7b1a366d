//! Scores, and what is said of a set by one of them: a mean with its standard error.

/// A number that features get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    /// Its name.
    pub name: String,
    /// Its unit or range, in words: `1 = nothing invented`.
    pub unit: String,
    /// Which direction is good.
    pub better: Better,
}

/// Which direction of a score is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Larger numbers.
    Higher,
    /// Smaller numbers.
    Lower,
    /// Neither: the number only describes.
    Neither,
}

impl Better {
    /// In words; `None` where there is nothing to say.
    pub(super) fn words(self) -> Option<&'static str> {
        match self {
            Self::Higher => Some("higher is better"),
            Self::Lower => Some("lower is better"),
            Self::Neither => None,
        }
    }
}

/// The mean of some numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Its standard error: the standard deviation of a sample of `count` over the root of `count`. `None` for a single number.
    pub error: Option<f64>,
    /// How many numbers.
    pub count: usize,
}

impl Mean {
    /// The mean of numbers; `None` without any.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let error = (count > 1).then(|| (squares / (count - 1) as f64 / count as f64).sqrt());
        (count > 0).then_some(Self { mean, error, count })
    }
}

/// The position of the best of some means, if its difference to the next exceeds both standard errors combined (the root of the sum of
/// their squares). Nothing is best where a number to compare with is missing, or either of the two has no error.
pub(super) fn best(means: &[Option<Mean>], better: Better) -> Option<usize> {
    let sign = match better {
        Better::Higher => 1.0,
        Better::Lower => -1.0,
        Better::Neither => return None,
    };
    let known = means.iter().enumerate().filter_map(|(position, mean)| Some((position, (*mean)?)));
    let mut ranked: Vec<(usize, Mean)> = known.filter(|(_, mean)| mean.mean.is_finite()).collect();
    ranked.sort_by(|(_, a), (_, b)| (sign * b.mean).total_cmp(&(sign * a.mean)));
    let [(first, best), (_, next), ..] = ranked.as_slice() else { return None };
    let error = best.error?.hypot(next.error?);
    ((best.mean - next.mean).abs() > error).then_some(*first)
}

/// Decimals that show the smallest of the errors with one digit, one to four; three where there are no errors.
pub(super) fn decimals<'a>(means: impl Iterator<Item = &'a Mean>) -> usize {
    let errors = means.filter_map(|mean| mean.error).filter(|error| error.is_finite() && *error > 0.0);
    let smallest = errors.fold(f64::INFINITY, f64::min);
    if smallest.is_infinite() {
        return 3;
    }
    // The cast saturates, and the range is small.
    (-smallest.log10().floor()).clamp(1.0, 4.0) as usize
}

/// A number with a true minus sign.
pub(super) fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let is_zero = text.chars().all(|letter| matches!(letter, '-' | '0' | '.'));
    if is_zero { text.trim_start_matches('-').to_owned() } else { text.replace('-', "\u{2212}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(mean: f64, error: f64) -> Option<Mean> {
        Some(Mean { mean, error: Some(error), count: 9 })
    }

    #[test]
    fn means_and_standard_errors() {
        let found = Mean::of(&[1.0, 2.0, 3.0, 6.0]).unwrap();
        // By hand: squares 4 + 1 + 0 + 9 = 14; 14 / 3 / 4.
        assert_eq!((found.mean, found.count), (3.0, 4));
        assert!((found.error.unwrap() - (14.0_f64 / 12.0).sqrt()).abs() < 1e-15);
        assert_eq!(Mean::of(&[5.0]).unwrap(), Mean { mean: 5.0, error: None, count: 1 });
        assert_eq!(Mean::of(&[]), None);
    }

    #[test]
    fn the_best_is_marked_only_beyond_the_errors() {
        assert_eq!(best(&[mean(0.9, 0.03), mean(0.8, 0.04), mean(0.1, 0.5)], Better::Higher), Some(0));
        // The combined error is 0.05 exactly.
        assert_eq!(best(&[mean(0.25, 0.03), mean(0.5, 0.4), mean(0.75, 0.3)], Better::Higher), None);
        assert_eq!(best(&[mean(0.9, 0.1), mean(0.8, 0.1)], Better::Higher), None);
        assert_eq!(best(&[mean(2.0, 0.1), mean(1.0, 0.1)], Better::Lower), Some(1));
        assert_eq!(best(&[mean(2.0, 0.1), mean(1.0, 0.1)], Better::Neither), None);
        assert_eq!(best(&[mean(2.0, 0.1), None], Better::Higher), None);
        assert_eq!(best(&[mean(2.0, 0.1), mean(f64::NAN, 0.1)], Better::Higher), None);
        assert_eq!(best(&[mean(2.0, 0.1), Mean::of(&[1.0])], Better::Higher), None);
    }

    #[test]
    fn numbers_as_they_are_written() {
        assert_eq!(decimals([mean(0.9, 0.0042).unwrap(), mean(0.9, 0.02).unwrap()].iter()), 3);
        assert_eq!(decimals([mean(90.0, 1.5).unwrap()].iter()), 1);
        assert_eq!(decimals([Mean::of(&[1.0]).unwrap()].iter()), 3);
        assert_eq!(number(-0.125, 2), "\u{2212}0.12");
        assert_eq!(number(-0.001, 2), "0.00");
    }
}
