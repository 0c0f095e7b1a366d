//! The models of a run, each once, in the order in which sets first use them.

use std::path::Path;

use driftless::model_family::ModelFamily;

use super::Settings;
use crate::ids::IdMap;
use crate::set::{ModelChoice, ModelId};

/// The models that sets use.
#[derive(Debug)]
pub(super) struct Models<'a> {
    settings: &'a Settings,
    /// The family whose model is meant where none is named.
    family: &'static ModelFamily,
    models: IdMap<ModelChoice, ModelChoice>,
}

impl<'a> Models<'a> {
    /// None yet.
    pub fn new(settings: &'a Settings, family: &'static ModelFamily) -> Self {
        Self { settings, family, models: IdMap::new() }
    }

    /// The run's model, or a set's own. A set's model in one file borrows its tokenizer and configurations from the run's `base` if
    /// there is one, else from the run's model. The run's UNet goes with the run's model, a set's own with whatever model it has.
    pub fn of_set(&mut self, own: Option<&str>, own_unet: Option<&Path>) -> ModelId {
        let Settings { model, base, revision, unet, .. } = self.settings;
        let unet = own_unet.or(unet.as_deref().filter(|_| own.is_none()));
        let default = self.family.extractor.repository;
        let run = model.as_deref().unwrap_or(default);
        let wanted = own.unwrap_or(run);
        if let Some((id, _)) = self.models.iter().find(|(_, choice)| choice.model == wanted && choice.unet.as_deref() == unet) {
            return id;
        }
        let (lender, revision) = match own {
            Some(_) => (run, None),
            None => (default, revision.clone()),
        };
        let base = base.as_deref().unwrap_or(lender).to_owned();
        self.models.push(ModelChoice { model: wanted.to_owned(), base, revision, unet: unet.map(Path::to_owned) })
    }

    /// The UNets that take the place of a model's.
    pub fn unets(&self) -> impl Iterator<Item = &Path> {
        self.models.values().filter_map(|model| model.unet.as_deref())
    }

    /// All of them.
    pub fn finish(self) -> IdMap<ModelChoice, ModelChoice> {
        self.models
    }
}
