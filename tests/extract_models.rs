//! The real `extract` binary with weights that change within a run: a model per set, adapters by folder, and what sets share.

#[path = "extract_scratch.rs"]
mod scratch;

use std::path::Path;

use candle_core::{DType, Device};
use driftless::adapter::files::CLEAN_TIMESTEP;
use driftless::formats::{WeightFile, write_safetensors};
use driftless::miniature::{Size, write_images, write_model};
use scratch::*;
use serde_json::Value;
use testkit::fixture;

const LAYER: &str = "layer = [\"up-level1-upsampler-out\"]";

fn run(folder: &Path, text: &str, more: &[&str]) -> std::process::Output {
    std::fs::write(folder.join("sets.toml"), text).unwrap();
    extract(folder, &[&["--config", "sets.toml"][..], more].concat())
}

#[test]
fn a_set_has_a_model_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let other = here.join("other");
    write_model(&other, Size::Miniature, DType::F32, 1).unwrap();
    let images = world().join("images/00[0-2].png");
    let set =
        |name: &str, more: &str| format!("[[set]]\nname = \"{name}\"\nprompt = \"a red circle\"\nt = 50\n{LAYER}\n{more}\n");
    let input = format!("[input]\nimages = {images:?}\nimg_size = 64\n");
    let merged = format!("model = {other:?}");
    let sets =
        [set("plain", ""), set("merged", &merged), set("again", "seed = 7"), set("merged-again", &format!("{merged}\nseed = 7"))];
    let output = run(here, &(input.clone() + &sets.concat()), &["--timings", "t.json"]);
    succeeded(&output);
    let timings: Value = serde_json::from_str(&std::fs::read_to_string(here.join("t.json")).unwrap()).unwrap();
    assert_eq!((timings["images"].as_u64(), timings["stages"]["load"].as_array().unwrap().len()), (Some(3), 2));
    let found = files(&here.join("OUT"));
    assert_eq!(found.len(), 12);
    std::fs::write(here.join("l.json"), r#"["up-level1-upsampler-out"]"#).unwrap();
    let scratch = ["--input_dir", images.to_str().unwrap(), "--layer", "l.json", "--output_dir", "SINGLE"];
    succeeded(&extract(here, &[&scratch[..], &["--offline_lora", "other", "--seed", "7"]].concat()));
    assert_eq!(files(&here.join("SINGLE")), files(&here.join("OUT/merged-again")));
    assert_ne!(files(&here.join("OUT/merged")), files(&here.join("OUT/plain")));

    std::fs::remove_dir_all(here.join("OUT")).unwrap();
    let fused =
        set("f", "").replace("prompt = \"a red circle\"\nt = 50\n", "fuse = [\"plain\", \"merged\"]\n").replace(LAYER, "");
    refused(here, &run(here, &(input.clone() + &sets.concat() + &fused), &[]), 1, &["different models"]);
    let nowhere = set("nowhere", "model = \"no/such\"");
    refused(here, &run(here, &(input + &sets[0] + &nowhere), &[]), 1, &["no/such"]);
}

#[test]
fn adapters_are_chosen_by_folder() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    for (name, first) in [("cat", 0), ("dog", 2), ("owl", 4)] {
        write_images(&here.join("in").join(name), first, 2, 64).unwrap();
    }
    for (name, file) in [("cat", "lora"), ("dog", "locon"), ("owl", "lora")] {
        std::fs::create_dir_all(here.join("weights")).unwrap();
        std::fs::copy(fixture(&format!("training/{file}.safetensors")), here.join(format!("weights/{name}.safetensors")))
            .unwrap();
    }
    let common = ["--input_dir", "in/**/*.png", "--nested_input_dir", "--use_original_filename"];
    let with = |lora: &str, out: &str, size: &str| {
        succeeded(&extract(here, &[&common[..], &["--lora", lora, "--output_dir", out, "-b", size]].concat()));
        files(&here.join(out))
    };
    let by_folder = with("weights/{folder}.safetensors:0.5", "A", "1");
    let (lora, locon) = (with("weights/cat.safetensors:0.5", "B", "1"), with("weights/dog.safetensors:0.5", "C", "1"));
    for (name, bytes) in &by_folder {
        let (same, other) = if name.contains("/dog/") { (&locon, &lora) } else { (&lora, &locon) };
        assert!(*bytes == same[name] && *bytes != other[name], "{name}");
    }
    // A batch with images of two folders is computed in two parts.
    assert_eq!(with("weights/{folder}.safetensors:0.5", "D", "3").len(), by_folder.len());
    std::fs::remove_file(here.join("weights/owl.safetensors")).unwrap();
    let missing = extract(here, &[&common[..], &["--lora", "weights/{folder}.safetensors"]].concat());
    refused(here, &missing, 1, &["owl.safetensors: no such adapter"]);
}

#[test]
fn sets_that_differ_in_what_they_keep_share_a_pass() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let images = world().join("images/00[01].png");
    let text = format!(
        r#"
        [input]
        images = {images:?}
        img_size = 128
        [[set]]
        name = "a"
        prompt = "a red circle"
        t = 50
        layer = ["up-level1-upsampler-out", "vae-out"]
        [[set]]
        name = "b"
        prompt = "a red circle"
        layer = ["attn", "unet-in"]
        attention = ["up_cross"]
        [[set]]
        name = "c"
        prompt = "a red circle"
        layer = ["up-level1-upsampler-out"]
        feature_resize = 2
        "#
    );
    succeeded(&run(here, &text, &["--timings", "t.json"]));
    let timings: Value = serde_json::from_str(&std::fs::read_to_string(here.join("t.json")).unwrap()).unwrap();
    assert_eq!(timings["stages"]["unet"].as_array().unwrap().len(), 1);
    let before = files(&here.join("OUT"));
    assert_eq!(before.len(), 10);
    // What is missing of one comes back to the byte.
    std::fs::remove_dir_all(here.join("OUT/c")).unwrap();
    succeeded(&run(here, &text, &[]));
    assert_eq!(files(&here.join("OUT")), before);
}

/// Clean latents, and a UNet instead of the model's: what is recorded, what is shared, what is refused.
#[test]
fn clean_latents_and_another_unet() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    // Where nothing was written before.
    let nothing = here.join("nothing");
    write_model(&here.join("other"), Size::Miniature, DType::F32, 1).unwrap();
    let images = world().join("images/00[0-1].png");
    let input = format!("[input]\nimages = {images:?}\nimg_size = 64\n");
    let set = |name: &str, more: &str| format!("[[set]]\nname = \"{name}\"\nprompt = \"a red circle\"\n{LAYER}\n{more}\n");
    let clean = "noise = \"none\"\nt = 261.37";
    let unet = "unet = \"other/unet/diffusion_pytorch_model.safetensors\"";
    let sets = [
        set("noised", "t = 261"),
        set("clean", clean),
        set("whole", "noise = \"none\"\nt = 261"),
        set("other", &format!("{clean}\n{unet}")),
    ];
    succeeded(&run(here, &(input.clone() + &sets.concat()), &[]));
    let found = files(&here.join("OUT"));
    let of = |set: &str| found.iter().find(|(name, _)| name.starts_with(set)).unwrap().1;
    let all: std::collections::BTreeSet<_> = ["noised", "clean", "whole", "other"].map(of).into_iter().collect();
    assert_eq!(all.len(), 4, "some features are equal");
    let manifest = |out: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(here.join(out).join("extract.json")).unwrap()).unwrap()
    };
    let recorded = manifest("OUT");
    let sets_of = &recorded["sets"];
    assert_eq!((&sets_of["clean"]["t"], &sets_of["clean"]["noise"]), (&261.37.into(), &"none".into()));
    // Sets with noise are recorded as ever, so that earlier outputs go on.
    assert_eq!((&sets_of["noised"]["t"], sets_of["noised"].get("noise")), (&261.into(), None));
    assert!(sets_of["other"]["model"]["unet"].is_string() && sets_of["clean"]["model"].get("unet").is_none());

    // The same on the command line, with the folder instead of the file, restarted and with the UNet's bytes changed.
    std::fs::write(here.join("l.json"), r#"["up-level1-upsampler-out"]"#).unwrap();
    let common = ["--input_dir", images.to_str().unwrap(), "--layer", "l.json", "--noise", "none", "--t", "261.37"];
    let single = |more: &[&str]| extract(here, &[&common[..], &["--output_dir", "ONE"], more].concat());
    succeeded(&single(&["--unet", "other"]));
    assert_eq!(
        files(&here.join("ONE")).into_values().collect::<Vec<_>>(),
        files(&here.join("OUT/other")).into_values().collect::<Vec<_>>()
    );
    refused(&nothing, &single(&[]), 1, &["other settings", "unet"]);
    refused(&nothing, &single(&["--unet", "other", "--t", "261"]), 1, &["t was 261.37, is 261"]);

    let wrong = |more: &[&str], parts: &[&str]| {
        let images = ["--input_dir", images.to_str().unwrap(), "--output_dir", "NONE"];
        refused(&nothing, &extract(here, &[&images[..], more].concat()), 2, parts);
    };
    wrong(&["--noise", "none", "--denoising_from", "60", "--use_ddim_inversion"], &["denoising_from", "use_ddim_inversion"]);
    wrong(&["--noise", "none", "--ensemble", "2"], &["ensemble is 2"]);
    wrong(&["--t", "50.5"], &["t is 50.5", "whole number"]);
    wrong(&["--noise", "non"], &["added or none"]);
    std::fs::write(here.join("v.json"), r#"["vae-out"]"#).unwrap();
    wrong(&["--noise", "none", "--layer", "v.json"], &["vae-out"]);
    refused(&nothing, &single(&["--unet", "no/such", "--overwrite"]), 1, &["no/such", "no such file"]);
    refused(&nothing, &single(&["--unet", "other/vae", "--overwrite"]), 1, &["other/vae"]);
    // Neither inherits the other's timestep.
    refused(
        &nothing,
        &run(here, &(input + &sets[1] + &set("plain", "")), &["--output_dir", "NONE"]),
        2,
        &["set `plain`: --t is needed"],
    );
}

/// An adapter that was trained on clean latents says at which timestep.
#[test]
fn the_timestep_of_an_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let write = |name: &str, entry: Option<&str>| {
        let file = WeightFile::open(fixture("training/lora.safetensors")).unwrap();
        let tensors: Vec<_> = file.names().map(|key| (key.to_owned(), file.tensor(key, &Device::Cpu).unwrap())).collect();
        let metadata = entry.map(|text| (CLEAN_TIMESTEP.to_owned(), text.to_owned())).into_iter().collect();
        write_safetensors(here.join(name), tensors, &metadata).unwrap();
    };
    [("a", Some("260.75")), ("b", Some("261.5")), ("plain", None), ("wrong", Some("-1"))]
        .into_iter()
        .for_each(|(name, entry)| write(&format!("{name}.safetensors"), entry));
    let images = world().join("images/000.png");
    let text = |lora: &str, more: &str| {
        format!(
            "[input]\nimages = {images:?}\nimg_size = 64\n[[set]]\nname = \"s\"\nprompt = \"a red circle\"\n{LAYER}\nnoise = \"none\"\nlora =              {lora}\n{more}\n"
        )
    };
    refused(here, &run(here, &text("[\"plain.safetensors\"]", ""), &[]), 2, &["--t is needed", "cleandift"]);
    let several = "[\"a.safetensors\", \"b.safetensors\"]";
    refused(here, &run(here, &text(several, ""), &[]), 2, &["a.safetensors", "260.75", "b.safetensors", "261.5", "--t"]);
    refused(here, &run(here, &text("[\"wrong.safetensors\"]", ""), &[]), 1, &["wrong.safetensors", CLEAN_TIMESTEP, "-1"]);
    succeeded(&run(here, &text("[\"a.safetensors\", \"plain.safetensors\"]", ""), &[]));
    let manifest: Value = serde_json::from_str(&std::fs::read_to_string(here.join("OUT/extract.json")).unwrap()).unwrap();
    assert_eq!(manifest["sets"]["s"]["t"], 260.75);
    // What is given comes first, and a run that gives the adapter's own is the same run.
    succeeded(&run(here, &text("[\"a.safetensors\", \"plain.safetensors\"]", "t = 260.75"), &[]));
    let other = run(here, &text("[\"a.safetensors\", \"plain.safetensors\"]", "t = 100"), &[]);
    assert!(testkit::message(&other).contains("t was 260.75, is 100"), "{}", testkit::message(&other));
}
