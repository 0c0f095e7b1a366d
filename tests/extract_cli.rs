//! The real `extract` binary on the seeded miniature model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};
use driftless::checkpoint::naming::ldm::{self, Part};
use driftless::checkpoint::{Component, WeightFile, write_safetensors};
use driftless::miniature::{Size, write_model, write_pictures};
use serde_json::Value;

const LAYERS: &str = r#"{"up-level1-upsampler-out": true, "up-level1-repeat1-vit-block0-cross-q": true}"#;

/// A folder with `model/` and `images/`, made once.
fn world() -> &'static Path {
    static WORLD: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = WORLD.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        write_model(&folder.path().join("model"), Size::Miniature, DType::F32, 0).unwrap();
        write_pictures(&folder.path().join("images"), 0, 5, 96).unwrap();
        folder
    });
    folder.path()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

/// The binary with these arguments and nothing from the environment that could lead to a hub.
fn bare(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_extract"));
    command.args(arguments).current_dir(folder).env("HF_HUB_OFFLINE", "1").env("HF_HOME", folder.join("no-hub"));
    command.output().unwrap()
}

/// An extraction at t = 50 from 64 px images into `OUT` of `folder`; `more` may override.
fn extract(folder: &Path, more: &[&str]) -> Output {
    let model = world().join("model").display().to_string();
    let images = world().join("images/*.png").display().to_string();
    let mut arguments = vec!["--model", &model, "--output_dir", "OUT", "--device", "cpu", "--quiet"];
    let given = |option: &str| more.contains(&option);
    if !given("--config") {
        arguments.extend(["--t", "50"]);
        for (option, value) in [("--img_size", "64"), ("--input_dir", images.as_str())] {
            if !given(option) {
                arguments.extend([option, value]);
            }
        }
        if !given("--prompt_csv") && !given("--prompt_file") && !given("--caption_dir") && !given("--prompt") {
            arguments.extend(["--prompt", "a red circle"]);
        }
        if !given("--layer") {
            std::fs::write(folder.join("layers.json"), LAYERS).unwrap();
            arguments.extend(["--layer", "layers.json"]);
        }
    }
    arguments.extend(more);
    bare(&arguments, folder)
}

fn message(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn succeeded(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", message(output));
}

/// Failed with this status, saying all of `parts`, and wrote no feature.
#[track_caller]
fn refused(folder: &Path, output: &Output, status: i32, parts: &[&str]) {
    let message = message(output);
    assert_eq!(output.status.code(), Some(status), "{message}");
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
    assert!(files(&folder.join("OUT")).is_empty());
}

/// Every file below a folder with its bytes.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().replace('\\', "/");
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn names(folder: &Path) -> Vec<String> {
    files(folder).into_keys().collect()
}

fn tensor(path: &Path, key: &str) -> Tensor {
    WeightFile::open(path).unwrap().tensor(key, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap()
}

fn relative_error(ours: &Tensor, theirs: &Tensor) -> f64 {
    let norm = |tensor: &Tensor| {
        tensor.sqr().unwrap().sum_all().unwrap().to_dtype(DType::F64).unwrap().to_scalar::<f64>().unwrap().sqrt()
    };
    norm(&(ours - theirs).unwrap()) / norm(theirs)
}

/// Command-line options that ask for a case of the oracle.
fn case_options(case: &Value, folder: &Path) -> Vec<String> {
    let text = |key: &str| case[key].as_u64().map(|number| number.to_string());
    let strings = |key: &str| serde_json::from_value::<Option<Vec<String>>>(case[key].clone()).unwrap().unwrap_or_default();
    let mut options = vec!["--prompt".to_owned(), case["prompt"].as_str().unwrap().to_owned()];
    for key in ["t", "seed", "img_size", "feature_resize", "denoising_from"] {
        options.extend(text(key).into_iter().flat_map(|value| [format!("--{key}"), value]));
    }
    let layers = strings("layers");
    if !layers.is_empty() {
        let object: serde_json::Map<String, Value> = layers.into_iter().map(|id| (id, Value::Bool(true))).collect();
        std::fs::write(folder.join("layers.json"), serde_json::to_string(&object).unwrap()).unwrap();
        options.extend(["--layer".to_owned(), "layers.json".to_owned()]);
    }
    for (key, option) in [("attention", "--attention"), ("control", "--control")] {
        let values = strings(key);
        if !values.is_empty() {
            options.push(option.to_owned());
            options.extend(values);
        }
    }
    if !case["control"].is_null() {
        options.extend(["--controlnet-model".to_owned(), format!("canny={}", world().join("model/controlnet-canny").display())]);
    }
    if case["use_ddim_inversion"].as_bool().unwrap() {
        options.push("--use_ddim_inversion".to_owned());
    }
    if case["lora"].as_bool().unwrap() {
        options.extend(["--offline_lora".to_owned(), fixture("training").display().to_string()]);
        options.extend(["--offline_lora_filename".to_owned(), "lora.safetensors".to_owned()]);
    }
    options
}

// Reference: the original extractor in float32 on the CPU: tests/reference/extractor_oracle.py. 1e-4 is the promise to users.
#[test]
fn features_equal_the_originals() {
    let mut count = 0;
    for entry in std::fs::read_dir(fixture("extractor")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "safetensors") {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let theirs = WeightFile::open(&path).unwrap();
        let parsed = |key: &str| -> Value { serde_json::from_str(&theirs.metadata()[key]).unwrap() };
        let model = world().join("model").display().to_string();
        let image = fixture("extractor/image.png").display().to_string();
        let mut arguments = vec!["--model", &model, "--input_dir", &image, "--output_dir", "OUT", "--quiet", "--device", "cpu"];
        arguments.extend(["--output-dtype", "float32", "--output-format", "safetensors", "--version", "1-5"]);
        let options = case_options(&parsed("case"), folder.path());
        arguments.extend(options.iter().map(String::as_str));
        succeeded(&bare(&arguments, folder.path()));
        let ours = WeightFile::open(folder.path().join("OUT/train0.safetensors")).unwrap();
        let layers = parsed("layers");
        assert_eq!(ours.names().len(), layers.as_array().unwrap().len(), "{}", path.display());
        for layer in layers.as_array().unwrap() {
            let id = layer["id"].as_str().unwrap();
            let found = ours.tensor(id, &Device::Cpu).unwrap();
            let shape: Vec<usize> = serde_json::from_value(layer["shape"].clone()).unwrap();
            assert_eq!(found.dims(), shape, "{}: {id}", path.display());
            let values: Vec<f32> = found.flatten_all().unwrap().to_vec1().unwrap();
            let sampled: Vec<f32> = values.into_iter().step_by(layer["stride"].as_u64().unwrap() as usize).collect();
            let expected = theirs.tensor(id, &Device::Cpu).unwrap().flatten_all().unwrap();
            let error = relative_error(&Tensor::new(sampled, &Device::Cpu).unwrap(), &expected);
            assert!(error <= 1e-4, "{}: {id}: {error:e}", path.display());
        }
        count += 1;
    }
    assert!(count >= 16, "{count} cases");
}

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
    write_pictures(&images, 0, 30, 64).unwrap();
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
    // A file that was being written when the process died has no name that anybody looks for.
    let mut parts = files(&parts.path().join("OUT"));
    parts.retain(|name, _| !name.contains("/.unfinished-"));
    assert_eq!(parts, whole);
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
    write_pictures(&folder.path().join("in/a"), 0, 1, 64).unwrap();
    write_pictures(&folder.path().join("in/b"), 0, 1, 64).unwrap();
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
fn sets_of_a_configuration_equal_single_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (images, controlnet) = (world().join("images/00[01].png"), world().join("model/controlnet-canny"));
    let lora = fixture("training/lora.safetensors");
    let text = format!(
        r#"
        [input]
        images = {images:?}
        img_size = 64
        [output]
        aggregate = true
        dtype = "float32"
        format = "safetensors"
        [controlnet_model]
        canny = {controlnet:?}
        [[set]]
        name = "plain"
        prompt = ""
        t = 50
        layer = ["up-level1-upsampler-out"]
        [[set]]
        name = "lora"
        prompt = "a red circle"
        lora = [{{ file = {lora:?}, scale = 0.5 }}]
        [[set]]
        name = "canny"
        prompt = ""
        control = ["canny"]
        [[set]]
        name = "plain-again"
        prompt = ""
        seed = 7
        "#
    );
    std::fs::write(folder.path().join("sets.toml"), text).unwrap();
    succeeded(&extract(folder.path(), &["--config", "sets.toml"]));
    let out = folder.path().join("OUT");
    assert_eq!(names(&out).len(), 8);
    let images = images.display().to_string();
    std::fs::write(folder.path().join("mid.json"), r#"["up-level1-upsampler-out"]"#).unwrap();
    let lora = format!("{}:0.5", lora.display());
    let canny = format!("canny={}", controlnet.display());
    let single: [(&str, Vec<&str>); 4] = [
        ("plain", vec!["--prompt", ""]),
        ("lora", vec!["--prompt", "a red circle", "--lora", &lora]),
        ("canny", vec!["--prompt", "", "--control", "canny", "--controlnet_model", &canny]),
        ("plain-again", vec!["--prompt", "", "--seed", "7"]),
    ];
    let mut different = Vec::new();
    for (set, more) in single {
        let alone = format!("alone/{set}");
        let common = ["--aggregate_output", "--output-dtype", "float32", "--output-format", "safetensors", "--layer", "mid.json"];
        let place = ["--input_dir", images.as_str(), "--output_dir", alone.as_str()];
        succeeded(&extract(folder.path(), &[common.as_slice(), &place, &more].concat()));
        assert_eq!(files(&folder.path().join(&alone)), files(&out.join(set)), "{set}");
        different.push(tensor(&out.join(set).join("train0.safetensors"), "aggregate"));
    }
    for other in &different[1..] {
        assert!(relative_error(other, &different[0]) > 1e-4, "each technique changes the features");
    }
}

#[test]
fn sets_are_fused() {
    let folder = tempfile::tempdir().unwrap();
    let images = world().join("images/00[01].png");
    let sets = |more: &str| {
        format!(
            r#"
            [input]
            images = {images:?}
            img_size = 64
            [output]
            dtype = "float32"
            format = "safetensors"
            [[set]]
            name = "a"
            prompt = ""
            t = 50
            layer = ["up-level1-upsampler-out", "mid-vit-out"]
            [[set]]
            name = "b"
            prompt = "a red circle"
            write = false
            {more}
            "#
        )
    };
    let run = |text: &str, out: &str| {
        std::fs::write(folder.path().join("sets.toml"), text).unwrap();
        extract(folder.path(), &["--config", "sets.toml", "--output_dir", out])
    };
    let fusions = "[[set]]\nname = \"mean\"\nfuse = [\"a\", \"b\"]\n[[set]]\nname = \"both\"\nfuse = [\"b\", \"a\"]\nfuse_mode = \"concat\"";
    succeeded(&run(&sets(fusions), "FUSED"));
    succeeded(&run(&sets("").replace("write = false", ""), "SINGLE"));
    let found = names(&folder.path().join("FUSED"));
    assert_eq!(
        found,
        ["a", "both", "mean"].map(|set| ["train0", "train1"].map(|image| format!("{set}/{image}.safetensors"))).concat()
    );
    let of = |place: &str, layer: &str| tensor(&folder.path().join(place).join("train1.safetensors"), layer);
    for layer in ["up-level1-upsampler-out", "mid-vit-out"] {
        let (a, b) = (of("SINGLE/a", layer), of("SINGLE/b", layer));
        assert!(relative_error(&of("FUSED/mean", layer), &((&a + &b).unwrap() * 0.5).unwrap()) < 1e-7);
        assert!(relative_error(&of("FUSED/both", layer), &Tensor::cat(&[&b, &a], 0).unwrap()) == 0.0);
    }
    // What is missing comes back, though its sources are there.
    let before = files(&folder.path().join("FUSED"));
    std::fs::remove_file(folder.path().join("FUSED/mean/train0.safetensors")).unwrap();
    succeeded(&run(&sets(fusions), "FUSED"));
    assert_eq!(files(&folder.path().join("FUSED")), before);

    let wrong = [
        ("[[set]]\nname = \"x\"\nfuse = [\"a\", \"c\"]", "fuse names `c`"),
        ("[[set]]\nname = \"x\"\nfuse = [\"a\"]", "two or more"),
        ("[[set]]\nname = \"x\"\nfuse = [\"a\", \"b\"]\nt = 1", "nothing else"),
        (
            "[[set]]\nname = \"c\"\nprompt = \"\"\nlayer = [\"mid-vit-out\"]\n[[set]]\nname = \"x\"\nfuse = [\"a\", \"c\"]",
            "differ in layers",
        ),
    ];
    for (more, part) in wrong {
        refused(folder.path(), &run(&sets(more), "OUT"), 1, &[part]);
    }
}

#[test]
fn control_nets_have_strength_and_range() {
    let folder = tempfile::tempdir().unwrap();
    let canny = format!("canny={}", world().join("model/controlnet-canny").display());
    let image = world().join("images/000.png").display().to_string();
    let features = |name: &str, more: &[&str]| {
        let format = ["--output-format", "safetensors", "--output-dtype", "float32", "--input_dir", &image, "--output_dir", name];
        succeeded(&extract(folder.path(), &[format.as_slice(), more].concat()));
        tensor(&folder.path().join(name).join("train0.safetensors"), "up-level1-upsampler-out")
    };
    let control = ["--control", "canny", "--controlnet_model", canny.as_str(), "--denoising_from", "60"];
    let controlled = |name: &str, more: &[&str]| features(name, &[&control[..], more].concat());
    let (without, full) = (features("without", &control[4..]), controlled("full", &[]));
    assert!(relative_error(&full, &without) > 1e-4);
    assert!(relative_error(&controlled("none", &["--control_scale", "canny=0"]), &without) == 0.0);
    let half = controlled("half", &["--control_scale", "canny=0.5"]);
    assert!(relative_error(&half, &full) > 1e-5 && relative_error(&half, &without) > 1e-5);
    // Denoising steps first, the extraction last.
    let (early, late) =
        (controlled("early", &["--control-end", "canny=0.5"]), controlled("late", &["--control-start", "canny=0.5"]));
    for (part, other) in [(&early, &late), (&early, &full), (&late, &full), (&early, &without)] {
        assert!(relative_error(part, other) > 1e-6);
    }
    let wrong = extract(folder.path(), &[&control[..], &["--control-end", "canny=0"]].concat());
    refused(folder.path(), &wrong, 2, &["start < end"]);
}

#[test]
fn a_prompt_per_folder_and_from_a_table() {
    let folder = tempfile::tempdir().unwrap();
    for (place, first) in [("cat", 0), ("dog", 1)] {
        write_pictures(&folder.path().join("in").join(place), first, 1, 64).unwrap();
    }
    let run = |name: &str, more: &[&str]| {
        let common = ["--input_dir", "in/**/*.png", "--output_dir", name, "-b", "2"];
        succeeded(&extract(folder.path(), &[&common[..], more].concat()));
        files(&folder.path().join(name))
    };
    let by_folder = run("A", &["--prompt", "a photo of a {folder}"]);
    std::fs::write(folder.path().join("p.csv"), "image,prompt\ncat/000.png,a photo of a cat\n001,a photo of a dog\n").unwrap();
    assert_eq!(by_folder, run("B", &["--prompt_csv", "p.csv"]));
    assert_ne!(by_folder, run("C", &["--prompt", "a photo of a folder"]));
}

#[test]
fn a_prompt_per_image() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("captions")).unwrap();
    for image in 0..5 {
        // The last is long: its states have another length, so that it cannot share a batch.
        let text = if image == 4 { "word ".repeat(90) } else { format!("a picture number {image}") };
        std::fs::write(folder.path().join(format!("captions/{image:03}.txt")), text).unwrap();
    }
    succeeded(&extract(folder.path(), &["--caption_dir", "captions", "--aggregate_output", "-b", "1"]));
    std::fs::write(folder.path().join("one.txt"), "a picture number 3").unwrap();
    succeeded(&extract(folder.path(), &["--prompt_file", "one.txt", "--aggregate_output", "-b", "1", "--output_dir", "same"]));
    let (own, same) = (files(&folder.path().join("OUT")), files(&folder.path().join("same")));
    assert_eq!(own["train3.npy"], same["train3.npy"]);
    assert_ne!(own["train2.npy"], same["train2.npy"]);
    std::fs::remove_file(folder.path().join("captions/002.txt")).unwrap();
    let missing = extract(folder.path(), &["--caption_dir", "captions", "--output_dir", "none"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(message(&missing).contains("1 of 5 images have no caption"), "{}", message(&missing));
}

#[test]
fn unreadable_images_are_listed_and_the_rest_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("in");
    write_pictures(&images, 0, 3, 64).unwrap();
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
    refuse(&["--input_dir", "empty"], 1, &["no picture in this folder"]);
    refuse(&["--input_dir", "empty/*.png"], 1, &["no file matches"]);
    refuse(&["--feature_resize", "100"], 1, &["leaves nothing of"]);
    refuse(&["--version", "xl"], 2, &["1-5"]);
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
    value["use_linear_projection"] = Value::Bool(true);
    std::fs::write(&config, value.to_string()).unwrap();
    refuse(&["Stable Diffusion 2"]);
}

/// The miniature model as one file in LDM naming.
fn write_checkpoint(path: &Path) {
    let mut tensors = Vec::new();
    for part in Part::ALL {
        let component = Component::open(part, &world().join("model")).unwrap();
        for (name, stored) in ldm::table_to_ldm(component.names(), part).unwrap() {
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
fn features_of_a_picture_that_is_generated() {
    let folder = tempfile::tempdir().unwrap();
    let model = world().join("model").display().to_string();
    std::fs::write(folder.path().join("l.json"), r#"["mid-repeat0-res-out", "up-level1-upsampler-out"]"#).unwrap();
    let run = |more: &[&str]| {
        let picture = ["generate", "--model", &model, "--prompt", "a red circle, sharp", "--height", "48", "--width", "64"];
        let common = ["--layer", "l.json", "--output_dir", "OUT", "--quiet", "--device", "cpu", "--output-dtype", "float32"];
        bare(&[&picture[..], &common, more].concat(), folder.path())
    };
    refused(folder.path(), &run(&["--at-steps", "7", "--steps", "5"]), 1, &["5 steps make 6 calls"]);
    refused(folder.path(), &run(&["--at-steps", "0"]), 2, &["from 1"]);
    succeeded(&run(&["--at-steps", "2,3,6", "--steps", "5", "--seed", "31", "--negative-prompt", "blurry"]));
    let out = folder.path().join("OUT");
    assert_eq!(names(&out).len(), 13);
    // Reference: tests/reference/sampling.py.
    let theirs = WeightFile::open(fixture("networks/sampling.safetensors")).unwrap();
    for (layer, channels) in [("mid-repeat0-res-out", 64), ("up-level1-upsampler-out", 64)] {
        for (call, row) in [2, 3, 6].into_iter().flat_map(|call| [(call, 0), (call, 1)]) {
            let bytes = std::fs::read(out.join(format!("{layer}-{call}-{row}.npy"))).unwrap();
            let file = npyz::NpyFile::new(&bytes[..]).unwrap();
            assert_eq!(file.shape()[0], channels);
            let ours = Tensor::new(file.into_vec::<f32>().unwrap(), &Device::Cpu).unwrap();
            let batch = theirs.tensor(&format!("{layer}.{call}"), &Device::Cpu).unwrap();
            let error = relative_error(&ours, &batch.get(row).unwrap().flatten_all().unwrap());
            assert!(error < 2e-5, "{layer} {call} {row}: {error:e}");
        }
    }
    succeeded(&run(&["--at-steps", "1", "--steps", "2", "--guidance-scale", "1", "--output_dir", "PLAIN"]));
    assert_eq!(
        names(&folder.path().join("PLAIN")),
        ["mid-repeat0-res-out-1-0.npy", "picture.png", "up-level1-upsampler-out-1-0.npy"]
    );
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
fn features_become_pictures_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let images = world().join("images").display().to_string();
    for (set, prompt) in [("plain", ""), ("prompt", "a red circle")] {
        let place = format!("OUT/{set}");
        let options = ["--prompt", prompt, "--aggregate_output", "--use_original_filename", "--output_dir", &place];
        succeeded(&extract(folder.path(), &options));
    }
    succeeded(&bare(&["pca", "OUT/plain", "OUT/prompt", "--output", "pictures", "--images", &images, "--quiet"], folder.path()));
    let all = names(&folder.path().join("pictures"));
    assert_eq!(all.len(), 11, "{all:?}");
    let size = |name: &str| driftless::vision::Picture::dimensions(folder.path().join("pictures").join(name)).unwrap();
    assert_eq!(size("plain/003.png"), (512, 512));
    // Three columns: the image, plain, prompt.
    assert_eq!(size("sheet.png").0, 8 + 3 * 264);
    let output = bare(&["pca", "layers.json", "--output", "none"], folder.path());
    assert_eq!(output.status.code(), Some(1));
}
