//! The `convert` command on merging, and on extracting what was merged.

#[path = "convert_scratch.rs"]
mod scratch;

use candle_core::{Device, Tensor};
use driftless::adapter::Adapter;
use driftless::adapter::AdapterFile;
use driftless::adapter::files::Network;
use driftless::formats::WeightFile;
use driftless::weights::Component;
use scratch::*;
use std::collections::BTreeMap;
use testkit::norm;

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
