//! A test: what the row of an option says that another value changes, and what it really changes in the plan.

use std::ffi::OsString;
use std::path::Path;

use super::{Sets, Settings};
use crate::manifest::set_record;
use crate::options::{Identity, Record, Row, SET_OPTIONS, SetFacts, SetOption, SetSettings, read_sets};
use crate::set::{FeatureSet, LayerChoice};
use driftless::taps::LayerId;

/// Two values of an option, as a configuration file has them; `here` is a folder with the files that some name.
fn two_values(key: &str, here: &Path) -> [toml::Value; 2] {
    let file = |name: &str| format!("'{}'", here.join(name).display());
    let texts = match key {
        "name" => ["'x'", "'y'"].map(str::to_owned),
        "model" => ["'m'", "'n'"].map(str::to_owned),
        "lora" => ["['a.safetensors']", "['a.safetensors:0.5']"].map(str::to_owned),
        "layer" => ["['unet-in']", "['unet-out']"].map(str::to_owned),
        "unet" => [file("a.txt"), file("b.txt")],
        "noise" => ["'added'", "'none'"].map(str::to_owned),
        "t" => ["50", "51"].map(str::to_owned),
        "denoising_from" => ["60", "61"].map(str::to_owned),
        "use_ddim_inversion" => ["false", "true"].map(str::to_owned),
        "attention" => ["['up_cross']", "['up_self']"].map(str::to_owned),
        "feature_resize" => ["1", "2"].map(str::to_owned),
        "ensemble" => ["1", "2"].map(str::to_owned),
        "seed" => ["0", "1"].map(str::to_owned),
        "write" => ["true", "false"].map(str::to_owned),
        "fuse" => ["['plain', 'other']", "['other', 'plain']"].map(str::to_owned),
        "fuse_mode" => ["'mean'", "'concat'"].map(str::to_owned),
        "prompt" => ["'a'", "'b'"].map(str::to_owned),
        "prompt_file" => [file("a.txt"), file("b.txt")],
        "caption_dir" => [file("a"), file("b")],
        "prompt_csv" => [file("a.csv"), file("b.csv")],
        "control" => ["['canny']", "[{ kind = 'canny', end = 0.5 }]"].map(str::to_owned),
        other => panic!("`{other}` is a new option: give two of its values here, so that its identity is tested"),
    };
    texts.map(|text| table(&format!("value = {text}"))["value"].clone())
}

fn two_words(flag: &str) -> [&'static str; 2] {
    match flag {
        "control-scale" | "control-start" => ["canny=0.25", "canny=0.5"],
        "control-end" => ["canny=0.75", "canny=0.5"],
        other => panic!("`--{other}` is a new option: give two of its values here, so that its identity is tested"),
    }
}

fn table(text: &str) -> toml::Table {
    text.parse().unwrap()
}

/// Two sets, or two fusions, that differ in an option alone; behind them what fusions are made of.
fn two_sets(option: &SetOption, here: &Path) -> Vec<SetSettings> {
    let others = ["plain", "other"].map(|name| table(&format!("name = '{name}'\nprompt = '{name}'\nt = 50")));
    let base = match option.identity {
        Identity::Fusion => table("fuse = ['plain', 'other']"),
        Identity::Pass | Identity::Keep | Identity::Place => table("t = 50\nlayer = ['unet-in']\ncontrol = ['canny']"),
    };
    let mut pair = ["first", "second"].map(|name| {
        let mut set = base.clone();
        set.insert("name".to_owned(), name.into());
        set
    });
    if let Some(key) = option.key {
        for (set, value) in pair.iter_mut().zip(two_values(key, here)) {
            set.insert(key.to_owned(), value);
        }
    }
    let is_source = |key: &str| ["prompt", "prompt_file", "caption_dir", "prompt_csv"].contains(&key);
    if option.identity != Identity::Fusion && !option.key.is_some_and(is_source) {
        pair.iter_mut().for_each(|set| drop(set.insert("prompt".to_owned(), "p".into())));
    }
    // What is not written has to be part of something.
    let user = (option.key == Some("write")).then(|| table("name = 'both'\nfuse = ['first', 'second']"));
    let mut sets = read_sets(pair.into_iter().chain(others).chain(user).collect()).unwrap();
    if let (None, Some(flag)) = (option.key, &option.flag) {
        for (set, word) in sets.iter_mut().zip(two_words(flag.name)) {
            option.read_typed(set, flag, &[OsString::from(word)]).unwrap();
        }
    }
    sets
}

/// A row says what another value really changes: a pass that would be shared in spite of it shows here.
#[test]
fn every_option_has_the_identity_of_its_row() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        let here = |name: String| folder.path().join(name);
        std::fs::write(here(format!("{name}.txt")), name).unwrap();
        std::fs::write(here(format!("{name}.csv")), format!("image,prompt\nx,{name}\n")).unwrap();
        std::fs::create_dir(here(name.to_owned())).unwrap();
        std::fs::write(here(format!("{name}/x.txt")), name).unwrap();
    }
    for option in SET_OPTIONS {
        let settings = Settings { sets: two_sets(option, folder.path()), file: Some("s.toml".into()), ..Settings::default() };
        let planned = Sets::new(&settings, &driftless::model_family::sd15::FAMILY, 512, &[]).unwrap();
        let mut sets = planned.sets.values();
        let (first, second) = (sets.next().unwrap(), sets.next().unwrap());
        let fusions: Vec<_> = planned.fusions.values().map(|fusion| (fusion.first, &fusion.others, fusion.mode)).collect();
        let names = [first, second].map(|set| set.name.as_deref());
        // What another value makes other is another record, unless the row says why it has none.
        let record = |set: &FeatureSet| {
            let contents: Vec<serde_json::Value> = set.pass.lora.iter().map(|_| "contents".into()).collect();
            let model = serde_json::json!(format!("{:?}", set.pass.model));
            let layers = match &set.keep.layers {
                LayerChoice::Listed { ids, .. } if ids[0].0 == "unet-out" => [LayerId::UnetOut],
                LayerChoice::Listed { .. } | LayerChoice::Everything => [LayerId::UnetIn],
            };
            let controls = Default::default();
            set_record(&SetFacts { set, layers: &layers, model: &model, adapters: &contents, controls: &controls })
        };
        match (option.record, option.identity) {
            (Record::Set(_) | Record::SetIf(_), Identity::Pass | Identity::Keep) => {
                assert_ne!(record(first), record(second), "{:?}", option.key)
            }
            (Record::Fusion(of), Identity::Fusion) => {
                let mut fusions = planned.fusions.values();
                assert_ne!(fusions.next().map(of), fusions.next().map(of), "{:?}", option.key);
            }
            (Record::Within(place) | Record::Nowhere(place), _) => assert!(!place.is_empty(), "{:?}", option.key),
            (Record::Set(_) | Record::SetIf(_), Identity::Fusion | Identity::Place) | (Record::Fusion(_), _) => {
                panic!("{:?}", option.key)
            }
        }
        let changed = match option.identity {
            Identity::Fusion => (false, false, false, fusions[0] != fusions[1]),
            Identity::Pass | Identity::Keep | Identity::Place => {
                let place = names != [Some("first"), Some("second")] && names[0] != names[1];
                (first.pass != second.pass, first.keep != second.keep, place, false)
            }
        };
        let expected = match option.identity {
            Identity::Pass => (true, false, false, false),
            Identity::Keep => (false, true, false, false),
            Identity::Place => (false, false, true, false),
            Identity::Fusion => (false, false, false, true),
        };
        assert_eq!(changed, expected, "{:?} {:?}", option.key, option.flag);
    }
}
