//! Whole images from prompt to pixels, and activations met on the way, against diffusers' pipelines on the seeded miniature
//! models of Stable Diffusion 1.5 (noise prediction) and 2.1 (velocity prediction).
//!
//! Reference: tests/reference/sampling.py (diffusers 0.32.2, torch 2.15, float32, CPU). Limit 2e-5 on pixels in 0..1: guidance at 7.5
//! magnifies each step's rounding, 11 calls of the UNet deep.

use candle_core::{Device, Tensor};
use driftless::controlnet::ControlNet;
use driftless::pipeline::{Condition, ModelOptions, Pipeline, Sampling, Start, Watched};
use driftless::rng::Generator;
use driftless::scheduler::{self, SchedulerConfig};
use driftless::taps::TapPlan;
use driftless::unet::TextContext;
use std::path::Path;
use testkit::{Fixture, assert_close, miniature, miniature_sd2, pipeline, pipeline_sd2};

const LIMIT: f64 = 2e-5;
const SEED: u64 = 31;
const SHAPE: [usize; 4] = [1, 3, 48, 64];

fn contexts(pipeline: &Pipeline) -> [TextContext; 2] {
    ["a red circle, sharp", "blurry"].map(|text| TextContext::new(pipeline.encode_prompt(text).unwrap()))
}

/// -1..1 to 0..1, clamped, as diffusers returns images.
fn shown(image: &Tensor) -> Tensor {
    ((image * 0.5).unwrap() + 0.5).unwrap().clamp(0f32, 1f32).unwrap()
}

/// A folder's scheduler configuration under another class.
fn config(model: &Path, class: &str) -> SchedulerConfig {
    let text = std::fs::read_to_string(model.join("scheduler/scheduler_config.json")).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["_class_name"] = class.into();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scheduler_config.json");
    std::fs::write(&path, value.to_string()).unwrap();
    SchedulerConfig::from_file(path).unwrap()
}

#[test]
fn images_and_activations_from_prompts() {
    check_prompts(miniature(), pipeline(), Fixture::open("networks/sampling.safetensors"));
}

#[test]
fn images_and_activations_of_stable_diffusion_2() {
    check_prompts(miniature_sd2(), pipeline_sd2(), Fixture::open("networks/sd2_sampling.safetensors"));
}

fn check_prompts(model: &Path, pipeline: Pipeline, fixture: Fixture) {
    let [prompt, negative_prompt] = contexts(&pipeline);
    let sampling = Sampling {
        prompt: &prompt,
        negative_prompt: &negative_prompt,
        guidance_scale: 7.5,
        steps: 5,
        start: Start::Noise { height: SHAPE[2], width: SHAPE[3] },
        conditions: &[],
    };
    let layout = pipeline.unet.config().layout();
    let ids = ["mid-repeat0-res-out", "up-level1-upsampler-out"].map(|id| layout.parse(id).unwrap());
    let plan = TapPlan::new(&layout, ids, &[], (6, 8)).unwrap();
    for (name, class) in [("pndm", "PNDMScheduler"), ("ddim", "DDIMScheduler"), ("euler", "EulerDiscreteScheduler")] {
        let mut scheduler = scheduler::from_config(&config(model, class)).unwrap();
        let mut watched = Watched { plan: &plan, calls: &[2, 3, 6], kept: Vec::new() };
        let mut steps = 0;
        let image =
            pipeline.sample_tapped(&sampling, scheduler.as_mut(), &mut Generator::manual_seed(SEED), &mut watched, &mut |step| {
                steps = step;
                Ok(())
            });
        assert_close(name, &shown(&image.unwrap()), &fixture.get(&format!("{name}.image")), LIMIT);
        assert_eq!(steps, if name == "pndm" { 6 } else { 5 });
        if name != "pndm" {
            assert_eq!(watched.kept.len(), 4);
            continue;
        }
        assert_eq!(watched.kept.len(), 6);
        for kept in &watched.kept {
            // diffusers' batch: the negative prompt, then the prompt.
            let row = usize::from(!kept.negative);
            assert_eq!(kept.features.len(), 2);
            for (id, feature) in &kept.features {
                let theirs = fixture.get(&format!("{id}.{}", kept.call)).narrow(0, row, 1).unwrap();
                assert_close(&format!("{id} at call {}", kept.call), feature, &theirs, LIMIT);
            }
        }
    }
}

#[test]
fn an_image_is_changed_and_steered() {
    check_changed(miniature(), pipeline(), Fixture::open("networks/sampling.safetensors"));
}

#[test]
fn an_image_is_changed_and_steered_by_stable_diffusion_2() {
    check_changed(miniature_sd2(), pipeline_sd2(), Fixture::open("networks/sd2_sampling.safetensors"));
}

fn check_changed(model: &Path, pipeline: Pipeline, fixture: Fixture) {
    let [prompt, negative_prompt] = contexts(&pipeline);
    let start = Generator::manual_seed(SEED + 1).rand(&SHAPE);
    let start = Tensor::from_vec(start, &SHAPE, &Device::Cpu).unwrap();
    let image = ((&start * 2.0).unwrap() - 1.0).unwrap();
    let sampling = Sampling {
        prompt: &prompt,
        negative_prompt: &negative_prompt,
        guidance_scale: 1.0,
        steps: 10,
        start: Start::Image { image, strength: 0.6 },
        conditions: &[],
    };
    let draw = |sampling: &Sampling| {
        let mut scheduler = scheduler::from_config(&config(model, "DDIMScheduler")).unwrap();
        shown(&pipeline.sample(sampling, scheduler.as_mut(), &mut Generator::manual_seed(SEED)).unwrap())
    };
    assert_close("image to image", &draw(&sampling), &fixture.get("changed.image"), LIMIT);

    let controlnet = ControlNet::open(&model.join("controlnet-canny"), &ModelOptions::default()).unwrap();
    let hint = pipeline.hint(&controlnet, &start).unwrap();
    let conditions = [Condition { controlnet: &controlnet, hint: &hint, scale: 0.75, steps: 0.1..=0.7 }];
    let start = Start::Noise { height: SHAPE[2], width: SHAPE[3] };
    let steered = Sampling { guidance_scale: 3.0, start, conditions: &conditions, ..sampling };
    assert_close("ControlNet", &draw(&steered), &fixture.get("steered.image"), LIMIT);
}
