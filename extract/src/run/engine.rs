//! What is loaded once per model: the networks, adapters, the ControlNets.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use driftless::controlnet::ControlNet;
use driftless::pipeline::{ModelOptions, Pipeline};

use crate::model::{ModelPlace, find_controlnet};
use crate::plan::{FeatureSet, RunPlan};
use crate::report::Reporter;

use super::adapters::Adapters;
use super::contexts::Contexts;

/// The loaded networks.
pub struct Engine {
    /// The model.
    pub pipeline: Pipeline,
    /// Adapters of its sets.
    pub adapters: Adapters,
    /// Prompts of its sets.
    pub contexts: Contexts,
    /// ControlNets by kind.
    pub controls: BTreeMap<String, ControlNet>,
}

impl Engine {
    /// Loads everything that `sets` use; the autoencoder's decoder only if one of them `decodes`.
    ///
    /// # Errors
    /// When a file is missing, damaged, or not of this model.
    pub fn load(
        plan: &RunPlan,
        sets: &[&FeatureSet],
        place: &ModelPlace,
        options: &ModelOptions,
        decodes: bool,
        reporter: &Reporter,
    ) -> Result<Self> {
        let pipeline = place.load(options)?;
        if decodes {
            pipeline.vae.load_decoder()?;
        }
        let adapters = Adapters::load(&pipeline, sets)?;
        let mut controls = BTreeMap::new();
        for kind in kinds(sets) {
            let folder = find_controlnet(kind, &plan.controls[kind].model, options, reporter)?;
            let network = ControlNet::open(&folder, options).with_context(|| format!("--control {kind}"))?;
            controls.insert(kind.to_owned(), network);
        }
        Ok(Self { pipeline, adapters, contexts: Contexts::new(sets.len()), controls })
    }
}

/// The ControlNets that sets use, each once.
pub fn kinds<'a>(sets: &[&'a FeatureSet]) -> Vec<&'a str> {
    let mut kinds: Vec<&str> = sets.iter().flat_map(|set| &set.control).map(|steering| steering.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}
