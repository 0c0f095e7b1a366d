//! Adapters, loaded once per run and swapped by pointer.

use std::sync::Arc;

use anyhow::{Context, Result};
use driftless::adapter::Adapter;
use driftless::layers::Slot;
use driftless::pipeline::Pipeline;

use crate::args::LoraFile;

/// The adapters of every set.
pub struct Adapters {
    /// Different combinations of files and strengths; sets that agree share one.
    combinations: Vec<Combination>,
    /// Which combination is in force.
    active: Option<usize>,
}

struct Combination {
    files: Vec<LoraFile>,
    layers: Vec<(String, Arc<Slot>, Vec<Arc<Adapter>>)>,
}

impl Adapters {
    /// Loads the adapters of all sets; none is in force afterwards.
    ///
    /// # Errors
    /// When a file is no adapter, or not for this model.
    pub fn load<'a>(pipeline: &Pipeline, sets: impl IntoIterator<Item = &'a [LoraFile]>) -> Result<Self> {
        let mut combinations: Vec<Combination> = Vec::new();
        for files in sets {
            if combinations.iter().any(|combination| combination.files == files) {
                continue;
            }
            pipeline.detach_adapters();
            for LoraFile { file, scale } in files {
                pipeline.attach_adapter(file, *scale).context("--lora")?;
            }
            let slots = pipeline.unet.slots().all().into_iter().chain(pipeline.text_encoder.slots().all());
            let layers = slots.map(|(path, slot)| (path, slot.clone(), slot.adapters()));
            let layers = layers.filter(|(_, _, adapters)| !adapters.is_empty()).collect();
            combinations.push(Combination { files: files.to_vec(), layers });
        }
        pipeline.detach_adapters();
        Ok(Self { combinations, active: None })
    }

    /// Puts the adapters of a set in force; returns the combination's number, which names what is computed under it.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn activate(&mut self, pipeline: &Pipeline, files: &[LoraFile]) -> driftless::Result<usize> {
        let found = self.combinations.iter().position(|combination| combination.files == files);
        let number = found.ok_or_else(|| driftless::Error::argument("--lora", "was not loaded"))?;
        if self.active != Some(number) {
            pipeline.detach_adapters();
            for (path, slot, adapters) in &self.combinations[number].layers {
                adapters.iter().try_for_each(|adapter| slot.attach(path, Adapter::clone(adapter)))?;
            }
            self.active = Some(number);
        }
        Ok(number)
    }
}
