//! `--fit`: one basis for each layer of all inputs, on which `extract --pca` projects features.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use driftless::taps::{LayerId, Layout};
use driftless_cli::Console;
use features::projection::{Basis, Positions, has_basis, write_bases};
use features::stores::{LayerNames, Source};

use super::NotDrawn;

/// What no basis can be made of.
#[derive(Debug, thiserror::Error)]
enum NotFitted {
    #[error(
        "{}: neither the file's name nor its folders have a layer's id; a basis is made for a layer at a time, so extract without \
         --aggregate_output",
        path.display()
    )]
    NoLayer { path: PathBuf },
    #[error("--fit: the inputs hold attention or `vae-out` alone ({found}), which have no basis")]
    Nothing { found: String },
}

/// Reads all features once and writes a basis per layer, of at most `most` components. Memory holds one of them, and the squared channels
/// of every layer.
///
/// # Errors
/// When a feature is of no layer, two of a layer have other channels, or the file cannot be written.
pub fn fit(sources: &[Source], place: &Path, most: usize, console: &Console) -> Result<()> {
    let names = LayerNames::of_stable_diffusion();
    let layout = Layout::stable_diffusion_1_5();
    let mut all: BTreeMap<String, (Positions, usize)> = BTreeMap::new();
    let mut without: BTreeSet<String> = BTreeSet::new();
    for source in sources {
        let layer = source.layer(&names).ok_or_else(|| NotFitted::NoLayer { path: source.path().to_owned() })?;
        let id: LayerId = layout.parse(&layer)?;
        if !has_basis(id) {
            without.insert(layer);
            continue;
        }
        let feature = source.read()?.feature;
        let [channels, height, width] = feature.shape;
        let (positions, features) = all.entry(layer).or_insert_with(|| (Positions::new(channels), 0));
        let added = positions.add(&feature.values, channels, height * width);
        added.map_err(|fault| NotDrawn { name: format!("{}/{}", source.set, source.name), fault: Box::new(fault) })?;
        *features += 1;
    }
    let without = without.into_iter().collect::<Vec<_>>().join(", ");
    if all.is_empty() {
        return Err(NotFitted::Nothing { found: without }.into());
    }
    if !without.is_empty() {
        console.info(format!("without a basis, as attention and `vae-out` have none: {without}"));
    }
    let mut bases = BTreeMap::new();
    for (layer, (positions, features)) in all {
        let basis = positions.directions(most).map_err(|fault| NotDrawn { name: layer.clone(), fault: Box::new(fault) })?;
        console.info(told(&layer, &basis, features));
        bases.insert(layer, basis);
    }
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("--fit {}", place.display()))?;
    }
    write_bases(place, &bases)?;
    let layers =
        if bases.len() == 1 { "the basis of 1 layer".to_owned() } else { format!("the bases of {} layers", bases.len()) };
    console.info(format!("{layers} written to {}", place.display()));
    Ok(())
}

/// What a basis holds, by which `--pca-dims` is chosen.
fn told(layer: &str, basis: &Basis, features: usize) -> String {
    let share = |sum: &mut f64, variance: &f64| {
        *sum += variance;
        Some(*sum / basis.total_variance)
    };
    let sums: Vec<f64> = basis.variance.iter().scan(0.0, share).collect();
    let needed = |share: f64| sums.iter().position(|sum| *sum >= share).map(|place| place + 1);
    let parts = [0.9, 0.99].map(|share| match needed(share) {
        Some(components) => format!("{:.0} % in {components}", 100.0 * share),
        None => format!("{:.0} % in more", 100.0 * share),
    });
    let (components, channels) = (basis.axes.len(), basis.mean.len());
    let held = 100.0 * sums.last().copied().unwrap_or(0.0);
    format!(
        "{layer}: {components} components of {channels} channels hold {held:.1} % of the variance of {features} features ({})",
        parts.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_basis_holds_is_told() {
        let mut positions = Positions::new(3);
        let values = [1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.5, -0.5, 0.0, 0.0, 0.0, 0.0];
        positions.add(&values, 3, 4).unwrap();
        let text = told("mid-vit-out", &positions.directions(256).unwrap(), 1);
        assert!(
            text.starts_with("mid-vit-out: 2 components of 3 channels hold 100.0 %") && text.contains("(90 % in 2, 99 % in 2)"),
            "{text}"
        );
        let text = told("mid-vit-out", &positions.directions(1).unwrap(), 1);
        assert!(text.contains("hold 80.0 %") && text.contains("90 % in more, 99 % in more"), "{text}");
    }
}
