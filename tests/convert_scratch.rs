//! What the tests of `convert` on adapters share: the miniature model, adapters of a seed in its layers, and the binary.
#![allow(dead_code)] // every test binary uses its own part

use candle_core::{DType, Device, Tensor};
use driftless::adapter::AdapterFile;
use driftless::adapter::files::{Entries, Network};
use driftless::adapter::{Adapter, Factors, Loha, Lora};
use driftless::miniature::{Size, write_model};
use driftless::rng::Generator;
use driftless::weights::Component;
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;
use testkit::{Program, message, norm};

const CONVERT: Program = Program(env!("CARGO_BIN_EXE_convert"));

/// Runs it and expects success; what it printed, standard output before standard error.
pub fn done(folder: &Path, arguments: &[&str]) -> String {
    let output = CONVERT.run(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", message(&output));
    String::from_utf8_lossy(&output.stdout).into_owned() + &message(&output)
}

pub fn refused(folder: &Path, arguments: &[&str]) -> String {
    let output = CONVERT.run(folder, arguments);
    let message = message(&output);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
    assert!(!folder.join("out").exists() && !folder.join("out.safetensors").exists(), "{arguments:?}");
    message
}

/// A folder with the miniature model in `model`.
pub fn place() -> TempDir {
    let folder = TempDir::new().unwrap();
    write_model(&folder.path().join("model"), Size::Miniature, DType::F32, 0).unwrap();
    folder
}

/// Layers of the miniature model of every kind.
pub const LAYERS: [(Network, &str); 6] = [
    (Network::Unet, "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"),
    (Network::Unet, "mid_block.attentions.0.proj_in"),
    (Network::Unet, "up_blocks.1.resnets.0.conv1"),
    (Network::Unet, "conv_in"),
    (Network::TextEncoder, "text_model.encoder.layers.0.mlp.fc1"),
    (Network::TextEncoder, "text_model.encoder.layers.1.self_attn.q_proj"),
];

/// The weight of a layer in a folder.
pub fn weight(model: &Path, network: Network, name: &str) -> Tensor {
    let part = if network == Network::Unet { Network::Unet } else { Network::TextEncoder };
    Component::open(part, &model.join(part.name()), false)
        .unwrap()
        .tensor(name, &Device::Cpu)
        .unwrap()
        .to_dtype(DType::F32)
        .unwrap()
}

pub fn error(found: &Tensor, expected: &Tensor) -> f64 {
    norm(&(found - expected).unwrap()) / norm(expected)
}

/// An adapter of `make` on every one of [`LAYERS`], written to `name`.
pub fn write(folder: &Path, name: &str, make: impl Fn(&[usize], &mut dyn FnMut(&[usize]) -> Tensor) -> Adapter) -> Entries {
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

pub fn lora(shape: &[usize], draw: &mut dyn FnMut(&[usize]) -> Tensor) -> Adapter {
    let down = [&[3], &shape[1..]].concat();
    let up = [&[shape[0], 3], &vec![1; shape.len() - 2][..]].concat();
    Adapter { alpha: Some(1.5), ..Factors::Lora(Lora { down: draw(&down), up: draw(&up), mid: None }).into() }
}

pub fn loha(shape: &[usize], draw: &mut dyn FnMut(&[usize]) -> Tensor) -> Adapter {
    let columns = shape[1..].iter().product();
    let (a, b) = ([shape[0], 2], [2, columns]);
    let loha = Loha { w1_a: draw(&a), w1_b: draw(&b), w2_a: draw(&a), w2_b: draw(&b), cores: None };
    Adapter { alpha: Some(8.0), ..Factors::Loha(loha).into() }
}

/// Checks that an adapter file makes the changes of `entries`.
pub fn assert_changes(folder: &Path, found: &Path, entries: &Entries, limit: f64) {
    let file = AdapterFile::open(found).unwrap();
    assert_eq!(file.entries.keys().collect::<Vec<_>>(), entries.keys().collect::<Vec<_>>());
    for ((network, path), adapter) in entries {
        let base = weight(&folder.join("model"), *network, &format!("{path}.weight"));
        let found = file.entries[&(*network, path.clone())].delta(&base).unwrap();
        let error = error(&found, &adapter.delta(&base).unwrap());
        assert!(error <= limit, "{path}: {error:e}");
    }
}
