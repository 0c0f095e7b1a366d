//! Sets times timesteps, as the sets of one run: what two sets have in common at a timestep is computed once, as between all sets of a run.

use features::engine::Run;
use features::fault::Fault;
use features::ids::IdMap;
use features::plan::RunPlan;
use features::set::{FeatureSet, PassKey, SetId, Timestep};

use super::settings::{ShiftFault, ShiftSettings};

/// A set at a timestep.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    /// The set's position among the names.
    pub set: usize,
    /// Where it is taken.
    pub t: Timestep,
    /// What it is in the run.
    pub id: SetId,
}

/// All of them.
#[derive(Debug)]
pub struct Levels {
    /// The sets' names, in the order of the file.
    pub names: Vec<String>,
    /// Sets at timesteps: timestep by timestep, and of each the reference's set first.
    pub all: Vec<Level>,
    /// What the others are compared with: the reference's set at t = 0.
    pub reference: SetId,
    /// The reference's set.
    pub reference_set: usize,
}

impl Levels {
    /// Puts sets at timesteps in the place of a plan's sets.
    pub fn of(plan: &mut RunPlan, settings: &ShiftSettings) -> Result<Self, Fault> {
        if let Some(fusion) = plan.fusions.values().next() {
            return Err(Fault::failure(ShiftFault::Fused { set: fusion.name.clone() }));
        }
        let sets: Vec<FeatureSet> = plan.sets.values().cloned().collect();
        let names: Vec<String> = sets.iter().map(|set| set.name.clone().unwrap_or_default()).collect();
        let reference_set = match &settings.reference {
            None => 0,
            Some(name) => names
                .iter()
                .position(|known| known == name)
                .ok_or_else(|| Fault::usage(ShiftFault::Reference { found: name.clone(), known: names.clone() }))?,
        };
        check_equal(&sets, &names)?;
        let mut expanded = IdMap::new();
        let reference = expanded.push(at_zero(&sets[reference_set]));
        let mut order: Vec<usize> = (0..sets.len()).collect();
        order.sort_by_key(|set| *set != reference_set);
        let mut all = Vec::new();
        for &timestep in &settings.timesteps {
            for &set in order.iter().filter(|set| !sets[**set].pass.t.is_clean()) {
                let level = at(&sets[set], timestep);
                all.push(Level { set, t: level.pass.t, id: expanded.push(level) });
            }
        }
        for &set in order.iter().filter(|set| sets[**set].pass.t.is_clean()) {
            let level = sets[set].clone();
            all.push(Level { set, t: level.pass.t, id: expanded.push(level) });
        }
        plan.sets = expanded;
        Ok(Self { names, all, reference, reference_set })
    }

    /// Refuses sets that turn out to have different layers.
    pub fn check_layers(&self, run: &Run) -> Result<(), Fault> {
        let layers = run.layers_of(self.reference);
        match self.all.iter().find(|level| run.layers_of(level.id) != layers) {
            None => Ok(()),
            Some(other) => Err(unequal([self.reference_set, other.set], &self.names, "layers")),
        }
    }

    /// The level of a set of the run; `None` for the reference.
    pub fn level(&self, id: SetId) -> Option<Level> {
        self.all.iter().copied().find(|level| level.id == id)
    }
}

/// What is kept of each has to be the same, as far as it is known before the models are.
fn check_equal(sets: &[FeatureSet], names: &[String]) -> Result<(), Fault> {
    for (number, set) in sets.iter().enumerate().skip(1) {
        let difference = match () {
            () if set.keep.feature_resize != sets[0].keep.feature_resize => "feature_resize",
            () if set.keep.attention != sets[0].keep.attention => "attention",
            () => continue,
        };
        return Err(unequal([0, number], names, difference));
    }
    Ok(())
}

fn unequal(sets: [usize; 2], names: &[String], difference: &'static str) -> Fault {
    Fault::failure(ShiftFault::Unequal { sets: sets.map(|set| names[set].clone()), difference })
}

/// A set at another timestep. Where it denoises first, it begins as far above as before.
fn at(set: &FeatureSet, timestep: usize) -> FeatureSet {
    let denoising_from = match (set.pass.t, set.pass.denoising_from) {
        (Timestep::Noised(t), Some(from)) => Some((from + timestep).saturating_sub(t).clamp(1, Timestep::LAST)),
        (Timestep::Noised(_) | Timestep::Clean(_), from) => from,
    };
    let pass = PassKey { t: Timestep::Noised(timestep), denoising_from, ..set.pass.clone() };
    // No set's own name has a slash.
    FeatureSet { name: set.name.as_ref().map(|name| format!("{name}/{timestep}")), pass, keep: set.keep.clone() }
}

fn at_zero(set: &FeatureSet) -> FeatureSet {
    let t = match set.pass.t {
        Timestep::Noised(_) => Timestep::Noised(0),
        Timestep::Clean(_) => Timestep::Clean(0.into()),
    };
    let pass = PassKey { t, denoising_from: None, ..set.pass.clone() };
    FeatureSet { name: Some("/reference".to_owned()), pass, keep: set.keep.clone() }
}
