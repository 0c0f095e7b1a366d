//! The timestep of a set, as its settings mean it; checked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use driftless::adapter::files::clean_timestep;

use crate::fault::{Fault, Faults, SetFault};
use crate::inputs::Sample;
use crate::options::SetSettings;
use crate::set::{Finite, LayerChoice, Noising, Timestep};

/// The timestep of a set. `None` after a fault.
pub(super) fn timestep(set: &SetSettings, context: &str, samples: &[Sample], faults: &mut Faults) -> Option<Timestep> {
    let wrong = |fault: SetFault| Fault::usage(fault).of(context);
    match set.noise.unwrap_or_default() {
        Noising::Added => {
            let found = set.t.or_else(|| {
                faults.push(wrong(SetFault::NoTimestep));
                None
            })?;
            let t = found.get();
            let is_level = t.fract() == 0.0 && (0.0..=Timestep::LAST as f64).contains(&t);
            faults.require(is_level, || wrong(SetFault::Timestep { found: t }));
            // In range, so the conversion is exact.
            is_level.then_some(Timestep::Noised(t as usize))
        }
        Noising::None => {
            faults.require(set.denoising_from.is_none(), || wrong(SetFault::CleanWith { option: "denoising_from" }));
            faults.require(!set.use_ddim_inversion, || wrong(SetFault::CleanWith { option: "use_ddim_inversion" }));
            let draws = set.ensemble.unwrap_or(1);
            faults.require(draws <= 1, || wrong(SetFault::CleanEnsemble { draws }));
            let t = match set.t {
                Some(t) => t,
                None => faults.keep(learned(set, samples).map_err(|fault| fault.of(context)))?,
            };
            let found = t.get();
            faults.require((0.0..=Timestep::LAST as f64).contains(&found), || wrong(SetFault::CleanTimestep { found }));
            Some(Timestep::Clean(t))
        }
    }
}

/// Clean latents have no image after one step of denoising.
pub(super) fn check_layers(set: &SetSettings, layers: &LayerChoice) -> Result<(), SetFault> {
    let is_clean = set.noise.unwrap_or_default() == Noising::None;
    match layers {
        LayerChoice::Listed { ids, .. } if is_clean && ids.iter().any(|(id, wanted)| *wanted && id == "vae-out") => {
            Err(SetFault::CleanVaeOut)
        }
        LayerChoice::Listed { .. } | LayerChoice::Everything => Ok(()),
    }
}

/// The timestep that the set's adapters were trained to be told for clean latents.
fn learned(set: &SetSettings, samples: &[Sample]) -> Result<Finite, Fault> {
    let mut found: BTreeMap<u64, (Finite, PathBuf)> = BTreeMap::new();
    for lora in &set.lora {
        // One adapter for all images has no folder in its name, and is looked at once.
        let mut files: Vec<PathBuf> =
            samples.iter().filter_map(|sample| lora.of_folder(sample).ok()).map(|lora| lora.file).collect();
        files.sort();
        files.dedup();
        // Where one is missing, that has been told.
        for file in files.into_iter().filter(|file| file.exists()) {
            if let Some(t) = clean_timestep(&file).map_err(Fault::failure)?.and_then(Finite::new) {
                found.entry(t.get().to_bits()).or_insert((t, file));
            }
        }
    }
    let mut found = found.into_values();
    match (found.next(), found.next()) {
        (Some((t, _)), None) => Ok(t),
        (None, _) => Err(Fault::usage(SetFault::NoCleanTimestep)),
        (Some((first, one)), Some((second, other))) => {
            Err(Fault::usage(SetFault::SeveralCleanTimesteps { found: [first.get(), second.get()], files: [one, other] }))
        }
    }
}
