//! Axes: round numbers that cover what is to be drawn.

/// An axis from its first tick to its last.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// Where ticks stand, rising.
    pub ticks: Vec<f64>,
    /// Decimals that tell the ticks apart.
    pub decimals: usize,
    low: f64,
    high: f64,
}

impl Axis {
    /// Some `count` ticks at multiples of 1, 2 or 5 times a power of ten, the first and last around all values. Without a finite value:
    /// from 0 to 1.
    pub fn around(values: impl Iterator<Item = f64>, count: usize) -> Self {
        let (low, high) = extent(values).unwrap_or((0.0, 1.0));
        // Equal values get room above and below.
        let (low, high) =
            if high > low { (low, high) } else { (low - 0.5 * low.abs().max(1e-3), high + 0.5 * high.abs().max(1e-3)) };
        let step = round_step((high - low) / count.max(1) as f64);
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        let ticks: Vec<f64> = (0..=(last - first) as usize).map(|number| (first + number as f64) * step).collect();
        // The cast saturates.
        Self { decimals: (-step.log10().floor()).max(0.0) as usize, low: first * step, high: last * step, ticks }
    }

    /// A tick at each value, where these are few; round ticks else. Room is left on both sides.
    pub fn at(values: impl Iterator<Item = f64> + Clone, most: usize) -> Self {
        let mut ticks: Vec<f64> = values.clone().filter(|value| value.is_finite()).collect();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        let (Some(first), Some(last)) = (ticks.first().copied(), ticks.last().copied()) else {
            return Self::around(values, most);
        };
        let width = if last > first { last - first } else { first.abs().max(1.0) };
        let are_apart = ticks.windows(2).all(|pair| pair[1] - pair[0] >= 0.08 * width);
        if ticks.len() > most || !are_apart {
            return Self::around(values, most);
        }
        let decimals = usize::from(ticks.iter().any(|tick| tick.fract() != 0.0));
        Self { ticks, decimals, low: first - 0.06 * width, high: last + 0.06 * width }
    }

    /// A value's position along the axis, 0 to 1.
    pub fn position(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

/// Least and largest of the finite values.
fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.filter(|value| value.is_finite());
    finite.fold(None, |extent, value| {
        extent.map_or(Some((value, value)), |(low, high)| Some((f64::min(low, value), f64::max(high, value))))
    })
}

/// The next of 1, 2 or 5 times a power of ten.
fn round_step(least: f64) -> f64 {
    let power = 10.0_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_ticks_around_the_values() {
        let axis = Axis::around([0.42, 0.97, f64::NAN].into_iter(), 5);
        assert_eq!(axis.decimals, 1);
        let expected = [0.4, 0.6, 0.8, 1.0];
        assert!(axis.ticks.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12) && axis.ticks.len() == 4, "{axis:?}");
        assert!((axis.position(0.7) - 0.5).abs() < 1e-12);
        let ends = Axis::around([0.0, 1.0].into_iter(), 5);
        assert_eq!((ends.ticks.first(), ends.ticks.last(), ends.ticks.len()), (Some(&0.0), Some(&1.0), 6));
    }

    #[test]
    fn equal_missing_and_negative_values() {
        for values in [vec![], vec![3.0], vec![0.0, 0.0], vec![f64::INFINITY], vec![-5.0, -1e-3], vec![1e9, 1e9 + 1.0]] {
            let axis = Axis::around(values.iter().copied(), 5);
            assert!(axis.ticks.len() >= 2 && axis.ticks.len() < 12, "{values:?}: {axis:?}");
            let inside = values.iter().filter(|value| value.is_finite()).map(|value| axis.position(*value));
            assert!(inside.into_iter().all(|position| (-1e-6..=1.0 + 1e-6).contains(&position)), "{values:?}: {axis:?}");
        }
    }

    #[test]
    fn few_values_are_their_own_ticks() {
        let axis = Axis::at([261.0, 50.0, 500.0, 50.0].into_iter(), 6);
        assert_eq!((axis.ticks.clone(), axis.decimals), (vec![50.0, 261.0, 500.0], 0));
        assert!(axis.position(50.0) > 0.0 && axis.position(500.0) < 1.0);
        assert_eq!(Axis::at([0.0, 1.0, 500.0].into_iter(), 6).ticks, [0.0, 100.0, 200.0, 300.0, 400.0, 500.0]);
        assert_eq!(Axis::at([50.0].into_iter(), 6).position(50.0), 0.5);
    }
}
