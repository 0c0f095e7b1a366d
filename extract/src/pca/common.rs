//! One basis for all sets and images of a layer, so that the same color means the same in all of them.

use std::collections::BTreeMap;

use anyhow::Result;
use driftless::vision::Rgb;
use features::projection::{Basis, COMPONENTS, NoComponents, Positions, colored};
use features::stores::{LayerNames, Source};

use super::NotDrawn;
use super::pieces::{Cuts, Piece};

/// Layer, piece of it, and channels.
type Key = (String, String, usize);

/// The bases of all layers.
pub struct Bases {
    layers: LayerNames,
    bases: BTreeMap<Key, Basis>,
}

fn key(layers: &LayerNames, source: &Source, piece: &Piece) -> Key {
    (source.layer(layers).unwrap_or_default(), piece.name.clone(), piece.feature.shape[0])
}

impl Bases {
    /// Reads all features once. Memory holds one of them, and the squared channels of every layer.
    pub fn fit(sources: &[Source], cuts: &Cuts) -> Result<Self> {
        let layers = LayerNames::of_stable_diffusion();
        let mut all: BTreeMap<Key, Positions> = BTreeMap::new();
        for source in sources {
            for piece in cuts.cut(&source.read()?.feature)? {
                let [channels, height, width] = piece.feature.shape;
                let positions = all.entry(key(&layers, source, &piece)).or_insert_with(|| Positions::new(channels));
                let added = positions.add(&piece.feature.values, channels, height * width);
                added.map_err(|fault| NotDrawn { name: source.name.clone(), fault: Box::new(fault) })?;
            }
        }
        let basis = |(key, positions): (Key, Positions)| {
            let basis = positions.basis(COMPONENTS);
            let named = |fault| NotDrawn { name: format!("{} {}", key.0, key.1).trim().to_owned(), fault: Box::new(fault) };
            Ok((key.clone(), basis.map_err(named)?))
        };
        let bases = all.into_iter().map(basis).collect::<Result<_, NotDrawn>>()?;
        Ok(Self { layers, bases })
    }

    /// A piece in its layer's basis; `None` where the layer was not among those that the bases were made of.
    pub fn draw(&self, source: &Source, piece: &Piece) -> Option<Result<Rgb, NoComponents>> {
        Some(colored(&piece.feature, self.bases.get(&key(&self.layers, source, piece))?))
    }
}

#[cfg(test)]
mod tests {
    use features::stores::Feature;

    use super::*;

    #[test]
    fn equal_positions_of_two_features_have_one_color() {
        let feature = |values: &[f32]| Feature { shape: [3, 1, 3], values: values.to_vec() };
        let (a, b) = (feature(&[1., 2., 3., 0., 1., 0., 5., 5., 4.]), feature(&[3., 9., 1., 0., 1., 0., 4., 2., 5.]));
        let mut all = Positions::new(3);
        [&a, &b].into_iter().for_each(|feature| all.add(&feature.values, 3, 3).unwrap());
        let basis = all.basis(3).unwrap();
        let (a, b) = (colored(&a, &basis).unwrap(), colored(&b, &basis).unwrap());
        // The position (3, 0, 4) is the last of the first and the first of the second; (1, 0, 5) the first and the last.
        assert_eq!(a.pixels[6..], b.pixels[..3]);
        assert_eq!(a.pixels[..3], b.pixels[6..]);
        assert_ne!(a.pixels[..3], a.pixels[3..6]);
    }
}
