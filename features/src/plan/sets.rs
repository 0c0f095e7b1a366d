//! Feature sets: what each is to hold, checked.

use std::collections::{BTreeSet, HashSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use driftless::taps::AttentionCategory;

use super::settings::{ControlSetting, ControlTable, LayerSetting, SetSettings};
use super::{Fault, Faults, LayerChoice, LoraFile, Settings, is_plain_name};
use crate::inputs::{Companions, PromptSource, PromptTable, Sample, with_folder};

/// One technique: a prompt, adapters, ControlNets, a noise level, and the layers to keep.
#[derive(Clone, Debug)]
pub struct FeatureSet {
    /// Its folder in the output; `None` on the command line, where the output's own folder is used.
    pub name: Option<String>,
    /// The prompts.
    pub prompt: PromptSource,
    /// Noise level, 0..=999.
    pub t: usize,
    /// Start of denoising.
    pub denoising_from: Option<usize>,
    /// Inversion instead of noise.
    pub use_ddim_inversion: bool,
    /// Image number i draws from this + i.
    pub seed: u64,
    /// The layers.
    pub layers: LayerChoice,
    /// Categories of aggregated attention, in order.
    pub attention: Vec<AttentionCategory>,
    /// Features are averaged over squares of this side.
    pub feature_resize: usize,
    /// ControlNets, in order.
    pub control: Vec<Steering>,
    /// Adapters with their strengths; `{folder}` in a file's name stands for the name of an image's folder.
    pub lora: Vec<LoraFile>,
    /// A merged model in the place of the run's: folder, file or hub id.
    pub model: Option<String>,
    /// Whether its features are written.
    pub written: bool,
}

impl FeatureSet {
    /// The adapters of an image.
    ///
    /// # Errors
    /// When they depend on the image's folder, and it has no name.
    pub fn adapters(&self, sample: &Sample) -> Result<Vec<LoraFile>, Fault> {
        self.lora.iter().map(|lora| of_folder(lora, sample)).collect::<Result<_, _>>().map_err(Fault::failure)
    }

    /// Whether this and another set ask the network for the same pass, and differ in what they keep of it and where alone.
    pub fn shares_pass_with(&self, other: &Self) -> bool {
        let attention_agrees = self.attention == other.attention || self.attention.is_empty() || other.attention.is_empty();
        self.prompt == other.prompt
            && (self.t, self.denoising_from, self.use_ddim_inversion) == (other.t, other.denoising_from, other.use_ddim_inversion)
            && self.seed == other.seed
            && self.control == other.control
            && self.lora == other.lora
            && self.model == other.model
            && attention_agrees
    }
}

fn of_folder(lora: &LoraFile, sample: &Sample) -> Result<LoraFile, String> {
    // A name that is no text has no place for another in it.
    let Some(text) = lora.file.to_str() else { return Ok(lora.clone()) };
    Ok(LoraFile { file: with_folder(text, sample)?.into(), scale: lora.scale })
}

/// How a ControlNet steers.
#[derive(Clone, Debug, PartialEq)]
pub struct Steering {
    /// Its kind.
    pub kind: String,
    /// What its residuals are multiplied with.
    pub scale: f64,
    /// The part of the steps that it steers, as shares of their number.
    pub steps: RangeInclusive<f64>,
}

/// The sets of a run.
///
/// # Errors
/// Every fault of every set.
pub(super) fn feature_sets(settings: &Settings, img_size: usize, samples: &[Sample]) -> Result<Vec<FeatureSet>, Fault> {
    let mut faults = Faults::default();
    let mut names = HashSet::new();
    let mut sets = Vec::new();
    for (number, set) in settings.sets.iter().enumerate() {
        if settings.file.is_some() {
            check_name(set, number, &mut names, &mut faults);
        }
        if !set.fuse.is_empty() {
            continue;
        }
        let place = match &set.name {
            Some(name) => format!("set `{name}`: "),
            None => String::new(),
        };
        sets.extend(faults.keep(feature_set(set, &place, settings.input.nested, img_size, samples)));
    }
    faults.check()?;
    Ok(sets)
}

fn check_name<'a>(set: &'a SetSettings, number: usize, names: &mut HashSet<&'a str>, faults: &mut Faults) {
    match set.name.as_deref() {
        Some(name) => {
            faults.require(is_plain_name(name), || {
                Fault::failure(format!("set `{name}`: the name is a folder's and cannot be a path"))
            });
            faults.require(names.insert(name), || Fault::failure(format!("set `{name}`: two sets have this name")));
        }
        None => faults.push(Fault::failure(format!("[[set]] number {} has no name; its folder is called after it", number + 1))),
    }
}

fn feature_set(set: &SetSettings, place: &str, nested: bool, img_size: usize, samples: &[Sample]) -> Result<FeatureSet, Fault> {
    let mut faults = Faults::default();
    let wrong = |problem: String| Fault::usage(format!("{place}{problem}"));
    faults.require(set.fuse_mode.is_none(), || wrong("fuse_mode without fuse; name the sets to fuse".to_owned()));
    faults.require(set.t.is_some(), || wrong("--t is needed: the noise level, 0 to 999; the paper uses 50".to_owned()));
    let t = set.t.unwrap_or_default();
    faults.require(t <= 999, || wrong(format!("t is {t}; expected 0 to 999")));
    if let Some(from) = set.denoising_from {
        // Down to one below t, where the original's off-by-one still finds a step to extract at.
        faults.require((1..=999).contains(&from) && from + 1 >= t, || {
            wrong(format!("denoising_from is {from}; expected a noisier level than t = {t}, at most 999"))
        });
    }
    let feature_resize = set.feature_resize.unwrap_or(1);
    faults.require(feature_resize > 0, || wrong("feature_resize is 0; expected 1 or more".to_owned()));
    faults.require(set.control.is_empty() || img_size.is_multiple_of(8), || {
        wrong(format!("a ControlNet needs an image size that is a multiple of 8, not {img_size}"))
    });
    let prompt = faults.keep(prompt_source(set, place, nested).and_then(|prompt| prompt.check(samples).map(|()| prompt)));
    let layers = faults.keep(layer_choice(set, place));
    let attention =
        faults.take(parse_all(&set.attention, |name| name.parse().map_err(|e: driftless::Error| e.to_string()), &wrong));
    let lora = faults.take(parse_all(&set.lora, |lora| lora.file(), &wrong));
    for lora in &lora {
        faults.keep(check_adapter(lora, samples).map_err(|problem| Fault::failure(format!("{place}{problem}"))));
    }
    let mut kinds = HashSet::new();
    for control in &set.control {
        faults.require(kinds.insert(control.kind()), || wrong(format!("--control names `{}` twice", control.kind())));
    }
    let control = faults.take(parse_all(&set.control, steering, &wrong));
    faults.check()?;
    // Both have noted a fault above if they are missing.
    let (Some(prompt), Some(layers)) = (prompt, layers) else { return Err(wrong("cannot be planned".to_owned())) };
    Ok(FeatureSet {
        name: set.name.clone(),
        prompt,
        t,
        denoising_from: set.denoising_from,
        use_ddim_inversion: set.use_ddim_inversion,
        seed: set.seed.unwrap_or(0),
        layers,
        attention,
        feature_resize,
        control,
        lora,
        model: set.model.clone(),
        written: set.write.unwrap_or(true),
    })
}

/// Every image's adapter has to be there.
fn check_adapter(lora: &LoraFile, samples: &[Sample]) -> Result<(), String> {
    let names = samples.iter().map(|sample| of_folder(lora, sample).map(|lora| lora.file));
    let files: BTreeSet<PathBuf> = names.collect::<Result<_, _>>()?;
    match files.iter().find(|file| !file.exists()) {
        Some(file) => Err(format!("{}: no such adapter file", file.display())),
        None => Ok(()),
    }
}

fn steering(control: &ControlSetting) -> Result<Steering, String> {
    let ControlTable { kind, scale, start, end } = control.table();
    let (scale, start, end) = (scale.unwrap_or(1.0), start.unwrap_or(0.0), end.unwrap_or(1.0));
    if !scale.is_finite() {
        return Err(format!("the scale of `{kind}` is not finite"));
    }
    if !(0.0..=1.0).contains(&start) || !(0.0..=1.0).contains(&end) || start >= end {
        return Err(format!("`{kind}` steers from {start} to {end}; expected shares of the steps, 0 <= start < end <= 1"));
    }
    Ok(Steering { kind, scale, steps: start..=end })
}

fn parse_all<A, B>(
    values: &[A],
    parse: impl Fn(&A) -> Result<B, String>,
    wrong: &impl Fn(String) -> Fault,
) -> Result<Vec<B>, Fault> {
    values.iter().map(|value| parse(value).map_err(wrong)).collect()
}

/// Where the prompts are: text, else file, else captions, else table, else the original's `prompt.txt`.
fn prompt_source(set: &SetSettings, place: &str, nested: bool) -> Result<PromptSource, Fault> {
    let given = [set.prompt.is_some(), set.prompt_file.is_some(), set.caption_dir.is_some(), set.prompt_csv.is_some()];
    if given.iter().filter(|given| **given).count() > 1 {
        return Err(Fault::usage(format!("{place}give one of prompt, prompt_file, caption_dir and prompt_csv")));
    }
    match (&set.prompt, &set.prompt_file, &set.caption_dir, &set.prompt_csv) {
        (Some(text), ..) => Ok(PromptSource::Text(text.clone())),
        (_, Some(path), ..) => PromptSource::from_file(path),
        (_, _, Some(folder), _) => Companions::captions(folder, nested).map(PromptSource::Captions),
        (.., Some(path)) => PromptTable::read(path).map(PromptSource::Table),
        _ => PromptSource::from_file("prompt.txt".as_ref()),
    }
}

fn layer_choice(set: &SetSettings, place: &str) -> Result<LayerChoice, Fault> {
    match &set.layer {
        None => Ok(LayerChoice::Everything),
        Some(LayerSetting::File(path)) => LayerChoice::from_file(path),
        Some(LayerSetting::Ids(ids)) => Ok(LayerChoice::from_list(place.trim_end_matches(": "), ids.iter().cloned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> SetSettings {
        SetSettings { prompt: Some("a cat".to_owned()), t: Some(50), ..SetSettings::default() }
    }

    fn plan(set: SetSettings) -> Result<FeatureSet, String> {
        let settings = Settings { sets: vec![set], ..Settings::default() };
        feature_sets(&settings, 512, &[]).map(|mut sets| sets.remove(0)).map_err(|fault| fault.to_string())
    }

    #[test]
    fn defaults() {
        let set = plan(set()).unwrap();
        assert_eq!((set.t, set.seed, set.feature_resize, set.name), (50, 0, 1, None));
        assert_eq!(set.layers, LayerChoice::Everything);
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
        let denoise = |from, t| plan(SetSettings { denoising_from: Some(from), t: Some(t), ..set() });
        assert!(denoise(60, 50).is_ok() && denoise(50, 50).is_ok() && denoise(49, 50).is_ok());
        assert!(denoise(48, 50).unwrap_err().contains("noisier level than t = 50"));
        assert!(denoise(1000, 50).is_err());
        assert!(plan(SetSettings { t: Some(1000), ..set() }).unwrap_err().contains("expected 0 to 999"));
    }

    #[test]
    fn sets_of_a_file_have_plain_unequal_names() {
        let named = |name: &str| SetSettings { name: Some(name.to_owned()), ..set() };
        let settings = |names: &[&str]| Settings {
            sets: names.iter().map(|name| named(name)).collect(),
            file: Some("sets.toml".into()),
            ..Settings::default()
        };
        assert!(feature_sets(&settings(&["a", "b"]), 512, &[]).is_ok());
        for wrong in [["a", "a"], ["a", ".."], ["a", "x/y"], ["a", ""]] {
            assert!(feature_sets(&settings(&wrong), 512, &[]).is_err(), "{wrong:?}");
        }
        let nameless = Settings { sets: vec![set()], file: Some("sets.toml".into()), ..Settings::default() };
        assert!(feature_sets(&nameless, 512, &[]).unwrap_err().to_string().contains("has no name"));
    }
}
