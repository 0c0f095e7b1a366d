//! A Stable Diffusion 2 checkpoint's UNet, whose `proj_in` and `proj_out` are matrices, against diffusers' own conversion and against
//! what the network that wrote it predicts; and the way back.
//!
//! Reference: Stability-AI/stablediffusion cf1d67a `openaimodel.UNetModel` with `use_linear_in_transformer`, and diffusers 0.32.2
//! `convert_from_ckpt`, float32, torch seed 0; tests/reference/checkpoint_sd2_unet.py.

use candle_core::{DType, Device, Tensor};
use driftless::formats::WeightFile;
use driftless::layers::{WeightType, Weights};
use driftless::model_family::naming::ldm::{self, Packing};
use driftless::model_family::{Network, sd2};
use driftless::unet::{TextContext, Unet, UnetConfig, UnetInput};
use driftless::weights::{Component, ModelWeights};
use std::collections::BTreeMap;
use std::sync::Arc;
use testkit::{Fixture, assert_close, fixture};

fn converted() -> Component {
    let model = ModelWeights::open(&fixture("checkpoint/sd2_unet.safetensors")).unwrap();
    assert_eq!(model.family(), &sd2::FAMILY, "told by the matrices alone: there is no text encoder in the file");
    model.component(Network::Unet, false).unwrap()
}

fn numbers(tensor: &Tensor) -> (Vec<usize>, Vec<f32>) {
    (tensor.dims().to_vec(), tensor.flatten_all().unwrap().to_vec1().unwrap())
}

// Every weight, to the bit: nothing is computed.
#[test]
fn the_weights_are_those_of_diffusers() {
    let found = converted();
    let expected = WeightFile::open(fixture("checkpoint/sd2_unet_expected.safetensors")).unwrap();
    let is_weight = |name: &&str| !name.starts_with("input.") && *name != "output";
    let names: Vec<&str> = expected.names().filter(is_weight).collect();
    assert_eq!((found.names().collect::<Vec<_>>(), names.len()), (names.clone(), 208));
    for name in names {
        let [found, expected] = [found.tensor(name, &Device::Cpu), expected.tensor(name, &Device::Cpu)];
        assert_eq!(numbers(&found.unwrap()), numbers(&expected.unwrap()), "{name}");
    }
}

// Every name, both ways, and no two of them changed places: the shapes of a table's two sides are those of the two files.
#[test]
fn every_weight_goes_back_to_where_it_was() {
    let stored = WeightFile::open(fixture("checkpoint/sd2_unet.safetensors")).unwrap();
    let found = converted();
    let back = ldm::table_to_ldm(found.names(), &sd2::FAMILY, Network::Unet).unwrap();
    assert_eq!(back.len(), stored.names().count());
    assert!(back.iter().all(|one| one.packing == Packing::Whole));
    let by_stored: BTreeMap<&str, &str> = back.iter().map(|one| (one.stored.as_str(), one.name.as_str())).collect();
    for name in stored.names() {
        let again = found.tensor(by_stored[name], &Device::Cpu).unwrap();
        assert_eq!(numbers(&again), numbers(&stored.tensor(name, &Device::Cpu).unwrap()), "{name}");
    }
}

// Both compute in float32 and differ by its rounding; diffusers' own network on the converted weights differs from LDM's by 4e-7.
#[test]
fn the_network_predicts_what_the_original_does() {
    let config = UnetConfig::from_file(&fixture("checkpoint/sd2_unet_config.json")).unwrap();
    assert_eq!(config.family(), &sd2::FAMILY);
    let weights = Weights::new(Arc::new(converted()), &Device::Cpu, WeightType::new(DType::F32, &Device::Cpu));
    let unet = Unet::load(config, weights).unwrap();
    let record = Fixture::open("checkpoint/sd2_unet_expected.safetensors");
    let timesteps: Vec<f32> = record.get("input.timesteps").to_vec1().unwrap();
    let timesteps: Vec<f64> = timesteps.into_iter().map(f64::from).collect();
    let (sample, context) = (record.get("input.sample"), TextContext::new(record.get("input.text")));
    let input = UnetInput { sample: &sample, timesteps: &timesteps, context: &context, residuals: None };
    assert_close("prediction", &unet.forward(&input).unwrap(), &record.get("output"), 1e-6);
}
