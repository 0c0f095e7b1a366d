//! Whole extractions against the original extractor (generic-diffusion-feature), run in float32 on the CPU on the seeded miniature model.
//!
//! Reference: tests/reference/extractor_oracle.py. Large tensors are stored as every n-th element, with the norm of the whole. Limit
//! 1e-4 per layer, the promise to users; the original's own float32 rounding is at most 1.4e-6, and the figures printed here are
//! of that size.

use candle_core::{Device, Tensor};
use driftless::controlnet::ControlNet;
use driftless::pipeline::{Condition, Extraction, ModelOptions, NoiseLevel};
use driftless::rng::Generator;
use driftless::taps::{AttentionCategory, LayerId, Layout, PassSizes, TapPlan};
use driftless::unet::{Residuals, TextContext, UnetInput};
use driftless::vision::{Filter, Image, canny, resize};
use serde_json::Value;
use testkit::{Fixture, fixture, miniature, miniature_sd2, pipeline, pipeline_sd2, relative_error};

const LIMIT: f64 = 1e-4;

/// Runs a case of the oracle and compares every layer; returns the largest error.
fn check(name: &str) -> f64 {
    let fixture = Fixture::open(&format!("extractor/{name}.safetensors"));
    let entry = |key: &str| -> Value { serde_json::from_str(&fixture.0.metadata()[key]).unwrap() };
    let (case, layers) = (entry("case"), entry("layers"));
    let ours = extract(&case);
    let theirs: Vec<&str> = layers.as_array().unwrap().iter().map(|layer| layer["id"].as_str().unwrap()).collect();
    let names: Vec<&str> = ours.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, theirs, "{name}: layers and their order");
    let mut largest: f64 = 0.0;
    for ((id, tensor), layer) in ours.iter().zip(layers.as_array().unwrap()) {
        let tensor = tensor.squeeze(0).unwrap();
        let shape: Vec<usize> = serde_json::from_value(layer["shape"].clone()).unwrap();
        assert_eq!(tensor.dims(), shape, "{name}: shape of {id}");
        let stride = layer["stride"].as_u64().unwrap() as usize;
        let expected = fixture.get(id);
        let sampled = if stride == 1 {
            tensor
        } else {
            let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
            let values: Vec<f32> = values.into_iter().step_by(stride).collect();
            Tensor::from_vec(values, expected.dims(), &Device::Cpu).unwrap()
        };
        let error = relative_error(&sampled, &expected);
        assert!(error <= LIMIT, "{name}: {id}: relative error {error:e}");
        largest = largest.max(error);
    }
    println!("{name}: {} layers, largest relative error {largest:.1e}", ours.len());
    largest
}

fn extract(case: &Value) -> Vec<(String, Tensor)> {
    let (model, pipeline) = match case["version"].as_str() {
        Some("2-1") => (miniature_sd2(), pipeline_sd2()),
        _ => (miniature(), pipeline()),
    };
    if case["lora"].as_bool().unwrap() {
        pipeline.attach_adapter(&fixture("training/lora.safetensors"), 1.0).unwrap();
    }
    let side = case["img_size"].as_u64().unwrap() as usize;
    let image = case["image"].as_str().unwrap_or("image.png");
    let rgb = Image::open(fixture(&format!("extractor/{image}"))).unwrap().resized_rgb(side, side);
    // Sides that are no multiple of 8 are brought to the next lower one by a second filter, as diffusers' image processor does.
    let lower = side / 8 * 8;
    let image = if lower == side { rgb.clone() } else { resize(&rgb, lower, lower, Filter::Lanczos) };
    let latents_side = lower / 8;
    let mut generator = Generator::manual_seed(case["seed"].as_u64().unwrap());
    let shape = [1, 4, latents_side, latents_side];
    let posterior_noise = generator.randn_tensor(&shape, &Device::Cpu).unwrap();
    let latents = pipeline.encode_images(&image.to_tensor(&Device::Cpu).unwrap(), &posterior_noise).unwrap();
    let noise = generator.randn_tensor(&shape, &Device::Cpu).unwrap();

    let controlnet = (!case["control"].is_null())
        .then(|| ControlNet::open(&model.join("controlnet-canny"), &ModelOptions::default()).unwrap());
    let edges = canny(&rgb, 100, 200).to_rgb().to_unit_tensor(&Device::Cpu).unwrap();
    let hint = controlnet.as_ref().map(|network| pipeline.hint(network, &edges).unwrap());
    let conditions: Vec<Condition> = controlnet
        .iter()
        .zip(&hint)
        .map(|(controlnet, hint)| Condition { controlnet, hint, scale: 1.0, steps: Condition::EVERY_STEP })
        .collect();

    let layout = pipeline.unet.config().layout();
    let strings =
        |key: &str| -> Vec<String> { serde_json::from_value::<Option<_>>(case[key].clone()).unwrap().unwrap_or_default() };
    let mut ids: Vec<LayerId> = strings("layers").iter().map(|id| layout.parse(id).unwrap()).collect();
    if ids.is_empty() {
        ids = layout.ids();
    }
    let categories: Vec<AttentionCategory> = strings("attention").iter().map(|name| name.parse().unwrap()).collect();
    let plan = TapPlan::new(&layout, ids.iter().copied(), &categories, (latents_side, latents_side)).unwrap();
    let context = TextContext::new(pipeline.encode_prompt(case["prompt"].as_str().unwrap()).unwrap());
    let request = Extraction {
        level: NoiseLevel::Noised {
            t: case["t"].as_u64().unwrap() as usize,
            denoising_from: case["denoising_from"].as_u64().map(|from| from as usize),
            use_ddim_inversion: case["use_ddim_inversion"].as_bool().unwrap(),
        },
        context: &context,
        conditions: &conditions,
        plan: &plan,
        vae_out: ids.contains(&LayerId::VaeOut),
        original: false,
    };
    let extracted = pipeline.extract(&latents, &noise, &request, &mut |_, _| ()).unwrap();
    let mut all: Vec<(String, Tensor)> = extracted.features.into_iter().map(|(id, tensor)| (id.to_string(), tensor)).collect();
    all.extend(extracted.vae_out.map(|tensor| ("vae-out".to_owned(), tensor)));
    all.extend(extracted.attention.map(|tensor| ("attn".to_owned(), tensor)));
    all
}

#[test]
fn every_layer_at_two_timesteps() {
    check("everything_t50");
    check("everything_t261");
}

#[test]
fn shipped_layer_configurations() {
    check("practical");
    check("legacy");
    check("full");
}

#[test]
fn first_and_last_timestep() {
    check("t0");
    check("t1");
    check("t999");
}

#[test]
fn aggregated_attention() {
    check("attention_all");
}

#[test]
fn control_net_and_denoising() {
    check("canny");
    check("denoising_60_canny");
    check("denoising_160_canny");
}

#[test]
fn inversion() {
    check("inversion");
}

#[test]
fn lora() {
    check("lora");
}

#[test]
fn long_prompt() {
    check("long_prompt");
}

#[test]
fn decoded_image() {
    check("vae_out");
    check("vae_out_denoising");
}

#[test]
fn odd_sizes() {
    check("img_size_96");
    check("img_size_100");
    check("odd_photo");
}

#[test]
fn every_layer_of_stable_diffusion_2() {
    check("sd2/everything_t50");
    check("sd2/everything_t261");
}

#[test]
fn stable_diffusion_2_at_the_last_timestep() {
    check("sd2/t999");
}

#[test]
fn control_net_and_denoising_of_stable_diffusion_2() {
    check("sd2/canny");
    check("sd2/denoising_60_canny");
    check("sd2/denoising_160_canny");
}

#[test]
fn inversion_with_stable_diffusion_2() {
    check("sd2/inversion");
}

#[test]
fn long_prompt_and_decoded_image_of_stable_diffusion_2() {
    check("sd2/long_prompt");
    check("sd2/vae_out");
}

/// What is wanted decides how far the network runs, never what comes out.
#[test]
fn stopping_early_changes_nothing() {
    let fixture = Fixture::open("extractor/t0.safetensors");
    let mut case: Value = serde_json::from_str(&fixture.0.metadata()["case"]).unwrap();
    let all = extract(&case);
    for (id, tensor) in &all {
        case["layers"] = serde_json::json!([id]);
        let alone = extract(&case);
        assert_eq!(alone.len(), 1);
        assert_eq!(relative_error(&alone[0].1, tensor), 0.0, "{id}");
    }
}

/// The pass ends with the deepest wanted layer: a fault behind it is never met, one before it is.
#[test]
fn nothing_behind_the_deepest_layer_is_computed() {
    let (pipeline, fixture) = (pipeline(), Fixture::open("networks/networks.safetensors"));
    let context = TextContext::new(fixture.get("unet.text"));
    let sample = fixture.get("unet.sample");
    // Too few of them for the skip connections: refused where they are added, between the middle and the up path.
    let residuals = Residuals { down: Vec::new(), mid: sample.clone() };
    let input = UnetInput { sample: &sample, timesteps: &[50.0], context: &context, residuals: Some(&residuals) };
    let layout = pipeline.unet.config().layout();
    let (_, _, height, width) = sample.dims4().unwrap();
    let run = |id: &str| {
        let plan = TapPlan::new(&layout, [layout.parse(id).unwrap()], &[], (height, width)).unwrap();
        let mut taps = plan.taps();
        let output = pipeline.unet.forward_tapped(&input, &mut taps)?;
        assert!(output.is_none(), "{id}: the pass went on to its end");
        Ok::<_, driftless::Error>(taps.kept().len())
    };
    for id in ["unet-in", "unet-after-conv-in", "down-level0-repeat0-vit-block0-self-k", "mid-repeat1-res-out"] {
        assert_eq!(run(id).unwrap(), 1, "{id}");
    }
    let error = run("up-level0-repeat0-res-increment").unwrap_err().to_string();
    assert!(error.contains("skip connections"), "{error}");
}

// Reference: generic-diffusion-feature e4361a6 on diffusers 0.32.2, --show_all_layers at 512 x 512: all 197 ids, in order.
#[test]
fn ids_and_shapes_of_the_original() {
    let text = std::fs::read_to_string(fixture("extract/shapes.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let expected = expected["shapes"].as_object().unwrap();
    let sizes = PassSizes { latents: (64, 64), image: (512, 512), tokens: 77 };
    let mut shapes = Layout::stable_diffusion_1_5().shapes(&sizes, &[]);
    assert_eq!(shapes.pop(), Some((LayerId::VaeOut, [3, 512, 512])));
    assert_eq!(shapes.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>(), expected.keys().cloned().collect::<Vec<_>>());
    for (id, shape) in shapes {
        assert_eq!(serde_json::json!(shape), expected[&id.to_string()], "{id}");
    }
}

#[test]
fn channels_of_the_aggregate() {
    let sizes = PassSizes { latents: (64, 64), image: (512, 512), tokens: 77 };
    let channels = |names: &[&str]| {
        let categories: Vec<AttentionCategory> = names.iter().map(|name| name.parse().unwrap()).collect();
        let (id, shape) = *Layout::stable_diffusion_1_5().shapes(&sizes, &categories).last().unwrap();
        assert_eq!((id, shape[1], shape[2]), (LayerId::Attn, 64, 64));
        shape[0]
    };
    assert_eq!(channels(&["up_cross"]), 154);
    assert_eq!(channels(&["down_self"]), 1280);
    assert_eq!(channels(&["up_cross", "down_cross", "up_self"]), 154 + 154 + 1280);
    assert_eq!(channels(&["mid_self"]), 0);
}

/// Names, order and shapes are those of what a pass keeps, also where levels have odd sizes.
#[test]
fn every_layer_has_the_shape_that_is_announced() {
    let pipeline = pipeline();
    let (height, width, tokens) = (19, 22, 7);
    let sample = Generator::manual_seed(5).randn_tensor(&[1, 4, height, width], &Device::Cpu).unwrap();
    let context = TextContext::new(pipeline.text_encoder.forward(&[vec![3; tokens]], 1).unwrap());
    let layout = pipeline.unet.config().layout();
    let categories = ["up_cross", "down_self", "up_self"].map(|name| name.parse().unwrap());
    let plan = TapPlan::new(&layout, layout.ids(), &categories, (height, width)).unwrap();
    let mut taps = plan.taps();
    let input = UnetInput { sample: &sample, timesteps: &[50.0], context: &context, residuals: None };
    pipeline.unet.forward_tapped(&input, &mut taps).unwrap();
    let attention = taps.aggregated_attention(height, width).unwrap().unwrap();
    let mut kept: Vec<(LayerId, Vec<usize>)> = taps.kept().iter().map(|(id, value)| (*id, value.dims()[1..].to_vec())).collect();
    kept.push((LayerId::Attn, attention.dims()[1..].to_vec()));
    let mut announced =
        layout.shapes(&PassSizes { latents: (height, width), image: (8 * height, 8 * width), tokens }, &categories);
    announced.retain(|(id, _)| *id != LayerId::VaeOut);
    assert_eq!(kept, announced.into_iter().map(|(id, shape)| (id, shape.to_vec())).collect::<Vec<_>>());
}
