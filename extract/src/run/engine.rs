//! What is loaded once per run: the model, its adapters, the ControlNets.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use driftless::controlnet::ControlNet;
use driftless::pipeline::{ModelOptions, Pipeline};

use crate::model::{ModelPlace, find_controlnet};
use crate::plan::{ConditionSource, RunPlan};
use crate::report::Reporter;

use super::adapters::Adapters;
use super::contexts::Contexts;

/// The loaded networks.
pub struct Engine {
    /// The model.
    pub pipeline: Pipeline,
    /// Adapters of all sets.
    pub adapters: Adapters,
    /// Prompts of all sets.
    pub contexts: Contexts,
    /// ControlNets by kind, with where their pictures come from.
    pub controls: BTreeMap<String, (ControlNet, ConditionSource)>,
}

impl Engine {
    /// Loads everything that the plan uses; the autoencoder's decoder only if the plan `decodes`.
    ///
    /// # Errors
    /// When a file is missing, damaged, or not of this model.
    pub fn load(plan: &RunPlan, place: &ModelPlace, options: &ModelOptions, decodes: bool, reporter: &Reporter) -> Result<Self> {
        let pipeline = place.load(options)?;
        if decodes {
            pipeline.vae.load_decoder()?;
        }
        let adapters = Adapters::load(&pipeline, plan.sets.iter().map(|set| set.lora.as_slice()))?;
        let mut controls = BTreeMap::new();
        for (kind, choice) in &plan.controls {
            let folder = find_controlnet(kind, &choice.model, options, reporter)?;
            let network = ControlNet::open(&folder, options).with_context(|| format!("--control {kind}"))?;
            controls.insert(kind.clone(), (network, choice.source.clone()));
        }
        Ok(Self { pipeline, adapters, contexts: Contexts::default(), controls })
    }
}
