//! The real `extract score` on the seeded miniature model: its numbers against features that `extract` writes, going on after an
//! interruption, and what it refuses.

#[path = "extract_scratch.rs"]
mod scratch;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use driftless::formats::WeightFile;
use features::stores::{Feature, find_features};
use scratch::*;
use testkit::{fixture, message};

const SETS: &str = "
[[set]]
name = 'plain'
prompt = ''
t = 50
seed = 7
layer = ['up-level1-upsampler-out', 'mid-vit-out']
[[set]]
name = 'lora, prompt'
prompt = 'a red circle'
lora = ['LORA']
control = ['canny']
[[set]]
name = 'clean'
noise = 'none'
t = 12.5
prompt = ''
control = []
lora = []
";

/// A folder with `sets.toml`.
fn folder(sets: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let lora = fixture("training").join("lora.safetensors").display().to_string();
    std::fs::write(folder.path().join("sets.toml"), sets.replace("LORA", &lora)).unwrap();
    folder
}

fn score(folder: &Path, more: &[&str]) -> Output {
    let model = world().join("model").display().to_string();
    let images = world().join("images/00[0-2].png").display().to_string();
    let control = format!("canny={}", world().join("model/controlnet-canny").display());
    let mut arguments = vec!["score", "--quiet"];
    if !more.contains(&"--features") {
        arguments.extend(["--config", "sets.toml", "--model", &model, "--device", "cpu"]);
        for (option, value) in [("--img-size", "128"), ("--input-dir", images.as_str())] {
            if !more.contains(&option) {
                arguments.extend([option, value]);
            }
        }
        if std::fs::read_to_string(folder.join("sets.toml")).unwrap().contains("canny") {
            arguments.extend(["--controlnet-model", &control]);
        }
    }
    if !more.contains(&"--output") {
        arguments.extend(["--output", "OUT"]);
    }
    arguments.extend(more);
    bare(&arguments, folder)
}

type Scores = BTreeMap<(String, String, String, String, String), f64>;

fn scores(path: &Path) -> Scores {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("image,set,timestep,layer,score,value"));
    let mut found = Scores::new();
    for line in lines {
        // The one name with a comma is quoted.
        let line = line.replace("\"lora, prompt\"", "lora");
        let fields: Vec<&str> = line.split(',').collect();
        let [image, set, timestep, layer, score, value] = fields[..] else { panic!("{line}") };
        let key = [image, set, timestep, layer, score].map(str::to_owned);
        assert!(found.insert(key.into(), value.parse().unwrap()).is_none(), "{line} is there twice");
    }
    found
}

fn value(scores: &Scores, key: [&str; 5]) -> Option<f64> {
    scores.get(&key.map(str::to_owned).into()).copied()
}

/// Features in float32 as `extract` writes them, of the plain set.
fn written(folder: &Path, out: &str, options: &[&str]) {
    let images = world().join("images/00[0-2].png").display().to_string();
    std::fs::write(folder.join("two.json"), r#"{"up-level1-upsampler-out": true, "mid-vit-out": true}"#).unwrap();
    let fixed = ["--output_dir", out, "--output-dtype", "float32", "--input_dir", &images, "--prompt", "", "--layer", "two.json"];
    let size = if options.contains(&"--img_size") { [].as_slice() } else { &["--img_size", "128"] };
    succeeded(&extract(folder, &[&fixed, size, options].concat()));
}

fn feature(folder: &Path, out: &str, name: &str) -> Feature {
    let sources = find_features(&[folder.join(out)]).unwrap();
    sources.iter().find(|source| source.name == name).unwrap().read().unwrap().feature
}

#[test]
fn scores_are_those_of_written_features() {
    let folder = folder(SETS);
    let here = folder.path();
    succeeded(&score(here, &["--draws", "3", "--timesteps", "50,261", "--warps", "1", "--decode", "--timings", "t.json"]));
    let found = scores(&here.join("OUT/scores.csv"));
    let layers = ["mid-vit-out", "up-level1-upsampler-out"];

    // Draw r of `extract` is that of seed + 1000000 r.
    for (draw, seed) in ["7", "1000007", "2000007"].iter().enumerate() {
        written(here, &format!("draw-{draw}"), &["--seed", seed]);
    }
    succeeded(&score(here, &["--features", "draw-0", "draw-1", "draw-2", "--output", "WRITTEN"]));
    let again = scores(&here.join("WRITTEN/scores.csv"));
    assert_eq!(again.len(), 3 * layers.len());
    for ((image, _, timestep, layer, score), other) in &again {
        assert_eq!((timestep.as_str(), score.as_str()), ("", "draw_consistency"));
        let own = value(&found, [image, "plain", "50", layer, score]).unwrap();
        assert!((own - other).abs() < 1e-12, "{image} {layer}: {own} {other}");
    }

    // The reference is the plain set at t = 0, its first draw.
    written(here, "reference", &["--seed", "7", "--t", "0"]);
    for layer in layers {
        let reference = feature(here, "reference", &format!("{layer}/train1"));
        let draws: Vec<Feature> = (0..3).map(|draw| feature(here, &format!("draw-{draw}"), &format!("{layer}/train1"))).collect();
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        let cka = mean(draws.iter().map(|draw| tasks::score::cka(draw, &reference).unwrap().unwrap()).collect());
        assert!((value(&found, ["train1", "plain", "50", layer, "cka"]).unwrap() - cka).abs() < 1e-12);
        if layer == "up-level1-upsampler-out" {
            let paper = |draw: usize| tasks::score::paper(&draws[draw], &reference, &draws[(draw + 1) % 3]).unwrap().raw.unwrap();
            let paper = mean((0..3).map(paper).collect());
            assert!((value(&found, ["train1", "plain", "50", layer, "paper"]).unwrap() - paper).abs() < 1e-12);
        }
    }

    // Every set, timestep and score has its line; clean latents have no prediction and no anchor.
    let has = |set: &str, timestep: &str, layer: &str, score: &str| {
        ["train0", "train1", "train2"].iter().all(|image| value(&found, [image, set, timestep, layer, score]).is_some())
    };
    for (set, timestep) in [("plain", "50"), ("plain", "261"), ("lora", "50"), ("lora", "261"), ("clean", "12.5")] {
        for score in ["draw_consistency", "cka", "warp_pck", "warp_cells"] {
            assert!(has(set, timestep, layers[1], score), "{set} {timestep} {score}");
        }
        for score in ["imagination", "imagination_gradients", "imagination_edges"] {
            assert_eq!(has(set, timestep, "", score), set != "clean", "{set} {timestep} {score}");
        }
        assert_eq!(has(set, timestep, layers[1], "paper"), set != "clean");
    }
    assert!(!has("clean", "50", layers[1], "cka"));
    // What is imagined is further from the image the more noise there is, and what no noise is added to varies least.
    let of =
        |set: &str, timestep: &str, layer: &str, score: &str| value(&found, ["train0", set, timestep, layer, score]).unwrap();
    assert!(of("plain", "50", "", "imagination") > of("plain", "261", "", "imagination"));
    assert!(of("clean", "12.5", layers[1], "draw_consistency") > of("plain", "261", layers[1], "draw_consistency"));

    let read = |name: &str| std::fs::read_to_string(here.join(name)).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&read("OUT/summary.json")).unwrap();
    let entry = summary["means"].as_array().unwrap().iter().find(|entry| {
        entry["set"] == "plain" && entry["timestep"] == 261.0 && entry["layer"] == layers[1] && entry["score"] == "cka"
    });
    let expected = (0..3).map(|image| value(&found, [&format!("train{image}"), "plain", "261", layers[1], "cka"]).unwrap());
    assert!((entry.unwrap()["mean"].as_f64().unwrap() - expected.sum::<f64>() / 3.0).abs() < 1e-12);
    let page = read("OUT/report.html");
    for part in ["lora, prompt imagines", "train2", "draw_consistency", "--draws 3", "Over timesteps", "clean latents"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("clean imagines"));
    assert!(serde_json::from_str::<serde_json::Value>(&read("t.json")).unwrap()["stages"]["unet"].as_array().unwrap().len() > 30);
}

#[test]
fn a_run_goes_on_with_what_is_there_and_with_nothing_else() {
    let folder = folder(SETS.split("[[set]]\nname = 'lora").next().unwrap());
    let here = folder.path();
    let few = ["--draws", "2", "--timesteps", "100", "--warps", "1", "--shown-images", "1", "--batch-size", "1"];
    succeeded(&score(here, &few));
    let all = testkit::files(&here.join("OUT"));
    for lost in ["images/train1.csv", "images/train0.safetensors"] {
        std::fs::remove_file(here.join("OUT").join(lost)).unwrap();
        succeeded(&score(here, &few));
        assert_eq!(testkit::files(&here.join("OUT")), all, "{lost}");
    }
    let other = ["--draws", "3", "--timesteps", "100,261", "--warps", "1", "--shown-images", "1", "--img-size", "64"];
    let refused = score(here, &other);
    let text = message(&refused);
    assert_eq!(refused.status.code(), Some(1));
    for part in ["--draws was 2, is 3", "--timesteps was [100], is [100,261]", "img_size was 128, is 64", "--overwrite"] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    assert_eq!(testkit::files(&here.join("OUT")), all);
    succeeded(&score(here, &[&other[..], &["--overwrite"]].concat()));
    let found = scores(&here.join("OUT/scores.csv"));
    assert!(found.keys().all(|(_, _, timestep, ..)| timestep == "100" || timestep == "261"));
    assert_eq!(found.keys().filter(|(.., score)| score == "draw_consistency").count(), 3 * 2 * 2);
}

#[test]
fn what_cannot_be_scored_is_said() {
    let plain = SETS.split("[[set]]\nname = 'lora").next().unwrap();
    let fails = |sets: &str, more: &[&str], code: i32, parts: &[&str]| {
        let folder = folder(sets);
        written(folder.path(), "A", &[]);
        written(folder.path(), "B", &["--img_size", "64"]);
        let output = score(folder.path(), more);
        let text = message(&output);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {text}");
        for part in parts {
            assert!(text.contains(part), "{more:?}: {part} is missing in: {text}");
        }
        assert!(!folder.path().join("OUT/scores.csv").exists());
    };
    fails(plain, &["--draws", "1"], 2, &["--draws 1", "2 to 10000"]);
    fails(plain, &["--draws", "1", "--timesteps", "50,50", "--reference", "none"], 2, &["--draws 1", "each once"]);
    fails(plain, &["--reference", "plian"], 2, &["--reference plian", "plain"]);
    fails(plain, &["--timesteps", "1000"], 2, &["--timesteps", "0 to 999"]);
    fails(plain, &["--features", "A"], 2, &["--features: 1 folder", "two draws or more"]);
    fails(plain, &["--features", "A", "B"], 1, &["of shapes", "cannot be compared", "train0"]);
    fails(plain, &["--features", "A", "nowhere"], 1, &["nowhere", "no such file or folder"]);
    fails(plain, &["--features", "A", "sets.toml"], 1, &["sets.toml"]);
    let other = format!("{plain}[[set]]\nname = 'other'\nprompt = ''\nlayer = ['mid-vit-out']\n");
    fails(&other, &[], 1, &["`plain` and `other`", "different layers"]);
    let fused = format!("{plain}[[set]]\nname = 'both'\nfuse = ['plain', 'plain']\n");
    fails(&fused, &[], 1, &["set `both`"]);
    fails(plain, &["--shard", "0/2"], 2, &["--shard"]);
}

#[test]
fn an_exhibit_holds_what_the_report_shows() {
    let folder = folder(SETS.split("[[set]]\nname = 'clean").next().unwrap());
    let here = folder.path();
    succeeded(&score(here, &["--draws", "2", "--timesteps", "20,100,261", "--warps", "0", "--shown-images", "2"]));
    let file = WeightFile::open(here.join("OUT/images/train1.safetensors")).unwrap();
    let names: Vec<&str> = file.names().collect();
    assert!(names.contains(&"photo") && names.contains(&"imagined/1"));
    assert!(names.contains(&"features/1/up-level1-upsampler-out") && names.len() == 7, "{names:?}");
    assert!(!here.join("OUT/images/train2.safetensors").exists());
    // Without warps nothing is said of them.
    assert!(scores(&here.join("OUT/scores.csv")).keys().all(|(.., score)| !score.starts_with("warp")));
}
