//! The `convert` command on adapters: LyCORIS' families between formats, folders of adapters, and what is told of them.

#[path = "convert_scratch.rs"]
mod scratch;

use candle_core::{DType, Device, Tensor};
use driftless::adapter::AdapterFile;
use driftless::adapter::families::Norm;
use driftless::adapter::files::{Entries, Network};
use driftless::adapter::{Adapter, Factors, Full};
use driftless::formats::WeightFile;
use driftless::rng::Generator;
use scratch::*;
use std::collections::BTreeMap;
use std::path::Path;
use testkit::norm;

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
