//! Gradients of every LoRA matrix of a whole miniature model against PyTorch and peft, with and without gradient checkpointing.
//!
//! Reference: tests/reference/training_reference.py (torch 2.15, diffusers 0.32.2, peft 0.14.0, float32, CPU). Limit 1e-4 per matrix:
//! the reference itself differs from float64 by up to 6.5e-6.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use driftless::adapter::AdapterFile;
use driftless::adapter::Trainable;
use driftless::adapter::files::kohya_name;
use driftless::model_family::Network;
use driftless::ops::GradientSink;
use driftless::pipeline::Pipeline;
use driftless::scheduler::{NoiseSchedule, SchedulerClass, SchedulerConfig};
use driftless::unet::{TextContext, UnetInput};
use testkit::{Fixture, fixture, pipeline, pipeline_sd2, relative_error};

const LIMIT: f64 = 1e-4;

/// Attaches a file's adapters as variables; returns them by kohya's tensor names.
fn attach(pipeline: &Pipeline, file: &str) -> BTreeMap<String, Var> {
    let mut variables = BTreeMap::new();
    for ((network, path), adapter) in &AdapterFile::open(fixture(file)).unwrap().entries {
        let trainable = Trainable::of(adapter).unwrap();
        let slots = match network {
            Network::Unet => pipeline.unet.slots(),
            Network::TextEncoder => pipeline.text_encoder.slots(),
            Network::Vae | Network::ControlNet => panic!("no adapters on the {network}"),
        };
        slots.get(path).unwrap_or_else(|| panic!("no layer {path}")).attach(path, trainable.adapter).unwrap();
        let name = kohya_name::name(*network, path);
        for (component, variable) in trainable.variables {
            variables.insert(format!("{name}.{}", component.name()), variable);
        }
    }
    variables
}

fn token_ids(fixture: &Fixture) -> Vec<Vec<u32>> {
    let ids: Vec<Vec<i64>> = fixture.get("input.ids").to_vec2().unwrap();
    ids.into_iter().map(|row| row.into_iter().map(|id| id as u32).collect()).collect()
}

/// The loss and its gradients; `sink` turns checkpointing on.
fn backward(pipeline: &Pipeline, fixture: &Fixture, clip_skip: usize, sink: Option<&GradientSink>) -> (f64, GradStore) {
    let ids = token_ids(fixture);
    let states = match sink {
        Some(sink) => pipeline.text_encoder.forward_checkpointed(&ids, clip_skip, sink),
        None => pipeline.text_encoder.forward(&ids, clip_skip),
    };
    let context = TextContext::uncached(states.unwrap());
    // Checkpointing needs a tracked input.
    let noisy = Var::from_tensor(&fixture.get("input.noisy")).unwrap();
    let input = UnetInput { sample: noisy.as_tensor(), timesteps: &[50.0, 700.0], context: &context, residuals: None };
    let prediction = match sink {
        Some(sink) => pipeline.unet.forward_checkpointed(&input, sink),
        None => pipeline.unet.forward(&input),
    };
    let loss = (prediction.unwrap() - fixture.get("input.noise")).unwrap().sqr().unwrap().mean_all().unwrap();
    let mut gradients = loss.backward().unwrap();
    if let Some(sink) = sink {
        sink.merge_into(&mut gradients).unwrap();
    }
    (f64::from(loss.to_scalar::<f32>().unwrap()), gradients)
}

fn check(case: &str, file: &str, clip_skip: usize) {
    let (pipeline, fixture) = (pipeline(), Fixture::open("training/gradients.safetensors"));
    let metadata = |key: &str| -> serde_json::Value { serde_json::from_str(&fixture.0.metadata()[key]).unwrap() };
    let without_gradient: Vec<String> = serde_json::from_value(metadata("without_gradient")[case].clone()).unwrap();
    let variables = attach(&pipeline, file);
    let sink = GradientSink::new(variables.values().cloned().collect());
    for sink in [None, Some(&sink)] {
        let (loss, gradients) = backward(&pipeline, &fixture, clip_skip, sink);
        let expected = f64::from(fixture.get(&format!("{case}.loss")).flatten_all().unwrap().to_vec1::<f32>().unwrap()[0]);
        assert!((loss - expected).abs() <= 1e-5 * expected, "{case}: loss {loss}, expected {expected}");
        let compared = compare(case, &fixture, &variables, &gradients, &without_gradient);
        for (path, slot) in pipeline.unet.slots().all().into_iter().chain(pipeline.text_encoder.slots().all()) {
            assert!(gradients.get(&slot.weight()).is_none(), "a gradient of the frozen weight of {path} was computed");
        }
        println!("{case}, checkpointing {}: {compared}", sink.is_some());
    }
}

/// Compares the gradient of every matrix that the fixture has for a case; returns how many there were and how far off the worst is.
fn compare(
    case: &str,
    fixture: &Fixture,
    variables: &BTreeMap<String, Var>,
    gradients: &GradStore,
    without_gradient: &[String],
) -> String {
    let strides: serde_json::Value = serde_json::from_str(&fixture.0.metadata()["strides"]).unwrap();
    let (mut compared, mut largest) = (0, 0f64);
    for (name, variable) in variables {
        let key = format!("{case}.grad.{name}");
        if !fixture.0.contains(&key) {
            // Either the reference has no gradient here, or this case stores the text encoder's alone.
            assert!(!without_gradient.contains(name) || gradients.get(variable).is_none_or(is_zero), "{name} has a gradient");
            continue;
        }
        let stride = strides[&key].as_u64().unwrap_or(1) as usize;
        let expected = fixture.get(&key).flatten_all().unwrap();
        let ours = gradients.get(variable).unwrap_or_else(|| panic!("{case}: no gradient for {name}"));
        let ours: Vec<f32> = ours.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().step_by(stride).collect();
        let error = relative_error(&Tensor::from_vec(ours, expected.dims(), &Device::Cpu).unwrap(), &expected);
        assert!(error <= LIMIT, "{case}: gradient of {name}: relative error {error:e}");
        (compared, largest) = (compared + 1, largest.max(error));
    }
    assert!(compared > 0);
    format!("{compared} matrices, largest relative error {largest:.1e}")
}

fn is_zero(gradient: &Tensor) -> bool {
    gradient.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap() == 0.0
}

#[test]
fn lora_on_unet_and_text_encoder() {
    check("lora", "training/lora.safetensors", 1);
}

#[test]
fn lora_with_clip_skip() {
    check("clip_skip_2", "training/lora.safetensors", 2);
}

#[test]
fn lora_on_convolutions() {
    check("locon", "training/locon.safetensors", 1);
}

/// Stable Diffusion 2.1: the velocity as target, min-SNR weights as kohya's trainer has them for it.
///
/// Reference: tests/reference/training_velocity.py, versions as above.
#[test]
fn lora_on_a_model_that_predicts_velocity() {
    let (pipeline, fixture) = (pipeline_sd2(), Fixture::open("training/sd2_gradients.safetensors"));
    let schedule = NoiseSchedule::new(&SchedulerConfig::stable_diffusion(SchedulerClass::Ddpm));
    let (latents, noise, timesteps) = (fixture.get("input.latents"), fixture.get("input.noise"), [50, 700]);
    let velocity = schedule.velocity(&latents, &noise, &timesteps).unwrap();
    let weights = timesteps.map(|timestep| {
        let snr = schedule.snr(timestep).unwrap();
        snr.min(5.0) / (snr + 1.0)
    });
    let variables = attach(&pipeline, "training/sd2_lora.safetensors");
    let states = pipeline.text_encoder.forward(&token_ids(&fixture), 1).unwrap();
    let context = TextContext::uncached(states);
    let noisy = schedule.add_noise(&latents, &noise, &timesteps).unwrap();
    let input = UnetInput { sample: &noisy, timesteps: &[50.0, 700.0], context: &context, residuals: None };
    let difference = (pipeline.unet.forward(&input).unwrap() - velocity).unwrap();
    let per_sample = difference.sqr().unwrap().reshape((2, ())).unwrap().mean(1).unwrap();
    let loss = (per_sample * Tensor::new(&weights, &Device::Cpu).unwrap()).unwrap().mean_all().unwrap();
    let expected = f64::from(fixture.get("velocity.loss").flatten_all().unwrap().to_vec1::<f32>().unwrap()[0]);
    let found = f64::from(loss.to_scalar::<f32>().unwrap());
    assert!((found - expected).abs() <= 1e-5 * expected, "loss {found}, expected {expected}");
    println!("velocity: {}", compare("velocity", &fixture, &variables, &loss.backward().unwrap(), &[]));
}

#[test]
fn merged_adapters_compute_what_attached_ones_do() {
    let (pipeline, fixture) = (pipeline(), Fixture::open("training/gradients.safetensors"));
    let predict = || {
        let context = TextContext::new(pipeline.text_encoder.forward(&token_ids(&fixture), 1).unwrap());
        let noisy = fixture.get("input.noisy");
        pipeline.unet.forward(&UnetInput { sample: &noisy, timesteps: &[50.0], context: &context, residuals: None }).unwrap()
    };
    let plain = predict();
    for file in ["training/lora.safetensors", "training/locon.safetensors"] {
        let report = pipeline.attach_adapter(&self::fixture(file), 1.0).unwrap();
        assert!(report.unet > 0);
    }
    let attached = predict();
    assert!(relative_error(&attached, &plain) > 1e-2, "the adapters change nothing");
    pipeline.unet.slots().merge_all().unwrap();
    pipeline.text_encoder.slots().merge_all().unwrap();
    let error = relative_error(&predict(), &attached);
    assert!(error < 1e-5, "merged differs from attached by {error:e}");
}
