//! Clean latents: CleanDIFT's eleven maps against diffusers' UNet, the model's own and another in its place; and gradients of a student that
//! takes such latents, for its adapter and for its timestep.
//!
//! Reference: tests/reference/clean_latents.py. Limit 1e-4 per map, the promise to users; float32 rounding is a hundredth of that.

use candle_core::{Device, Tensor, Var};
use driftless::miniature::{Size, write_model};
use driftless::pipeline::{Extraction, ModelOptions, NoiseLevel, Pipeline};
use driftless::taps::{LayerId, TapPlan};
use driftless::unet::{TextContext, tracked_timestep_features};
use driftless::vision::Image;
use testkit::{Fixture, assert_close, miniature, pipeline, pipeline_sd2};

const LIMIT: f64 = 1e-4;

fn maps(pipeline: &Pipeline, fixture: &Fixture, case: &str) {
    let entry = |key: &str| -> serde_json::Value { serde_json::from_str(&fixture.0.metadata()[key]).unwrap() };
    let side = entry("img_size").as_u64().unwrap() as usize;
    let image = Image::open(testkit::fixture("extractor/image.png")).unwrap().resized_rgb(side, side);
    let shape = [1, 4, side / 8, side / 8];
    let mut generator = driftless::rng::Generator::manual_seed(entry("seed").as_u64().unwrap());
    let noise = generator.randn_tensor(&shape, &Device::Cpu).unwrap();
    let latents = pipeline.encode_images(&image.to_tensor(&Device::Cpu).unwrap(), &noise).unwrap();
    let context = TextContext::new(pipeline.encode_prompt(&fixture.0.metadata()["prompt"]).unwrap());
    let layout = pipeline.unet.config().layout();
    let strides = entry("strides");
    let mut wanted: Vec<(LayerId, usize)> = Vec::new();
    for (name, stride) in strides.as_object().unwrap() {
        if let Some(id) = name.strip_prefix(&format!("{case}.")) {
            wanted.push((layout.parse(id).unwrap(), stride.as_u64().unwrap() as usize));
        }
    }
    assert_eq!(wanted.len(), 11);
    let plan = TapPlan::new(&layout, wanted.iter().map(|(id, _)| *id), &[], (side / 8, side / 8)).unwrap();
    let request = Extraction {
        level: NoiseLevel::Clean { timestep: entry("timestep").as_f64().unwrap() },
        context: &context,
        conditions: &[],
        plan: &plan,
        vae_out: false,
        original: false,
    };
    // The diffusion noise of these latents has no effect.
    let extracted = pipeline.extract(&latents, &(&noise * f64::NAN).unwrap(), &request, &mut |_, _| ()).unwrap();
    assert_eq!(extracted.features.len(), 11);
    for (id, map) in extracted.features {
        let stride = wanted.iter().find(|(wanted, _)| *wanted == id).unwrap().1;
        let expected = fixture.get(&format!("{case}.{id}"));
        let values: Vec<f32> = map.flatten_all().unwrap().to_vec1().unwrap();
        let values: Vec<f32> = values.into_iter().step_by(stride).collect();
        let ours = Tensor::from_vec(values, expected.dims(), &Device::Cpu).unwrap();
        assert_close(&format!("{case}: {id}"), &ours, &expected, LIMIT);
    }
    assert!(pipeline.extract(&latents, &noise, &Extraction { vae_out: true, ..request }, &mut |_, _| ()).is_err());
}

#[test]
fn clean_latents_at_a_fractional_timestep() {
    maps(&pipeline(), &Fixture::open("clean/sd15.safetensors"), "own");
    maps(&pipeline_sd2(), &Fixture::open("clean/sd2.safetensors"), "own");
}

#[test]
fn another_unet_in_the_models_place() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), Size::Miniature, candle_core::DType::F32, 1).unwrap();
    let fixture = Fixture::open("clean/sd15.safetensors");
    let load = |unet: &str| {
        let options = ModelOptions { unet: Some(folder.path().join(unet)), ..ModelOptions::default() };
        Pipeline::load(miniature(), &options)
    };
    // The file, the folder it is in, and the folder of the whole model.
    for unet in ["unet/diffusion_pytorch_model.safetensors", "unet", ""] {
        maps(&load(unet).unwrap(), &fixture, "other");
    }
    let refused = |unet: &str| load(unet).err().map(|error| error.to_string()).unwrap_or_default();
    for (unet, part) in [("vae", "block type"), ("vae/diffusion_pytorch_model.safetensors", "holds no unet"), ("none", "not")] {
        assert!(refused(unet).contains(part), "{unet}: {}", refused(unet));
    }
    let other = tempfile::tempdir().unwrap();
    write_model(other.path(), Size::MiniatureSd2, candle_core::DType::F32, 0).unwrap();
    let options = ModelOptions { unet: Some(other.path().join("unet")), ..ModelOptions::default() };
    let error = Pipeline::load(miniature(), &options).err().unwrap().to_string();
    assert!(error.contains("a UNet of Stable Diffusion 2"), "{error}");
}

/// The sum of a map's squares after the pass at a timestep.
fn sum_of_squares(pipeline: &Pipeline, timestep: &Tensor) -> Tensor {
    let fixture = Fixture::open("networks/networks.safetensors");
    let sample = fixture.get("unet.sample");
    let context = TextContext::uncached(fixture.get("unet.text"));
    let layout = pipeline.unet.config().layout();
    let (_, _, height, width) = sample.dims4().unwrap();
    let id = layout.parse("up-level1-upsampler-out").unwrap();
    let plan = TapPlan::new(&layout, [id], &[], (height, width)).unwrap().tracked();
    let mut taps = plan.taps();
    let features = tracked_timestep_features(timestep, pipeline.unet.config().block_out_channels[0]).unwrap();
    assert!(pipeline.unet.forward_tapped_at(&sample, &features, &context, &mut taps).unwrap().is_none());
    taps.kept()[0].1.sqr().unwrap().mean_all().unwrap()
}

#[test]
fn gradients_flow_to_the_timestep() {
    let pipeline = pipeline();
    let timestep = Var::new(261.5f32, &Device::Cpu).unwrap();
    let gradients = sum_of_squares(&pipeline, timestep.as_tensor()).backward().unwrap();
    let gradient = gradients.get(timestep.as_tensor()).unwrap().to_scalar::<f32>().unwrap();
    let at = |t: f32| f64::from(sum_of_squares(&pipeline, &Tensor::new(t, &Device::Cpu).unwrap()).to_scalar::<f32>().unwrap());
    // Richardson's extrapolation of central differences: the wave of the highest frequency bends much within a step that float32 resolves.
    let central = |h: f32| (at(261.5 + h) - at(261.5 - h)) / f64::from(2.0 * h);
    let difference = (4.0 * central(0.0625) - central(0.125)) / 3.0;
    assert!(
        gradient != 0.0 && (f64::from(gradient) - difference).abs() < 0.03 * difference.abs(),
        "{gradient}, not {difference}"
    );
}
