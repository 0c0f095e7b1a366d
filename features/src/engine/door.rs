//! The run at its output's door: what it is is compared with what is there before gigabytes are read, and the folder is taken when they have
//! been, so that a run that cannot begin leaves nothing behind and removes nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use driftless::controlnet::ControlNet;
use driftless::taps::LayerId;
use serde_json::json;

use super::Run;
use crate::ids::IdMap;
use crate::inputs::Sample;
use crate::manifest::{Claim, Described, Entry, Manifest};
use crate::options::{PcaFacts, RunFacts};
use crate::plan::{ConditionSource, RunPlan};
use crate::set::FeatureSet;
use crate::stores::OutputFormat;
use crate::{Event, Observer, Result};

/// A run before and behind its output's door.
pub struct Door<'a> {
    plan: &'a RunPlan,
    now: Manifest,
    claim: Option<Claim>,
}

impl Run<'_> {
    /// Compares the run with what is there; the folder stays as it is. `controls` are the folders of [`Self::controls`].
    ///
    /// # Errors
    /// When files of other settings are there, or a file that belongs to the run cannot be read.
    pub(super) fn door(&self, controls: &BTreeMap<String, PathBuf>, observer: &dyn Observer) -> Result<Door<'_>> {
        let now = Manifest::of(&self.described(controls)?, Manifest::known(&self.plan.output.dir))?;
        let notes = self.entry(|entry| entry.check(&now))?;
        notes.iter().for_each(|note| observer.event(Event::Warning(note)));
        Ok(Door { plan: self.plan, now, claim: None })
    }

    /// Takes the folder, once.
    ///
    /// # Errors
    /// When another run took it in the meantime, or it cannot be written to.
    pub(super) fn enter(&self, door: &mut Door) -> Result<()> {
        if door.claim.is_none() {
            door.claim = Some(self.entry(|entry| entry.claim(door.now.clone()))?);
        }
        Ok(())
    }

    fn entry<T>(&self, act: impl FnOnce(&Entry) -> T) -> T {
        let is_made = |name: &str| self.files_of(name).iter().any(|file| file.is_file());
        let files = || self.plan.samples.iter().flat_map(|sample| self.files_of(&sample.name)).collect();
        act(&Entry { output: &self.plan.output, overwrite: self.plan.overwrite, is_made: &is_made, files: &files })
    }

    fn layers(&self) -> IdMap<FeatureSet, &[LayerId]> {
        let mut layers = IdMap::new();
        for selection in self.selections.values() {
            layers.push(&selection.layers[..]);
        }
        layers
    }

    /// The files of an image in all sets that are written.
    fn files_of(&self, name: &str) -> Vec<PathBuf> {
        let plan = self.plan;
        let sets = plan.sets.iter().filter(|(_, set)| set.keep.written);
        let sets = sets.map(|(id, set)| (set.name.as_deref(), &self.selections[id].layers));
        let fusions = plan.fusions.values().map(|fusion| (Some(fusion.name.as_str()), &self.selections[fusion.first].layers));
        sets.chain(fusions).flat_map(|(set, layers)| plan.output.files(set, name, layers)).collect()
    }

    pub(super) fn described(&self, controls: &BTreeMap<String, PathBuf>) -> driftless::Result<Described<'_>> {
        let (plan, options) = (self.plan, self.options);
        let prefer_half = options.dtype != candle_core::DType::F32;
        let conditions = plan.controls.iter().filter_map(|(kind, choice)| match &choice.source {
            ConditionSource::Canny => None,
            ConditionSource::Images(images) => Some((kind.as_str(), images)),
        });
        let networks = controls.iter().map(|(kind, folder)| Ok((kind.clone(), ControlNet::sources(folder, options)?)));
        Ok(Described {
            run: RunFacts {
                img_size: plan.img_size,
                dtype: options.dtype,
                device: options.device.location(),
                batch_size: plan.batch_size,
                output: &plan.output,
                pca: plan.projection.as_ref().map(|pca| PcaFacts { contents: pca.contents(), dims: pca.dims() }),
            },
            sets: &plan.sets,
            fusions: &plan.fusions,
            layers: self.layers(),
            models: self.models.try_map(|_, model| model.files(prefer_half)?.sources())?,
            controls: networks.collect::<driftless::Result<_>>()?,
            conditions: conditions.collect(),
            all: &plan.all,
            mine: &plan.samples,
        })
    }
}

impl Door<'_> {
    /// What a file carries of its settings, where its format has a place for it.
    pub fn metadata(&self, set: Option<&str>, sample: &Sample) -> BTreeMap<String, String> {
        match self.plan.output.format {
            OutputFormat::Npy => BTreeMap::new(),
            OutputFormat::Safetensors => {
                let manifest = self.claim.as_ref().map_or(&self.now, |claim| &claim.manifest);
                let file = sample.path.file_name().map(|name| name.to_string_lossy());
                let image = json!({ "number": sample.number, "name": sample.name, "file": file });
                BTreeMap::from([("extract".to_owned(), manifest.metadata(set)), ("image".to_owned(), image.to_string())])
            }
        }
    }
}
