//! `train --objective cleandift`: the losses of a torch transcription, a resumed run that ends with the same bytes, what the adapter's file says, and
//! what does not go together.

#[path = "train_scratch.rs"]
mod scratch;

use candle_core::Device;
use driftless::adapter::files::{CLEAN_TIMESTEP, clean_timestep};
use driftless::formats::{WeightFile, write_safetensors};
use scratch::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use testkit::{message, miniature};

const OBJECTIVE: &str = "--objective cleandift --network_train_unet_only";

/// The UNet's part of the fixtures' adapter.
fn unet_adapter(path: &Path) {
    let file = WeightFile::open(testkit::fixture("training/lora.safetensors")).unwrap();
    let names = file.names().filter(|name| name.starts_with("lora_unet_"));
    let tensors: Vec<_> = names.map(|name| (name.to_owned(), file.tensor(name, &Device::Cpu).unwrap())).collect();
    write_safetensors(path, tensors, &BTreeMap::new()).unwrap();
}

// Reference: torch 2.15.0, diffusers 0.32.2, peft 0.14.0, float32, one thread: tests/reference/train_cleandift.py, which draws the same first values,
// latents, timesteps, noise and order. Losses are cosines, so that the limit is absolute: 1e-4 is asked for, and 1e-5 leaves room for other sums.
#[test]
fn losses_are_those_of_a_torch_transcription() {
    let text = std::fs::read_to_string(testkit::fixture("train/cleandift_losses.json")).unwrap();
    let fixture: Value = serde_json::from_str(&text).unwrap();
    let scratch = Scratch::of(4, 128);
    unet_adapter(&scratch.path("lora.safetensors"));
    let mut command = scratch.command_of_fixture(miniature(), &fixture, &[]);
    command.arg("--network_weights").arg(scratch.path("lora.safetensors"));
    let more = "--dim_from_weights --resolution 128 --lr_scheduler cosine --device cpu --threads 2 --output_name a";
    assert_done(&words(&mut command, &format!("{OBJECTIVE} {more}")));
    let found: Vec<f64> = lines(&scratch.path("out/metrics.jsonl")).iter().map(|line| line["loss"].as_f64().unwrap()).collect();
    let expected: Vec<f64> = fixture["losses"].as_array().unwrap().iter().map(|loss| loss.as_f64().unwrap()).collect();
    assert_eq!((found.len(), expected.len()), (20, 20));
    for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
        println!("{step} {found} {expected}");
        assert!((found - expected).abs() <= 1e-5, "step {}: {found}, not {expected}", step + 1);
    }
    // Twenty steps of Adam at 1e-3, all in one direction or not: the timestep has moved as in torch.
    let timestep = clean_timestep(&scratch.path("out/a.safetensors")).unwrap().unwrap();
    let expected = fixture["timestep"].as_f64().unwrap();
    assert!(timestep != 261.0 && (timestep - expected).abs() < 1e-4, "{timestep}, not {expected}");
}

#[test]
fn a_resumed_run_ends_with_the_same_bytes() {
    let scratch = Scratch::new();
    let common = format!("{OBJECTIVE} --lr_scheduler cosine --gradient_accumulation_steps 2 --save_state");
    let run = |folder: &str, more: &str| {
        let output = words(&mut scratch.command(folder), &format!("{common} {more}"));
        assert_done(&output);
    };
    run("whole", "--max_train_steps 4");
    // Saved on the way, and gone on from; the heads' values are read back.
    run("parts", "--max_train_steps 4 --save_every_n_steps 2");
    let state = scratch.path("parts/a-step00000002-state");
    assert!(WeightFile::open(state.join("alignment.safetensors")).unwrap().contains("adapters.us10.layers.2.down_proj.weight"));
    let resume = format!("--max_train_steps 4 --resume {}", state.display());
    run("resumed", &resume);
    let bytes = |name: &str| std::fs::read(scratch.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    for name in ["a.safetensors", "a-state/alignment.safetensors", "a-state/optimiser.safetensors"] {
        assert!(bytes(&format!("whole/{name}")) == bytes(&format!("resumed/{name}")), "{name}");
    }
    let other = words(
        &mut scratch.command("other"),
        &format!("--network_train_unet_only --max_train_steps 4 --resume {}", state.display()),
    );
    assert_fails(&other, 1, &["objective was `cleandift`", "`diffusion`"]);
    std::fs::remove_file(state.join("alignment.safetensors")).unwrap();
    assert_fails(
        &words(&mut scratch.command("broken"), &format!("{common} {resume}")),
        1,
        &["--resume", "alignment.safetensors"],
    );

    // What is saved without metadata says at least which timestep it takes.
    run("bare", "--max_train_steps 1 --no_metadata --save_model_as diffusers");
    let bare = scratch.path("bare");
    let named = [bare.join("a.safetensors"), bare.join("pytorch_lora_weights.safetensors"), bare.join("a")];
    let file = named.iter().find(|path| path.exists()).unwrap();
    assert!(clean_timestep(file).unwrap().is_some(), "no {CLEAN_TIMESTEP}");
}

#[test]
fn what_does_not_go_with_it_is_named() {
    let scratch = Scratch::new();
    let all = "--min_snr_gamma 5 --noise_offset 0.05 --v2 --v_parameterization --gradient_checkpointing --validation_split 0.25 --loss_type l1";
    let output = words(&mut scratch.command("out"), &format!("{OBJECTIVE} {all}"));
    assert!(!output.status.success());
    for option in all.split_whitespace().filter(|word| word.starts_with("--")) {
        assert!(message(&output).contains(option), "{option}: {}", message(&output));
    }
    let output = words(&mut scratch.command("out"), "--objective cleandift");
    assert_fails(&output, 1, &["--network_train_unet_only"]);
    assert_fails(&words(&mut scratch.command("out"), "--objective cleandfit"), 2, &["cleandift"]);
    assert!(!scratch.path("out").exists());
}
