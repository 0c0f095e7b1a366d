//! Every network against diffusers and transformers on the seeded miniature models of Stable Diffusion 1.5 and 2.1.
//!
//! Reference: tests/reference/networks.py (diffusers 0.32.2, transformers 4.49.0, torch 2.15, float32, CPU). Limit 1e-5: two float32
//! implementations that sum in different orders stay below 5e-6 at these depths; a wrong epsilon already costs 1e-4.

use candle_core::{Device, Tensor};
use driftless::controlnet::{self, ControlNet};
use driftless::pipeline::{ModelOptions, Pipeline};
use driftless::rng::Generator;
use driftless::unet::{TextContext, UnetInput};
use std::path::Path;
use testkit::{Fixture, assert_close, miniature, miniature_sd2, pipeline, pipeline_sd2};

const LIMIT: f64 = 1e-5;
const FIXTURE: &str = "networks/networks.safetensors";
const FIXTURE_SD2: &str = "networks/sd2.safetensors";

#[test]
fn text_encoder() {
    check_text_encoder(pipeline(), Fixture::open(FIXTURE));
}

/// Exact GELU, and `!` behind the end token.
#[test]
fn text_encoder_of_stable_diffusion_2() {
    check_text_encoder(pipeline_sd2(), Fixture::open(FIXTURE_SD2));
}

fn check_text_encoder(pipeline: Pipeline, fixture: Fixture) {
    let ids = pipeline.tokenizer.encode_prompt("a photo of a cat").unwrap();
    let theirs: Vec<Vec<f64>> = fixture.get("text.input_ids").to_dtype(candle_core::DType::F64).unwrap().to_vec2().unwrap();
    assert_eq!(ids.iter().map(|&id| f64::from(id)).collect::<Vec<_>>(), theirs[0], "token ids");
    let encode = |clip_skip| pipeline.text_encoder.forward(std::slice::from_ref(&ids), clip_skip).unwrap();
    assert_close("last hidden state", &encode(1), &fixture.get("text.last_hidden_state"), LIMIT);
    assert_close("clip skip 2", &encode(2), &fixture.get("text.clip_skip_2"), LIMIT);
    assert!(pipeline.text_encoder.forward(&[ids], 4).unwrap_err().to_string().contains("clip_skip"));
}

#[test]
fn vae() {
    let (pipeline, fixture) = (pipeline(), Fixture::open(FIXTURE));
    let posterior = pipeline.vae.encode(&fixture.get("vae.image")).unwrap();
    assert_close("mean", &posterior.mean, &fixture.get("vae.mean"), LIMIT);
    assert_close("log-variance", &posterior.log_variance, &fixture.get("vae.logvar"), LIMIT);
    let image = pipeline.vae.decode(&fixture.get("vae.latents")).unwrap();
    assert_close("decoded image", &image, &fixture.get("vae.decoded"), LIMIT);
}

/// Seams and all: tests/reference/vae_tiling.py. The norms of a tile see that tile alone, so one pass would be off by far more.
#[test]
fn large_images_are_tiled() {
    let (pipeline, fixture) = (pipeline(), Fixture::open("networks/vae_tiling.safetensors"));
    let draw = |seed, shape: &[usize]| Generator::manual_seed(seed).randn_tensor(shape, &Device::Cpu).unwrap();
    let every = |x: &Tensor, stride: usize| {
        let indices = |axis| Tensor::arange_step(0, x.dim(axis).unwrap() as u32, stride as u32, &Device::Cpu).unwrap();
        x.index_select(&indices(2), 2).unwrap().index_select(&indices(3), 3).unwrap()
    };
    let mean = pipeline.vae.encode(&draw(41, &[1, 3, 1096, 1032])).unwrap().mean;
    assert_close("mean", &every(&mean, 3), &fixture.get("mean"), LIMIT);
    let image = pipeline.vae.decode(&draw(42, &[1, 4, 137, 129])).unwrap();
    assert_close("image", &every(&image, 17), &fixture.get("image"), LIMIT);
}

#[test]
fn unet() {
    check_unet(pipeline(), Fixture::open(FIXTURE));
}

/// Linear projections and as many heads as the level is wide.
#[test]
fn unet_of_stable_diffusion_2() {
    check_unet(pipeline_sd2(), Fixture::open(FIXTURE_SD2));
}

fn check_unet(pipeline: Pipeline, fixture: Fixture) {
    let cases: [(&str, &str, &[f64]); 4] = [
        ("unet", "unet.first", &[50.0]),
        ("unet", "unet.first", &[50.0, 50.0]),
        ("unet", "unet.second", &[981.0, 1.0]),
        ("unet_odd", "unet_odd.output", &[261.0]),
    ];
    for (inputs, output, timesteps) in cases {
        let sample = fixture.get(&format!("{inputs}.sample"));
        let context = TextContext::new(fixture.get(&format!("{inputs}.text")));
        let input = UnetInput { sample: &sample, timesteps, context: &context, residuals: None };
        assert_close(output, &pipeline.unet.forward(&input).unwrap(), &fixture.get(output), LIMIT);
        // Once more with the keys and values of the prompt kept from the first call.
        assert_close(output, &pipeline.unet.forward(&input).unwrap(), &fixture.get(output), LIMIT);
    }
}

#[test]
fn a_control_net_that_wants_blue_first_gets_it() {
    let fixture = Fixture::open(FIXTURE);
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(miniature().join("controlnet-canny")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let path = folder.path().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(config["controlnet_conditioning_channel_order"], "rgb");
    let open = |config: &serde_json::Value| {
        std::fs::write(&path, config.to_string()).unwrap();
        ControlNet::open(folder.path(), &ModelOptions::default())
    };
    let images = fixture.get("controlnet.condition");
    let turned = images.flip(&[1]).unwrap().contiguous().unwrap();
    let call = |network: &ControlNet, images: &Tensor| {
        let context = TextContext::new(fixture.get("unet.text"));
        let hint = network.hint(images).unwrap();
        network.forward(&fixture.get("controlnet.sample"), &[50.0, 700.0], &context, &hint, 0.75).unwrap().mid
    };
    let rgb = open(&config).unwrap();
    config["controlnet_conditioning_channel_order"] = "bgr".into();
    let bgr = open(&config).unwrap();
    assert_close("turned by hand", &call(&bgr, &turned), &fixture.get("controlnet.mid"), LIMIT);
    assert_close("turned by the network", &call(&bgr, &images), &call(&rgb, &turned), 1e-7);
    config["controlnet_conditioning_channel_order"] = "hsv".into();
    assert!(open(&config).unwrap_err().to_string().contains("hsv"));
}

#[test]
fn control_net() {
    check_control_net(miniature(), pipeline(), Fixture::open(FIXTURE));
}

#[test]
fn control_net_of_stable_diffusion_2() {
    check_control_net(miniature_sd2(), pipeline_sd2(), Fixture::open(FIXTURE_SD2));
}

fn check_control_net(model: &Path, pipeline: Pipeline, fixture: Fixture) {
    let network = ControlNet::open(&model.join("controlnet-canny"), &ModelOptions::default()).unwrap();
    let sample = fixture.get("controlnet.sample");
    let context = TextContext::new(fixture.get("unet.text"));
    let timesteps = [50.0, 700.0];
    let hint = network.hint(&fixture.get("controlnet.condition")).unwrap();
    let residuals = network.forward(&sample, &timesteps, &context, &hint, 0.75).unwrap();
    assert_eq!(residuals.down.len(), 12);
    for (i, down) in residuals.down.iter().enumerate() {
        assert_close(&format!("residual {i}"), down, &fixture.get(&format!("controlnet.down.{i}")), LIMIT);
    }
    assert_close("middle residual", &residuals.mid, &fixture.get("controlnet.mid"), LIMIT);

    let input = |residuals| UnetInput { sample: &sample, timesteps: &timesteps, context: &context, residuals };
    let without = pipeline.unet.forward(&input(None)).unwrap();
    assert_close("UNet without", &without, &fixture.get("controlnet.unet_without"), LIMIT);
    let with = pipeline.unet.forward(&input(Some(&residuals))).unwrap();
    assert_close("UNet with", &with, &fixture.get("controlnet.unet_with"), LIMIT);

    // Two ControlNets at half strength add up to one at full strength.
    let half = |scale| network.forward(&sample, &timesteps, &context, &hint, scale).unwrap();
    let sum = controlnet::sum([half(0.5), half(0.25)]).unwrap().unwrap();
    let summed = pipeline.unet.forward(&input(Some(&sum))).unwrap();
    assert_close("two summed", &summed, &fixture.get("controlnet.unet_with"), LIMIT);
}
