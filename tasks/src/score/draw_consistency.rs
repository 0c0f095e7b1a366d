//! How little features change from draw to draw of the noise.

use features::stores::Feature;

use super::{ScoreFault, same_shape};

/// `1 - within / total`: `within` is the variance between draws (unbiased, mean over positions), `total` the mean squared distance of all
/// positions in all draws from their common mean; both summed over channels. 1 means that nothing is invented anew per draw; also where
/// nothing varies at all. Its range is (-inf, 1].
///
/// # Errors
/// When there are fewer than two draws, or their shapes differ.
pub fn draw_consistency(draws: &[&Feature]) -> Result<f64, ScoreFault> {
    let [first, others @ ..] = draws else { return Err(ScoreFault::OneDraw { found: 0 }) };
    if others.is_empty() {
        return Err(ScoreFault::OneDraw { found: 1 });
    }
    others.iter().try_for_each(|other| same_shape(first, other))?;
    let [channels, height, width] = first.shape;
    let (count, positions) = (draws.len() as f64, height * width);
    let (mut within, mut total) = (0.0, 0.0);
    for channel in 0..channels {
        let of = |draw: &Feature, position: usize| f64::from(draw.values[channel * positions + position]);
        let sum = |position: usize| draws.iter().map(|draw| of(draw, position)).sum::<f64>();
        let mean = (0..positions).map(sum).sum::<f64>() / (count * positions as f64);
        for position in 0..positions {
            let mean_of_draws = sum(position) / count;
            for draw in draws {
                let value = of(draw, position);
                within += (value - mean_of_draws).powi(2);
                total += (value - mean).powi(2);
            }
        }
    }
    // Both are divided by the positions; the one by a draw less than there are.
    let (within, total) = (within / (count - 1.0), total / count);
    Ok(if within == 0.0 { 1.0 } else { 1.0 - within / total })
}
