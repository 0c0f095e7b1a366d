//! Sets that ask the network for the same and keep different parts of it: they share one pass.

use driftless::taps::{LayerId, TapPlan};
use driftless::unet::UnetConfig;

use crate::plan::{Fault, RunPlan};
use crate::shapes::LATENT;

use super::Selection;

/// One computation of the network, and the sets that take something out of it.
#[derive(Debug)]
pub struct Pass {
    /// Numbers of the sets. Any of them says what to compute.
    pub sets: Vec<usize>,
    /// What is kept for all of them together.
    pub taps: TapPlan,
    /// The same as ids, in the order of the store.
    pub layers: Vec<LayerId>,
}

impl Pass {
    /// Whether the image after one scheduler step is wanted.
    pub fn vae_out(&self) -> bool {
        self.layers.contains(&LayerId::VaeOut)
    }
}

/// The passes of the sets that one model computes. They do not depend on what is missing, so that a file's bytes do not either.
///
/// # Errors
/// When attention has no maps, which was checked for every set before.
pub fn passes(sets: &[usize], plan: &RunPlan, selections: &[Selection], config: &UnetConfig) -> Result<Vec<Pass>, Fault> {
    let mut grouped: Vec<Vec<usize>> = Vec::new();
    for &set in sets {
        let shares = |group: &&mut Vec<usize>| group.iter().all(|other| plan.sets[*other].shares_pass_with(&plan.sets[set]));
        match grouped.iter_mut().find(shares) {
            Some(group) => group.push(set),
            None => grouped.push(vec![set]),
        }
    }
    let layout = config.layout();
    let side = plan.img_size / LATENT;
    let pass = |sets: Vec<usize>| {
        let wanted = |id: &LayerId| sets.iter().any(|set| selections[*set].layers.contains(id));
        let store = layout.ids().into_iter().chain([LayerId::VaeOut, LayerId::Attn]);
        let layers: Vec<LayerId> = store.filter(wanted).collect();
        let attention = sets.iter().map(|set| &plan.sets[*set].attention).find(|attention| !attention.is_empty());
        let attention = attention.map_or(&[][..], Vec::as_slice);
        let taps = TapPlan::new(&layout, layers.iter().copied(), attention, (side, side));
        Ok(Pass { taps: taps.map_err(|error| Fault::failure(error.to_string()))?, layers, sets })
    };
    grouped.into_iter().map(pass).collect()
}
