//! The real `extract` binary on the seeded miniature model: layouts, restarts, shards, kills, and what is refused.

#[path = "extract_scratch.rs"]
mod scratch;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use candle_core::{DType, Device};
use driftless::formats::{WeightFile, write_safetensors};
use driftless::miniature::{Size, write_images, write_model};
use driftless::model_family::naming::ldm;
use driftless::model_family::{Network, sd15};
use driftless::weights::Component;
use scratch::*;
use serde_json::Value;
use testkit::{message, miniature_sd2, relative_error};

#[test]
fn layouts_and_restart() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("OUT");
    succeeded(&extract(folder.path(), &["--use_original_filename", "--timings", "t.json"]));
    let all = names(&out);
    assert_eq!(all.len(), 10);
    assert!(all.contains(&"up-level1-upsampler-out/003.npy".to_owned()), "{all:?}");
    let timings: Value = serde_json::from_str(&std::fs::read_to_string(folder.path().join("t.json")).unwrap()).unwrap();
    assert_eq!(timings["images"], 5);
    assert_eq!(timings["stages"]["unet"].as_array().unwrap().len(), 3);
    assert_eq!(timings["stages"]["read_image"].as_array().unwrap().len(), 5);
    assert_eq!(timings["stages"]["encode_text"].as_array().unwrap().len(), 1);

    // What is gone comes back equal to the byte, and nothing else is touched.
    let before = files(&out);
    std::fs::remove_file(out.join("up-level1-upsampler-out/003.npy")).unwrap();
    std::fs::write(out.join("up-level1-upsampler-out/000.npy"), "kept").unwrap();
    succeeded(&extract(folder.path(), &["--use_original_filename"]));
    let after = files(&out);
    assert_eq!(after["up-level1-upsampler-out/003.npy"], before["up-level1-upsampler-out/003.npy"]);
    assert_eq!(after["up-level1-upsampler-out/000.npy"], b"kept");
    succeeded(&extract(folder.path(), &["--use_original_filename", "--overwrite"]));
    assert_eq!(files(&out), before);
}

#[test]
fn shards_add_up_to_the_whole() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    succeeded(&extract(whole.path(), &["--aggregate_output"]));
    for shard in ["0/3", "1/3", "2/3"] {
        succeeded(&extract(parts.path(), &["--aggregate_output", "--shard", shard]));
    }
    let whole = files(&whole.path().join("OUT"));
    assert_eq!(whole.len(), 5);
    assert_eq!(whole, files(&parts.path().join("OUT")));
}

/// Ten kills, some of them before the first image, some amid the writing.
#[test]
fn kills_and_shards_change_no_byte() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let images = whole.path().join("in");
    write_images(&images, 0, 30, 64).unwrap();
    let images = format!("{}/*.png", images.display());
    succeeded(&extract(whole.path(), &["--input_dir", &images]));
    let whole = files(&whole.path().join("OUT"));
    assert_eq!(whole.len(), 60);

    std::fs::write(parts.path().join("layers.json"), LAYERS).unwrap();
    let model = world().join("model").display().to_string();
    let run = |shard: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_extract"));
        command.args(["--model", &model, "--input_dir", &images, "--output_dir", "OUT", "--device", "cpu", "--quiet"]);
        command.args(["--t", "50", "--img_size", "64", "--prompt", "a red circle", "--layer", "layers.json", "--shard", shard]);
        command.current_dir(parts.path()).spawn().unwrap()
    };
    let done = || {
        let count = |layer| std::fs::read_dir(parts.path().join("OUT").join(layer)).map_or(0, |entries| entries.count());
        count("up-level1-upsampler-out") + count("up-level1-repeat1-vit-block0-cross-q")
    };
    let mut amid = 0;
    for kill in 0..10 {
        let (mut child, before) = (run(["0/3", "1/3", "2/3"][kill % 3]), done());
        // A few files more than before, so that each run gets on; a run that ends by itself was too fast to be killed.
        while child.try_wait().unwrap().is_none() && done() < before + kill % 4 {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        amid += usize::from((1..60).contains(&done()));
    }
    assert!(amid > 0, "no kill came amid the work");
    for shard in ["0/3", "1/3", "2/3"] {
        assert!(run(shard).wait().unwrap().success());
    }
    // What was being written when the process died was removed by the next run of the shard that it belongs to.
    let mut parts = files(&parts.path().join("OUT"));
    parts.retain(|name, _| !name.contains("/.unfinished-"));
    assert_eq!(parts, whole);
}

/// A killed process's temporary files go; one that a living process is writing stays.
#[test]
fn what_a_killed_run_left_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let layer = folder.path().join("OUT/up-level1-upsampler-out");
    std::fs::create_dir_all(&layer).unwrap();
    std::fs::write(layer.join(".unfinished-dead.tmp"), "x").unwrap();
    let alive = std::fs::File::create(layer.join(".unfinished-alive.tmp")).unwrap();
    alive.lock().unwrap();
    succeeded(&extract(folder.path(), &[]));
    let left = names(&folder.path().join("OUT"));
    assert!(!left.iter().any(|name| name.contains("dead")) && left.iter().any(|name| name.contains("alive")), "{left:?}");
}

/// A name that a folder has cannot be written: that image is listed, the rest is there.
#[test]
fn a_file_that_cannot_be_written_fails_its_image_alone() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("OUT");
    std::fs::create_dir_all(out.join("001.npy")).unwrap();
    let output = extract(folder.path(), &["--use_original_filename", "--aggregate_output"]);
    assert_eq!(output.status.code(), Some(1), "{}", message(&output));
    assert_eq!(names(&out), ["000.npy", "002.npy", "003.npy", "004.npy", "failed.jsonl"]);
    let list = std::fs::read_to_string(out.join("failed.jsonl")).unwrap();
    assert!(list.lines().count() == 1 && list.contains("001.png") && list.contains("is a folder"), "{list}");
}

#[test]
fn batch_sizes_agree() {
    let features = |size: &str| {
        let folder = tempfile::tempdir().unwrap();
        let format = ["--output-format", "safetensors", "--output-dtype", "float32", "-b", size];
        succeeded(&extract(folder.path(), &format));
        let path = |image: usize| folder.path().join(format!("OUT/train{image}.safetensors"));
        (0..5).map(|image| tensor(&path(image), "up-level1-upsampler-out")).collect::<Vec<_>>()
    };
    let (one, two, five) = (features("1"), features("2"), features("5"));
    for image in 0..5 {
        assert!(relative_error(&two[image], &one[image]) < 1e-5);
        assert!(relative_error(&five[image], &one[image]) < 1e-5);
    }
    assert!(relative_error(&one[0], &one[1]) > 1e-2, "images differ");
}

#[test]
fn nested_names() {
    let folder = tempfile::tempdir().unwrap();
    write_images(&folder.path().join("in/a"), 0, 1, 64).unwrap();
    write_images(&folder.path().join("in/b"), 0, 1, 64).unwrap();
    let nested = ["--input_dir", "in/**/*.png", "--nested_input_dir", "--use_original_filename"];
    succeeded(&extract(folder.path(), &[nested.as_slice(), &["--output_dir", "OUT/plain"]].concat()));
    succeeded(&extract(folder.path(), &[nested.as_slice(), &["--output_dir", "OUT/first", "--sample_name_first"]].concat()));
    succeeded(&extract(folder.path(), &[nested.as_slice(), &["--output_dir", "OUT/joined", "--aggregate_output"]].concat()));
    let all = names(&folder.path().join("OUT"));
    for name in [
        "plain/up-level1-upsampler-out/b/000.npy",
        "first/b/000/up-level1-upsampler-out.npy",
        "joined/a/000.npy",
        "joined/b/000.npy",
    ] {
        assert!(all.contains(&name.to_owned()), "{name} is not in {all:?}");
    }
    let clash = extract(folder.path(), &["--input_dir", "in/**/*.png", "--use_original_filename", "--output_dir", "OUT2"]);
    assert_eq!(clash.status.code(), Some(1));
    assert!(message(&clash).contains("--nested-input-dir"), "{}", message(&clash));
}

#[test]
fn unreadable_images_are_listed_and_the_rest_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("in");
    write_images(&images, 0, 3, 64).unwrap();
    let whole = std::fs::read(images.join("001.png")).unwrap();
    std::fs::write(images.join("001.png"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(images.join("003.png"), "").unwrap();
    let output = extract(folder.path(), &["--input_dir", "in", "--use_original_filename", "--aggregate_output"]);
    assert_eq!(output.status.code(), Some(1), "{}", message(&output));
    let out = folder.path().join("OUT");
    assert_eq!(names(&out), ["000.npy", "002.npy", "failed.jsonl"]);
    let list = std::fs::read_to_string(out.join("failed.jsonl")).unwrap();
    let lines: Vec<Value> = list.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["image"], "in/001.png");

    // Mended images are all that the next run computes; the list goes away.
    std::fs::write(images.join("001.png"), whole).unwrap();
    std::fs::remove_file(images.join("003.png")).unwrap();
    succeeded(&extract(folder.path(), &["--input_dir", "in", "--use_original_filename", "--aggregate_output"]));
    assert_eq!(names(&out), ["000.npy", "001.npy", "002.npy"]);
}

#[test]
fn wrong_requests_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let refuse = |more: &[&str], status: i32, parts: &[&str]| refused(here, &extract(here, more), status, parts);
    std::fs::write(here.join("wrong.json"), r#"{"up-level1-repeat1-vit-block0-cros-q": true}"#).unwrap();
    refuse(&["--layer", "wrong.json"], 1, &["did you mean `up-level1-repeat1-vit-block0-cross-q`"]);
    std::fs::create_dir(here.join("empty")).unwrap();
    refuse(&["--input_dir", "empty"], 1, &["no image in this folder"]);
    refuse(&["--input_dir", "empty/*.png"], 1, &["no file matches"]);
    refuse(&["--feature_resize", "100"], 1, &["leaves nothing of"]);
    refuse(&["--version", "xl"], 2, &["1-5 and 2-1"]);
    refuse(&["--version", "2-1"], 1, &["is a Stable Diffusion 1.5 model"]);
    refuse(&["--attention", "mid_cross"], 1, &["mid_cross"]);
    refuse(&["--control", "depth"], 1, &["--control-image-dir depth=DIR"]);
    refuse(&["--control", "scribble"], 2, &["--controlnet-model scribble="]);
    refuse(&["--denoising_from", "40"], 2, &["noisier level than t = 50"]);
    refuse(&["--lora", "no-such.safetensors"], 1, &["no-such.safetensors"]);
    refuse(&["--prompt_file", "no-such.txt"], 1, &["--prompt TEXT"]);
    refuse(&["--offline_lora", "no-such"], 1, &["merged model"]);
    refuse(&["--nonsense"], 2, &["--nonsense"]);
    let images = world().join("images").display().to_string();
    let no_model =
        bare(&["--model", "owner/nothing", "--t", "1", "--prompt", "", "--input_dir", &images, "--output_dir", "OUT"], here);
    refused(here, &no_model, 1, &["owner/nothing"]);
    let model = world().join("model").display().to_string();
    refused(here, &bare(&["--model", &model, "--prompt", "", "--input_dir", &images], here), 2, &["--t is needed"]);
}

#[test]
fn wrong_models_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let model = here.join("model");
    write_model(&model, Size::Miniature, DType::F32, 0).unwrap();
    let images = world().join("images").display().to_string();
    let refuse = |parts: &[&str]| {
        let arguments =
            ["--model", "model", "--t", "1", "--prompt", "", "--input_dir", &images, "--output_dir", "OUT", "--img_size", "64"];
        refused(here, &bare(&arguments, here), 1, parts);
    };
    let weights = model.join("unet/diffusion_pytorch_model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    refuse(&["diffusion_pytorch_model.safetensors"]);
    std::fs::remove_file(&weights).unwrap();
    refuse(&["unet"]);
    std::fs::write(&weights, bytes).unwrap();
    let config = model.join("unet/config.json");
    let mut value: Value = serde_json::from_str(&std::fs::read_to_string(&config).unwrap()).unwrap();
    value["addition_embed_type"] = Value::String("text_time".to_owned());
    std::fs::write(&config, value.to_string()).unwrap();
    refuse(&["SDXL"]);
}

/// The miniature model as one file in LDM naming.
fn write_checkpoint(path: &Path) {
    let mut tensors = Vec::new();
    for part in Network::PIPELINE {
        let component = Component::open(part, &world().join("model").join(part.name()), false).unwrap();
        for ldm::Renaming { name, stored, .. } in ldm::table_to_ldm(component.names(), &sd15::FAMILY, part).unwrap() {
            tensors.push((stored, component.tensor(&name, &Device::Cpu).unwrap()));
        }
    }
    write_safetensors(path, tensors, &BTreeMap::new()).unwrap();
}

#[test]
fn a_checkpoint_in_one_file_borrows_the_bases_configurations() {
    let folder = tempfile::tempdir().unwrap();
    write_checkpoint(&folder.path().join("merged.safetensors"));
    succeeded(&extract(folder.path(), &[]));
    let base = world().join("model").display().to_string();
    let single = ["--model", "merged.safetensors", "--output_dir", "SINGLE"];
    let output = extract(folder.path(), &single);
    assert_eq!(output.status.code(), Some(1));
    assert!(message(&output).contains("--base: stable-diffusion-v1-5/"), "{}", message(&output));
    succeeded(&extract(folder.path(), &[&single[..], &["--base", &base]].concat()));
    assert_eq!(files(&folder.path().join("SINGLE")), files(&folder.path().join("OUT")));
    let merged = ["--offline_lora", "merged.safetensors", "--output_dir", "MERGED"];
    succeeded(&extract(folder.path(), &merged));
    assert_eq!(files(&folder.path().join("MERGED")), files(&folder.path().join("OUT")));
}

#[test]
fn layers_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let model = world().join("model").display().to_string();
    let output = bare(&["layers", "--model", &model, "--img-size", "64", "--json"], folder.path());
    succeeded(&output);
    let shapes: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shapes["unet-in"], serde_json::json!([4, 8, 8]));
    // What is listed is what is written.
    succeeded(&extract(folder.path(), &["--output-format", "safetensors"]));
    let file = WeightFile::open(folder.path().join("OUT/train0.safetensors")).unwrap();
    for name in file.names() {
        assert_eq!(serde_json::json!(file.info(name).unwrap().shape), shapes[name], "{name}");
    }
    let record = bare(&["--show_all_layers", "--model", &model, "--img_size", "64"], folder.path());
    succeeded(&record);
    let record: Value = serde_json::from_str(&std::fs::read_to_string(folder.path().join("layer_record.json")).unwrap()).unwrap();
    assert_eq!(record["up-level1-upsampler-out"], true);
}

#[test]
fn features_become_images_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let images = world().join("images").display().to_string();
    for (set, prompt) in [("plain", ""), ("prompt", "a red circle")] {
        let scratch = format!("OUT/{set}");
        let options = ["--prompt", prompt, "--aggregate_output", "--use_original_filename", "--output_dir", &scratch];
        succeeded(&extract(folder.path(), &options));
    }
    succeeded(&bare(&["pca", "OUT/plain", "OUT/prompt", "--output", "images", "--images", &images, "--quiet"], folder.path()));
    let all = names(&folder.path().join("images"));
    assert_eq!(all.len(), 11, "{all:?}");
    let size = |name: &str| driftless::vision::Image::dimensions(folder.path().join("images").join(name)).unwrap();
    assert_eq!(size("plain/003.png"), (512, 512));
    // The single images are the original's; in one basis they are others, and a folder of images that belong to no feature is told.
    let options = ["--images", &images, "--common", "--quiet"];
    succeeded(&bare(&[&["pca", "OUT/plain", "OUT/prompt", "--output", "common"][..], &options].concat(), folder.path()));
    let bytes = |folder: &Path, set: &str| std::fs::read(folder.join(set).join("plain/003.png")).unwrap();
    assert_ne!(bytes(folder.path(), "images"), bytes(folder.path(), "common"));
    assert_eq!(
        std::fs::read(folder.path().join("images/sheet.png")).unwrap(),
        std::fs::read(folder.path().join("common/sheet.png")).unwrap()
    );
    std::fs::create_dir(folder.path().join("others")).unwrap();
    std::fs::copy(world().join("images/000.png"), folder.path().join("others/else.png")).unwrap();
    let unmatched = bare(&["pca", "OUT/plain", "--output", "unmatched", "--images", "others"], folder.path());
    assert!(message(&unmatched).contains("warning: --images: no image has the name of a feature"), "{}", message(&unmatched));
    // Three columns: the image, plain, prompt.
    assert_eq!(size("sheet.png").0, 8 + 3 * 264);
    // All rows are there, in pages.
    let paged = ["pca", "OUT/plain", "OUT/prompt", "--output", "paged", "--images", &images, "--sheet-rows", "2"];
    let output = bare(&paged, folder.path());
    succeeded(&output);
    let told = "13 images written to paged, side by side on 3 pages, paged/sheet.png to paged/sheet-003.png";
    assert!(message(&output).contains(told), "{}", message(&output));
    let height = |name: &str| driftless::vision::Image::dimensions(folder.path().join("paged").join(name)).unwrap().1;
    assert_eq!(height("sheet.png"), height("sheet-002.png"));
    assert!(height("sheet-003.png") < height("sheet-002.png"));
    let output = bare(&[&paged[..], &["--sheet-rows", "3"]].concat(), folder.path());
    succeeded(&output);
    assert!(message(&output).contains("warning: paged/sheet-003.png was there before"), "{}", message(&output));
    assert_eq!(bare(&[&paged[..], &["--sheet-rows", "0"]].concat(), folder.path()).status.code(), Some(2));
    // Attention is laid over its image, one image for each size of map.
    let attention = ["--attention", "up_cross", "--use_original_filename", "--img_size", "128", "--output_dir", "ATTN"];
    succeeded(&extract(folder.path(), &attention));
    let options = ["--images", &images, "--token", "1", "2", "--quiet"];
    succeeded(&bare(&[&["pca", "ATTN", "--output", "over"][..], &options].concat(), folder.path()));
    let over = names(&folder.path().join("over"));
    assert!(over.contains(&"attn/000-over-0.png".to_owned()) && over.contains(&"attn/000-over-1.png".to_owned()), "{over:?}");
    let beyond = bare(&["pca", "ATTN", "--output", "none", "--images", &images, "--token", "77"], folder.path());
    assert!(beyond.status.code() == Some(1) && message(&beyond).contains("--token names 77"), "{}", message(&beyond));
    // A wide image is shown as the network saw it: squeezed to a square, pixel for pixel as one that is square already.
    let photo = |folder: &Path, image: driftless::vision::Rgb| {
        std::fs::create_dir(folder).unwrap();
        image.save_png(folder.join("000.png")).unwrap();
    };
    let mut wide = driftless::vision::Rgb::filled(300, 100, [0, 120, 0]);
    wide.pixels[..3 * 300 * 40].fill(200);
    let square = driftless::vision::Image::from(wide.clone()).resized_rgb(256, 256);
    photo(&folder.path().join("wide"), wide);
    photo(&folder.path().join("square"), square);
    let sheet = |photos: &str| {
        let output = bare(&["pca", "OUT/plain", "--output", photos, "--images", photos], folder.path());
        succeeded(&output);
        assert!(message(&output).contains("warning: --images: 4 of 5 rows of the sheet have no image"), "{}", message(&output));
        std::fs::read(folder.path().join(photos).join("sheet.png")).unwrap()
    };
    assert_eq!(sheet("wide"), sheet("square"));
    let output = bare(&["pca", "layers.json", "--output", "none"], folder.path());
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn stable_diffusion_2_by_the_originals_name_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let model = miniature_sd2().display().to_string();
    succeeded(&extract(folder.path(), &["--model", &model, "--version", "2-1"]));
    assert_eq!(files(&folder.path().join("OUT")).iter().filter(|(name, _)| name.ends_with(".npy")).count(), 10);
    let other = tempfile::tempdir().unwrap();
    let output = extract(other.path(), &["--model", &model, "--version", "1-5"]);
    refused(other.path(), &output, 1, &["is a Stable Diffusion 2 model"]);
}

#[test]
fn layers_of_a_version_without_its_model() {
    let folder = tempfile::tempdir().unwrap();
    let output = bare(&["layers", "--version", "2-1", "--img-size", "512", "--json"], folder.path());
    succeeded(&output);
    let layers: Value = serde_json::from_slice(&output.stdout).unwrap();
    // Heads of 64 channels: 5, 10 and 20 of them.
    assert_eq!(layers["down-level0-repeat0-vit-block0-self-map"], serde_json::json!([5, 4096, 4096]));
    assert_eq!(layers["mid-vit-block0-cross-map"], serde_json::json!([20, 64, 77]));
    assert_eq!(layers.as_object().unwrap().len(), 198);
}
