//! The real `extract` binary on the seeded miniature model: its numbers against the original's, and each technique alone and together.

#[path = "extract_scratch.rs"]
mod scratch;

use std::path::Path;

use candle_core::{Device, Tensor};
use driftless::formats::WeightFile;
use driftless::miniature::write_images;
use driftless::taps::{BlockTap, LayerId, Position};
use features::projection::Projection;
use features::stores::read_npy;
use scratch::*;
use serde_json::Value;
use testkit::{fixture, message, relative_error};

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
        let image = parsed("case")["image"].as_str().unwrap_or("image.png").to_owned();
        let image = fixture("extractor").join(image).display().to_string();
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
    assert!(count >= 21, "{count} cases");
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
        let scratch = ["--input_dir", images.as_str(), "--output_dir", alone.as_str()];
        succeeded(&extract(folder.path(), &[common.as_slice(), &scratch, &more].concat()));
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
    let of = |name: &str, layer: &str| tensor(&folder.path().join(name).join("train1.safetensors"), layer);
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
    refused(folder.path(), &run(&sets(""), "OUT"), 1, &["`b`: `write = false`"]);
    for (more, part) in wrong {
        refused(folder.path(), &run(&sets(more).replace("write = false", ""), "OUT"), 1, &[part]);
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
    let stranger = extract(folder.path(), &[&control[..], &["--control-scale", "depth=1"]].concat());
    refused(folder.path(), &stranger, 2, &["`depth` has a strength"]);
}

#[test]
fn a_prompt_per_folder_and_from_a_table() {
    let folder = tempfile::tempdir().unwrap();
    for (name, first) in [("cat", 0), ("dog", 1)] {
        write_images(&folder.path().join("in").join(name), first, 1, 64).unwrap();
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
        let text = if image == 4 { "word ".repeat(90) } else { format!("an image number {image}") };
        std::fs::write(folder.path().join(format!("captions/{image:03}.txt")), text).unwrap();
    }
    succeeded(&extract(folder.path(), &["--caption_dir", "captions", "--aggregate_output", "-b", "1"]));
    std::fs::write(folder.path().join("one.txt"), "an image number 3").unwrap();
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
fn features_of_a_image_that_is_generated() {
    let folder = tempfile::tempdir().unwrap();
    let model = world().join("model").display().to_string();
    std::fs::write(folder.path().join("l.json"), r#"["mid-repeat0-res-out", "up-level1-upsampler-out"]"#).unwrap();
    let run = |more: &[&str]| {
        let image = ["generate", "--model", &model, "--prompt", "a red circle, sharp", "--height", "48", "--width", "64"];
        let common = ["--layer", "l.json", "--output_dir", "OUT", "--quiet", "--device", "cpu", "--output-dtype", "float32"];
        bare(&[&image[..], &common, more].concat(), folder.path())
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

/// DIFT's features: the mean over draws, each with the seed of its own.
#[test]
fn an_ensemble_is_the_mean_of_its_draws() {
    let folder = tempfile::tempdir().unwrap();
    let images = world().join("images/00[01].png").display().to_string();
    let run = |out: &str, more: &[&str]| {
        let as_float32 =
            ["--output_dir", out, "--output-dtype", "float32", "--output-format", "safetensors", "--input_dir", &images];
        succeeded(&extract(folder.path(), &[&as_float32, more].concat()));
        tensor(&folder.path().join(out).join("train1.safetensors"), "up-level1-upsampler-out")
    };
    let draws = ["7", "1000007", "2000007"].map(|seed| run(seed, &["--seed", seed]));
    let mean = run("MEAN", &["--seed", "7", "--ensemble", "3"]);
    let sum = ((&draws[0] + &draws[1]).unwrap() + &draws[2]).unwrap();
    assert!(relative_error(&mean, &(sum / 3.0).unwrap()) < 1e-6);
    assert!(relative_error(&mean, &draws[0]) > 1e-3);
    let other = extract(
        folder.path(),
        &[
            "--output_dir",
            "7",
            "--output-dtype",
            "float32",
            "--output-format",
            "safetensors",
            "--input_dir",
            &images,
            "--seed",
            "7",
            "--ensemble",
            "2",
        ],
    );
    let message = message(&other);
    assert!(other.status.code() == Some(1) && message.contains("ensemble was not given, is 2"), "{message}");
}

/// A basis that is made of features, and features that are written in it.
#[test]
fn features_are_projected() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let float32 = ["--output-dtype", "float32"];
    succeeded(&extract(here, &float32));
    let output = bare(&["pca", "OUT", "--fit", "made/basis.safetensors"], here);
    succeeded(&output);
    assert!(message(&output).contains("the bases of 2 layers written to made/basis.safetensors"), "{}", message(&output));
    assert!(
        message(&output).contains("up-level1-upsampler-out: 64 components of 64 channels hold 100.0 %"),
        "{}",
        message(&output)
    );
    assert_eq!(names(&here.join("made")), ["basis.safetensors"]);

    // As what was written, projected; aggregates and files hold so many channels fewer, and the announcement says so.
    let options = [&float32[..], &["--pca", "made/basis.safetensors", "--pca-dims", "5", "--output_dir", "SMALL"]].concat();
    succeeded(&extract(here, &options));
    let projection = Projection::read(&here.join("made/basis.safetensors"), 5).unwrap();
    let layers = [LayerId::UpsamplerOut(1), LayerId::Block(Position::Up { level: 1, repeat: 1 }, 0, BlockTap::CrossQ)];
    for layer in layers {
        for image in 0..5 {
            let read = |out: &str| read_npy(&here.join(format!("{out}/{layer}/train{image}.npy"))).unwrap().feature;
            let (whole, small) = (read("OUT"), read("SMALL"));
            let [channels, height, width] = whole.shape;
            assert_eq!(small.shape, [5, height, width]);
            assert_eq!(small.values, projection.apply(layer, &whole.values, channels).unwrap());
        }
    }
    let line = |more: &[&str]| {
        let (model, images) = (world().join("model").display().to_string(), world().join("images").display().to_string());
        let fixed =
            ["--model", &model, "--input_dir", &images, "--device", "cpu", "--t", "50", "--img_size", "64", "--prompt", ""];
        let output = bare(&[&fixed[..], &["--layer", "layers.json", "--aggregate_output"], more].concat(), here);
        succeeded(&output);
        message(&output)
    };
    let told = line(&["--output_dir", "JOINED", "--pca", "made/basis.safetensors", "--pca-dims", "5"]);
    let joined = read_npy(&here.join("JOINED/train0.npy")).unwrap().feature;
    assert_eq!(joined.shape[0], 10);
    assert!(told.contains(&format!("{} B per image", 2 * joined.values.len())), "{told}");

    // A folder without projections is recorded as before there were any.
    let recorded = |out: &str| {
        let text = std::fs::read_to_string(here.join(out).join("extract.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["run"]["output.pca_dims"].clone()
    };
    assert_eq!([recorded("OUT"), recorded("SMALL")], [Value::Null, 5.into()]);
    // Another number of components, and another basis, are other features; a folder without is none that goes on with.
    let other = |more: &[&str], part: &str| {
        let output = extract(here, &[&float32[..], &["--output_dir", "SMALL"], more].concat());
        assert!(output.status.code() == Some(1) && message(&output).contains(part), "{}", message(&output));
    };
    other(&["--pca", "made/basis.safetensors", "--pca-dims", "6"], "output.pca_dims was 5, is 6");
    succeeded(&bare(
        &["pca", "OUT/up-level1-upsampler-out/train0.npy", "OUT/up-level1-repeat1-vit-block0-cross-q", "--fit", "b"],
        here,
    ));
    other(&["--pca", "b", "--pca-dims", "5"], "output.pca has other contents");
    other(&[], "output.pca was");
    succeeded(&extract(here, &options));
    succeeded(&extract(here, &float32));
}

#[test]
fn bases_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    succeeded(&extract(here, &[]));
    succeeded(&bare(&["pca", "OUT/up-level1-upsampler-out", "--fit", "one", "--pca-dims", "7", "--quiet"], here));
    let refused = |status: i32, more: &[&str], parts: &[&str]| {
        let output = extract(here, &[&["--output_dir", "NONE"], more].concat());
        let text = message(&output);
        assert!(output.status.code() == Some(status) && parts.iter().all(|part| text.contains(part)), "{text}");
        assert!(!here.join("NONE").exists());
    };
    refused(1, &["--pca", "one", "--pca-dims", "3"], &["no basis of `up-level1-repeat1-vit-block0-cross-q`"]);
    std::fs::write(here.join("more.json"), r#"["up-level1-upsampler-out", "vae-out", "mid-vit-out"]"#).unwrap();
    let parts =
        ["its basis of `up-level1-upsampler-out` has 7 components, and --pca-dims asks for 8", "`vae-out`", "`mid-vit-out`"];
    refused(1, &["--pca", "one", "--pca-dims", "8", "--layer", "more.json"], &parts);
    refused(2, &["--pca", "one"], &["--pca needs --pca-dims"]);
    refused(2, &["--pca-dims", "3"], &["--pca-dims N needs --pca"]);
    refused(2, &["--pca", "one", "--pca-dims", "0"], &["--pca-dims 0: expected a whole number, 1 or more"]);
    refused(1, &["--pca", "layers.json", "--pca-dims", "3"], &["--pca ", "layers.json"]);
    let weights = world().join("model/unet/diffusion_pytorch_model.safetensors").display().to_string();
    refused(1, &["--pca", &weights, "--pca-dims", "3"], &["holds no bases", "extract pca FEATURES --fit"]);

    let unfit = |inputs: &[&str], part: &str| {
        let output = bare(&[&["pca"], inputs, &["--fit", "none/none"]].concat(), here);
        assert!(output.status.code() != Some(0) && message(&output).contains(part), "{}", message(&output));
        assert!(!here.join("none").exists());
    };
    succeeded(&extract(here, &["--aggregate_output", "--output_dir", "JOINED"]));
    unfit(&["JOINED"], "extract without --aggregate_output");
    unfit(&["JOINED", "--channels", "64"], "--channels");
    unfit(&["OUT", "--sheet", "x.png"], "--output");
    std::fs::write(here.join("attn.json"), r#"["attn"]"#).unwrap();
    let attention = ["--attention", "up_cross", "--layer", "attn.json", "--img_size", "128", "--output_dir", "ATTN"];
    succeeded(&extract(here, &attention));
    unfit(&["ATTN"], "attention or `vae-out` alone (attn)");
}

/// What is fused is projected before, so that means are means of projections, and joined channels are so many from each.
#[test]
fn projections_are_fused() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    succeeded(&extract(here, &["--output-dtype", "float32"]));
    succeeded(&bare(&["pca", "OUT", "--fit", "basis", "--quiet"], here));
    let (model, images) = (world().join("model").display().to_string(), world().join("images").display().to_string());
    let config = format!(
        "model = '{model}'\n[input]\nimages = '{images}'\nimg_size = 64\n[output]\ndir = 'SETS'\ndtype = 'float32'\npca = 'basis'\n\
         pca_dims = 4\n[[set]]\nname = 'a'\nprompt = 'a red circle'\nt = 50\nlayer = ['up-level1-upsampler-out']\n\
         [[set]]\nname = 'b'\nprompt = 'a horse'\n[[set]]\nname = 'mean'\nfuse = ['a', 'b']\nfuse_mode = 'mean'\n\
         [[set]]\nname = 'both'\nfuse = ['a', 'b']\nfuse_mode = 'concat'\n"
    );
    std::fs::write(here.join("sets.toml"), config).unwrap();
    succeeded(&bare(&["--config", "sets.toml", "--device", "cpu", "--quiet"], here));
    let read = |set: &str| read_npy(&here.join(format!("SETS/{set}/up-level1-upsampler-out/train1.npy"))).unwrap().feature;
    let (a, b, mean, both) = (read("a"), read("b"), read("mean"), read("both"));
    assert_eq!((a.shape[0], mean.shape[0], both.shape[0]), (4, 4, 8));
    assert_eq!(both.values, [&a.values[..], &b.values].concat());
    let means = a.values.iter().zip(&b.values).map(|(a, b)| (a + b) / 2.0);
    assert_eq!(mean.values, means.collect::<Vec<_>>());
}
