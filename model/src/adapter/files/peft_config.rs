//! Where PEFT keeps the scale: `adapter_config.json` beside the weights, or (diffusers 0.33 and later) the same entries under a
//! network's prefix in the metadata entry `lora_adapter_metadata`.
//!
//! A pattern is a regular expression that must match the module path's end, after a dot or from the start (peft 0.14
//! `utils.other.get_pattern_key`).

use super::key::Scheme;
use crate::error::{Error, ModelFileCause, PeftConfigCause, Result};
use crate::formats::WeightFile;
use crate::formats::read_config;
use crate::model_family::Network;
use regex::Regex;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Metadata entry of diffusers.
pub(super) const DIFFUSERS_ENTRY: &str = "lora_adapter_metadata";
/// PEFT's configuration file.
pub(super) const CONFIG_FILE: &str = "adapter_config.json";

/// Scales that stand outside of the tensors.
pub(super) struct Scales {
    file: PathBuf,
    peft: Option<AdapterConfig>,
    diffusers: BTreeMap<Network, AdapterConfig>,
}

impl Scales {
    /// Collects what stands beside and in the file.
    pub(super) fn of(file: &WeightFile, schemes: &BTreeSet<Scheme>) -> Result<Self> {
        let mut scales = Self { file: file.path().to_owned(), peft: None, diffusers: BTreeMap::new() };
        let config = file.path().parent().unwrap_or(Path::new("")).join(CONFIG_FILE);
        if schemes.contains(&Scheme::Peft) && config.is_file() {
            let entries: Map<String, Value> = read_config(&config)?;
            scales.peft = Some(AdapterConfig::parse(&config, &entries, "")?);
        }
        if let Some(text) = file.metadata().get(DIFFUSERS_ENTRY) {
            let entries: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
                Error::config(file.path(), DIFFUSERS_ENTRY, PeftConfigCause::NotAnObject { source: Some(error) })
            })?;
            for network in [Network::Unet, Network::TextEncoder] {
                let prefix = format!("{network}.");
                if entries.keys().any(|key| key.starts_with(&prefix)) {
                    scales.diffusers.insert(network, AdapterConfig::parse(file.path(), &entries, &prefix)?);
                }
            }
        }
        Ok(scales)
    }

    /// The alpha that makes `alpha / rank` the scale of a layer; `None` where the scale is 1.
    pub(super) fn alpha(&self, scheme: Scheme, network: Network, path: &str, rank: usize) -> Result<Option<f64>> {
        if scheme == Scheme::Peft {
            let advice = "copy adapter_config.json of the same adapter to it";
            let missing = || Error::file(&self.file, ModelFileCause::NoPeftConfig, advice);
            return Ok(Some(self.peft.as_ref().ok_or_else(missing)?.alpha(path, rank)));
        }
        Ok(self.diffusers.get(&network).map(|config| config.alpha(path, rank)))
    }
}

/// The entries of a `LoraConfig` that say what the factors mean.
struct AdapterConfig {
    lora_alpha: f64,
    alpha_pattern: Vec<(Regex, f64)>,
    use_rslora: bool,
}

impl AdapterConfig {
    fn parse(path: &Path, entries: &Map<String, Value>, prefix: &str) -> Result<Self> {
        let entry = |name: &str| entries.get(&format!("{prefix}{name}")).filter(|value| !value.is_null());
        let wrong = |name: &str, cause: PeftConfigCause| Error::config(path, format!("{prefix}{name}"), cause);
        if let Some(kind) = entry("peft_type")
            && kind.as_str() != Some("LORA")
        {
            return Err(wrong("peft_type", PeftConfigCause::Type { found: kind.to_string() }));
        }
        for (name, cause) in [("fan_in_fan_out", PeftConfigCause::TransposedWeights), ("lora_bias", PeftConfigCause::FactorBias)]
        {
            if entry(name).is_some_and(|value| value != &Value::Bool(false)) {
                return Err(wrong(name, cause));
            }
        }
        let lora_alpha =
            entry("lora_alpha").and_then(Value::as_f64).ok_or_else(|| wrong("lora_alpha", PeftConfigCause::NotANumber))?;
        let use_rslora = entry("use_rslora").and_then(Value::as_bool).unwrap_or(false);
        let mut alpha_pattern = Vec::new();
        if let Some(patterns) = entry("alpha_pattern") {
            let patterns =
                patterns.as_object().ok_or_else(|| wrong("alpha_pattern", PeftConfigCause::NotAnObject { source: None }))?;
            for (pattern, alpha) in patterns {
                let alpha = alpha
                    .as_f64()
                    .ok_or_else(|| wrong("alpha_pattern", PeftConfigCause::PatternWithoutNumber { pattern: pattern.clone() }))?;
                let regex = Regex::new(&format!(r"^(?:.*\.)?(?:{pattern})$"))
                    .map_err(|source| wrong("alpha_pattern", PeftConfigCause::Pattern { pattern: pattern.clone(), source }))?;
                alpha_pattern.push((regex, alpha));
            }
        }
        Ok(Self { lora_alpha, alpha_pattern, use_rslora })
    }

    fn alpha(&self, path: &str, rank: usize) -> f64 {
        // The model may have been saved by a version that had no `text_model.` level.
        let bare = path.strip_prefix("text_model.").unwrap_or(path);
        let found = self.alpha_pattern.iter().find(|(pattern, _)| pattern.is_match(path) || pattern.is_match(bare));
        let alpha = found.map_or(self.lora_alpha, |(_, alpha)| *alpha);
        // rsLoRA (arXiv 2312.03732) divides by the root of the rank; an alpha larger by the root says the same.
        if self.use_rslora { alpha * (rank as f64).sqrt() } else { alpha }
    }
}
