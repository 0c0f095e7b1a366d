//! The `convert` command on LyCORIS' families, on merging, and on extracting what was merged.

use candle_core::{DType, Device, Tensor};
use driftless::adapter::AdapterFile;
use driftless::adapter::families::Norm;
use driftless::adapter::files::{Entries, Network};
use driftless::adapter::{Adapter, Factors, Full, Loha, Lora};
use driftless::formats::WeightFile;
use driftless::miniature::{Size, write_model};
use driftless::rng::Generator;
use driftless::weights::Component;
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;
use testkit::{Program, message, norm};

const CONVERT: Program = Program(env!("CARGO_BIN_EXE_convert"));

/// Runs it and expects success; what it printed, standard output before standard error.
fn done(folder: &Path, arguments: &[&str]) -> String {
    let output = CONVERT.run(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", message(&output));
    String::from_utf8_lossy(&output.stdout).into_owned() + &message(&output)
}

fn refused(folder: &Path, arguments: &[&str]) -> String {
    let output = CONVERT.run(folder, arguments);
    let message = message(&output);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
    assert!(!folder.join("out").exists() && !folder.join("out.safetensors").exists(), "{arguments:?}");
    message
}

/// A folder with the miniature model in `model`.
fn place() -> TempDir {
    let folder = TempDir::new().unwrap();
    write_model(&folder.path().join("model"), Size::Miniature, DType::F32, 0).unwrap();
    folder
}

/// Layers of the miniature model of every kind.
const LAYERS: [(Network, &str); 6] = [
    (Network::Unet, "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"),
    (Network::Unet, "mid_block.attentions.0.proj_in"),
    (Network::Unet, "up_blocks.1.resnets.0.conv1"),
    (Network::Unet, "conv_in"),
    (Network::TextEncoder, "text_model.encoder.layers.0.mlp.fc1"),
    (Network::TextEncoder, "text_model.encoder.layers.1.self_attn.q_proj"),
];

/// The weight of a layer in a folder.
fn weight(model: &Path, network: Network, name: &str) -> Tensor {
    let part = if network == Network::Unet { Network::Unet } else { Network::TextEncoder };
    Component::open(part, &model.join(part.name()), false)
        .unwrap()
        .tensor(name, &Device::Cpu)
        .unwrap()
        .to_dtype(DType::F32)
        .unwrap()
}

fn error(found: &Tensor, expected: &Tensor) -> f64 {
    norm(&(found - expected).unwrap()) / norm(expected)
}

/// An adapter of `make` on every one of [`LAYERS`], written to `name`.
fn write(folder: &Path, name: &str, make: impl Fn(&[usize], &mut dyn FnMut(&[usize]) -> Tensor) -> Adapter) -> Entries {
    let mut generator = Generator::manual_seed(7);
    let mut draw = |shape: &[usize]| (generator.randn_tensor(shape, &Device::Cpu).unwrap() * 0.1).unwrap();
    let entries: Entries = LAYERS
        .iter()
        .map(|(network, path)| {
            let shape = weight(&folder.join("model"), *network, &format!("{path}.weight")).dims().to_vec();
            ((*network, (*path).to_owned()), make(&shape, &mut draw))
        })
        .collect();
    AdapterFile::write_kohya(folder.join(name), &entries, &BTreeMap::new(), None).unwrap();
    entries
}

fn lora(shape: &[usize], draw: &mut dyn FnMut(&[usize]) -> Tensor) -> Adapter {
    let down = [&[3], &shape[1..]].concat();
    let up = [&[shape[0], 3], &vec![1; shape.len() - 2][..]].concat();
    Adapter { alpha: Some(1.5), ..Factors::Lora(Lora { down: draw(&down), up: draw(&up), mid: None }).into() }
}

fn loha(shape: &[usize], draw: &mut dyn FnMut(&[usize]) -> Tensor) -> Adapter {
    let columns = shape[1..].iter().product();
    let (a, b) = ([shape[0], 2], [2, columns]);
    let loha = Loha { w1_a: draw(&a), w1_b: draw(&b), w2_a: draw(&a), w2_b: draw(&b), cores: None };
    Adapter { alpha: Some(8.0), ..Factors::Loha(loha).into() }
}

/// Checks that an adapter file makes the changes of `entries`.
fn assert_changes(folder: &Path, found: &Path, entries: &Entries, limit: f64) {
    let file = AdapterFile::open(found).unwrap();
    assert_eq!(file.entries.keys().collect::<Vec<_>>(), entries.keys().collect::<Vec<_>>());
    for ((network, path), adapter) in entries {
        let base = weight(&folder.join("model"), *network, &format!("{path}.weight"));
        let found = file.entries[&(*network, path.clone())].delta(&base).unwrap();
        let error = error(&found, &adapter.delta(&base).unwrap());
        assert!(error <= limit, "{path}: {error:e}");
    }
}

#[test]
fn families_become_plain_lora_for_diffusers_and_peft() {
    let place = place();
    let folder = place.path();
    let dora = |shape: &[usize], draw: &mut dyn FnMut(&[usize]) -> Tensor| {
        let ones = [&[shape[0]], &vec![1; shape.len() - 1][..]].concat();
        let magnitude = (draw(&ones).abs().unwrap() + 0.5).unwrap();
        Adapter { magnitude: Some(magnitude), ..loha(shape, draw) }
    };
    for (name, entries) in [
        ("loha.safetensors", write(folder, "loha.safetensors", loha)),
        ("dora.safetensors", write(folder, "dora.safetensors", dora)),
    ] {
        for (command, output) in [("diffusers", "one.safetensors"), ("peft", "two.safetensors")] {
            let said = done(folder, &[command, name, "--base", "model", "--output", output]);
            assert!(said.contains("plain LoRA, exactly"), "{said}");
            assert_changes(folder, &folder.join(output), &entries, 3e-6);
            let file = WeightFile::open(folder.join(output)).unwrap();
            assert!(file.names().all(|name| name.ends_with(".lora_A.weight") || name.ends_with(".lora_B.weight")));
        }
        done(folder, &["peft", name, "--base", "model", "--output", "peft"]);
        let count = |part: &str| {
            AdapterFile::open(folder.join("peft").join(part).join("adapter_model.safetensors")).unwrap().entries.len()
        };
        assert_eq!(count("unet") + count("text_encoder"), entries.len());
        std::fs::remove_dir_all(folder.join("peft")).unwrap();
        // Cut to a rank: each layer's error is told, and is the error.
        let said = done(folder, &["kohya", name, "--base", "model", "--rank", "2", "--output", "cut.safetensors", "--verbose"]);
        let cut = AdapterFile::open(folder.join("cut.safetensors")).unwrap();
        for ((network, path), adapter) in &entries {
            let base = weight(&folder.join("model"), *network, &format!("{path}.weight"));
            let layer = &cut.entries[&(*network, path.clone())];
            assert_eq!(layer.as_plain_lora().unwrap().rank(), 2);
            let found = error(&layer.delta(&base).unwrap(), &adapter.delta(&base).unwrap());
            let line = said.lines().find(|line| line.starts_with(&format!("{network}.{path}:"))).expect(path);
            let told: f64 = line.split(", ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
            assert!((told - 100.0 * found).abs() <= 0.5, "{line}, but {found}");
        }
        assert_eq!(cut.metadata["ss_network_module"], "networks.lora");
    }
    // LoHa needs no base; DoRA says that it does.
    done(folder, &["diffusers", "loha.safetensors", "--output", "three.safetensors"]);
    let message = refused(folder, &["diffusers", "dora.safetensors", "--output", "out.safetensors"]);
    assert!(message.contains("LoHa with DoRA") && message.contains("--base"), "{message}");
}

#[test]
fn dora_on_lora_stays_dora_in_peft() {
    let place = place();
    let folder = place.path();
    let dora = |shape: &[usize], draw: &mut dyn FnMut(&[usize]) -> Tensor| {
        let ones = [&[shape[0]], &vec![1; shape.len() - 1][..]].concat();
        Adapter { magnitude: Some((draw(&ones).abs().unwrap() + 0.5).unwrap()), ..lora(shape, draw) }
    };
    let entries = write(folder, "dora.safetensors", dora);
    done(folder, &["peft", "dora.safetensors", "--output", "peft"]);
    for (network, part) in [(Network::Unet, "unet"), (Network::TextEncoder, "text_encoder")] {
        let config = std::fs::read_to_string(folder.join("peft").join(part).join("adapter_config.json")).unwrap();
        assert!(config.contains("\"use_dora\": true"), "{config}");
        let of_network = entries.clone().into_iter().filter(|((n, _), _)| *n == network).collect();
        assert_changes(folder, &folder.join("peft").join(part).join("adapter_model.safetensors"), &of_network, 1e-7);
    }
}

#[test]
fn biases_are_not_dropped_in_silence() {
    let place = place();
    let folder = place.path();
    let full = |shape: &[usize], draw: &mut dyn FnMut(&[usize]) -> Tensor| {
        let bias = (shape[0] == shape[1]).then(|| draw(&[shape[0]]));
        Adapter { bias, ..Factors::Full(Full { difference: draw(shape) }).into() }
    };
    let entries = write(folder, "full.safetensors", full);
    assert!(entries.values().any(|adapter| adapter.bias.is_some()));
    let message = refused(folder, &["diffusers", "full.safetensors", "--output", "out.safetensors"]);
    assert!(message.contains("changes a bias") && message.contains("--drop-biases"), "{message}");
    let said = done(folder, &["diffusers", "full.safetensors", "--output", "one.safetensors", "--drop-biases"]);
    assert!(said.contains("biases are left out"), "{said}");
    assert_changes(folder, &folder.join("one.safetensors"), &entries, 3e-6);
    // kohya's format holds them.
    done(folder, &["kohya", "full.safetensors", "--output", "two.safetensors"]);
    assert_changes(folder, &folder.join("two.safetensors"), &entries, 0.0);
}

/// Trained norms on both networks beside the LoRA of `lora.safetensors`, in one file.
fn write_norms(folder: &Path) -> Entries {
    let mut entries = write(folder, "lora.safetensors", lora);
    let mut generator = Generator::manual_seed(8);
    for (network, path) in [(Network::Unet, "conv_norm_out"), (Network::TextEncoder, "text_model.final_layer_norm")] {
        let shape = weight(&folder.join("model"), network, &format!("{path}.weight")).dims().to_vec();
        let mut draw = || generator.randn_tensor(&shape, &Device::Cpu).unwrap();
        let norm = Norm { weight: draw(), bias: Some(draw()) };
        entries.insert((network, path.to_owned()), Factors::Norm(norm).into());
    }
    AdapterFile::write_kohya(folder.join("norms.safetensors"), &entries, &BTreeMap::new(), None).unwrap();
    entries
}

#[test]
fn trained_norms_are_merged_and_refused_where_only_lora_goes() {
    let place = place();
    let folder = place.path();
    let entries = write_norms(folder);
    for command in ["diffusers", "peft"] {
        let message = refused(folder, &[command, "norms.safetensors", "--output", "out.safetensors"]);
        assert!(message.contains("conv_norm_out") && message.contains("--drop-norms"), "{message}");
    }
    let said = done(folder, &["diffusers", "norms.safetensors", "--output", "one.safetensors", "--drop-norms"]);
    assert!(said.contains("the differences of 2 norms are left out"), "{said}");
    let without: Entries =
        entries.iter().filter(|(_, adapter)| !adapter.factors.is_norm()).map(|(k, v)| (k.clone(), v.clone())).collect();
    assert_changes(folder, &folder.join("one.safetensors"), &without, 1e-6);
    // kohya's format holds them, and its metadata say so as LyCORIS' do.
    done(folder, &["kohya", "norms.safetensors", "--output", "two.safetensors"]);
    assert_changes(folder, &folder.join("two.safetensors"), &entries, 0.0);
    assert!(
        WeightFile::open(folder.join("two.safetensors")).unwrap().metadata()["ss_network_args"]
            .contains("\"train_norm\":\"True\"")
    );
    done(folder, &["merge", "--base", "model", "norms.safetensors:0.5", "--output", "merged"]);
    for ((network, path), adapter) in entries.iter().filter(|(_, adapter)| adapter.factors.is_norm()) {
        for (name, (_, change)) in ["weight", "bias"].iter().zip(adapter.components()) {
            let name = format!("{path}.{name}");
            let expected = (weight(&folder.join("model"), *network, &name) + (change * 0.5).unwrap()).unwrap();
            assert!(error(&weight(&folder.join("merged"), *network, &name), &expected) <= 1e-7, "{name}");
        }
    }
}

/// cloneofsimo's files go wherever others do.
#[test]
fn lists_without_names_are_converted() {
    let place = place();
    let folder = place.path();
    let fixture = |name: &str| format!("{}/../tests/fixtures/adapters/{name}", env!("CARGO_MANIFEST_DIR"));
    let file = AdapterFile::open(fixture("list.safetensors")).unwrap();
    let networks = |found: &AdapterFile| found.entries.keys().cloned().collect::<Vec<_>>();
    for (command, output) in
        [("kohya", "kohya.safetensors"), ("diffusers", "diffusers.safetensors"), ("peft", "peft.safetensors")]
    {
        done(folder, &[command, &fixture("list.safetensors"), "--output", output]);
        let found = AdapterFile::open(folder.join(output)).unwrap();
        assert_eq!(networks(&found), networks(&file));
        for (layer, adapter) in &found.entries {
            let zeros = Tensor::zeros(adapter.factors.weight_shape(None).unwrap(), DType::F32, &Device::Cpu).unwrap();
            let (found, expected) = (adapter.delta(&zeros).unwrap(), file.entries[layer].delta(&zeros).unwrap());
            assert_eq!(error(&found, &expected), 0.0, "{command}: {layer:?}");
        }
    }
    let list: serde_json::Value = serde_json::from_str(&done(folder, &["inspect", &fixture("list_unet.pt"), "--json"])).unwrap();
    assert_eq!((list["kind"].as_str(), list["format"].as_str()), (Some("adapter"), Some("cloneofsimo (without names)")));
}

/// The folder that PEFT's form of `lora.safetensors` makes, a folder of one network of it, and a training state.
fn write_folders(folder: &Path) -> Entries {
    let entries = write(folder, "lora.safetensors", lora);
    done(folder, &["peft", "lora.safetensors", "--output", "peft"]);
    std::fs::create_dir(folder.join("state")).unwrap();
    std::fs::copy(folder.join("lora.safetensors"), folder.join("state/adapter.safetensors")).unwrap();
    std::fs::write(folder.join("state/state.json"), "{\"format\":\"driftless train state 1\",\"epoch\":2,\"step\":7}").unwrap();
    entries
}

#[test]
fn folders_of_adapters_are_taken() {
    let place = place();
    let folder = place.path();
    let entries = write_folders(folder);
    for (number, (command, input)) in
        [("kohya", "peft"), ("diffusers", "peft"), ("peft", "state"), ("kohya", "state")].into_iter().enumerate()
    {
        let output = format!("made{number}.safetensors");
        done(folder, &[command, input, "--output", &output]);
        assert_changes(folder, &folder.join(output), &entries, 3e-6);
    }
    done(folder, &["kohya", "peft/unet", "--output", "unet.safetensors"]);
    let unet: Entries = entries.into_iter().filter(|((network, _), _)| *network == Network::Unet).collect();
    assert_changes(folder, &folder.join("unet.safetensors"), &unet, 3e-6);
    done(folder, &["merge", "--base", "model", "peft:0.5", "--output", "merged.safetensors"]);
    for command in ["kohya", "peft", "diffusers"] {
        let message = refused(folder, &[command, "model", "--output", "out.safetensors"]);
        assert!(message.contains("model: is a diffusers pipeline"), "{message}");
    }
    assert!(refused(folder, &["kohya", "model/vae", "--output", "out.safetensors"]).contains("folder without an adapter"));
}

#[test]
fn inspect_tells_people_what_they_want_to_know() {
    let place = place();
    let folder = place.path();
    write_folders(folder);
    let tags = r#"{"10_horse": {"horse": 30, "field": 12}, "5_dog": {"dog": 4, "field": 1}}"#;
    let metadata = BTreeMap::from([("ss_tag_frequency".to_owned(), tags.to_owned())]);
    let entries = AdapterFile::open(folder.join("lora.safetensors")).unwrap().entries;
    AdapterFile::write_kohya(folder.join("tagged.safetensors"), &entries, &metadata, None).unwrap();
    let said = done(folder, &["inspect", "tagged.safetensors"]);
    for words in [
        "is: an adapter (stable-diffusion-v1)",
        "format: kohya, safetensors",
        "parameters in 18 tensors of F32",
        "layers: 2 of the text_encoder, 4 of the unet",
        "families: LoCon on 2 layers, LoRA on 4 layers",
        "rank: 3",
        "alpha: 1.5",
        "weight norms: ",
        "tags: horse (30), field (13), dog (4)",
        "with --verbose: ",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("lora_down") && !said.contains("ss_network"), "{said}");
    let verbose = done(folder, &["inspect", "tagged.safetensors", "--verbose"]);
    assert!(verbose.contains("lora_down.weight F32") && verbose.contains("metadata ss_network_dim"), "{verbose}");
    // The norms are those of the changes.
    let found: serde_json::Value = serde_json::from_str(&done(folder, &["inspect", "tagged.safetensors", "--json"])).unwrap();
    let change = |((network, path), adapter): (&(Network, String), &Adapter)| {
        norm(&adapter.delta(&weight(&folder.join("model"), *network, &format!("{path}.weight"))).unwrap())
    };
    let largest = entries.iter().map(change).fold(0.0, f64::max);
    assert!((found["norms"]["largest"].as_f64().unwrap() / largest - 1.0).abs() < 1e-5, "{}", found["norms"]);
    // Folders: an adapter's, a state, a pipeline, one network of it.
    let kind = |path: &str| -> serde_json::Value { serde_json::from_str(&done(folder, &["inspect", path, "--json"])).unwrap() };
    for (path, expected) in [
        ("peft", "adapter"),
        ("state", "state"),
        ("model", "pipeline"),
        ("model/unet", "unet"),
        ("model/text_encoder", "text_encoder"),
    ] {
        let found = kind(path);
        assert_eq!(found["kind"], expected, "{path}");
        assert_eq!(found["tensors"].as_u64(), Some(found["keys"].as_array().unwrap().len() as u64), "{path}");
    }
    assert!(done(folder, &["inspect", "state"]).contains("progress: step 7, epoch 2"));
    assert!(done(folder, &["inspect", "model"]).contains("networks: unet ("));
    assert_eq!(kind("model/controlnet-canny")["kind"], "controlnet");
}

#[test]
fn converting_prints_a_summary_and_with_verbose_each_layer() {
    let place = place();
    let folder = place.path();
    write(folder, "loha.safetensors", loha);
    let said = done(folder, &["diffusers", "loha.safetensors", "--rank", "2", "--output", "one.safetensors"]);
    assert!(said.contains("6 layers became plain LoRA") && !said.contains("unet.conv_in: LoHa"), "{said}");
    let said = done(folder, &["diffusers", "loha.safetensors", "--rank", "2", "--output", "two.safetensors", "--verbose"]);
    assert!(said.contains("unet.conv_in: LoHa as LoRA of rank 2"), "{said}");
}

#[test]
fn merging_beyond_the_largest_number_is_refused() {
    let place = place();
    let folder = place.path();
    write(folder, "lora.safetensors", lora);
    for output in ["out", "out.safetensors"] {
        let message = refused(folder, &["merge", "--base", "model", "lora.safetensors:1e39", "--output", output]);
        let named = LAYERS.iter().any(|(network, path)| message.contains(&format!("`{network}.{path}.weight`")));
        assert!(message.contains("no longer finite") && named, "{message}");
    }
}

#[test]
fn merged_adapters_are_what_merging_says() {
    let place = place();
    let folder = place.path();
    let (first, second) = (write(folder, "first.safetensors", lora), write(folder, "second.safetensors", loha));
    let said = done(folder, &["merge", "--base", "model", "first.safetensors:0.5", "second.safetensors", "--output", "merged"]);
    assert!(said.contains("6 layers changed"), "{said}");
    let (base, merged) = (folder.join("model"), folder.join("merged"));
    for ((network, path), adapter) in &first {
        let name = format!("{path}.weight");
        let before = weight(&base, *network, &name);
        let change = (adapter.delta(&before).unwrap() * 0.5).unwrap();
        let change = (change + second[&(*network, path.clone())].delta(&before).unwrap()).unwrap();
        let error = error(&weight(&merged, *network, &name), &(before + change).unwrap());
        assert!(error <= 1e-7, "{path}: {error:e}");
    }
    // Everything else is the base's, to the bit, and the folder is a whole pipeline.
    for part in Network::PIPELINE {
        let (base, merged) = (
            Component::open(part, &base.join(part.name()), false).unwrap(),
            Component::open(part, &merged.join(part.name()), false).unwrap(),
        );
        assert_eq!(base.names().collect::<Vec<_>>(), merged.names().collect::<Vec<_>>());
        let changed: Vec<String> = LAYERS.iter().map(|(_, path)| format!("{path}.weight")).collect();
        for name in base.names().filter(|name| !changed.iter().any(|changed| changed == name)) {
            let read = |c: &Component| c.tensor(name, &Device::Cpu).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(read(&base), read(&merged), "{name}");
        }
    }
    assert!(merged.join("model_index.json").is_file() && merged.join("tokenizer/vocab.json").is_file());
    // One LDM file, from a folder and from an LDM file, and back, holds the same.
    done(folder, &["merge", "--base", "model", "first.safetensors:0.5", "second.safetensors", "--output", "merged.safetensors"]);
    done(folder, &["ckpt", "model", "--output", "base.safetensors"]);
    done(
        folder,
        &["merge", "--base", "base.safetensors", "first.safetensors:0.5", "second.safetensors", "-o", "again.safetensors"],
    );
    assert_eq!(
        std::fs::read(folder.join("merged.safetensors")).unwrap(),
        std::fs::read(folder.join("again.safetensors")).unwrap()
    );
    done(folder, &["diffusers", "merged.safetensors", "--base", "model", "--output", "back"]);
    for (network, path) in LAYERS {
        let name = format!("{path}.weight");
        assert_eq!(error(&weight(&folder.join("back"), network, &name), &weight(&merged, network, &name)), 0.0);
    }
    // A folder needs what an LDM file does not hold; an LDM file is a .safetensors or a .ckpt; an adapter has to fit.
    assert!(
        refused(folder, &["merge", "--base", "base.safetensors", "first.safetensors", "-o", "out"]).contains("configurations")
    );
    assert!(refused(folder, &["merge", "--base", "model", "first.safetensors", "-o", "out.pt"]).contains(".safetensors"));
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/checkpoint/adapters/kohya.safetensors");
    assert!(refused(folder, &["merge", "--base", "model", other, "-o", "out"]).contains("base model"));
    assert!(refused(folder, &["merge", "--base", "nowhere/at-all", "first.safetensors", "-o", "out"]).contains("nowhere/at-all"));
}

#[test]
fn a_merged_lora_is_recovered() {
    let place = place();
    let folder = place.path();
    let entries = write(folder, "lora.safetensors", lora);
    done(folder, &["merge", "--base", "model", "lora.safetensors", "--output", "merged.safetensors"]);
    for rank in ["3", "auto"] {
        let said = done(
            folder,
            &[
                "extract-lora",
                "merged.safetensors",
                "--base",
                "model",
                "--rank",
                rank,
                "--output",
                "found.safetensors",
                "--share",
                "0.999999",
            ],
        );
        assert!(said.contains("together: 6 layers") && said.contains("rank 3, 100 % of the squared difference"), "{said}");
        assert!(!said.contains("warning"), "{said}");
        assert_changes(folder, &folder.join("found.safetensors"), &entries, 5e-6);
        let found = AdapterFile::open(folder.join("found.safetensors")).unwrap();
        assert!(found.entries.values().all(|adapter| adapter.as_plain_lora().unwrap().rank() == 3));
    }
    // Too small a rank is said to be.
    let said =
        done(folder, &["extract-lora", "merged.safetensors", "--base", "model", "--rank", "2", "--output", "small.safetensors"]);
    assert!(said.contains("goes on beyond rank 2"), "{said}");
    let message = refused(folder, &["extract-lora", "model", "--base", "model", "--output", "out.safetensors"]);
    assert!(message.contains("rounding alone"), "{message}");
}

/// Stored in float16, every weight of a merged model differs from its float32 base: rounding is told from the change, and the
/// recovered change is as exact as rounding lets it be (spec: |rounding| is 2.1e-4 of the weight, of which rank 3 keeps a small part).
#[test]
fn a_lora_is_recovered_from_half_precision() {
    let place = place();
    let folder = place.path();
    let entries = write(folder, "lora.safetensors", lora);
    let merge = ["merge", "--base", "model", "lora.safetensors", "--output", "half", "--dtype", "float16"];
    done(folder, &merge);
    let said = done(folder, &["extract-lora", "half", "--base", "model", "--output", "found.safetensors", "--share", "0.9999"]);
    assert!(said.contains("together: 6 layers"), "{said}");
    let found = AdapterFile::open(folder.join("found.safetensors")).unwrap();
    for ((network, path), adapter) in &entries {
        let base = weight(&folder.join("model"), *network, &format!("{path}.weight"));
        let (change, size) = (adapter.delta(&base).unwrap(), norm(&base));
        let layer = &found.entries[&(*network, path.clone())];
        assert_eq!(layer.as_plain_lora().unwrap().rank(), 3, "{path}");
        let error = error(&layer.delta(&base).unwrap(), &change);
        let limit = 2.5e-4 * (size + norm(&change)) / norm(&change);
        assert!(error <= limit, "{path}: {error:e}, at most {limit:e}");
    }
    let message = refused(folder, &["extract-lora", "half", "--base", "nowhere", "--output", "out.safetensors"]);
    assert!(message.contains("nowhere"), "{message}");
}

/// kohya, diffusers, PEFT, kohya: the same numbers to the bit where the scale is 1 (diffusers' format holds none), and from kohya to
/// PEFT and back whatever it is; LyCORIS' families through kohya's format.
#[test]
fn formats_go_round_to_the_bit() {
    let place = place();
    let folder = place.path();
    let tensors = |name: &str| -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
        let file = WeightFile::open(folder.join(name)).unwrap();
        let read = |name: &str| {
            let tensor = file.tensor(name, &Device::Cpu).unwrap();
            (tensor.dims().to_vec(), tensor.flatten_all().unwrap().to_vec1().unwrap())
        };
        file.names().map(|name| (name.to_owned(), read(name))).collect()
    };
    let of = |name: &str, prefix: &str| -> BTreeMap<String, _> {
        tensors(name).into_iter().filter(|(key, _)| key.starts_with(prefix)).collect()
    };
    let unscaled = |shape: &[usize], draw: &mut dyn FnMut(&[usize]) -> Tensor| Adapter { alpha: Some(3.0), ..lora(shape, draw) };
    write(folder, "unscaled.safetensors", unscaled);
    write(folder, "scaled.safetensors", lora);
    write(folder, "loha.safetensors", loha);
    done(folder, &["diffusers", "unscaled.safetensors", "--output", "d.safetensors"]);
    done(folder, &["peft", "d.safetensors", "--output", "long-way"]);
    done(folder, &["peft", "scaled.safetensors", "--output", "short-way"]);
    for (source, way) in [("unscaled.safetensors", "long-way"), ("scaled.safetensors", "short-way")] {
        for (part, prefix) in [("unet", "lora_unet_"), ("text_encoder", "lora_te_")] {
            done(folder, &["kohya", &format!("{way}/{part}/adapter_model.safetensors"), "--output", "back.safetensors"]);
            assert_eq!(tensors("back.safetensors"), of(source, prefix), "{way}, {part}");
        }
    }
    for source in ["scaled.safetensors", "loha.safetensors"] {
        done(folder, &["kohya", source, "--output", "back.safetensors"]);
        assert_eq!(tensors("back.safetensors"), tensors(source), "{source}");
    }
}
