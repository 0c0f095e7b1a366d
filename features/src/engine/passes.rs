//! Sets that ask the network for the same and keep different parts of it: they share one pass.

use driftless::taps::{AttentionCategory, LayerId, TapPlan};
use driftless::unet::UnetConfig;

use super::Selection;
use super::selection::pass_sizes;
use crate::fault::Fault;
use crate::ids::IdMap;
use crate::plan::RunPlan;
use crate::set::{FeatureSet, PassKey};
use crate::set::{ModelId, SetId};

/// One computation of the network, and the sets that take something out of it.
#[derive(Debug)]
pub struct Pass<'a> {
    /// What is computed.
    pub key: &'a PassKey,
    /// The first of the sets.
    pub first: SetId,
    /// All of them.
    pub sets: Vec<SetId>,
    /// What is kept for all of them together.
    pub taps: TapPlan,
    /// The same as ids, in the order of the store.
    pub layers: Vec<LayerId>,
}

impl Pass<'_> {
    /// Whether the image after one scheduler step is wanted.
    pub fn vae_out(&self) -> bool {
        self.layers.contains(&LayerId::VaeOut)
    }
}

/// Sets of one key. Attention maps are aggregated while the network runs, so that a pass has room for one list of categories.
struct Group<'a> {
    key: &'a PassKey,
    attention: &'a [AttentionCategory],
    first: SetId,
    sets: Vec<SetId>,
}

impl<'a> Group<'a> {
    fn takes(&self, set: &FeatureSet) -> bool {
        let attention = &set.keep.attention;
        let agrees = attention.is_empty() || self.attention.is_empty() || self.attention == attention;
        *self.key == set.pass && agrees
    }

    fn add(&mut self, id: SetId, set: &'a FeatureSet) {
        if self.attention.is_empty() {
            self.attention = &set.keep.attention;
        }
        self.sets.push(id);
    }
}

/// The passes of the sets that one model computes. They do not depend on what is missing, so that a file's bytes do not either.
///
/// # Errors
/// When attention has no maps, which was checked for every set before.
pub fn passes<'a>(
    model: ModelId,
    plan: &'a RunPlan,
    selections: &IdMap<FeatureSet, Selection>,
    config: &UnetConfig,
) -> Result<Vec<Pass<'a>>, Fault> {
    let mut groups: Vec<Group> = Vec::new();
    for (id, set) in plan.sets.iter().filter(|(_, set)| set.pass.model == model) {
        match groups.iter_mut().find(|group| group.takes(set)) {
            Some(group) => group.add(id, set),
            None => groups.push(Group { key: &set.pass, attention: &set.keep.attention, first: id, sets: vec![id] }),
        }
    }
    let layout = config.layout();
    let latents = pass_sizes(plan.img_size).latents;
    let pass = |Group { key, attention, first, sets }| {
        let sets: Vec<SetId> = sets;
        let wanted = |id: &LayerId| sets.iter().any(|set| selections[*set].layers.contains(id));
        let store = layout.ids().into_iter().chain([LayerId::VaeOut, LayerId::Attn]);
        let layers: Vec<LayerId> = store.filter(wanted).collect();
        let taps = TapPlan::new(&layout, layers.iter().copied(), attention, latents);
        Ok(Pass { key, first, sets, taps: taps.map_err(Fault::failure)?, layers })
    };
    groups.into_iter().map(pass).collect()
}
