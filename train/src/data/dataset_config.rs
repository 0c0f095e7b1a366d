//! `--dataset_config`: a data set written as TOML or JSON.
//!
//! Mirrors `config_util.ConfigSanitizer` and `BlueprintGenerator` of sd-scripts 48d368f: a value is looked up in the subset, its
//! dataset, `[general]`, and last the command line. Deliberate difference: an unknown key is answered with the nearest one.

use super::fault::DataFault;
use super::plan::{DataPlan, DatasetPlan, SubsetPlan};
use crate::options::values::{Resolution, StepsOrShare};
use crate::options::{Interpolation, Options};
use anyhow::{Context, Result};
use clap::ValueEnum;
use driftless::formats::{FileKind, read_text};
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Keys that may stand at every level.
const ANYWHERE: &[&str] = &[
    "num_repeats",
    "shuffle_caption",
    "keep_tokens",
    "keep_tokens_separator",
    "caption_separator",
    "secondary_separator",
    "enable_wildcard",
    "caption_prefix",
    "caption_suffix",
    "caption_dropout_rate",
    "caption_dropout_every_n_epochs",
    "caption_tag_dropout_rate",
    "token_warmup_min",
    "token_warmup_step",
    "caption_extension",
    "class_tokens",
    "exif_orientation",
    "flip_aug",
    "color_aug",
    "random_crop",
    "face_crop_aug_range",
    "resize_interpolation",
    "custom_attributes",
    "cache_info",
    "validation_split",
    "validation_seed",
];
/// Keys of `[general]` and `[[datasets]]`.
const DATASET: &[&str] = &[
    "resolution",
    "batch_size",
    "enable_bucket",
    "min_bucket_reso",
    "max_bucket_reso",
    "bucket_reso_steps",
    "bucket_no_upscale",
    "network_multiplier",
];
/// Keys of `[[datasets.subsets]]`.
const SUBSET: &[&str] = &["image_dir", "is_reg", "alpha_mask", "metadata_file", "conditioning_data_dir"];

/// One table of the file. What is not set is looked up one level above.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Table {
    num_repeats: Option<usize>,
    shuffle_caption: Option<bool>,
    keep_tokens: Option<usize>,
    keep_tokens_separator: Option<String>,
    caption_separator: Option<String>,
    secondary_separator: Option<String>,
    enable_wildcard: Option<bool>,
    caption_prefix: Option<String>,
    caption_suffix: Option<String>,
    caption_dropout_rate: Option<f64>,
    caption_dropout_every_n_epochs: Option<usize>,
    caption_tag_dropout_rate: Option<f64>,
    token_warmup_min: Option<usize>,
    token_warmup_step: Option<f64>,
    caption_extension: Option<String>,
    class_tokens: Option<String>,
    exif_orientation: Option<bool>,
    flip_aug: Option<bool>,
    color_aug: Option<bool>,
    random_crop: Option<bool>,
    face_crop_aug_range: Option<Value>,
    resize_interpolation: Option<String>,
    custom_attributes: Option<Value>,
    resolution: Option<Sides>,
    batch_size: Option<usize>,
    enable_bucket: Option<bool>,
    min_bucket_reso: Option<usize>,
    max_bucket_reso: Option<usize>,
    bucket_reso_steps: Option<usize>,
    bucket_no_upscale: Option<bool>,
    network_multiplier: Option<f64>,
    validation_split: Option<f64>,
    validation_seed: Option<u64>,
    image_dir: Option<PathBuf>,
    is_reg: Option<bool>,
    alpha_mask: Option<bool>,
    metadata_file: Option<String>,
    conditioning_data_dir: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Sides {
    Both(usize),
    WidthHeight([usize; 2]),
    /// As on the command line, which sd-scripts' documentation does in places.
    Text(String),
}

/// The plan in the file at `path`, with `options` for what it leaves open.
///
/// # Errors
/// When the file cannot be read, has unknown or wrong keys, or names something that is not supported.
pub fn read(path: &Path, options: &Options) -> Result<DataPlan> {
    let context = || format!("data set {}", path.display());
    let text = read_text(path, FileKind::Configuration).with_context(context)?;
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let root: Value =
        if is_json { serde_json::from_str(&text).with_context(context)? } else { toml::from_str(&text).with_context(context)? };
    plan(root, options).with_context(context)
}

fn plan(root: Value, options: &Options) -> Result<DataPlan> {
    let mut root = object(root, "the file")?;
    let general = table(root.remove("general").unwrap_or_default(), "[general]", &[ANYWHERE, DATASET])?;
    let datasets = list(root.remove("datasets").unwrap_or_default(), "[[datasets]]")?;
    if let Some(key) = root.keys().next() {
        return Err(driftless::Error::unknown("section", key, ["general", "datasets"]).into());
    }
    if datasets.is_empty() {
        return Err(DataFault::NoDatasets.into());
    }
    let mut warnings = Vec::new();
    let datasets = datasets.into_iter().enumerate().map(|(number, value)| {
        dataset(value, &general, options, &mut warnings).with_context(|| format!("[[datasets]] number {}", number + 1))
    });
    let datasets = datasets.collect::<Result<_>>()?;
    Ok(DataPlan { datasets, from_file: true, warnings })
}

fn dataset(value: Value, general: &Table, options: &Options, warnings: &mut Vec<String>) -> Result<DatasetPlan> {
    let mut value = object(value, "[[datasets]]")?;
    let subsets = list(value.remove("subsets").unwrap_or_default(), "[[datasets.subsets]]")?;
    if subsets.is_empty() {
        return Err(DataFault::NoSubsets.into());
    }
    let own = table(Value::Object(value), "[[datasets]]", &[ANYWHERE, DATASET])?;
    let levels = [&own, general];
    let mut plan = DatasetPlan::from_options(options);
    let buckets = &mut plan.buckets;
    if let Some(sides) = first(&levels, |table| table.resolution.clone()) {
        let text = match sides {
            Sides::Both(side) => side.to_string(),
            Sides::WidthHeight([width, height]) => format!("{width},{height}"),
            Sides::Text(text) => text,
        };
        let resolution: Resolution = text.parse().context("resolution")?;
        buckets.resolution = (resolution.width, resolution.height);
    }
    set(&mut buckets.enable, first(&levels, |table| table.enable_bucket));
    set(&mut buckets.min, first(&levels, |table| table.min_bucket_reso));
    set(&mut buckets.max, first(&levels, |table| table.max_bucket_reso));
    set(&mut buckets.step, first(&levels, |table| table.bucket_reso_steps));
    set(&mut buckets.no_upscale, first(&levels, |table| table.bucket_no_upscale));
    set(&mut plan.batch_size, first(&levels, |table| table.batch_size));
    if first(&levels, |table| table.network_multiplier).is_some_and(|multiplier| multiplier != 1.0) {
        warnings.push("data set: network_multiplier is not supported: the adapter acts at full strength".into());
    }
    for (number, value) in subsets.into_iter().enumerate() {
        let subset = subset(value, levels, options, warnings);
        plan.subsets.push(subset.with_context(|| format!("[[datasets.subsets]] number {}", number + 1))?);
    }
    Ok(plan)
}

fn subset(value: Value, above: [&Table; 2], options: &Options, warnings: &mut Vec<String>) -> Result<SubsetPlan> {
    let own = table(value, "[[datasets.subsets]]", &[ANYWHERE, SUBSET])?;
    let levels = [&own, above[0], above[1]];
    let image_dir = image_dir(&own)?;
    let mut plan = SubsetPlan { image_dir, is_reg: own.is_reg.unwrap_or(false), ..SubsetPlan::from_options(options) };
    set(&mut plan.repeats, first(&levels, |table| table.num_repeats));
    plan.class_tokens = first(&levels, |table| table.class_tokens.clone());
    set(&mut plan.caption_extension, first(&levels, |table| table.caption_extension.clone()));
    set(&mut plan.exif_orientation, first(&levels, |table| table.exif_orientation));
    set(&mut plan.flip, first(&levels, |table| table.flip_aug));
    set(&mut plan.validation_split, first(&levels, |table| table.validation_split));
    plan.validation_seed = first(&levels, |table| table.validation_seed).or(plan.validation_seed);
    share("validation_split", plan.validation_split)?;
    set(&mut plan.color, first(&levels, |table| table.color_aug));
    set(&mut plan.random_crop, first(&levels, |table| table.random_crop));
    if let Some(name) = first(&levels, |table| table.resize_interpolation.clone()) {
        let filter = Interpolation::from_str(&name, true);
        plan.interpolation = Some(filter.map_err(|_| DataFault::Interpolation { found: name.clone() })?);
    }
    captions(&mut plan.captions, &levels)?;
    let left_out = [
        (first(&levels, |table| table.face_crop_aug_range.clone()).is_some(), "face_crop_aug_range"),
        (first(&levels, |table| table.custom_attributes.clone()).is_some(), "custom_attributes"),
    ];
    let named = left_out.into_iter().filter(|(asked, _)| *asked);
    warnings
        .extend(named.map(|(_, key)| format!("data set: {key} is not supported and left out for {}", plan.image_dir.display())));
    Ok(plan)
}

/// The subset's folder of images; refuses what names images in other ways.
fn image_dir(subset: &Table) -> Result<PathBuf, DataFault> {
    if subset.metadata_file.is_some() {
        return Err(DataFault::MetadataFile);
    }
    if subset.conditioning_data_dir.is_some() {
        return Err(DataFault::Conditioning);
    }
    if subset.alpha_mask == Some(true) {
        return Err(DataFault::AlphaMask);
    }
    subset.image_dir.clone().ok_or(DataFault::NoImageDir)
}

fn share(key: &'static str, found: f64) -> Result<(), DataFault> {
    if (0.0..=1.0).contains(&found) { Ok(()) } else { Err(DataFault::NotAShare { key, found }) }
}

fn captions(captions: &mut super::caption::CaptionSettings, levels: &[&Table]) -> Result<()> {
    set(&mut captions.shuffle, first(levels, |table| table.shuffle_caption));
    set(&mut captions.keep_tokens, first(levels, |table| table.keep_tokens));
    set(&mut captions.separator, first(levels, |table| table.caption_separator.clone()));
    set(&mut captions.wildcard, first(levels, |table| table.enable_wildcard));
    set(&mut captions.dropout_rate, first(levels, |table| table.caption_dropout_rate));
    set(&mut captions.dropout_every_n_epochs, first(levels, |table| table.caption_dropout_every_n_epochs));
    set(&mut captions.tag_dropout_rate, first(levels, |table| table.caption_tag_dropout_rate));
    set(&mut captions.warmup_min, first(levels, |table| table.token_warmup_min));
    if let Some(steps) = first(levels, |table| table.token_warmup_step) {
        captions.warmup = steps.to_string().parse::<StepsOrShare>().context("token_warmup_step")?;
    }
    for (slot, value) in [
        (&mut captions.prefix, first(levels, |table| table.caption_prefix.clone())),
        (&mut captions.suffix, first(levels, |table| table.caption_suffix.clone())),
        (&mut captions.keep_tokens_separator, first(levels, |table| table.keep_tokens_separator.clone())),
        (&mut captions.secondary_separator, first(levels, |table| table.secondary_separator.clone())),
    ] {
        if value.is_some() {
            *slot = value;
        }
    }
    share("caption_dropout_rate", captions.dropout_rate)?;
    share("caption_tag_dropout_rate", captions.tag_dropout_rate)?;
    if captions.separator.is_empty() { Err(DataFault::NoSeparator.into()) } else { Ok(()) }
}

/// The value of the innermost level that has one.
fn first<T>(levels: &[&Table], value: impl Fn(&Table) -> Option<T>) -> Option<T> {
    levels.iter().find_map(|table| value(table))
}

fn set<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

fn table(value: Value, section: &str, allowed: &[&[&str]]) -> Result<Table> {
    if value.is_null() {
        return Ok(Table::default());
    }
    let entries = object(value, section)?;
    for key in entries.keys() {
        if !allowed.iter().any(|keys| keys.contains(&key.as_str())) {
            return Err(match [ANYWHERE, DATASET, SUBSET].concat().contains(&key.as_str()) {
                true => DataFault::Elsewhere { key: key.to_owned(), section: section.to_owned() }.into(),
                false => driftless::Error::unknown("key", key, allowed.concat()).into(),
            });
        }
    }
    // One entry at a time, so that a wrong value can be named.
    for (key, value) in &entries {
        let alone = Value::Object(std::iter::once((key.clone(), value.clone())).collect());
        serde_json::from_value::<Table>(alone).map_err(|_| DataFault::WrongType {
            key: key.to_owned(),
            section: section.to_owned(),
            found: value.clone(),
        })?;
    }
    Ok(serde_json::from_value(Value::Object(entries))?)
}

fn object(value: Value, section: &str) -> Result<serde_json::Map<String, Value>, DataFault> {
    match value {
        Value::Object(entries) => Ok(entries),
        _ => Err(DataFault::NotATable { section: section.to_owned() }),
    }
}

fn list(value: Value, section: &str) -> Result<Vec<Value>, DataFault> {
    match value {
        Value::Null => Ok(vec![]),
        Value::Array(items) => Ok(items),
        _ => Err(DataFault::NotAList { section: section.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, arguments: &[&str]) -> Result<DataPlan> {
        plan(toml::from_str(text).unwrap(), &Options::of(arguments))
    }

    const EXAMPLE: &str = r#"
        [general]
        shuffle_caption = true
        caption_extension = ".txt"
        keep_tokens = 1
        flip_aug = true

        [[datasets]]
        resolution = 512
        batch_size = 4
        keep_tokens = 2

          [[datasets.subsets]]
          image_dir = "hoge"
          class_tokens = "hoge girl"

          [[datasets.subsets]]
          image_dir = "fuga"
          class_tokens = "fuga boy"
          keep_tokens = 3
          is_reg = true
          num_repeats = 7
          flip_aug = false
          validation_split = 0.5

        [[datasets]]
        resolution = "768, 640"
        enable_bucket = true
        validation_split = 0.1

          [[datasets.subsets]]
          image_dir = "5_cat"
          caption_dropout_rate = 0.05
    "#;

    #[test]
    fn a_value_is_looked_up_from_the_inside_out() {
        let arguments =
            ["--train_batch_size=2", "--keep_tokens=9", "--dataset_repeats=4", "--caption_prefix=p", "--min_bucket_reso=320"];
        let plan = read_text(EXAMPLE, &arguments).unwrap();
        let [first, second] = &plan.datasets[..] else { panic!() };
        assert_eq!((first.batch_size, second.batch_size), (4, 2));
        assert_eq!((first.buckets.resolution, second.buckets.resolution), ((512, 512), (768, 640)));
        assert_eq!((first.buckets.enable, second.buckets.enable, second.buckets.min), (false, true, 320));
        let [hoge, fuga] = &first.subsets[..] else { panic!() };
        let cat = &second.subsets[0];
        assert_eq!([hoge.captions.keep_tokens, fuga.captions.keep_tokens, cat.captions.keep_tokens], [2, 3, 1]);
        assert_eq!([hoge.repeats, fuga.repeats, cat.repeats], [4, 7, 4]);
        assert_eq!([hoge.flip, fuga.flip, cat.flip], [true, false, true]);
        assert_eq!([hoge.is_reg, fuga.is_reg, cat.is_reg], [false, true, false]);
        assert_eq!([hoge.validation_split, fuga.validation_split, cat.validation_split], [0.0, 0.5, 0.1]);
        assert_eq!(cat.class_tokens, None, "folder names mean nothing here");
        assert_eq!(cat.captions.prefix.as_deref(), Some("p"));
        assert_eq!((hoge.captions.dropout_rate, cat.captions.dropout_rate), (0.0, 0.05));
    }

    #[test]
    fn mistakes_are_named() {
        let subset = "[[datasets]]\n[[datasets.subsets]]\nimage_dir = \"a\"\n";
        for (text, expected) in [
            ("", "no [[datasets]]"),
            ("[[datasets]]\nresolution = 512", "no [[datasets.subsets]]"),
            ("[[datasets]]\n[[datasets.subsets]]\nnum_repeats = 1", "`image_dir` is missing"),
            (&format!("{subset}num_repeat = 1"), "did you mean `num_repeats`"),
            (&format!("{subset}resolution = 512"), "`resolution` cannot stand in [[datasets.subsets]]"),
            (&format!("{subset}num_repeats = \"many\""), "`num_repeats`"),
            (&format!("{subset}caption_dropout_rate = 2"), "from 0 to 1"),
            (&format!("{subset}metadata_file = \"m.json\""), "metadata_file"),
            (&format!("[generl]\n{subset}"), "did you mean `general`"),
            ("[datasets]\nresolution = 512", "double brackets"),
            (&format!("[general]\nresolution = 3\n{subset}"), "resolution"),
            (&format!("{subset}resize_interpolation = \"bicubic\""), "lanczos, area"),
        ] {
            let message = format!("{:#}", read_text(text, &[]).expect_err(text));
            assert!(message.contains(expected), "{text}\n{message}");
        }
    }

    #[test]
    fn what_is_left_out_is_said() {
        let text = "[general]\nnetwork_multiplier = 0.5\n[[datasets]]\n[[datasets.subsets]]\nimage_dir = \"a\"\nface_crop_aug_range = [1, 2]\n";
        let plan = read_text(text, &[]).unwrap();
        assert_eq!(plan.warnings.len(), 2, "{:?}", plan.warnings);
    }
}
