//! The rows, in the order of the help.

use driftless::taps::AttentionCategory;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ControlSetting, Flag, Given, Identity, LayerSetting, Record, SetFacts, SetOption, SetSettings, Takes};
use crate::fault::{Fault, RequestFault};
use crate::inputs::PromptSource;
use crate::set::{Finite, FusionMode, LoraFile, Noising, Timestep};
use Record::{Nowhere, Set, SetIf, Within};

/// More draws than anybody means; DIFT takes eight.
const MOST_DRAWS: u64 = 10_000;

const WHAT: &str = "What to extract";
const PROMPT: &str = "Prompt and ControlNet";
const MODEL: &str = "Model";

/// An option that changes what the network computes, the same on the command line and in a `[[set]]`; other rows say how they differ.
const PASS: SetOption = SetOption {
    key: None,
    flag: None,
    doc: "",
    identity: Identity::Pass,
    // Every row has a place of its own; a test fails for one that has not.
    record: Nowhere(""),
    inherited: false,
    read: |_, _| Ok(()),
};

const fn flag(name: &'static str, value: &'static str, takes: Takes, heading: &'static str) -> Option<Flag> {
    Some(Flag::new(name, value, takes, heading))
}

/// All options of a feature set.
pub const SET_OPTIONS: &[SetOption] = &[
    SetOption {
        key: Some("name"),
        doc: "The set's folder in the output",
        identity: Identity::Place,
        record: Nowhere("it is the name of the record"),
        read: |set, given| given.text().map(|name| set.name = Some(name)),
        ..PASS
    },
    SetOption {
        key: Some("model"),
        doc: "A merged model instead of the run's: folder, checkpoint file or hub id",
        record: Set(|facts| facts.model.clone()),
        read: |set, given| given.text().map(|model| set.model = Some(model)),
        ..PASS
    },
    SetOption {
        key: Some("unet"),
        doc: "A UNet in the place of the model's: file or folder",
        record: Within("`model`"),
        read: |set, given| given.path().map(|unet| set.unet = Some(unet)),
        ..PASS
    },
    SetOption {
        key: Some("lora"),
        flag: flag("lora", "FILE[:SCALE]", Takes::Each, MODEL),
        doc: "Adapter of any family, with a strength [default strength: 1]; {folder} in its name stands for the name of the folder \
              that an image is in; repeatable",
        record: Set(adapters),
        read: |set, given| all(given, lora_file).map(|values| set.lora = values),
        ..PASS
    },
    SetOption {
        key: Some("layer"),
        flag: flag("layer", "FILE", Takes::One, WHAT),
        doc: "JSON file of layers: {\"id\": true, ...} or [\"id\", ...] [default: all layers]",
        identity: Identity::Keep,
        inherited: true,
        record: Set(|facts| facts.layers.iter().map(ToString::to_string).collect()),
        read: |set, given| layer(given).map(|layer| set.layer = Some(layer)),
    },
    SetOption {
        key: Some("t"),
        flag: flag("t", "T", Takes::One, WHAT),
        doc: "Noise level, 0 to 999; needed. With --noise none the timestep that the network is told, also a fraction [default then: the one \
              that the adapter was trained at by `train --objective cleandift`]",
        inherited: true,
        record: Set(|facts| facts.set.pass.t.record()),
        read: |set, given| timestep(given).map(|t| set.t = Some(t)),
        ..PASS
    },
    SetOption {
        key: Some("noise"),
        flag: flag("noise", "added|none", Takes::One, WHAT),
        doc: "none: show the network clean latents, for adapters and UNets that were trained on such (CleanDIFT) [default: added]",
        record: SetIf(|facts| facts.set.pass.t.is_clean().then(|| json!(Noising::None.name()))),
        read: |set, given| {
            let noise = Noising::named(&given.text()?).ok_or_else(|| given.wrong("added or none"))?;
            set.noise = Some(noise);
            Ok(())
        },
        ..PASS
    },
    SetOption {
        key: Some("denoising_from"),
        flag: flag("denoising-from", "D", Takes::One, WHAT),
        doc: "Start at this noise level and denoise down to --t",
        record: Set(|facts| json!(facts.set.pass.denoising_from)),
        read: |set, given| given.size(1..=Timestep::LAST as u64).map(|from| set.denoising_from = Some(from)),
        ..PASS
    },
    SetOption {
        key: Some("use_ddim_inversion"),
        flag: flag("use-ddim-inversion", "", Takes::Nothing, WHAT),
        doc: "Noise the image by inverting the sampler instead of adding random noise",
        record: Set(|facts| json!(facts.set.pass.use_ddim_inversion)),
        read: |set, given| given.switch().map(|inverts| set.use_ddim_inversion = inverts),
        ..PASS
    },
    SetOption {
        key: Some("attention"),
        flag: flag("attention", "CATEGORY", Takes::Many, WHAT),
        doc: "Aggregated attention maps as one more layer, `attn`: down_cross mid_cross up_cross down_self mid_self up_self",
        identity: Identity::Keep,
        record: Set(|facts| facts.set.keep.attention.iter().map(ToString::to_string).collect()),
        read: |set, given| attention(given).map(|names| set.attention = names),
        ..PASS
    },
    SetOption {
        key: Some("feature_resize"),
        flag: flag("feature-resize", "N", Takes::One, WHAT),
        doc: "Average features over squares of this many pixels [default: 1]",
        identity: Identity::Keep,
        record: Set(|facts| json!(facts.set.keep.feature_resize)),
        read: |set, given| given.size(0..=u64::MAX).map(|side| set.feature_resize = Some(side)),
        ..PASS
    },
    SetOption {
        key: Some("seed"),
        flag: flag("seed", "N", Takes::One, WHAT),
        doc: "Image number i draws its noise from this + i [default: 0]",
        inherited: true,
        record: Set(|facts| json!(facts.set.pass.seed)),
        read: |set, given| given.number(0..=u64::MAX).map(|seed| set.seed = Some(seed)),
        ..PASS
    },
    SetOption {
        key: Some("ensemble"),
        flag: flag("ensemble", "N", Takes::One, WHAT),
        doc: "Mean of the features of N draws of the noise, the n-th from 0 with the seed 1000000 n higher [default: 1]",
        record: SetIf(|facts| (facts.set.pass.ensemble > 1).then(|| json!(facts.set.pass.ensemble))),
        read: |set, given| given.size(1..=MOST_DRAWS).map(|count| set.ensemble = Some(count)),
        ..PASS
    },
    SetOption {
        key: Some("write"),
        doc: "Whether its features are written; false for a set that only goes into others by `fuse` [default: true]",
        identity: Identity::Keep,
        record: Nowhere("a set that is not written has no files"),
        read: |set, given| given.switch().map(|write| set.write = Some(write)),
        ..PASS
    },
    SetOption {
        key: Some("fuse"),
        doc: "Names of the sets that this one is made of; it has nothing else but a name and a `fuse_mode`",
        identity: Identity::Fusion,
        record: Within("`of`: the records of the sets that it is made of"),
        read: |set, given| given.texts().map(|sources| set.fuse = sources),
        ..PASS
    },
    SetOption {
        key: Some("fuse_mode"),
        doc: "`mean`, or `concat` for the channels behind each other [default: mean]",
        identity: Identity::Fusion,
        record: Record::Fusion(|fusion| json!(fusion.mode.name())),
        read: |set, given| {
            let mode = FusionMode::named(&given.text()?).ok_or_else(|| given.wrong("mean or concat"))?;
            set.fuse_mode = Some(mode);
            Ok(())
        },
        ..PASS
    },
    SetOption {
        key: Some("prompt"),
        flag: flag("prompt", "TEXT", Takes::One, PROMPT),
        doc: "One prompt for all images; {folder} in it stands for the name of the folder that an image is in",
        record: Set(prompt),
        read: |set, given| given.text().map(|prompt| set.prompt = Some(prompt)),
        ..PASS
    },
    SetOption {
        key: Some("prompt_file"),
        flag: flag("prompt-file", "FILE", Takes::One, PROMPT),
        doc: "File that holds the one prompt [default: prompt.txt]",
        record: Within("`prompt`"),
        read: |set, given| given.path().map(|path| set.prompt_file = Some(path)),
        ..PASS
    },
    SetOption {
        key: Some("caption_dir"),
        flag: flag("caption-dir", "DIR", Takes::One, PROMPT),
        doc: "Folder with a prompt per image, NAME.txt",
        record: Within("`prompts` of each image"),
        read: |set, given| given.path().map(|path| set.caption_dir = Some(path)),
        ..PASS
    },
    SetOption {
        key: Some("prompt_csv"),
        flag: flag("prompt-csv", "FILE", Takes::One, PROMPT),
        doc: "Table of prompts, with a header line: one column `image` (path, file name, or file name without extension), one `prompt`",
        record: Within("`prompts` of each image"),
        read: |set, given| given.path().map(|path| set.prompt_csv = Some(path)),
        ..PASS
    },
    SetOption {
        key: Some("control"),
        flag: flag("control", "KIND", Takes::Many, PROMPT),
        doc: "ControlNets to steer with: canny, depth, or any name that --controlnet-model and --control-image-dir explain",
        record: Set(controls),
        read: |set, given| all(given, control).map(|values| set.control = values),
        ..PASS
    },
    // In a `[[set]]` the following are keys of `control`'s tables.
    SetOption {
        flag: flag("control-scale", "KIND=SCALE", Takes::Each, PROMPT),
        doc: "Strength of a kind's ControlNet [default: 1]; repeatable",
        record: Within("`control`"),
        read: |set, given| of_kinds(set, given, |control, scale| control.scale = Some(scale)),
        ..PASS
    },
    SetOption {
        flag: flag("control-start", "KIND=SHARE", Takes::Each, PROMPT),
        doc: "Share of the denoising steps after which a kind's ControlNet begins to steer [default: 0]; repeatable",
        record: Within("`control`"),
        read: |set, given| of_kinds(set, given, |control, start| control.start = Some(start)),
        ..PASS
    },
    SetOption {
        flag: flag("control-end", "KIND=SHARE", Takes::Each, PROMPT),
        doc: "Share of the denoising steps after which a kind's ControlNet no longer steers [default: 1]; repeatable",
        record: Within("`control`"),
        read: |set, given| of_kinds(set, given, |control, end| control.end = Some(end)),
        ..PASS
    },
];

/// The prompt for all images, or that each has its own.
fn prompt(facts: &SetFacts) -> Value {
    match &facts.set.pass.prompt {
        PromptSource::Text(text) => json!(text),
        PromptSource::Captions(_) | PromptSource::Table(_) => json!({ "of": "each image" }),
    }
}

/// Adapters by what their files hold.
fn adapters(facts: &SetFacts) -> Value {
    let pairs = facts.set.pass.lora.iter().zip(facts.adapters);
    pairs.map(|(lora, contents)| json!({ "scale": lora.scale.get(), "contents": contents })).collect()
}

/// ControlNets by what their files hold.
fn controls(facts: &SetFacts) -> Value {
    let steering = facts.set.pass.control.iter();
    let one = steering.map(|one| {
        let (scale, start, end) = (one.scale.get(), one.start.get(), one.end.get());
        json!({ "kind": one.kind, "scale": scale, "start": start, "end": end, "contents": facts.controls.get(&one.kind) })
    });
    one.collect()
}

/// Every value of a list.
fn all<T>(given: Given, read: impl Fn(Given) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
    given.items()?.into_iter().map(read).collect()
}

/// `"FILE"`, or in a configuration file `["id", ...]`.
fn layer(given: Given) -> Result<LayerSetting, Fault> {
    match given {
        Given::Read { value: toml::Value::Array(_), .. } => given.texts().map(LayerSetting::Ids),
        Given::Read { .. } | Given::Typed { .. } => given.path().map(LayerSetting::File),
    }
}

/// A timestep; whether it may be a fraction is the plan's to say.
fn timestep(given: Given) -> Result<Finite, Fault> {
    let number = match given {
        Given::Typed { words, .. } => words.first().and_then(|word| word.to_str()?.parse().ok()),
        Given::Read { value, .. } => value.as_float().or_else(|| value.as_integer().map(|number| number as f64)),
    };
    let in_range = number.filter(|number| (0.0..=Timestep::LAST as f64).contains(number)).and_then(Finite::new);
    in_range.ok_or_else(|| given.wrong("a whole number, 0 to 999; where no noise is added also a fraction"))
}

/// `"FILE:SCALE"`, or in a configuration file `{ file = "FILE", scale = SCALE }`.
fn lora_file(given: Given) -> Result<LoraFile, Fault> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        file: std::path::PathBuf,
        scale: Option<f64>,
    }
    let file = match given.table::<Table>() {
        Some(Table { file, scale }) => Finite::new(scale.unwrap_or(1.0)).map(|scale| LoraFile { file, scale }),
        None => given.text().ok().and_then(|text| text.parse().ok()),
    };
    file.ok_or_else(|| given.wrong("FILE or FILE:SCALE with a finite scale"))
}

/// The names as they are; on the command line they are checked at once, in a file together with everything else.
fn attention(given: Given) -> Result<Vec<String>, Fault> {
    let names = given.texts()?;
    if let Given::Typed { flag, .. } = given {
        for name in &names {
            name.parse::<AttentionCategory>().map_err(|source| {
                let known = AttentionCategory::ALL.map(|category| category.to_string()).join(", ");
                Fault::usage(RequestFault::Attention { source, known }).of(&format!("--{flag}: "))
            })?;
        }
    }
    Ok(names)
}

/// `"KIND"`, or in a configuration file `{ kind = "KIND", scale = SCALE, start = SHARE, end = SHARE }`.
fn control(given: Given) -> Result<ControlSetting, Fault> {
    let kind = || given.text().ok().map(|kind| ControlSetting { kind, ..ControlSetting::default() });
    let expected = "KIND or { kind = \"KIND\", scale = SCALE, start = SHARE, end = SHARE }";
    given.table().or_else(kind).ok_or_else(|| given.wrong(expected))
}

/// `KIND=NUMBER` for kinds that `--control` names; the last of equal kinds is in force.
fn of_kinds(set: &mut SetSettings, given: Given, put: impl Fn(&mut ControlSetting, f64)) -> Result<(), Fault> {
    for given in given.items()? {
        let text = given.text()?;
        let parts = text.split_once('=').and_then(|(kind, number)| Some((kind, number.parse::<f64>().ok()?)));
        let (kind, number) = match parts {
            Some((kind, number)) if !kind.is_empty() && number.is_finite() => (kind, number),
            _ => return Err(given.wrong("KIND=NUMBER, for instance canny=0.5")),
        };
        let controls = set.control.iter_mut().filter(|control| control.kind == kind);
        if controls.map(|control| put(control, number)).count() == 0 {
            return Err(Fault::usage(RequestFault::StrengthWithoutControl { kind: kind.to_owned() }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn strengths_by_kind() {
        let read = |words: &[&str]| {
            let mut set = SetSettings {
                control: vec![ControlSetting { kind: "canny".into(), ..Default::default() }],
                ..Default::default()
            };
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            of_kinds(&mut set, Given::Typed { flag: "control-scale", words: &words }, |control, scale| {
                control.scale = Some(scale)
            })?;
            Ok::<_, Fault>(set.control[0].scale)
        };
        assert_eq!(read(&["canny=0.5", "canny=0.25"]).unwrap(), Some(0.25));
        for wrong in ["canny", "=1", "canny=x", "canny=inf", "depth=1"] {
            assert!(read(&[wrong]).is_err(), "{wrong}");
        }
    }
}
