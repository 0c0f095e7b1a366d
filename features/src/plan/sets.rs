//! The sets that are extracted, as the settings mean them; checked.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use super::models::Models;
use super::timestep::{check_layers, timestep};
use super::{Settings, is_plain_name};
use crate::fault::{Fault, Faults, SetFault};
use crate::ids::IdMap;
use crate::inputs::{Companions, PromptSource, PromptTable, Sample};
use crate::manifest::{LOCK, MANIFEST};
use crate::options::{ControlSetting, LayerSetting, SetSettings};
use crate::set::{FeatureSet, Finite, Keep, LayerChoice, LoraFile, PassKey, Steering, Timestep};

/// The sets of a run.
///
/// # Errors
/// Every fault of every set.
pub(super) fn feature_sets(
    settings: &Settings,
    img_size: usize,
    samples: &[Sample],
    models: &mut Models,
) -> Result<IdMap<FeatureSet, FeatureSet>, Fault> {
    let mut faults = Faults::default();
    let mut names = HashSet::new();
    let mut sets = IdMap::new();
    for (number, set) in settings.sets.iter().enumerate() {
        if settings.file.is_some() {
            check_name(set, number, &mut names, &mut faults);
        }
        if !set.fuse.is_empty() {
            continue;
        }
        let context = match &set.name {
            Some(name) => format!("set `{name}`: "),
            None => String::new(),
        };
        if let Some(set) = faults.keep(feature_set(set, &context, settings.input.nested, img_size, samples, models)) {
            sets.push(set);
        }
    }
    faults.check()?;
    Ok(sets)
}

fn check_name<'a>(set: &'a SetSettings, number: usize, names: &mut HashSet<&'a str>, faults: &mut Faults) {
    match set.name.as_deref() {
        Some(name) => {
            faults.require(is_plain_name(name), || Fault::failure(SetFault::NameIsAPath).of(&format!("set `{name}`: ")));
            faults.require(!is_own_file(name), || Fault::failure(SetFault::NameTaken).of(&format!("set `{name}`: ")));
            faults.require(names.insert(name), || Fault::failure(SetFault::NameTwice).of(&format!("set `{name}`: ")));
        }
        None => faults.push(Fault::failure(SetFault::NoName { number: number + 1 })),
    }
}

/// Whether a run writes a file of this name into its output.
fn is_own_file(name: &str) -> bool {
    let is_list = name.starts_with("failed") && name.ends_with(".jsonl");
    name == MANIFEST || name == LOCK || is_list
}

fn feature_set(
    set: &SetSettings,
    context: &str,
    nested: bool,
    img_size: usize,
    samples: &[Sample],
    models: &mut Models,
) -> Result<FeatureSet, Fault> {
    let mut faults = Faults::default();
    let wrong = |fault: SetFault| Fault::usage(fault).of(context);
    faults.require(set.fuse_mode.is_none(), || wrong(SetFault::FuseModeAlone));
    let t = timestep(set, context, samples, &mut faults);
    if let (Some(from), Some(Timestep::Noised(t))) = (set.denoising_from, t) {
        // Down to one below t, where the original's off-by-one still finds a step to extract at.
        faults
            .require((1..=Timestep::LAST).contains(&from) && from + 1 >= t, || wrong(SetFault::DenoisingFrom { found: from, t }));
    }
    let ensemble = set.ensemble.unwrap_or(1);
    faults.require(ensemble > 0, || wrong(SetFault::Ensemble));
    let feature_resize = set.feature_resize.unwrap_or(1);
    faults.require(feature_resize > 0, || wrong(SetFault::Pooling));
    faults.require(set.control.is_empty() || img_size.is_multiple_of(8), || wrong(SetFault::ControlNetSize { found: img_size }));
    let prompt = faults.keep(prompt_source(set, context, nested).and_then(|prompt| prompt.check(samples).map(|()| prompt)));
    let layers = faults.keep(layer_choice(set, context));
    if let Some(fault) = layers.as_ref().and_then(|layers| check_layers(set, layers).err()) {
        faults.push(wrong(fault));
    }
    let category = |name: &String| name.parse().map_err(|error: driftless::Error| Fault::usage(error).of(context));
    let attention = faults.take(set.attention.iter().map(category).collect());
    let lora = set.lora.clone();
    for lora in &lora {
        faults.keep(check_adapter(lora, samples).map_err(|fault| fault.of(context)));
    }
    let control = set.control.iter().map(|control| steering(control).map_err(|fault| fault.of(context)));
    let control = faults.take(control.collect());
    faults.check()?;
    // Both have noted a fault above if they are missing.
    let (Some(prompt), Some(layers), Some(t)) = (prompt, layers, t) else { return Err(wrong(SetFault::NotPlanned)) };
    let pass = PassKey {
        model: models.of_set(set.model.as_deref(), set.unet.as_deref()),
        prompt,
        t,
        denoising_from: set.denoising_from,
        use_ddim_inversion: set.use_ddim_inversion,
        seed: set.seed.unwrap_or(0),
        ensemble,
        control,
        lora,
    };
    let keep = Keep { layers, attention, feature_resize, written: set.write.unwrap_or(true) };
    Ok(FeatureSet { name: set.name.clone(), pass, keep })
}

/// Every image's adapter has to be there.
fn check_adapter(lora: &LoraFile, samples: &[Sample]) -> Result<(), Fault> {
    let names = samples.iter().map(|sample| lora.of_folder(sample).map(|lora| lora.file));
    let files: BTreeSet<PathBuf> = names.collect::<Result<_, _>>()?;
    match files.iter().find(|file| !file.exists()) {
        Some(file) => Err(Fault::of_file(file, SetFault::NoAdapterFile)),
        None => Ok(()),
    }
}

fn steering(control: &ControlSetting) -> Result<Steering, Fault> {
    let ControlSetting { kind, scale, start, end } = control.clone();
    let share = |share: Option<f64>, otherwise: f64| Finite::new(share.unwrap_or(otherwise));
    let scale = Finite::new(scale.unwrap_or(1.0)).ok_or_else(|| Fault::usage(SetFault::ControlScale { kind: kind.clone() }))?;
    match (share(start, 0.0), share(end, 1.0)) {
        (Some(start), Some(end)) if 0.0 <= start.get() && start.get() < end.get() && end.get() <= 1.0 => {
            Ok(Steering { kind, scale, start, end })
        }
        _ => {
            let (start, end) = (start.unwrap_or(0.0), end.unwrap_or(1.0));
            Err(Fault::usage(SetFault::ControlRange { kind, start, end }))
        }
    }
}

/// Where the prompts are: text, else file, else captions, else table, else the original's `prompt.txt`.
fn prompt_source(set: &SetSettings, context: &str, nested: bool) -> Result<PromptSource, Fault> {
    let given = [set.prompt.is_some(), set.prompt_file.is_some(), set.caption_dir.is_some(), set.prompt_csv.is_some()];
    if given.iter().filter(|given| **given).count() > 1 {
        return Err(Fault::usage(SetFault::SeveralPrompts).of(context));
    }
    let source = match (&set.prompt, &set.prompt_file, &set.caption_dir, &set.prompt_csv) {
        (Some(text), ..) => Ok(PromptSource::Text(text.clone())),
        (_, Some(path), ..) => PromptSource::from_file(path),
        (_, _, Some(folder), _) => Companions::captions(folder, nested).map(PromptSource::Captions),
        (.., Some(path)) => PromptTable::read(path).map(PromptSource::Table),
        _ => PromptSource::from_file("prompt.txt".as_ref()),
    };
    source.map_err(|fault| fault.of(context))
}

fn layer_choice(set: &SetSettings, context: &str) -> Result<LayerChoice, Fault> {
    match &set.layer {
        None => Ok(LayerChoice::Everything),
        Some(LayerSetting::File(path)) => LayerChoice::from_file(path),
        Some(LayerSetting::Ids(ids)) => Ok(LayerChoice::from_list(context.trim_end_matches(": "), ids.iter().cloned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> SetSettings {
        SetSettings { prompt: Some("a cat".to_owned()), t: Some(50.into()), ..SetSettings::default() }
    }

    fn planned(settings: &Settings) -> Result<IdMap<FeatureSet, FeatureSet>, Fault> {
        feature_sets(settings, 512, &[], &mut Models::new(settings, &driftless::model_family::sd15::FAMILY))
    }

    fn plan(set: SetSettings) -> Result<FeatureSet, String> {
        let settings = Settings { sets: vec![set], ..Settings::default() };
        let sets = planned(&settings).map_err(|fault| fault.to_string())?;
        Ok(sets.values().next().unwrap().clone())
    }

    #[test]
    fn defaults() {
        let set = plan(set()).unwrap();
        assert_eq!((set.pass.t, set.pass.seed, set.keep.feature_resize, set.name), (Timestep::Noised(50), 0, 1, None));
        assert_eq!(set.keep.layers, LayerChoice::Everything);
    }

    #[test]
    fn faults_come_together() {
        let message = plan(SetSettings {
            t: None,
            feature_resize: Some(0),
            attention: vec!["up_corss".to_owned()],
            prompt_file: Some("x".into()),
            ..set()
        })
        .unwrap_err();
        for part in ["--t is needed", "feature_resize is 0", "did you mean `up_cross`", "one of prompt, prompt_file"] {
            assert!(message.contains(part), "{part} is missing in: {message}");
        }
    }

    #[test]
    fn denoising_begins_no_lower_than_it_ends() {
        let denoise = |from, t| plan(SetSettings { denoising_from: Some(from), t: Some(i32::into(t)), ..set() });
        assert!(denoise(60, 50).is_ok() && denoise(50, 50).is_ok() && denoise(49, 50).is_ok());
        assert!(denoise(48, 50).unwrap_err().contains("noisier level than t = 50"));
        assert!(denoise(1000, 50).is_err());
        assert!(plan(SetSettings { t: Some(1000.into()), ..set() }).unwrap_err().contains("expected 0 to 999"));
    }

    #[test]
    fn sets_of_a_file_have_plain_unequal_names() {
        let named = |name: &str| SetSettings { name: Some(name.to_owned()), ..set() };
        let settings = |names: &[&str]| Settings {
            sets: names.iter().map(|name| named(name)).collect(),
            file: Some("sets.toml".into()),
            ..Settings::default()
        };
        assert!(planned(&settings(&["a", "b"])).is_ok());
        for wrong in [["a", "a"], ["a", ".."], ["a", "x/y"], ["a", ""]] {
            assert!(planned(&settings(&wrong)).is_err(), "{wrong:?}");
        }
        let nameless = Settings { sets: vec![set()], file: Some("sets.toml".into()), ..Settings::default() };
        assert!(planned(&nameless).unwrap_err().to_string().contains("has no name"));
    }
}
