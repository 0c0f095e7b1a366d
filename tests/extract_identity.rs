//! The real `extract` binary: no output folder holds files of two settings, whatever is changed between two runs, and what it is asked for
//! in an unusual way.

#[path = "extract_scratch.rs"]
mod scratch;

use std::path::Path;
use std::process::Output;

use candle_core::{Device, Tensor};
use driftless::formats::WeightFile;
use driftless::miniature::write_images;
use scratch::*;
use serde_json::Value;
use testkit::{fixture, message, relative_error};

/// Refused because of other settings, saying all of `parts`, with every file as it was.
#[track_caller]
fn kept(folder: &Path, more: &[&str], parts: &[&str]) {
    let before = testkit::files(&folder.join("OUT"));
    refused_as_other(&extract(folder, more), parts);
    assert_eq!(testkit::files(&folder.join("OUT")), before);
}

#[track_caller]
fn refused_as_other(output: &Output, parts: &[&str]) {
    let message = message(output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    for part in parts.iter().chain(&["--overwrite"]) {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

fn manifest(folder: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("OUT/extract.json")).unwrap()).unwrap()
}

/// Turns the last bit of a file over.
fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    for (name, bytes) in testkit::files(from) {
        let path = to.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn other_settings_are_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    succeeded(&extract(here, &[]));
    std::fs::write(here.join("other.json"), r#"["up-level1-upsampler-out"]"#).unwrap();
    kept(here, &["--t", "51"], &["t was 50, is 51"]);
    kept(here, &["--seed", "1"], &["seed was 0, is 1"]);
    kept(here, &["--prompt", "a blue square"], &["prompt was `a red circle`, is `a blue square`"]);
    kept(here, &["--img_size", "72"], &["input.img_size was 64, is 72"]);
    kept(here, &["--layer", "other.json"], &["layer: without `up-level1-repeat1-vit-block0-cross-q`"]);
    kept(here, &["--feature_resize", "2"], &["feature_resize was 1, is 2"]);
    kept(here, &["--denoising_from", "60"], &["denoising_from was not given, is 60"]);
    kept(here, &["--output-dtype", "float32", "--aggregate_output"], &["output.dtype", "output.aggregate"]);
    // The same in other words.
    std::fs::write(here.join("prompt.txt"), "a red circle").unwrap();
    succeeded(&extract(here, &["--prompt_file", "prompt.txt", "--seed", "0", "-b", "2"]));
    let other = extract(here, &["-b", "3"]);
    succeeded(&other);
    assert!(message(&other).contains("batch_size was 2, is 3"), "{}", message(&other));

    // With --overwrite nothing of the old settings stays: neither its layers nor its images.
    let images = world().join("images/00[01].png").display().to_string();
    succeeded(&extract(here, &["--t", "51", "--layer", "other.json", "--input_dir", &images, "--overwrite"]));
    let fresh = tempfile::tempdir().unwrap();
    std::fs::write(fresh.path().join("other.json"), r#"["up-level1-upsampler-out"]"#).unwrap();
    succeeded(&extract(fresh.path(), &["--t", "51", "--layer", "other.json", "--input_dir", &images]));
    assert_eq!(files(&here.join("OUT")), files(&fresh.path().join("OUT")));
    assert_eq!(manifest(here)["sets"], manifest(fresh.path())["sets"]);
}

#[test]
fn contents_count_and_places_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    copy_folder(&world().join("model"), &here.join("m"));
    std::fs::copy(fixture("training/lora.safetensors"), here.join("a.safetensors")).unwrap();
    let with = |model: &'static str, lora: &'static str| ["--model", model, "--lora", lora];
    succeeded(&extract(here, &with("m", "a.safetensors")));
    std::fs::rename(here.join("m"), here.join("moved")).unwrap();
    std::fs::rename(here.join("a.safetensors"), here.join("b.safetensors")).unwrap();
    std::fs::remove_file(here.join("OUT/up-level1-upsampler-out/train1.npy")).unwrap();
    succeeded(&extract(here, &with("moved", "b.safetensors")));
    assert_eq!(names(&here.join("OUT")).len(), 10);
    kept(here, &with("moved", "b.safetensors:0.5"), &["lora: scale was 1.0, is 0.5"]);
    damage(&here.join("b.safetensors"));
    kept(here, &with("moved", "b.safetensors"), &["lora: contents has other contents"]);
    damage(&here.join("b.safetensors"));
    damage(&here.join("moved/vae/diffusion_pytorch_model.safetensors"));
    kept(here, &with("moved", "b.safetensors"), &["model: vae/diffusion_pytorch_model.safetensors has other contents"]);
    damage(&here.join("moved/vae/diffusion_pytorch_model.safetensors"));
    succeeded(&extract(here, &with("moved", "b.safetensors")));
}

#[test]
fn sets_of_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let images = world().join("images/00[01].png");
    let run = |sets: &str| {
        let text = format!("[input]\nimages = {images:?}\nimg_size = 64\n{sets}");
        std::fs::write(here.join("sets.toml"), text).unwrap();
        extract(here, &["--config", "sets.toml"])
    };
    let set = |name: &str, more: &str| format!("[[set]]\nname = {name:?}\nprompt = \"\"\nlayer = [\"mid-vit-out\"]\n{more}\n");
    let (a, b) = (set("a", "t = 50"), set("b", "t = 60"));
    succeeded(&run(&a));
    let before = files(&here.join("OUT/a"));
    succeeded(&run(&(a.clone() + &b)));
    assert_eq!((files(&here.join("OUT/a")), names(&here.join("OUT")).len()), (before, 4));
    refused_as_other(&run(&(a.clone() + &set("b", "t = 61"))), &["set `b`: t was 60, is 61"]);
    let fused = format!("{a}{b}[[set]]\nname = \"f\"\nfuse = [\"a\", \"b\"]\n");
    succeeded(&run(&fused));
    refused_as_other(&run(&(fused.clone() + "fuse_mode = \"concat\"")), &["set `f`: fuse_mode was `mean`, is `concat`"]);
    let message = message(&run(&set("failed.jsonl", "t = 5")));
    assert!(message.contains("failed.jsonl") && message.contains("another"), "{message}");
}

#[test]
fn lists_of_images() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    write_images(&here.join("in"), 1, 3, 64).unwrap();
    let first = std::fs::read_dir(here.join("in")).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    let add = |name: &str| std::fs::copy(&first, here.join("in").join(name)).unwrap();
    let images = ["--input_dir", "in/*.png"];
    succeeded(&extract(here, &images));
    let before = files(&here.join("OUT"));
    add("999.png");
    succeeded(&extract(here, &images));
    let after = files(&here.join("OUT"));
    assert_eq!(after.len(), 8);
    assert!(before.iter().all(|(name, bytes)| after[name] == *bytes));
    add("0.png");
    kept(here, &images, &["`train0` was ", "0.png"]);

    // With names of their own images keep the numbers that they had, so that their noise stays theirs.
    let named = ["--input_dir", "in/*.png", "--use_original_filename", "--output_dir", "NAMED"];
    succeeded(&extract(here, &named));
    let before = files(&here.join("NAMED"));
    add("-.png");
    std::fs::remove_file(here.join("NAMED/up-level1-upsampler-out/999.npy")).unwrap();
    succeeded(&extract(here, &named));
    let after = files(&here.join("NAMED"));
    assert_eq!(after.len(), before.len() + 2);
    assert!(before.iter().all(|(name, bytes)| {
        let (now, then) = (&after[name], bytes);
        // Beside other images in its batch: equal up to rounding, of which the header has none.
        now.len() == then.len() && (name.ends_with("upsampler-out/999.npy") || now == then)
    }));
    // Another image instead of one that is done, and of one that is not.
    let other = std::fs::read(first.with_file_name("002.png")).unwrap();
    std::fs::write(here.join("in/999.png"), [&other[..], b"more"].concat()).unwrap();
    refused_as_other(&extract(here, &named), &["999.png had ", "bytes"]);
}

#[test]
fn what_each_image_has_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    std::fs::create_dir(here.join("captions")).unwrap();
    for number in 0..5 {
        std::fs::write(here.join(format!("captions/00{number}.txt")), format!("image {number}")).unwrap();
    }
    succeeded(&extract(here, &["--caption_dir", "captions"]));
    std::fs::write(here.join("captions/003.txt"), "another").unwrap();
    kept(here, &["--caption_dir", "captions"], &["the prompt of ", "003.png is another"]);
    kept(here, &[], &["prompt: of was `each image`"].map(|_| "prompt"));

    let controlnet = format!("canny={}", world().join("model/controlnet-canny").display());
    write_images(&here.join("edges"), 0, 5, 64).unwrap();
    let control = ["--control", "canny", "--controlnet-model", &controlnet, "--control-image-dir", "canny=edges"];
    let with = |more: &[&str]| extract(here, &[&control[..], &["--output_dir", "EDGES"], more].concat());
    succeeded(&with(&[]));
    let edge = here.join("edges/002.png");
    std::fs::write(&edge, [std::fs::read(&edge).unwrap(), b"more".to_vec()].concat()).unwrap();
    refused_as_other(&with(&[]), &["the canny image of ", "002.png has other contents"]);
}

/// What has the same size and even the same time is told by its contents; what was only touched goes on.
#[test]
fn images_of_the_same_size_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let bitmap = |color: u8| {
        let mut bytes = vec![color; 54 + 3 * 64 * 64];
        bytes[..54].fill(0);
        bytes[..2].copy_from_slice(b"BM");
        for (at, value) in [(10, 54), (14, 40), (18, 64), (22, 64), (26, 1 | 24 << 16)] {
            bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
        }
        bytes
    };
    for folder in ["photos", "edges"] {
        std::fs::create_dir(here.join(folder)).unwrap();
        (0..3).for_each(|number| std::fs::write(here.join(format!("{folder}/{number}.bmp")), bitmap(number)).unwrap());
    }
    let controlnet = format!("canny={}", world().join("model/controlnet-canny").display());
    let control = ["--control", "canny", "--controlnet-model", &controlnet, "--control-image-dir", "canny=edges"];
    let with = |more: &[&str]| extract(here, &[&["--input_dir", "photos/*.bmp"], &control[..], more].concat());
    succeeded(&with(&[]));
    let before = files(&here.join("OUT"));
    let replaced = |name: &str, color: u8| {
        let path = here.join(name);
        let time = path.metadata().unwrap().modified().unwrap();
        std::fs::write(&path, bitmap(color)).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    };
    let touched = std::fs::File::options().write(true).open(here.join("photos/0.bmp")).unwrap();
    touched.set_modified(std::time::SystemTime::now()).unwrap();
    succeeded(&with(&[]));
    replaced("photos/1.bmp", 200);
    refused_as_other(&with(&[]), &["1.bmp has other contents than when its features were made"]);
    replaced("photos/1.bmp", 1);
    replaced("edges/2.bmp", 200);
    refused_as_other(&with(&[]), &["the canny image of ", "2.bmp has other contents"]);
    replaced("edges/2.bmp", 2);
    succeeded(&with(&[]));
    let after = files(&here.join("OUT"));
    assert!(before.iter().all(|(name, bytes)| name == "extract.json" || after[name] == *bytes));
}

#[test]
fn folders_of_before() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    succeeded(&extract(here, &[]));
    let whole = files(&here.join("OUT"));
    std::fs::remove_file(here.join("OUT/extract.json")).unwrap();
    kept(here, &[], &["there is no extract.json"]);
    std::fs::write(here.join("OUT/extract.json"), "{").unwrap();
    kept(here, &[], &["extract.json"]);
    succeeded(&extract(here, &["--overwrite"]));
    assert_eq!(files(&here.join("OUT")), whole);
    // Where nothing was made yet, nothing can be mixed.
    let images = here.join("OUT/up-level1-upsampler-out");
    std::fs::remove_dir_all(images).unwrap();
    std::fs::remove_dir_all(here.join("OUT/up-level1-repeat1-vit-block0-cross-q")).unwrap();
    succeeded(&extract(here, &["--t", "51"]));
}

#[test]
fn shards_share_it() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    succeeded(&extract(whole.path(), &[]));
    std::fs::write(parts.path().join("l.json"), LAYERS).unwrap();
    std::thread::scope(|scope| {
        for shard in ["0/3", "1/3", "2/3"] {
            let parts = parts.path();
            scope.spawn(move || succeeded(&extract(parts, &["--layer", "l.json", "--shard", shard])));
        }
    });
    assert_eq!(manifest(whole.path()), manifest(parts.path()));
    assert_eq!(files(&whole.path().join("OUT")), files(&parts.path().join("OUT")));
    kept(parts.path(), &["--shard", "1/3", "--t", "51"], &["t was 50, is 51"]);
}

#[test]
fn safetensors_carry_their_settings() {
    let folder = tempfile::tempdir().unwrap();
    succeeded(&extract(folder.path(), &["--output-format", "safetensors", "--seed", "3"]));
    let file = WeightFile::open(folder.path().join("OUT/train2.safetensors")).unwrap();
    let parsed = |key: &str| -> Value { serde_json::from_str(&file.metadata()[key]).unwrap() };
    assert_eq!((&parsed("extract")["set"]["seed"], &parsed("extract")["run"]["input.img_size"]), (&3.into(), &64.into()));
    assert_eq!((&parsed("image")["number"], &parsed("image")["file"]), (&2.into(), &"002.png".into()));
    assert_eq!(parsed("extract")["set"], manifest(folder.path())["sets"][""]);
}

/// A model that gives no numbers is an error that says where they end, and no file.
#[test]
fn features_that_are_no_numbers_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    copy_folder(&world().join("model"), &here.join("m"));
    let path = here.join("m/unet/diffusion_pytorch_model.safetensors");
    let file = WeightFile::open(&path).unwrap();
    let tensors = file.names().map(|name| {
        let tensor = file.tensor(name, &Device::Cpu).unwrap();
        let is_bias = name == "conv_in.bias";
        let tensor = if is_bias { Tensor::full(f32::NAN, tensor.shape(), &Device::Cpu).unwrap() } else { tensor };
        (name.to_owned(), tensor)
    });
    let tensors: Vec<(String, Tensor)> = tensors.collect();
    drop(file);
    driftless::formats::write_safetensors(&path, tensors, &Default::default()).unwrap();
    let output = extract(here, &["--model", "m"]);
    let text = message(&output);
    assert_eq!((output.status.code(), names(&here.join("OUT")).len()), (Some(1), 0), "{text}");
    assert!(text.contains("not finite") || text.contains("conv_in.bias"), "{text}");
}

#[test]
fn lists_that_a_shell_made_and_files_that_are_no_images() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    write_images(&here.join("in"), 0, 3, 64).unwrap();
    std::fs::write(here.join("in/notes.txt"), "x").unwrap();
    succeeded(&extract(here, &["--input_dir", "in/000.png", "in/001.png", "in/002.png", "in/notes.txt"]));
    let output = extract(here, &["--input_dir", "in/*"]);
    succeeded(&output);
    assert!(message(&output).contains("notes.txt"), "{}", message(&output));
    assert_eq!(names(&here.join("OUT")).len(), 6);
    let photo = extract(here, &["--model", "in/000.png"]);
    assert!(photo.status.code() == Some(1) && !message(&photo).contains("--base"), "{}", message(&photo));
}

/// As the original, which sums the residuals of every ControlNet that is named.
#[test]
fn a_controlnet_named_twice_counts_twice() {
    let folder = tempfile::tempdir().unwrap();
    let controlnet = format!("canny={}", world().join("model/controlnet-canny").display());
    let image = world().join("images/000.png").display().to_string();
    let features = |out: &str, more: &[&str]| {
        let common = ["--controlnet-model", &controlnet, "--output-format", "safetensors", "--output-dtype", "float32"];
        let scratch = ["--input_dir", &image, "--output_dir", out, "--control"];
        succeeded(&extract(folder.path(), &[&common[..], &scratch, more].concat()));
        tensor(&folder.path().join(out).join("train0.safetensors"), "up-level1-upsampler-out")
    };
    let (twice, double) = (features("A", &["canny", "canny"]), features("B", &["canny", "--control-scale", "canny=2"]));
    assert!(relative_error(&twice, &double) < 1e-5);
    assert!(relative_error(&twice, &features("C", &["canny"])) > 1e-4);
}

#[test]
fn names_of_images_and_keys_stay_in_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    write_images(&here.join("in"), 0, 1, 64).unwrap();
    std::fs::rename(here.join("in/000.png"), here.join("in/...png")).unwrap();
    let named = ["--input_dir", "in/...png", "--use_original_filename", "--sample_name_first"];
    refused(here, &extract(here, &named), 1, &["rename the file"]);
    // A key with an escape sequence in it.
    let values: Vec<f32> = (0..48).map(|value| (value * value % 7) as f32).collect();
    let tensor = Tensor::from_vec(values, (3, 4, 4), &Device::Cpu).unwrap();
    let tensors = vec![("a\u{1b}[31m\u{202e}b".to_owned(), tensor)];
    driftless::formats::write_safetensors(here.join("x.safetensors"), tensors, &Default::default()).unwrap();
    succeeded(&bare(&["pca", "x.safetensors", "--output", "drawn", "--quiet"], here));
    assert_eq!(testkit::names(&here.join("drawn")), ["x/a_[31m_b.png"]);
}

/// A disk that takes no more is an error, and leaves no empty image behind.
#[cfg(unix)]
#[test]
fn pictures_on_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    succeeded(&extract(here, &[]));
    // Files of at most 512 or 1024 bytes, as the shell counts.
    let script = format!("ulimit -f 1; trap '' XFSZ; '{}' pca OUT --output drawn", env!("CARGO_BIN_EXE_extract"));
    let output = std::process::Command::new("sh").args(["-c", &script]).current_dir(here).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", message(&output));
    let left = testkit::files(&here.join("drawn"));
    assert!(left.values().all(|bytes| bytes.ends_with(b"IEND\xaeB`\x82")), "{:?}", left.keys());
}

/// Thousands of ids that do not exist are told of in a moment.
#[test]
fn twenty_thousand_unknown_layers() {
    let folder = tempfile::tempdir().unwrap();
    let ids: Vec<String> = (0..20_000).map(|number| format!("layer-{number}")).collect();
    std::fs::write(folder.path().join("many.json"), serde_json::to_string(&ids).unwrap()).unwrap();
    let start = std::time::Instant::now();
    let output = extract(folder.path(), &["--layer", "many.json"]);
    refused(folder.path(), &output, 1, &["and 19995 more"]);
    // It took a minute; nothing of it is left but starting the program.
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}
