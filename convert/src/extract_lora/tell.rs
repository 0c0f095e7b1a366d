//! The report on an extraction, block by block.

use super::layer::Outcome;
use crate::args::{ExtractOptions, RankChoice};
use crate::plain::percent;
use driftless::adapter::files::Network;
use driftless_cli::Console;
use std::collections::BTreeMap;

/// Prints a line per block, the whole, and what speaks against the result.
pub fn tell(outcomes: &[Outcome], others: usize, options: &ExtractOptions, console: &Console) {
    let mut blocks: BTreeMap<(Network, &str), Vec<&Outcome>> = BTreeMap::new();
    for outcome in outcomes {
        blocks.entry((outcome.network, block(&outcome.path))).or_default().push(outcome);
    }
    for ((network, name), layers) in &blocks {
        console.result(format!("{network}.{name}: {}", describe(layers)));
    }
    for outcome in outcomes.iter().filter(|outcome| outcome.adapter.is_some()) {
        console.detail(|| format!("{}.{}: {}", outcome.network, outcome.path, describe(&[outcome])));
    }
    let all: Vec<&Outcome> = outcomes.iter().collect();
    console.result(format!("together: {}", describe(&all)));
    if let RankChoice::Fixed(rank) = options.rank {
        let cut = outcomes.iter().filter(|outcome| outcome.goes_on).count();
        if cut > 0 {
            let advice = "the true rank is higher, or the difference is no LoRA; --rank auto finds out";
            console.warn(format!("in {cut} layers the difference goes on beyond rank {rank}: {advice}"));
        }
    }
    if others > 0 {
        let what = "biases, norms or embeddings, which LoRA cannot change, differ beyond rounding too";
        console.warn(format!("{others} {what}; is this the model that it was tuned from?"));
    }
}

/// The part of a path that names a block: `down_blocks.0`, `text_model.encoder.layers.3`.
fn block(path: &str) -> &str {
    let end = path.match_indices('.').map(|(at, _)| at).find(|at| {
        let previous = path[..*at].rsplit('.').next().unwrap_or_default();
        previous.bytes().all(|byte| byte.is_ascii_digit()) || previous == "mid_block" || previous == "time_embedding"
    });
    &path[..end.unwrap_or(path.len())]
}

/// Layers, ranks, and how much of the difference they hold.
fn describe(layers: &[&Outcome]) -> String {
    let ranks: Vec<usize> = layers.iter().filter_map(|layer| layer.adapter.as_ref()?.factors.rank()).collect();
    let Some((least, most)) = ranks.iter().min().zip(ranks.iter().max()) else {
        return format!("{} layers, unchanged but for rounding", layers.len());
    };
    let changed = || layers.iter().filter(|layer| layer.adapter.is_some());
    let energy: f64 = changed().map(|layer| layer.energy).sum();
    let left_out: f64 = changed().map(|layer| layer.left_out).sum();
    let rounding: f64 = changed().map(|layer| layer.rounding.min(layer.energy)).sum();
    let rank = if least == most { format!("rank {least}") } else { format!("rank {least} to {most}") };
    let unchanged = layers.len() - ranks.len();
    let unchanged = if unchanged > 0 { format!(", {unchanged} unchanged") } else { String::new() };
    format!(
        "{} layers{unchanged}, {rank}, {} of the squared difference held, {} is rounding",
        ranks.len(),
        percent((1.0 - left_out / energy).max(0.0)),
        percent(rounding / energy)
    )
}

#[cfg(test)]
mod tests {
    use super::block;

    #[test]
    fn blocks_by_path() {
        for (path, expected) in [
            ("down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q", "down_blocks.0"),
            ("mid_block.resnets.0.conv1", "mid_block"),
            ("time_embedding.linear_1", "time_embedding"),
            ("conv_in", "conv_in"),
            ("text_model.encoder.layers.11.mlp.fc1", "text_model.encoder.layers.11"),
        ] {
            assert_eq!(block(path), expected);
        }
    }
}
