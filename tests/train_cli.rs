//! The `train` binary as a user meets it: kohya's folders in, an adapter out, faults in words.
//!
//! Every test writes the seeded miniature model of `driftless::miniature` and images of its own into a fresh folder.

#[path = "train_scratch.rs"]
mod scratch;

use candle_core::{DType, Device, Tensor};
use driftless::adapter::AdapterFile;
use driftless::formats::{WeightFile, write_safetensors};
use driftless::vision::Rgb;
use scratch::*;
use std::collections::BTreeMap;
use std::path::Path;
use testkit::{message, miniature};

#[test]
fn kohyas_folders_become_an_adapter() {
    let scratch = Scratch::new();
    let output = words(
        &mut scratch.command("out"),
        "--max_train_epochs 3 --save_every_n_epochs 1 --save_last_n_epochs 1 --cache_latents --noise_offset 0.05 --clip_skip 2 --xformers",
    );
    assert_done(&output);
    let message = message(&output);
    assert!(message.contains("xformers has no effect"), "{message}");

    // 12 images in batches of 3 are 4 steps an epoch; of the numbered files the last stays.
    let mut files: Vec<_> = std::fs::read_dir(scratch.path("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["a-000002.safetensors", "a.safetensors", "metrics.jsonl"]);
    let metrics = lines(&scratch.path("out/metrics.jsonl"));
    assert_eq!(metrics.len(), 12);
    assert_eq!((metrics[11]["step"].as_u64(), metrics[11]["epoch"].as_u64()), (Some(12), Some(3)));
    assert_eq!((metrics[0]["lr"]["unet"].as_f64(), metrics[0]["lr"]["textencoder"].as_f64()), (Some(1e-2), Some(1e-2)));
    assert!(metrics[0]["peak_rss_bytes"].as_u64() > Some(0) || !cfg!(target_os = "linux"));

    let adapter = AdapterFile::open(scratch.path("out/a.safetensors")).unwrap();
    let metadata = |key: &str| adapter.metadata.get(key).map(String::as_str);
    assert_eq!((metadata("ss_network_dim"), metadata("ss_network_alpha")), (Some("4"), Some("2.0")));
    assert_eq!((metadata("ss_steps"), metadata("ss_epoch"), metadata("ss_clip_skip")), (Some("12"), Some("3"), Some("2")));
    assert_eq!(metadata("modelspec.architecture"), Some("stable-diffusion-v1/lora"));
    assert!(metadata("ss_tag_frequency").unwrap().contains("1_wd"));
    assert!(metadata("sshs_model_hash").is_some_and(|hash| hash.len() == 64));
}

#[test]
fn every_matrix_that_the_loss_sees_is_trained() {
    let scratch = Scratch::new();
    assert_done(&words(&mut scratch.command("out"), "--max_train_epochs 1 --network_args conv_dim=2"));
    let file = WeightFile::open(scratch.path("out/a.safetensors")).unwrap();
    let mut matrices = 0;
    for name in file.names().filter(|name| name.ends_with("lora_up.weight")) {
        let tensor = file.tensor(name, &Device::Cpu).unwrap();
        let size = tensor.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(size > 0.0, "{name} is still zero");
        matrices += 1;
    }
    assert!(file.names().any(|name| name.starts_with("lora_unet_") && name.contains("resnets")));
    assert!(file.names().any(|name| name.starts_with("lora_te_text_model_encoder_layers_0_")));
    assert!(matrices > 20, "{matrices}");
}

#[test]
fn parts_can_be_trained_alone() {
    let scratch = Scratch::new();
    for (option, trained, not) in [
        ("--network_train_unet_only", "lora_unet_", "lora_te_"),
        ("--network_train_text_encoder_only", "lora_te_", "lora_unet_"),
        ("--text_encoder_lr 0", "lora_unet_", "lora_te_"),
    ] {
        assert_done(&words(&mut scratch.command("out"), &format!("--max_train_steps 2 --overwrite {option}")));
        let file = WeightFile::open(scratch.path("out/a.safetensors")).unwrap();
        assert!(file.names().any(|name| name.starts_with(trained)), "{option}");
        assert!(!file.names().any(|name| name.starts_with(not)), "{option}");
    }
}

#[test]
fn gradient_checkpointing_changes_nothing() {
    let scratch = Scratch::new();
    assert_done(&words(&mut scratch.command("plain"), "--max_train_steps 4"));
    assert_done(&words(&mut scratch.command("checkpointed"), "--max_train_steps 4 --gradient_checkpointing"));
    let losses = |folder: &str| -> Vec<f64> {
        lines(&scratch.path(&format!("{folder}/metrics.jsonl"))).iter().map(|line| line["loss"].as_f64().unwrap()).collect()
    };
    for (plain, checkpointed) in losses("plain").iter().zip(losses("checkpointed")) {
        // The same sums in the same order, but for gradients that arrive in another order: rounding of float32.
        assert!((plain - checkpointed).abs() < 1e-4 * plain, "{plain} and {checkpointed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_a_resumed_run_too() {
    let scratch = Scratch::new();
    let options = "--max_train_epochs 3 --save_state --flip_aug --shuffle_caption --lr_scheduler cosine --lr_warmup_steps 2";
    assert_done(&words(&mut scratch.command("whole"), options));
    assert_done(&words(&mut scratch.command("again"), options));
    let bytes = |name: &str| std::fs::read(scratch.path(name)).unwrap();
    assert!(bytes("whole/a.safetensors") == bytes("again/a.safetensors"), "two equal runs differ");

    // Stops in the middle of the second epoch, with the schedule of the whole run: a state of step 6, then the rest.
    assert_done(&words(&mut scratch.command("part"), &format!("{options} --save_every_n_steps 6")));
    let state = scratch.path("part/a-step00000006-state");
    let mut rest = scratch.command("rest");
    rest.arg("--resume").arg(&state);
    assert_done(&words(&mut rest, options));
    assert!(bytes("whole/a.safetensors") == bytes("rest/a.safetensors"), "the resumed run ended elsewhere");

    for (other, named) in [
        ("--network_args conv_dim=2", "network_args"),
        ("--max_timestep 500", "timesteps was"),
        ("--caption_prefix photo", "captions_and_augmentation"),
        ("--network_train_unet_only", "network_train_unet_only"),
    ] {
        let mut command = scratch.command("rest");
        command.arg("--resume").arg(&state);
        let output = words(&mut command, &format!("{options} {other}"));
        assert_fails(&output, 1, &["another configuration", "--resume", named]);
    }

    // What may change is said.
    let other = "--learning_rate 1e-3 --lr_decay_steps 1 --lr_scheduler_num_cycles 3 --lr_scheduler_power 2 \
                 --lr_scheduler_timescale 5 --lr_scheduler_min_lr_ratio 0.5";
    let output = words(scratch.command("other").arg("--resume").arg(&state), &format!("{options} {other}"));
    assert_done(&output);
    for change in [
        "learning_rate was `0.01` and is now `0.001`",
        "lr_decay_steps was `0` and is now `1`",
        "lr_scheduler_num_cycles was `1` and is now `3`",
        "lr_scheduler_power was `1.0` and is now `2.0`",
        "lr_scheduler_timescale was `None` and is now `5`",
        "lr_scheduler_min_lr_ratio was `None` and is now `0.5`",
    ] {
        assert!(message(&output).contains(change), "{change} is not in: {}", message(&output));
    }
}

#[test]
fn other_formats_and_starts() {
    let scratch = Scratch::new();
    assert_done(&words(&mut scratch.command("out"), "--max_train_steps 2 --save_model_as diffusers --save_precision fp16"));
    let file = WeightFile::open(scratch.path("out/pytorch_lora_weights.safetensors")).unwrap();
    assert!(file.names().all(|name| name.ends_with(".lora_A.weight") || name.ends_with(".lora_B.weight")));

    let mut further = scratch.command("further");
    further.arg("--network_weights").arg(scratch.path("out/pytorch_lora_weights.safetensors"));
    assert_done(&words(
        &mut further,
        "--max_train_steps 1 --optimizer_type SGD --gradient_accumulation_steps 2 --min_snr_gamma 5",
    ));
    let mut other_rank = scratch.command("further");
    other_rank.arg("--network_weights").arg(scratch.path("out/pytorch_lora_weights.safetensors"));
    assert_fails(
        &words(&mut other_rank, "--max_train_steps 1 --network_dim 8 --overwrite"),
        1,
        &["rank 4", "--dim_from_weights"],
    );
}

#[test]
fn a_finished_adapter_is_not_replaced_unasked() {
    let scratch = Scratch::new();
    assert_done(&words(&mut scratch.command("out"), "--max_train_steps 2"));
    let file = |name: &str| std::fs::read(scratch.path(name)).unwrap();
    let (adapter, metrics) = (file("out/a.safetensors"), file("out/metrics.jsonl"));
    for arguments in ["--max_train_steps 1", "check --max_train_steps 1"] {
        assert_fails(
            &words(&mut scratch.command("out"), arguments),
            1,
            &["a.safetensors is there already", "--overwrite", "--resume"],
        );
    }
    assert!(adapter == file("out/a.safetensors") && metrics == file("out/metrics.jsonl"));
    assert_done(&words(&mut scratch.command("out"), "--max_train_steps 1 --overwrite"));
    assert!(adapter != file("out/a.safetensors"));
    assert_eq!(lines(&scratch.path("out/metrics.jsonl")).len(), 1);
}

#[test]
fn samples_and_tensorboard() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path("prompts.txt"), "a red circle --w 64 --h 64 --s 2 --d 5\n# no\n").unwrap();
    let mut command = scratch.command("out");
    command.arg("--sample_prompts").arg(scratch.path("prompts.txt")).arg("--logging_dir").arg(scratch.path("log"));
    assert_done(&words(&mut command, "--max_train_epochs 2 --sample_every_n_epochs 1 --log_prefix run-"));
    let images: Vec<_> =
        std::fs::read_dir(scratch.path("out/sample")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(images.len(), 2, "{images:?}");
    assert!(images.iter().all(|name| name.starts_with("a_e00000") && name.ends_with("_5.png")), "{images:?}");
    let run = std::fs::read_dir(scratch.path("log")).unwrap().next().unwrap().unwrap();
    assert!(run.file_name().to_string_lossy().starts_with("run-2"));
    let events = std::fs::read_dir(run.path().join("network_train")).unwrap().next().unwrap().unwrap();
    let events = std::fs::read(events.path()).unwrap();
    for tag in ["loss/current", "loss/average", "lr/unet", "lr/textencoder", "loss/epoch_average", "sample_0"] {
        assert!(events.windows(tag.len()).any(|window| window == tag.as_bytes()), "{tag}");
    }
}

#[test]
fn check_trains_nothing() {
    let scratch = Scratch::new();
    let output = words(scratch.command("out").arg("check"), "--max_train_epochs 2 --enable_bucket --min_bucket_reso 64");
    assert_done(&output);
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["1_empty: 4 images x 1 repeat; captions: 4 found, 0 missing", "64 x 64", "steps in all        8"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    assert!(!scratch.path("out").exists());
}

#[test]
fn a_checkpoint_of_another_version_is_refused_by_name() {
    let scratch = Scratch::new();
    let write = |name: &str, key: &str| {
        let tensor = Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap();
        write_safetensors(scratch.path(name), [(key.to_owned(), tensor)], &BTreeMap::new()).unwrap();
        scratch.path(name)
    };
    let check = |file: &Path, more: &str| {
        let mut command = train();
        command.arg("check").arg("--pretrained_model_name_or_path").arg(file).arg("--base").arg(miniature());
        command.arg("--train_data_dir").arg(scratch.path("data")).arg("--output_dir").arg(scratch.path("out"));
        words(&mut command, &format!("--resolution 64 --output_name a {more}"))
    };
    let two = write("two.safetensors", "cond_stage_model.model.ln_final.weight");
    assert_fails(&check(&two, ""), 1, &["two.safetensors: is a Stable Diffusion 2 model; give --v2"]);
    let one = write("one.safetensors", "cond_stage_model.transformer.text_model.final_layer_norm.weight");
    assert_fails(&check(&one, "--v2"), 1, &["one.safetensors is a Stable Diffusion 1.5 model"]);
}

#[test]
fn wrong_usage_is_told_apart_from_failure() {
    let scratch = Scratch::new();
    assert_fails(&words(&mut train(), "--learning_rat 1"), 2, &["did you mean `learning_rate`"]);
    assert_fails(&words(&mut train(), "--resolution big"), 2, &["resolution"]);
    assert_fails(&words(&mut scratch.command("out"), "--v2"), 1, &["--v2", "is a Stable Diffusion 1.5 model"]);
    assert_fails(&words(&mut scratch.command("out"), "--network_dim 0"), 1, &["at least 1"]);
    assert_fails(&words(&mut scratch.command("out"), "--optimizer_type Prodgy"), 1, &["Prodgy"]);
    assert!(!scratch.path("out").exists(), "nothing is written by a run that does not begin");
    let help = words(&mut train(), "--help");
    assert_done(&help);
    assert!(String::from_utf8_lossy(&help.stdout).contains("--network_alpha"));
}

#[test]
fn data_sets_that_cannot_be_used() {
    let scratch = Scratch::new();
    let data = |folder: &Path| {
        let mut command = train();
        command.arg("--pretrained_model_name_or_path").arg(miniature()).arg("--train_data_dir").arg(folder);
        command.arg("--output_dir").arg(scratch.path("out")).output().unwrap()
    };
    assert_fails(&data(&scratch.path("data/1_wd")), 1, &["folder above", "1_wd"]);
    assert_fails(&data(&scratch.path("nowhere")), 1, &["nowhere"]);
    std::fs::create_dir(scratch.path("empty")).unwrap();
    assert_fails(&data(&scratch.path("empty")), 1, &["is empty"]);
    std::fs::write(scratch.path("data/1_wd/001.png"), "no image").unwrap();
    assert_fails(&data(&scratch.path("data")), 1, &["1_wd/001.png"]);
    std::fs::remove_file(scratch.path("data/1_wd/001.png")).unwrap();
    std::fs::write(scratch.path("data/1_wd/000.txt"), [0xff, 0xfe]).unwrap();
    assert_fails(&data(&scratch.path("data")), 1, &["000.txt", "UTF-8"]);
    assert!(!scratch.path("out").exists());
}

#[test]
fn a_model_that_is_not_there() {
    let scratch = Scratch::new();
    let mut command = train();
    command.arg("--train_data_dir").arg(scratch.path("data")).arg("--output_dir").arg(scratch.path("out"));
    assert_fails(&words(&mut command, "--model /nowhere/model"), 1, &["/nowhere/model"]);
}

#[test]
fn a_data_set_written_as_toml() {
    let scratch = Scratch::new();
    Rgb::filled(100, 80, [9, 9, 9]).save_png(scratch.path("data/1_wd/wide.png")).unwrap();
    let text = format!(
        "[general]\nresolution = 64\nenable_bucket = true\nmin_bucket_reso = 64\nbucket_reso_steps = 16\n[[datasets]]\nbatch_size = 2\n\
         [[datasets.subsets]]\nimage_dir = {:?}\nnum_repeats = 2\nclass_tokens = \"a shape\"\n",
        scratch.path("data/1_wd")
    );
    std::fs::write(scratch.path("set.toml"), text).unwrap();
    let mut command = train();
    command
        .arg("--model")
        .arg(miniature())
        .arg("--dataset_config")
        .arg(scratch.path("set.toml"))
        .arg("--output_dir")
        .arg(scratch.path("out"));
    let output = words(&mut command, "--max_train_epochs 1 --unet_lr 1e-3 --seed 1");
    assert_done(&output);
    assert!(message(&output).contains("a shape"), "{}", message(&output));
    let adapter = AdapterFile::open(scratch.path("out/last.safetensors")).unwrap();
    assert!(adapter.metadata["ss_datasets"].contains("\"num_repeats\":2"));
}

/// Starts a run and sends it a signal once `steps` steps are done, however fast this machine is.
#[cfg(unix)]
fn signalled(command: &mut std::process::Command, folder: &Path, steps: usize, signal: &str) -> std::process::Output {
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    while std::fs::read_to_string(folder.join("metrics.jsonl")).map_or(0, |text| text.lines().count()) < steps {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be interrupted");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    child.wait_with_output().unwrap()
}

/// With `--save_state` and without: the adapter as it stands and a state are there, and both are of use.
#[cfg(unix)]
#[test]
fn an_interrupted_run_goes_on() {
    let scratch = Scratch::new();
    assert_done(&words(&mut scratch.command("whole"), "--max_train_epochs 12"));
    for (folder, signal, more) in [("with", "-TERM", " --save_state"), ("without", "-INT", "")] {
        let options = format!("--max_train_epochs 12{more}");
        let output = signalled(scratch.command(folder).args(options.split(' ')), &scratch.path(folder), 5, signal);
        let message = message(&output);
        assert_eq!(output.status.code(), Some(130), "{message}");
        let state = message.split("--resume ").nth(1).unwrap_or_else(|| panic!("{message}")).trim().to_owned();
        let adapter = state.strip_suffix("-state").unwrap().to_owned() + ".safetensors";
        assert!(message.contains(&format!(" is {adapter};")), "{message}");
        let entries = AdapterFile::open(&adapter).unwrap().entries;
        assert_eq!(AdapterFile::open(Path::new(&state).join("adapter.safetensors")).unwrap().entries.len(), entries.len());

        let mut rest = scratch.command(folder);
        rest.arg("--resume").arg(state);
        assert_done(&words(&mut rest, &options));
        let bytes = |name: &str| std::fs::read(scratch.path(name).join("a.safetensors")).unwrap();
        assert!(bytes("whole") == bytes(folder), "the resumed run ended elsewhere");
        assert_eq!(lines(&scratch.path(folder).join("metrics.jsonl")).len(), 48);
    }
}

/// An optimizer of the library does not tell its state: the adapter is kept, and how to go on from that is said.
#[cfg(unix)]
#[test]
fn an_interrupted_run_without_a_state_keeps_its_adapter() {
    let scratch = Scratch::new();
    let options = "--max_train_epochs 100 --optimizer_type SGD";
    let output = signalled(scratch.command("out").args(options.split(' ')), &scratch.path("out"), 3, "-INT");
    let message = message(&output);
    assert_eq!(output.status.code(), Some(130), "{message}");
    let adapter = message.split("--network_weights ").nth(1).unwrap_or_else(|| panic!("{message}")).trim();
    AdapterFile::open(adapter).unwrap();
}

/// `nohup` ignores the signal of a closed terminal on behalf of its program.
#[cfg(unix)]
#[test]
fn nohup_is_respected() {
    let scratch = Scratch::new();
    let inner = scratch.command("out");
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg("trap '' HUP; exec \"$@\"").arg("sh").arg(inner.get_program()).args(inner.get_args());
    shell.env("HF_HUB_OFFLINE", "1").args("--max_train_epochs 10".split(' '));
    let output = signalled(&mut shell, &scratch.path("out"), 2, "-HUP");
    assert_done(&output);
    assert!(scratch.path("out/a.safetensors").exists());
}

/// A state that this program's first version has written: its adapter has names of its own.
#[test]
fn a_state_of_the_first_format_goes_on() {
    let scratch = Scratch::new();
    let options = "--network_train_text_encoder_only --network_dim 1 --max_train_steps 2";
    assert_done(&words(&mut scratch.command("whole"), options));
    let mut rest = scratch.command("rest");
    rest.arg("--resume").arg(testkit::fixture("train/first_state"));
    assert_done(&words(&mut rest, options));
    let bytes = |name: &str| std::fs::read(scratch.path(name)).unwrap();
    assert!(bytes("whole/a.safetensors") == bytes("rest/a.safetensors"));
}
