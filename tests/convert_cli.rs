//! The `convert` command from outside: what it writes, what it says, and what it refuses.

use candle_core::{DType, Device, Tensor};
use driftless::adapter::Adapter;
use driftless::adapter::AdapterFile;
use driftless::formats::{WeightFile, write_safetensors};
use driftless::miniature::{Size, write_model};
use driftless::model_family::Network;
use driftless::weights::Component;
use std::collections::BTreeMap;
use std::path::Path;
use testkit::{Program, listing, message};

const CONVERT: Program = Program(env!("CARGO_BIN_EXE_convert"));

/// Runs it and expects one clear message, status 1 and nothing at `out`; the message.
fn refused(folder: &Path, arguments: &[&str]) -> String {
    let before = listing(folder);
    let output = CONVERT.run(folder, arguments);
    let message = message(&output);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
    assert!(
        message.starts_with("error: ") && message.trim_end().lines().count() == 1 && !message.contains("panicked"),
        "{message}"
    );
    assert_eq!(listing(folder), before, "{arguments:?}");
    message
}

fn adapter(name: &str) -> String {
    format!("{}/../tests/fixtures/checkpoint/adapters/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn torch_file(name: &str) -> String {
    format!("{}/../tests/fixtures/checkpoint/torch/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Changes of all layers, to compare files in different formats.
fn changes(path: &Path) -> BTreeMap<String, Vec<f64>> {
    let change = |adapter: &Adapter| {
        let lora = adapter.as_plain_lora().expect("plain LoRA");
        let (rank, outputs) = (lora.down.dims()[0], lora.up.dims()[0]);
        let matrix = |t: &Tensor, rows: usize| t.to_dtype(DType::F64).unwrap().reshape((rows, ())).unwrap();
        numbers(&(matrix(&lora.up, outputs).matmul(&matrix(&lora.down, rank)).unwrap() * adapter.scale()).unwrap())
    };
    AdapterFile::open(path).unwrap().entries.iter().map(|((network, path), f)| (format!("{network}.{path}"), change(f))).collect()
}

#[test]
fn adapters_go_into_every_format_and_keep_their_change() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let expected = changes(Path::new(&adapter("kohya.safetensors")));
    // Largest difference over largest number; a scale of 1.5 in a float32 factor is one rounding.
    let assert_same = |path: &Path, tolerance: f64| {
        let found = changes(path);
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (layer, expected) in &expected {
            let largest = expected.iter().fold(0f64, |a, b| a.max(b.abs()));
            let error = found[layer].iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest;
            assert!(error <= tolerance, "{layer}: {error:e}");
        }
    };
    for input in [
        "kohya.safetensors",
        "kohya.ckpt",
        "kohya_legacy.pt",
        "kohya_views.ckpt",
        "diffusers.safetensors",
        "diffusers_own.safetensors",
    ] {
        let name = format!("{input}.out");
        let said = CONVERT.stdout(folder.path(), &["diffusers", &adapter(input), "--output", &name]);
        assert!(said.contains("pytorch_lora_weights.safetensors"), "{said}");
        assert_same(&at(&name).join("pytorch_lora_weights.safetensors"), 3e-7);
    }
    CONVERT.stdout(
        folder.path(),
        &["diffusers", &adapter("kohya.safetensors"), "--output", "new/place/one.safetensors", "--dtype", "float16"],
    );
    let half = at("new/place/one.safetensors");
    assert_eq!(
        WeightFile::open(&half).unwrap().info("unet.mid_block.resnets.0.conv1.lora_A.weight").unwrap().tensor_dtype(),
        Some(DType::F16)
    );
    // Two float16 factors: half a unit in the eleventh digit each, summed over rank 2.
    assert_same(&half, 2e-3);
    CONVERT.stdout(folder.path(), &["kohya", &adapter("diffusers.safetensors"), "--output", "k.safetensors"]);
    assert_same(&at("k.safetensors"), 3e-7);
    CONVERT.stdout(folder.path(), &["peft", &adapter("kohya.safetensors"), "-o", "peft", "--quiet"]);
    let (unet, text) =
        (changes(&at("peft/unet/adapter_model.safetensors")), changes(&at("peft/text_encoder/adapter_model.safetensors")));
    assert_eq!(unet.len() + text.len(), expected.len());
    CONVERT.stdout(folder.path(), &["diffusers", "peft/unet/adapter_model.safetensors", "--output", "from_peft"]);
}

#[test]
fn inspect_says_what_a_file_is() {
    let folder = tempfile::tempdir().unwrap();
    let json = |file: &str| -> serde_json::Value {
        serde_json::from_str(&CONVERT.stdout(folder.path(), &["inspect", file, "--json"])).unwrap()
    };
    let found = json(&adapter("kohya.ckpt"));
    assert_eq!(
        (found["kind"].as_str(), found["format"].as_str(), found["container"].as_str()),
        (Some("adapter"), Some("kohya"), Some("torch (zip)"))
    );
    assert_eq!((&found["rank"], &found["alpha"]), (&serde_json::json!([2, 3]), &serde_json::json!([1.0, 3.0])));
    assert_eq!(found["architecture"], "stable-diffusion-v1");
    let found = json(&adapter("kohya.safetensors"));
    assert_eq!(found["metadata"]["note"], "kept");
    assert_eq!(found["tensors"].as_u64(), Some(found["keys"].as_array().unwrap().len() as u64));
    assert_eq!(json(&torch_file("zip.ckpt"))["kind"], "unknown");
    assert!(CONVERT.stdout(folder.path(), &["inspect", &adapter("diffusers.safetensors")]).contains("format: diffusers"));
    assert!(refused(folder.path(), &["inspect", "nothing.safetensors"]).contains("no such file"));
}

/// Names of files, keys and metadata come from strangers.
#[test]
fn what_a_stranger_wrote_is_shown_escaped() {
    let folder = tempfile::tempdir().unwrap();
    let hostile = "a\u{1b}]0;title\u{7}\u{9b}2J\u{202e}b\u{7f}";
    let file = format!("{hostile}.safetensors");
    let tensor = serde_json::json!({ "dtype": "F32", "shape": [1], "data_offsets": [0, 4] });
    let header = serde_json::json!({ "__metadata__": { hostile: hostile }, hostile: tensor }).to_string();
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 4]].concat();
    std::fs::write(folder.path().join(&file), bytes).unwrap();
    let acts = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
    let missing = format!("no{file}");
    for (arguments, status) in [
        (vec!["inspect", &file], 0),
        (vec!["inspect", &file, "--verbose"], 0),
        (vec!["inspect", &file, "--json"], 0),
        (vec!["inspect", &missing], 1),
        (vec!["inspect", &missing, "--log-json"], 1),
        (vec!["kohya", &file, "--output", "out.safetensors"], 1),
        (vec![hostile], 2),
    ] {
        let output = CONVERT.run(folder.path(), &arguments);
        let said = message(&output) + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(status), "{said:?}");
        assert!(!said.contains(acts), "{arguments:?}: {said:?}");
        assert!(said.contains("\\u{9b}2J\\u{202e}b") || said.contains("\\u009b2J\\u202eb"), "{arguments:?}: {said}");
    }
    let found: serde_json::Value = serde_json::from_str(&CONVERT.stdout(folder.path(), &["inspect", &file, "--json"])).unwrap();
    assert_eq!(found["metadata"][hostile], hostile);
}

/// Makes a miniature model folder, `model`, and its LDM file, `model.safetensors`.
fn model(folder: &Path) {
    write_model(&folder.join("model"), Size::Miniature, DType::F32, 0).unwrap();
    CONVERT.stdout(folder, &["ckpt", "model", "--output", "model.safetensors"]);
}

/// All tensors of a file.
fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let file = WeightFile::open(path).unwrap();
    file.names().map(|name| (name.to_owned(), file.tensor(name, &Device::Cpu).unwrap())).collect()
}

#[test]
fn checkpoints_become_the_folder_they_came_from() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path());
    let ldm = WeightFile::open(folder.path().join("model.safetensors")).unwrap();
    assert_eq!(ldm.info("first_stage_model.encoder.mid.attn_1.q.weight").unwrap().shape.len(), 4);
    assert!(ldm.contains("model.diffusion_model.time_embed.0.weight"));
    let said = CONVERT.stdout(folder.path(), &["diffusers", "model.safetensors", "--base", "model", "--output", "again"]);
    assert!(said.contains("text_encoder") && said.contains("from the checkpoint"), "{said}");
    for part in Network::PIPELINE {
        let (first, again) = (
            Component::open(part, &folder.path().join("model").join(part.name()), false).unwrap(),
            Component::open(part, &folder.path().join("again").join(part.name()), false).unwrap(),
        );
        assert_eq!(first.names().collect::<Vec<_>>(), again.names().collect::<Vec<_>>());
        for name in first.names() {
            let read = |component: &Component| component.tensor(name, &Device::Cpu).unwrap();
            assert_eq!(numbers(&read(&first)), numbers(&read(&again)), "{name}");
        }
    }
    for file in [
        "model_index.json",
        "unet/config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "scheduler/scheduler_config.json",
    ] {
        assert!(folder.path().join("again").join(file).is_file(), "{file}");
    }
    // As a pickle, the LDM file holds the same tensors.
    CONVERT.stdout(folder.path(), &["ckpt", "model", "--output", "model.ckpt"]);
    let (pickled, plain) = (tensors(&folder.path().join("model.ckpt")), tensors(&folder.path().join("model.safetensors")));
    assert!(pickled.keys().eq(plain.keys()));
    for (name, tensor) in &plain {
        assert_eq!(numbers(&pickled[name]), numbers(tensor), "{name}");
    }
    assert!(refused(folder.path(), &["ckpt", "model", "--output", "model.pt"]).contains(".ckpt"));
    // A second time the folder is there already, and stays as it is.
    assert!(
        refused(folder.path(), &["diffusers", "model.safetensors", "--base", "model", "--output", "again"])
            .contains("exists already")
    );
}

#[test]
fn stable_diffusion_2_goes_there_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_model(&at("model"), Size::MiniatureSd2, DType::F32, 0).unwrap();
    CONVERT.stdout(folder.path(), &["ckpt", "model", "--output", "model.safetensors"]);
    let ldm = tensors(&at("model.safetensors"));
    let tower = |name: &str| &ldm[&format!("cond_stage_model.model.{name}")];
    let layers = Component::open(Network::TextEncoder, &at("model/text_encoder"), false).unwrap();
    let layer = |name: &str| numbers(&layers.tensor(&format!("text_model.encoder.layers.0.{name}"), &Device::Cpu).unwrap());
    let packed = ["q", "k", "v"].map(|one| layer(&format!("self_attn.{one}_proj.weight"))).concat();
    assert_eq!(numbers(tower("transformer.resblocks.0.attn.in_proj_weight")), packed);
    assert_eq!(numbers(tower("transformer.resblocks.0.mlp.c_proj.bias")), layer("mlp.fc2.bias"));
    let width = tower("token_embedding.weight").dims()[1];
    assert_eq!((tower("text_projection").dims(), tower("logit_scale").dims()), (&[width, width][..], &[][..]));
    assert_eq!(ldm["model.diffusion_model.middle_block.1.proj_in.weight"].rank(), 2);
    let found: serde_json::Value =
        serde_json::from_str(&CONVERT.stdout(folder.path(), &["inspect", "model.safetensors", "--json"])).unwrap();
    assert_eq!((&found["kind"], &found["architecture"]), (&"checkpoint".into(), &"stable-diffusion-v2".into()));
    assert_eq!(found["not_understood"], serde_json::json!([]));

    // There, and back to the byte; the configurations and what the network predicts are the base's.
    CONVERT.stdout(folder.path(), &["diffusers", "model.safetensors", "--base", "model", "--output", "again"]);
    for network in Network::PIPELINE {
        let name = format!("{network}/{}.safetensors", network.stem());
        let (first, again) = (tensors(&at("model").join(&name)), tensors(&at("again").join(&name)));
        assert!(first.keys().eq(again.keys()), "{name}");
        first.iter().for_each(|(name, tensor)| assert_eq!(numbers(tensor), numbers(&again[name]), "{name}"));
    }
    CONVERT.stdout(folder.path(), &["ckpt", "again", "--output", "again.safetensors"]);
    assert_eq!(std::fs::read(at("model.safetensors")).unwrap(), std::fs::read(at("again.safetensors")).unwrap());
    let prediction = |model: &str| -> serde_json::Value {
        let text = std::fs::read_to_string(at(model).join("scheduler/scheduler_config.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["prediction_type"].clone()
    };
    assert_eq!(prediction("again"), "v_prediction");
    let more = ["--output", "noise", "--prediction_type", "epsilon"];
    CONVERT.stdout(folder.path(), &[&["diffusers", "model.safetensors", "--base", "model"], &more[..]].concat());
    assert_eq!(prediction("noise"), "epsilon");

    // A base of another family is named as what it is.
    write_model(&at("old"), Size::Miniature, DType::F32, 0).unwrap();
    let message = refused(folder.path(), &["diffusers", "model.safetensors", "--base", "old", "--output", "out"]);
    assert!(message.contains("Stable Diffusion 2 checkpoint") && message.contains("Stable Diffusion 1.5 model"), "{message}");
}

#[test]
fn checkpoints_in_parts_take_the_rest_from_the_base() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path());
    let mut weights = tensors(&folder.path().join("model.safetensors"));
    weights.retain(|name, _| !name.starts_with("first_stage_model."));
    // Trained text encoder, an old name, and things that every checkpoint has beside its weights.
    for (name, tensor) in &mut weights {
        if name.starts_with("cond_stage_model.") {
            *tensor = (&*tensor + 1.0).unwrap();
        }
    }
    let weights: BTreeMap<String, Tensor> =
        weights.into_iter().map(|(name, t)| (name.replace("transformer.text_model.", "transformer."), t)).collect();
    let extra = [
        ("betas", Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap()),
        ("model_ema.decay", Tensor::new(1f32, &Device::Cpu).unwrap()),
        ("cond_stage_model.transformer.embeddings.position_ids", Tensor::zeros((1, 77), DType::I64, &Device::Cpu).unwrap()),
    ];
    let all = weights.into_iter().chain(extra.map(|(name, t)| (name.to_owned(), t)));
    write_safetensors(folder.path().join("part.safetensors"), all, &BTreeMap::new()).unwrap();
    let said = CONVERT
        .stdout(folder.path(), &["diffusers", "part.safetensors", "--base", "model", "--output", "own", "--dtype=float16"]);
    assert!(said.contains("vae") && said.contains("from the base (the checkpoint has none)"), "{said}");
    CONVERT.stdout(
        folder.path(),
        &["diffusers", "part.safetensors", "--base", "model", "--output", "paper", "--text_encoder", "base"],
    );
    let name = "text_model.final_layer_norm.weight";
    let read = |model: &str| {
        numbers(
            &Component::open(Network::TextEncoder, &folder.path().join(model).join("text_encoder"), false)
                .unwrap()
                .tensor(name, &Device::Cpu)
                .unwrap(),
        )
    };
    assert_eq!(read("paper"), read("model"));
    assert!(read("own").iter().zip(read("model")).all(|(own, base)| (own - base - 1.0).abs() < 2e-3));
}

#[test]
fn bad_checkpoints_are_refused_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path());
    let good = tensors(&folder.path().join("model.safetensors"));
    let conv_in = "model.diffusion_model.input_blocks.0.0.weight";
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let try_with = |change: &dyn Fn(&mut BTreeMap<String, Tensor>), more: &[&str]| {
        let mut weights = good.clone();
        change(&mut weights);
        write_safetensors(folder.path().join("bad.safetensors"), weights, &BTreeMap::new()).unwrap();
        refused(folder.path(), &[&["diffusers", "bad.safetensors", "--output", "out", "--base", "model"], more].concat())
    };
    let message = try_with(&|w| drop(w.remove("model.diffusion_model.out.2.bias")), &[]);
    assert!(message.contains("conv_out.bias") && message.contains("missing"), "{message}");
    let message = try_with(&|w| drop(w.insert("model.diffusion_model.out.2.bias".into(), zeros(&[9]))), &[]);
    assert!(message.contains("out.2.bias") && message.contains("[9]"), "{message}");
    let message = try_with(&|w| drop(w.insert("something.else".into(), zeros(&[1]))), &[]);
    assert!(message.contains("something.else") && message.contains("not understood"), "{message}");
    let nan = (&good[conv_in] * f64::NAN).unwrap();
    let message = try_with(&|w| drop(w.insert(conv_in.into(), nan.clone())), &[]);
    assert!(message.contains(conv_in) && message.contains("not a finite number"), "{message}");
    let message = try_with(&|w| drop(w.insert(conv_in.into(), zeros(&[4, 9, 3, 3]))), &[]);
    assert!(message.contains("inpainting"), "{message}");
    let message = try_with(&|w| drop(w.insert("conditioner.embedders.0.x".into(), zeros(&[1]))), &[]);
    assert!(message.contains("SDXL"), "{message}");
    let message = try_with(&|w| drop(w.insert("cond_stage_model.model.x".into(), zeros(&[1]))), &[]);
    assert!(message.contains("Stable Diffusion 2"), "{message}");
    let message =
        try_with(&|w| drop(w.insert(conv_in.into(), (zeros(good[conv_in].dims()) + 1e6).unwrap())), &["--dtype", "float16"]);
    assert!(message.contains(conv_in) && message.contains("f16"), "{message}");
    let message = try_with(&|_| (), &["--ema"]);
    assert!(message.contains("moving average"), "{message}");
    assert!(refused(folder.path(), &["diffusers", "model.safetensors", "--output", "out"]).contains("--base"));
    assert!(
        refused(folder.path(), &["diffusers", "model.safetensors", "--output", "out", "--base", "nowhere"]).contains("nowhere")
    );
    assert!(
        refused(folder.path(), &["diffusers", "model/unet/diffusion_pytorch_model.safetensors", "--output", "out"])
            .contains("unet")
    );
    // With leave to go on, each unknown key is named in a warning.
    let mut weights = good.clone();
    weights.insert("something.else".into(), zeros(&[1]));
    write_safetensors(folder.path().join("bad.safetensors"), weights, &BTreeMap::new()).unwrap();
    let output =
        CONVERT.run(folder.path(), &["diffusers", "bad.safetensors", "--output", "out", "--base", "model", "--allow_unknown"]);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stderr).contains("something.else"));
}

#[test]
fn adapters_are_checked_against_the_base() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path());
    let message = refused(folder.path(), &["diffusers", &adapter("kohya.safetensors"), "--output", "out", "--base", "model"]);
    assert!(message.contains("base model"), "{message}");
    let message =
        refused(folder.path(), &["diffusers", &adapter("kohya.safetensors"), "--output", "out", "--text-encoder", "base"]);
    assert!(message.contains("--text-encoder"), "{message}");
}

#[test]
fn hostile_and_broken_files_are_refused_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.ckpt");
    let good = std::fs::read(adapter("kohya_legacy.pt")).unwrap();
    let system: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.cposix\nsystem\nX\x02\x00\x00\x00id\x85R.";
    let cases: [(&[u8], &str); 5] = [
        (&good[..good.len() / 2], "bad.ckpt"),
        (&good[..40], "bad.ckpt"),
        (b"", "empty"),
        (b"<html></html>", "web page"),
        (system, "posix.system"),
    ];
    for (bytes, words) in cases {
        std::fs::write(&path, bytes).unwrap();
        for command in ["diffusers", "kohya", "peft"] {
            let out = if command == "kohya" { "out.safetensors" } else { "out" };
            assert!(refused(folder.path(), &[command, "bad.ckpt", "--output", out]).contains(words), "{words}");
        }
    }
    assert!(refused(folder.path(), &["diffusers", ".", "--output", "out"]).contains("folder"));
    std::fs::copy(adapter("kohya.safetensors"), folder.path().join("in.safetensors")).unwrap();
    assert!(refused(folder.path(), &["kohya", "in.safetensors", "--output", "in.safetensors"]).contains("input itself"));
}

#[test]
fn wrong_usage_has_a_status_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["diffusers", "x"][..],
        &["nothing"],
        &[],
        &["diffusers", "x", "--output", "y", "--dtype", "int8"],
        &["diffusers", "x", "--output", "y", "--text-encoder", "mine"],
    ] {
        assert_eq!(CONVERT.run(folder.path(), arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert_eq!(CONVERT.run(folder.path(), &["--help"]).status.code(), Some(0));
}
