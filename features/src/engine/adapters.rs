//! Adapters, kept loaded and swapped by pointer. Those of sets that have one adapter for all images are loaded when the run begins; those
//! chosen by the image's folder when the first image of the folder comes, and then as many are kept as there are sets.

use std::sync::Arc;

use driftless::adapter::Adapter;
use driftless::layers::Slot;
use driftless::pipeline::Pipeline;

use crate::inputs::depends_on_folder;
use crate::set::{LoraFile, PassKey};
use crate::{Error, Result};

/// The adapters in use.
pub struct Adapters {
    /// Different combinations of files and strengths, the one used last at the end; sets that agree share one.
    combinations: Vec<Combination>,
    /// Combinations kept at most.
    room: usize,
    /// Combinations loaded so far.
    loaded: usize,
    /// The number of the combination in force.
    active: Option<usize>,
}

struct Combination {
    number: usize,
    files: Vec<LoraFile>,
    layers: Vec<(String, Arc<Slot>, Vec<Arc<Adapter>>)>,
}

impl Adapters {
    /// Loads the adapters that do not depend on an image; none is in force afterwards.
    ///
    /// # Errors
    /// When a file is no adapter, or not for this model.
    pub fn load(pipeline: &Pipeline, passes: &[&PassKey]) -> Result<Self> {
        let mut adapters = Self { combinations: Vec::new(), room: passes.len() + 1, loaded: 0, active: None };
        for pass in passes {
            let is_general = |lora: &LoraFile| !lora.file.to_str().is_some_and(depends_on_folder);
            if pass.lora.iter().all(is_general) {
                adapters.activate(pipeline, &pass.lora)?;
            }
        }
        pipeline.detach_adapters();
        adapters.active = None;
        Ok(adapters)
    }

    /// Puts a combination in force; returns its number, which names what is computed under it.
    ///
    /// # Errors
    /// When a file is no adapter, or not for this model.
    pub fn activate(&mut self, pipeline: &Pipeline, files: &[LoraFile]) -> Result<usize> {
        let combination = match self.combinations.iter().position(|combination| combination.files == files) {
            Some(place) => self.combinations.remove(place),
            None => self.read(pipeline, files)?,
        };
        let number = combination.number;
        if self.active != Some(number) {
            pipeline.detach_adapters();
            for (path, slot, adapters) in &combination.layers {
                adapters.iter().try_for_each(|adapter| slot.attach(path, Adapter::clone(adapter)))?;
            }
            self.active = Some(number);
        }
        self.combinations.push(combination);
        let surplus = self.combinations.len().saturating_sub(self.room);
        self.combinations.drain(..surplus);
        Ok(number)
    }

    /// Reads a combination; none is in force afterwards.
    fn read(&mut self, pipeline: &Pipeline, files: &[LoraFile]) -> Result<Combination> {
        self.active = None;
        pipeline.detach_adapters();
        for LoraFile { file, scale } in files {
            pipeline.attach_adapter(file, scale.get()).map_err(Error::Adapter)?;
        }
        let slots = pipeline.unet.slots().all().into_iter().chain(pipeline.text_encoder.slots().all());
        let layers = slots.map(|(path, slot)| (path, slot.clone(), slot.adapters()));
        let layers = layers.filter(|(_, _, adapters)| !adapters.is_empty()).collect();
        let number = self.loaded;
        self.loaded += 1;
        Ok(Combination { number, files: files.to_vec(), layers })
    }
}
