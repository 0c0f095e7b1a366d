//! What `train` learns, measures and keeps: the same numbers as torch, validation, latents on disk, exact resume after a kill.

#[path = "train_scratch.rs"]
mod scratch;

use driftless::adapter::AdapterFile;
use driftless::formats::WeightFile;
use driftless::vision::Rgb;
use scratch::*;
use serde_json::Value;
use std::path::Path;
use testkit::{message, miniature, miniature_sd2};

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn numbers(path: &Path, key: &str) -> Vec<f64> {
    lines(path).iter().map(|line| line[key].as_f64().unwrap()).collect()
}

// Reference: torch 2.15.0, diffusers 0.32.2, peft 0.14.0, float32, one thread: tests/reference/train_torch.py, which draws the same noise,
// timesteps, latents and order. Measured 1.1e-6 at most; 1e-5 leaves room for another order of sums, and is a hundredth of what is asked.
#[test]
fn losses_are_those_of_torch_and_peft() {
    check_losses(miniature(), "train/torch_losses.json", "training/lora.safetensors", "");
}

/// Stable Diffusion 2.1: the velocity is learnt, and the file says of which model it is as kohya's does.
#[test]
fn losses_on_a_velocity_are_those_of_torch_and_peft() {
    let options = "--v2 --v_parameterization --output_name a";
    let scratch = check_losses(miniature_sd2(), "train/sd2_losses.json", "training/sd2_lora.safetensors", options);
    let adapter = AdapterFile::open(scratch.path("out/a.safetensors")).unwrap();
    for (key, expected) in [
        ("ss_v2", "True"),
        ("ss_base_model_version", "sd_v2_v"),
        ("modelspec.architecture", "stable-diffusion-v2-768-v/lora"),
        ("modelspec.prediction_type", "v"),
    ] {
        assert_eq!(adapter.metadata.get(key).map(String::as_str), Some(expected), "{key}");
    }
    let file = WeightFile::open(scratch.path("out/a.safetensors")).unwrap();
    // kohya's names are those of SD1.5; the projections are matrices here.
    assert!(file.contains("lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight"));
    assert_eq!(file.info("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight").unwrap().shape, [4, 64]);
}

/// A run with the settings of a fixture, whose losses it has to have.
fn check_losses(model: &Path, losses: &str, lora: &str, more: &str) -> Scratch {
    let fixture: Value = serde_json::from_str(&std::fs::read_to_string(testkit::fixture(losses)).unwrap()).unwrap();
    let scratch = Scratch::of(4, 128);
    let more_options = [
        ("--text_encoder_lr", "text_encoder_lr"),
        ("--clip_skip", "clip_skip"),
        ("--noise_offset", "noise_offset"),
        ("--min_snr_gamma", "min_snr_gamma"),
    ];
    let mut command = scratch.command_of_fixture(model, &fixture, &more_options);
    command.arg("--network_weights").arg(testkit::fixture(lora)).args(more.split_whitespace());
    assert_done(&words(&mut command, "--dim_from_weights --resolution 128 --lr_scheduler cosine --device cpu --threads 2"));
    let found = numbers(&scratch.path("out/metrics.jsonl"), "loss");
    let expected: Vec<f64> = fixture["losses"].as_array().unwrap().iter().map(|loss| loss.as_f64().unwrap()).collect();
    assert_eq!((found.len(), expected.len()), (20, 20));
    for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() <= 1e-5 * expected, "step {}: {found}, not {expected}", step + 1);
    }
    scratch
}

#[test]
fn held_out_images_are_measured_at_the_timesteps_of_extraction() {
    let scratch = Scratch::new();
    let options =
        "--max_train_epochs 2 --validation_split 0.25 --save_every_n_epochs 1 --cache_latents --validation_timesteps 50,261";
    let output = words(&mut scratch.command("out"), options);
    assert_done(&output);
    let measured = lines(&scratch.path("out/validation.jsonl"));
    assert_eq!(measured.len(), 2, "{measured:?}");
    for line in &measured {
        let number = |value: &serde_json::Value| value.as_f64().unwrap();
        let (low, high) = (number(&line["by_timestep"]["50"]), number(&line["by_timestep"]["261"]));
        assert!(low != high && ((low + high) / 2.0 - number(&line["validation_loss"])).abs() < 1e-9, "{line}");
    }
    let message = message(&output);
    for part in ["t = 50", "t = 261", "best by validation loss: ", "later, slightly overfitted: "] {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    for (options, part) in [
        ("--validation_timesteps 50", "--validation_split"),
        ("--validation_split 0.25 --validation_timesteps 50,50", "50 twice"),
        ("--validation_split 0.25 --validation_timesteps 1000", "1000"),
    ] {
        let output = words(&mut scratch.command("wrong"), options);
        assert!(!output.status.success() && testkit::message(&output).contains(part), "{options}: {}", testkit::message(&output));
    }
}

#[test]
fn epochs_are_compared_on_images_that_do_not_train() {
    let scratch = Scratch::new();
    let options =
        "--max_train_epochs 3 --validation_split 0.25 --save_every_n_epochs 1 --cache_latents --validate_every_n_steps 2";
    let output = words(&mut scratch.command("out"), options);
    assert_done(&output);
    // 3 of 4 images in each group train: 9 in batches of 3 are 3 steps an epoch; steps 2, 4, 6, 8 and epochs 1 to 3 are measured.
    let measured = lines(&scratch.path("out/validation.jsonl"));
    assert_eq!(measured.len(), 7, "{measured:?}");
    let losses: Vec<f64> = measured.iter().map(|line| line["validation_loss"].as_f64().unwrap()).collect();
    assert!(losses.iter().all(|loss| *loss > 0.0 && loss.is_finite()), "{losses:?}");
    let message = message(&output);
    let best = message.lines().find(|line| line.starts_with("best by validation loss: ")).unwrap_or_else(|| panic!("{message}"));
    let table: Vec<&str> = message.lines().skip_while(|line| !line.contains("validation    training")).take(8).collect();
    assert!(table.len() == 8 && best.contains("a-00000") || best.contains("a.safetensors") || best.contains("step"), "{message}");
    let column: Vec<f64> = table[1..8].iter().map_while(|row| row.split_whitespace().nth(2)?.parse().ok()).collect();
    assert!(column.len() >= 6 && column.is_sorted(), "{table:#?}");

    // Measuring changes nothing in what is trained, and the same adapter is measured alike.
    let more = "--max_train_epochs 3 --validation_split 0.25 --save_every_n_epochs 1 --cache_latents --max_validation_steps 1";
    assert_done(&words(&mut scratch.command("less"), more));
    assert_eq!(numbers(&scratch.path("out/metrics.jsonl"), "loss"), numbers(&scratch.path("less/metrics.jsonl"), "loss"));
    let still = "--max_train_epochs 2 --validation_split 0.25 --validation_seed 9 --learning_rate 1e-30 --clip_skip 2";
    assert_done(&words(&mut scratch.command("still"), still));
    let still = numbers(&scratch.path("still/validation.jsonl"), "validation_loss");
    assert_eq!(still[0], still[1], "noise and timesteps are fixed");
}

#[test]
fn latents_on_disk_change_nothing_but_the_time() {
    let scratch = Scratch::new();
    let options = "--max_train_epochs 1 --flip_aug";
    let losses = |folder: &str| numbers(&scratch.path(&format!("{folder}/metrics.jsonl")), "loss");
    assert_done(&words(&mut scratch.command("memory"), &format!("{options} --cache_latents")));
    let read = |folder: &str, more: &str| -> usize {
        let output =
            words(&mut scratch.command(folder), &format!("{options} --cache_latents_to_disk --verbose --overwrite {more}"));
        assert_done(&output);
        let message = message(&output);
        let line = message.lines().find(|line| line.contains("files were read")).unwrap_or_else(|| panic!("{message}"));
        line.split(", ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(read("first", ""), 0);
    assert!(scratch.path("data/1_wd/000.png.64x64.latents.safetensors").exists());
    assert_eq!(read("again", ""), 12);
    assert_eq!(losses("memory"), losses("first"));
    assert_eq!(losses("memory"), losses("again"));

    // Another image, another time, a damaged file, another type to compute in: none of them is taken for what it is not.
    Rgb::filled(64, 64, [1, 2, 3]).save_png(scratch.path("data/1_wd/000.png")).unwrap();
    std::fs::write(scratch.path("data/1_wd/001.png.64x64.latents.safetensors"), "no latents").unwrap();
    let image = std::fs::File::options().append(true).open(scratch.path("data/1_wd/002.png")).unwrap();
    image.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(read("changed", ""), 9);
    assert_eq!(read("half", "--mixed_precision bf16"), 0);

    let cache = scratch.path("cache");
    let folder = format!("--latent_cache_dir {}", cache.display());
    assert_eq!(read("elsewhere", &folder), 0);
    assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 12);
    assert_eq!(read("elsewhere", &folder), 12);
    for (option, named) in [("--random_crop", "random_crop"), ("--color_aug", "color_aug")] {
        assert_fails(&words(&mut scratch.command("never"), &format!("--cache_latents_to_disk {option}")), 1, &[named]);
    }
}

#[test]
fn an_autoencoder_from_elsewhere() {
    let scratch = Scratch::new();
    let options = "--max_train_steps 2";
    let losses = |folder: &str| numbers(&scratch.path(&format!("{folder}/metrics.jsonl")), "loss");
    assert_done(&words(&mut scratch.command("own"), options));
    for (folder, vae) in [
        ("folder", miniature().join("vae")),
        ("model", miniature().to_owned()),
        ("file", miniature().join("vae/diffusion_pytorch_model.safetensors")),
    ] {
        let output = words(scratch.command(folder).arg("--vae").arg(vae), options);
        assert_done(&output);
        assert_eq!(losses("own"), losses(folder), "{folder}");
    }
    let wrong = miniature().join("unet/diffusion_pytorch_model.safetensors");
    assert_fails(&words(scratch.command("wrong").arg("--vae").arg(wrong), options), 1, &["--vae"]);
    assert_fails(&words(scratch.command("wrong").arg("--vae").arg("/nowhere/vae"), options), 1, &["--vae", "/nowhere/vae"]);
}

#[test]
fn colors_and_crops_change_what_is_learnt() {
    let scratch = Scratch::new();
    let losses = |folder: &str, options: &str| {
        assert_done(&words(&mut scratch.command(folder), &format!("--max_train_epochs 2 {options}")));
        numbers(&scratch.path(&format!("{folder}/metrics.jsonl")), "loss")
    };
    let colored = losses("color", "--color_aug");
    assert_ne!(losses("plain", ""), colored);
    assert_eq!(colored, losses("color_again", "--color_aug"));
}

#[test]
fn check_tells_what_is_held_back_and_how_much_memory_it_takes() {
    let scratch = Scratch::new();
    let text = |options: &str| {
        let output = words(scratch.command("out").arg("check"), options);
        assert_done(&output);
        String::from_utf8(output.stdout).unwrap()
    };
    let plain = text("--validation_split 0.25");
    assert!(plain.contains("held back           3 images"), "{plain}");
    let memory = plain.lines().find(|line| line.starts_with("memory")).unwrap_or_else(|| panic!("{plain}"));
    for part in ["weights", "adapter and optimizer", "activations", "MiB"] {
        assert!(memory.contains(part), "{memory}");
    }
}

/// Kills a run in the middle of a step, twice, and lets it go on from the newest state each time.
#[cfg(unix)]
#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let scratch = Scratch::new();
    let options = "--max_train_epochs 12 --save_state --save_every_n_steps 3 --shuffle_caption --flip_aug --cache_latents \
                   --validation_split 0.25 --lr_scheduler cosine --noise_offset 0.05";
    assert_done(&words(&mut scratch.command("whole"), options));
    let steps =
        |folder: &str| std::fs::read_to_string(scratch.path(folder).join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    for until in [8, 20] {
        let mut command = scratch.command("out");
        if let Some(state) = newest_state(&scratch.path("out")) {
            command.arg("--resume").arg(state);
        }
        let mut child = command.args(options.split_whitespace()).stderr(std::process::Stdio::null()).spawn().unwrap();
        while steps("out") < until {
            assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let state = newest_state(&scratch.path("out")).unwrap();
    assert_done(&words(scratch.command("out").arg("--resume").arg(state), options));
    assert!(
        bytes(&scratch.path("whole/a.safetensors")) == bytes(&scratch.path("out/a.safetensors")),
        "the resumed run ended elsewhere"
    );
    assert_eq!(steps("out"), 36);
    let table = |folder: &str| numbers(&scratch.path(folder).join("validation.jsonl"), "validation_loss");
    assert_eq!(table("whole"), table("out"));
}

/// A run whose steps ended within an epoch, made longer, trains the rest of that epoch and measures it then.
#[test]
fn steps_that_end_within_an_epoch_leave_the_rest_to_a_longer_run() {
    let scratch = Scratch::new();
    // 9 images train in batches of 3.
    let options = "--save_state --validation_split 0.25 --flip_aug --shuffle_caption --max_train_steps";
    assert_done(&words(&mut scratch.command("whole"), &format!("{options} 9")));
    assert_done(&words(&mut scratch.command("out"), &format!("{options} 5")));
    let epochs = |folder: &str| numbers(&scratch.path(folder).join("validation.jsonl"), "epoch");
    assert_eq!(epochs("out"), [1.0, 2.0], "the epoch that was cut short is measured too, as kohya does");
    let short = bytes(&scratch.path("out/a.safetensors"));
    let go_on = |steps: usize| {
        let mut command = scratch.command("out");
        command.arg("--resume").arg(scratch.path("out/a-state"));
        assert_done(&words(&mut command, &format!("{options} {steps}")));
    };
    go_on(5);
    assert!(bytes(&scratch.path("out/a.safetensors")) == short, "a run that is done already was trained further");
    assert_eq!(epochs("out"), [1.0, 2.0]);
    go_on(9);
    assert!(bytes(&scratch.path("out/a.safetensors")) == bytes(&scratch.path("whole/a.safetensors")));
    for (file, key) in [("metrics.jsonl", "loss"), ("metrics.jsonl", "epoch"), ("validation.jsonl", "validation_loss")] {
        assert_eq!(numbers(&scratch.path("out").join(file), key), numbers(&scratch.path("whole").join(file), key), "{key}");
    }
    // From the beginning of an epoch too.
    go_on(12);
    assert_eq!(epochs("out"), [1.0, 2.0, 3.0, 4.0]);
}

/// An interruption while an epoch is measured leaves the measuring to the run that goes on.
#[cfg(unix)]
#[test]
fn an_interrupted_validation_is_made_up_for() {
    let scratch = Scratch::of(12, 64);
    // 9 of 12 images are held back in each of three groups: 9 steps of 1, then 108 predictions.
    let options = "--max_train_epochs 2 --validation_split 0.75 --train_batch_size 1 --cache_latents";
    assert_done(&words(&mut scratch.command("whole"), options));
    let interrupted = |folder: &str, more: &str, steps: usize| {
        let mut command = scratch.command(folder);
        command.args(options.split_whitespace()).args(more.split_whitespace()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let done = || std::fs::read_to_string(scratch.path(folder).join("metrics.jsonl")).map_or(0, |text| text.lines().count());
        while done() < steps {
            assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be interrupted");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        assert!(std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
        child.wait_with_output().unwrap()
    };
    let measured = |folder: &str| numbers(&scratch.path(folder).join("validation.jsonl"), "validation_loss");
    for (folder, steps, before) in [("first", 9, 0), ("last", 18, 1)] {
        let output = interrupted(folder, "--save_state", steps);
        assert_eq!(output.status.code(), Some(130), "{}", message(&output));
        assert_eq!((measured(folder).len(), lines(&scratch.path(folder).join("metrics.jsonl")).len()), (before, steps));
        let mut rest = scratch.command(folder);
        rest.arg("--resume").arg(newest_state(&scratch.path(folder)).unwrap()).arg("--save_state");
        assert_done(&words(&mut rest, options));
        assert_eq!(measured(folder), measured("whole"), "{folder}");
        assert!(bytes(&scratch.path(folder).join("a.safetensors")) == bytes(&scratch.path("whole/a.safetensors")), "{folder}");
    }
    // States need not have been asked for.
    let output = interrupted("without", "", 18);
    assert_eq!(output.status.code(), Some(130), "{}", message(&output));
    let mut rest = scratch.command("without");
    rest.arg("--resume").arg(newest_state(&scratch.path("without")).unwrap());
    assert_done(&words(&mut rest, options));
    assert_eq!(measured("without"), measured("whole"));
    assert!(bytes(&scratch.path("without/a.safetensors")) == bytes(&scratch.path("whole/a.safetensors")));
}

fn newest_state(folder: &Path) -> Option<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().ends_with("-state") && path.join("state.json").exists()).max()
}
