//! A Stable Diffusion 2 checkpoint's text encoder against diffusers' own conversion, and the way back.

use candle_core::{Device, Tensor};
use driftless::formats::WeightFile;
use driftless::model_family::naming::ldm::{self, Packing, Renaming};
use driftless::model_family::{Network, sd2};
use driftless::weights::ModelWeights;
use std::collections::BTreeMap;
use testkit::fixture;

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

// Reference: diffusers 0.32.2 loaders.single_file_utils.convert_open_clip_checkpoint, float32, torch seed 0;
// tests/reference/checkpoint_open_clip.py. Every weight, to the bit: nothing is computed.
#[test]
fn the_text_encoder_is_that_of_diffusers() {
    let model = ModelWeights::open(&fixture("checkpoint/open_clip.safetensors")).unwrap();
    assert_eq!(model.family(), &sd2::FAMILY);
    assert!(model.has(Network::TextEncoder) && !model.has(Network::Unet) && !model.has(Network::Vae));
    let found = model.component(Network::TextEncoder, false).unwrap();
    let expected = WeightFile::open(fixture("checkpoint/open_clip_expected.safetensors")).unwrap();
    assert_eq!(found.names().collect::<Vec<_>>(), expected.names().collect::<Vec<_>>());
    for name in expected.names() {
        let (found, expected) = (found.tensor(name, &Device::Cpu).unwrap(), expected.tensor(name, &Device::Cpu).unwrap());
        assert_eq!((found.dims(), numbers(&found)), (expected.dims(), numbers(&expected)), "{name}");
    }
}

#[test]
fn every_weight_goes_back_to_where_it_was() {
    let stored = WeightFile::open(fixture("checkpoint/open_clip.safetensors")).unwrap();
    let forth = ldm::table(stored.names(), &sd2::FAMILY, Network::TextEncoder);
    let names: Vec<&str> = forth.iter().map(|renaming| renaming.name.as_str()).collect();
    let back = ldm::table_to_ldm(names.iter().copied(), &sd2::FAMILY, Network::TextEncoder).unwrap();
    let by_name = |table: &[Renaming]| -> BTreeMap<String, (String, Packing)> {
        table.iter().map(|one| (one.name.clone(), (one.stored.clone(), one.packing))).collect()
    };
    assert_eq!(by_name(&forth), by_name(&back));
    // What is left over is known: the block behind the last in use, the projection and the temperature.
    let used: Vec<&str> = forth.iter().map(|renaming| renaming.stored.as_str()).collect();
    let mut left: Vec<String> = stored.names().filter(|name| !used.contains(name)).map(str::to_owned).collect();
    let mut unused = ldm::unused(stored.names(), &sd2::FAMILY);
    left.sort();
    unused.sort();
    assert_eq!((left.len(), left), (14, unused));
}
