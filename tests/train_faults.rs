//! What goes wrong for users: one clear error or warning each, and nothing that was there is lost.

#[path = "train_scratch.rs"]
mod scratch;

use candle_core::{DType, Device, Tensor};
use driftless::adapter::AdapterFile;
use driftless::formats::{WeightFile, write_safetensors};
use driftless::miniature::{Size, write_model};
use driftless::vision::Rgb;
use scratch::*;
use std::path::Path;
use testkit::{message, miniature};

fn warnings(message: &str) -> Vec<&str> {
    message.lines().filter(|line| line.starts_with("warning: ")).collect()
}

#[test]
fn images_without_captions_train_with_the_folders_word() {
    let scratch = Scratch::new();
    for number in 0..4 {
        std::fs::remove_file(scratch.path(&format!("data/1_wd/00{number}.txt"))).unwrap();
    }
    let output = words(&mut scratch.command("out"), "--max_train_steps 1");
    assert_done(&output);
    let message = message(&output);
    assert!(warnings(&message).len() == 1 && message.contains("4 of 4 images have no .txt file"), "{message}");
    assert!(message.contains("they train with the caption `wd`"), "{message}");
}

#[test]
fn images_of_odd_sizes_are_named_and_used() {
    let scratch = Scratch::new();
    Rgb::filled(1, 1, [7, 8, 9]).save_png(scratch.path("data/1_wd/000.png")).unwrap();
    Rgb::filled(30_000, 64, [7, 8, 9]).save_png(scratch.path("data/1_wd/001.png")).unwrap();
    let output = words(&mut scratch.command("out"), "--max_train_epochs 1 --cache_latents");
    assert_done(&output);
    let message = message(&output);
    assert_eq!(warnings(&message).len(), 2, "{message}");
    assert!(message.contains("000.png (1x1 pixels)") && message.contains("001.png (30000x64 pixels, 0 % seen)"), "{message}");

    // An image that would take gigabytes to decode is refused before any is taken: a BMP's header alone says so.
    let mut header = vec![0; 54];
    header[..2].copy_from_slice(b"BM");
    for (at, value) in [(10, 54), (14, 40), (18, 30_000), (22, 30_000), (26, 1 | 24 << 16)] {
        header[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
    }
    std::fs::write(scratch.path("data/1_wd/002.png"), header).unwrap();
    assert_fails(&words(&mut scratch.command("large"), "--max_train_steps 1"), 1, &["002.png", "30000"]);
    std::fs::write(scratch.path("data/1_wd/002.png"), "no image").unwrap();
    assert_fails(&words(&mut scratch.command("large"), "--max_train_steps 1"), 1, &["002.png"]);
    assert!(!scratch.path("large").exists());
}

#[test]
fn a_loss_that_is_no_number_keeps_the_last_good_state() {
    let scratch = Scratch::new();
    let options = "--max_train_epochs 4 --save_state --lr_scheduler constant_with_warmup --lr_warmup_steps 2 --max_grad_norm 0";
    let output = words(&mut scratch.command("out"), &format!("{options} --learning_rate 1e18"));
    let message = message(&output);
    assert_fails(&output, 1, &["of step ", "the run stops"]);
    let step = lines(&scratch.path("out/metrics.jsonl")).len();
    assert!(step >= 1, "{message}");
    let adapter = scratch.path(&format!("out/a-step{step:08}.safetensors"));
    let spoilt = message.contains("is spoilt by step");
    assert_eq!(adapter.exists(), !spoilt, "{message}");
    if !spoilt {
        AdapterFile::open(&adapter).unwrap();
        let state = scratch.path(&format!("out/a-step{step:08}-state"));
        assert!(message.contains(&format!("--resume {}", state.display())), "{message}");
    }
    assert!(!scratch.path("out/a.safetensors").exists());
}

/// Before the first step there is nothing to keep.
#[test]
fn a_loss_that_is_no_number_at_once_leaves_nothing() {
    let scratch = Scratch::new();
    let options = "--max_train_steps 4 --lr_scheduler constant_with_warmup --lr_warmup_steps 4 --noise_offset";
    let output = words(&mut scratch.command("out"), &format!("{options} 1e38"));
    assert_fails(&output, 1, &["loss of step 1 is", "nothing was trained yet"]);
}

/// A limit on the size of files stands in for a full disk, for which one has to be root.
#[cfg(unix)]
#[test]
fn a_disk_that_is_full_on_the_way_does_not_end_the_run() {
    let scratch = Scratch::new();
    let inner = scratch.command("out");
    let words: Vec<String> =
        std::iter::once(inner.get_program()).chain(inner.get_args()).map(|word| word.to_string_lossy().into_owned()).collect();
    let mut shell = std::process::Command::new("sh");
    // 8 blocks of 512 bytes (or 1024, by shell): room for some lines of metrics, not for an adapter.
    shell.arg("-c").arg("ulimit -f 8; exec \"$@\"").arg("sh").args(&words);
    shell
        .env("HF_HUB_OFFLINE", "1")
        .env("TMPDIR", scratch.path(""))
        .args("--max_train_epochs 2 --save_every_n_epochs 1".split(' '));
    let output = shell.output().unwrap();
    let message = message(&output);
    assert_fails(&output, 1, &["the adapter could not be saved", "a.safetensors"]);
    assert_eq!(warnings(&message).iter().filter(|line| line.contains("training goes on")).count(), 1, "{message}");
    assert_eq!(leftovers(&scratch.path("out")), ["metrics.jsonl"]);
}

/// Lets a run take `steps` steps, disturbs it, and waits for its end.
fn disturbed(command: &mut std::process::Command, folder: &Path, steps: usize, disturb: impl FnOnce()) -> std::process::Output {
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    while std::fs::read_to_string(folder.join("metrics.jsonl")).map_or(0, |text| text.lines().count()) < steps {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be disturbed");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    disturb();
    child.wait_with_output().unwrap()
}

/// Images that are cut short, vanish, change their size or turn to junk while a run reads them.
#[test]
fn images_that_break_during_training_are_left_out_and_listed() {
    let scratch = Scratch::new();
    let image = |number: usize| scratch.path(&format!("data/1_wd/00{number}.png"));
    let broken = || {
        let bytes = std::fs::read(image(0)).unwrap();
        std::fs::write(image(0), &bytes[..bytes.len() / 2]).unwrap();
        std::fs::remove_file(image(1)).unwrap();
        Rgb::filled(32, 64, [1, 2, 3]).save_png(image(2)).unwrap();
        std::fs::write(image(3), "junk").unwrap();
    };
    // Batches of one image: whole steps are without any.
    let options = "--max_train_epochs 4 --train_batch_size 1 --network_train_text_encoder_only";
    let output = disturbed(scratch.command("out").args(options.split(' ')), &scratch.path("out"), 1, broken);
    assert_done(&output);
    let message = message(&output);
    let told = warnings(&message);
    for number in 0..4 {
        let name = image(number).display().to_string();
        assert_eq!(told.iter().filter(|line| line.contains("left out at step") && line.contains(&name)).count(), 1, "{message}");
    }
    assert!(told.last().unwrap().contains("4 images can no longer be read"), "{message}");
    AdapterFile::open(scratch.path("out/a.safetensors")).unwrap();
    let metrics = lines(&scratch.path("out/metrics.jsonl"));
    assert_eq!(metrics.len(), 48);
    assert!(metrics.iter().any(|line| line["loss"].is_null()), "a step without an image has no loss");
    // The next run names them before it begins, all at once.
    for arguments in ["check", "--overwrite"] {
        let output = words(scratch.command("out").arg(arguments), "--max_train_steps 1");
        assert_fails(&output, 1, &["000.png", "003.png"]);
    }
}

/// One more than may be left out ends the run, and nothing that was trained is lost.
#[test]
fn too_many_broken_images_end_a_run_with_its_adapter_and_a_state() {
    let scratch = Scratch::new();
    let options = "--max_train_epochs 8 --network_train_text_encoder_only --max_skipped_images 0";
    assert_done(&words(&mut scratch.command("whole"), options));
    let image = scratch.path("data/1_wd/000.png");
    let sound = std::fs::read(&image).unwrap();
    let output = disturbed(scratch.command("out").args(options.split(' ')), &scratch.path("out"), 1, || {
        std::fs::remove_file(&image).unwrap()
    });
    let message = message(&output);
    assert_fails(
        &output,
        1,
        &["1 image can no longer be read", "--max_skipped_images 0", "000.png", "the adapter as it was after step"],
    );
    let state = message.split("--resume ").nth(1).unwrap().trim();
    AdapterFile::open(state.trim_end_matches("-state").to_owned() + ".safetensors").unwrap();
    std::fs::write(&image, sound).unwrap();
    assert_done(&words(scratch.command("out").arg("--resume").arg(state), options));
    assert!(scratch.path("out/a.safetensors").exists());
}

/// What is wrong with a run is told at once, before anything is loaded or written, by `train check` and by `train`.
#[test]
fn all_faults_are_told_before_work() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path("data/1_wd/001.png"), "no image").unwrap();
    let whole = std::fs::read(scratch.path("data/1_empty/002.png")).unwrap();
    std::fs::write(scratch.path("data/1_empty/002.png"), &whole[..whole.len() - 40]).unwrap();
    std::fs::write(scratch.path("data/1_kosmos/000.txt"), [0xff]).unwrap();
    std::fs::write(scratch.path("file"), "in the way").unwrap();
    let nowhere = "--model /nowhere/model --vae /nowhere/vae --network_weights /nowhere/adapter.safetensors \
                   --sample_prompts /nowhere/prompts.txt --optimizer_type Prodgy --lr_scheduler cosin --max_train_steps 1 --resume /nowhere/state";
    let expected = [
        "/nowhere/model",
        "--vae /nowhere/vae",
        "--network_weights: /nowhere/adapter.safetensors",
        "--sample_prompts /nowhere/prompts.txt",
        "Prodgy",
        "did you mean `cosine`",
        "--resume /nowhere/state",
        "1_wd/001.png",
        "1_empty/002.png",
        "1_kosmos/000.txt",
        "--output_dir",
        "file is not a folder",
    ];
    for action in [&["check"][..], &[]] {
        let mut command = scratch.command("file/out");
        // What the shared options say comes first; the last of several wins.
        assert_fails(&words(command.args(action), nowhere), 1, &expected);
    }
    // A base model without one of its tensors, and one of another shape.
    let scratch = Scratch::new();
    let own = scratch.path("model");
    write_model(&own, Size::Miniature, DType::F32, 0).unwrap();
    let unet = own.join("unet/diffusion_pytorch_model.safetensors");
    let file = WeightFile::open(&unet).unwrap();
    let tensors: Vec<(String, Tensor)> = file
        .names()
        .filter(|name| *name != "conv_out.bias")
        .map(|name| (name.to_owned(), file.tensor(name, &Device::Cpu).unwrap()))
        .collect();
    drop(file);
    write_safetensors(&unet, tensors, &Default::default()).unwrap();
    std::fs::remove_file(own.join("vae/diffusion_pytorch_model.safetensors")).unwrap();
    for action in [&["check"][..], &[]] {
        let mut command = scratch.command("out");
        command.args(action).arg("--model").arg(&own);
        assert_fails(&words(&mut command, "--max_train_steps 1"), 1, &["conv_out.bias", "vae"]);
        assert!(!scratch.path("out").exists());
    }
    let prompts = scratch.path("prompts.txt");
    std::fs::write(&prompts, "a street\n").unwrap();
    let output = words(scratch.command("out").arg("check").arg("--sample_prompts").arg(&prompts), "--max_train_steps 1");
    assert_done(&output);
    assert!(message(&output).contains("warning: --sample_prompts: nothing says when"), "{}", message(&output));
}

/// A base model that holds what is no number is named, not the learning rate suspected.
#[test]
fn a_spoilt_base_weight_is_named() {
    let scratch = Scratch::new();
    let own = scratch.path("model");
    write_model(&own, Size::Miniature, DType::F32, 0).unwrap();
    let path = own.join("unet/diffusion_pytorch_model.safetensors");
    let file = WeightFile::open(&path).unwrap();
    let spoilt = |name: &str| {
        let tensor = file.tensor(name, &Device::Cpu).unwrap();
        if name == "conv_in.weight" { (tensor * f64::NAN).unwrap() } else { tensor }
    };
    let tensors: Vec<(String, Tensor)> = file.names().map(|name| (name.to_owned(), spoilt(name))).collect();
    drop(file);
    write_safetensors(&path, tensors, &Default::default()).unwrap();
    let output = words(scratch.command("out").arg("--model").arg(&own), "--max_train_steps 1");
    assert_fails(&output, 1, &["conv_in.weight"]);
}

/// Numbers that no run can have are refused before memory or time is spent on them.
#[test]
fn numbers_beyond_reason_are_refused() {
    let scratch = Scratch::new();
    for (options, expected) in [
        ("--network_dim 1000000000", "--network_dim 1000000000"),
        ("--max_train_steps 99999999999999", "longer than any can be"),
        ("--max_train_epochs 99999999999999999", "longer than any can be"),
        ("--threads 1000000", "--threads 1000000"),
        ("--caption_extension ../../x/y", "--caption_extension `../../x/y`"),
        ("--enable_bucket --max_bucket_reso 100000000000", "max_bucket_reso"),
    ] {
        assert_fails(&words(scratch.command("out").arg("check"), options), 1, &[expected]);
    }
    std::fs::rename(scratch.path("data/1_wd"), scratch.path("data/1000000000_wd")).unwrap();
    assert_fails(&words(scratch.command("out").arg("check"), ""), 1, &["1000000000_wd", "10000000"]);
    let set = format!(
        "[[datasets]]\n[[datasets.subsets]]\nimage_dir = {:?}\nnum_repeats = 99999999999\n",
        scratch.path("data/1_kosmos")
    );
    std::fs::write(scratch.path("set.toml"), set).unwrap();
    let output = words(scratch.command("out").arg("check").arg("--dataset_config").arg(scratch.path("set.toml")), "");
    assert_fails(&output, 1, &["1_kosmos", "10000000"]);
}

/// Pipes and devices instead of files: nothing waits for them, and nothing reads without end.
#[cfg(unix)]
#[test]
fn special_files_are_refused_by_name() {
    let scratch = Scratch::new();
    let pipe = scratch.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for special in [pipe.as_path(), Path::new("/dev/zero")] {
        for option in ["--config_file", "--dataset_config", "--sample_prompts", "--network_weights", "--vae", "--model"] {
            let mut command = scratch.command("out");
            let output = words(command.arg("check").arg(option).arg(special), "--sample_every_n_epochs 1");
            let message = message(&output);
            assert!(matches!(output.status.code(), Some(1 | 2)), "{option}: {message}");
            assert!(message.contains(&special.display().to_string()), "{option}: {message}");
        }
    }
    std::fs::remove_file(scratch.path("data/1_wd/000.txt")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", scratch.path("data/1_wd/000.txt")).unwrap();
    assert_fails(&words(scratch.command("out").arg("check"), ""), 1, &["000.txt", "device"]);
    let state = scratch.path("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::rename(&pipe, state.join("state.json")).unwrap();
    assert_fails(&words(scratch.command("out").arg("check").arg("--resume").arg(&state), ""), 1, &["--resume", "pipe"]);
}

/// Names of files and folders, captions, prompts and keys come from strangers: what would act on a terminal is shown escaped, in all that a
/// run tells.
#[cfg(unix)]
#[test]
fn control_characters_are_shown_and_not_obeyed() {
    const RAW: &str = "\u{1b}[31mred\u{9b}2J\u{202e}x";
    let scratch = Scratch::new();
    let group = scratch.path(&format!("data/1_{RAW}"));
    std::fs::rename(scratch.path("data/1_wd"), &group).unwrap();
    std::fs::remove_file(group.join("000.txt")).unwrap();
    std::fs::write(group.join("001.txt"), RAW).unwrap();
    std::fs::write(scratch.path("prompts.txt"), format!("{RAW} --w 64 --h 64 --s 1\n")).unwrap();
    std::fs::write(scratch.path("config.toml"), "training_comment = \"\\u001b[31m\"\nxformers = true\n").unwrap();
    Rgb::filled(1, 1, [7, 8, 9]).save_png(group.join(format!("{RAW}.png"))).unwrap();
    let told = |output: &std::process::Output| {
        let text = String::from_utf8(output.stdout.clone()).unwrap() + &message(output);
        let raw = text.chars().find(|character| character.is_control() && *character != '\n' || *character == '\u{202e}');
        assert_eq!(raw, None, "{text:?}");
        text
    };
    let run = |action: &[&str], more: &str| {
        let mut command = scratch.command(RAW);
        command.args(action).arg("--sample_prompts").arg(scratch.path("prompts.txt"));
        command.arg("--config_file").arg(scratch.path("config.toml"));
        words(&mut command, &format!("--max_train_steps 1 --sample_every_n_steps 1 --overwrite {more}"))
    };
    for (action, more) in [(&["check"][..], ""), (&[], "--verbose"), (&[], "--log-json --verbose")] {
        let output = run(action, more);
        assert_done(&output);
        let text = told(&output);
        let escaped = if more.contains("json") { r"\u001b[31mred\u009b2J\u202ex" } else { r"\u{1b}[31mred\u{9b}2J\u{202e}x" };
        assert!(text.contains(escaped), "{text}");
        if more.contains("json") {
            text.lines().for_each(|line| drop(serde_json::from_str::<serde_json::Value>(line).expect(line)));
        }
    }
    std::fs::write(group.join(format!("{RAW}.png")), RAW).unwrap();
    std::fs::write(scratch.path("config.toml"), "\"\\u001b[31m\" = 1\n").unwrap();
    assert_eq!(run(&["check"], "").status.code(), Some(2));
    told(&run(&["check"], ""));
    std::fs::write(scratch.path("config.toml"), "").unwrap();
    assert!(told(&run(&["check"], "")).contains(r"\u{202e}x.png"));
}

/// Thousands of images take minutes to be decoded, in which something has to be seen.
#[test]
fn reading_the_images_shows_how_far_it_is() {
    let scratch = Scratch::new();
    let output = words(scratch.command("out").arg("check"), "--max_train_steps 1 --log-json");
    assert_done(&output);
    let lines = message(&output);
    let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let progress: Vec<_> = lines.filter(|line| line["level"] == "progress").collect();
    let last = progress.last().expect("a line");
    assert_eq!((&last["unit"], &last["done"], &last["total"]), (&"images read".into(), &12.into(), &12.into()));
}

/// Whatever becomes of the log, the run goes on to its adapter: nobody listens, or the disk is full.
#[cfg(target_os = "linux")]
#[test]
fn logging_never_ends_a_run() {
    let scratch = Scratch::new();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        std::process::Stdio::from(writer)
    };
    for (folder, more, stderr) in [
        ("full", "--verbose", full().into()),
        ("full_json", "--log-json", full().into()),
        ("closed", "--verbose", closed()),
        ("closed_json", "--log-json", closed()),
    ] {
        let mut command = scratch.command(folder);
        let status = command.args(["--max_train_steps", "2", "--network_train_text_encoder_only", more]).stderr(stderr).status();
        assert_eq!(status.unwrap().code(), Some(0), "{folder}");
        AdapterFile::open(scratch.path(folder).join("a.safetensors")).unwrap();
    }
    // A folder stands in the way of the file of numbers.
    std::fs::create_dir_all(scratch.path("folder/metrics.jsonl")).unwrap();
    let output = words(&mut scratch.command("folder"), "--max_train_steps 2 --network_train_text_encoder_only");
    assert_done(&output);
    assert!(message(&output).contains("warning: a log is done without: "), "{}", message(&output));
    assert!(message(&output).contains("2 steps in 0:"), "{}", message(&output));
    // The files of numbers lead to a full disk.
    std::fs::create_dir_all(scratch.path("metrics")).unwrap();
    let disturb = || {
        std::fs::remove_file(scratch.path("metrics/metrics.jsonl")).unwrap();
        std::os::unix::fs::symlink("/dev/full", scratch.path("metrics/metrics.jsonl")).unwrap();
    };
    let options = "--max_train_epochs 8 --network_train_text_encoder_only";
    assert_done(&disturbed(scratch.command("metrics").args(options.split(' ')), &scratch.path("metrics"), 1, disturb));
    AdapterFile::open(scratch.path("metrics/a.safetensors")).unwrap();
}

fn leftovers(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The last file cannot be written to its place, but elsewhere.
#[cfg(unix)]
#[test]
fn an_adapter_that_finds_no_place_is_kept_elsewhere() {
    let scratch = Scratch::new();
    std::fs::create_dir_all(scratch.path("temporary")).unwrap();
    // A folder of the adapter's name stands in its way.
    std::fs::create_dir_all(scratch.path("out/a.safetensors")).unwrap();
    let output = words(scratch.command("out").env("TMPDIR", scratch.path("temporary")), "--max_train_steps 2");
    assert_fails(&output, 1, &["could not be saved where it belongs", "temporary"]);
    let saved = leftovers(&scratch.path("temporary"));
    assert_eq!(saved.len(), 1, "{saved:?}");
    AdapterFile::open(scratch.path("temporary").join(&saved[0])).unwrap();
}

#[test]
fn an_output_folder_that_cannot_be_written_shows_before_training() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path("file"), "in the way").unwrap();
    assert_fails(&words(&mut scratch.command("file/out"), "--max_train_steps 1"), 1, &["--output_dir", "file/out"]);
    assert_eq!(std::fs::read_to_string(scratch.path("file")).unwrap(), "in the way");
}

#[test]
fn a_model_that_predicts_the_velocity_has_to_be_meant() {
    let scratch = Scratch::new();
    let own = scratch.path("model");
    for entry in ["unet", "vae", "text_encoder", "tokenizer", "scheduler", "."] {
        std::fs::create_dir_all(own.join(entry)).unwrap();
        for file in
            std::fs::read_dir(miniature().join(entry)).unwrap().map(|file| file.unwrap().path()).filter(|path| path.is_file())
        {
            std::fs::copy(&file, own.join(entry).join(file.file_name().unwrap())).unwrap();
        }
    }
    let config = own.join("scheduler/scheduler_config.json");
    let mut entries: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&config).unwrap()).unwrap();
    entries["prediction_type"] = "v_prediction".into();
    std::fs::write(&config, entries.to_string()).unwrap();
    let run = |options: &str| {
        let mut command = train();
        command
            .arg("--model")
            .arg(&own)
            .arg("--train_data_dir")
            .arg(scratch.path("data"))
            .arg("--output_dir")
            .arg(scratch.path("out"));
        words(&mut command, &format!("--resolution 64 --learning_rate 1e-3 --max_train_steps 1 --seed 1 {options}"))
    };
    assert_fails(&run(""), 1, &["predicts the velocity", "--v_parameterization"]);
    assert_done(&run("--v_parameterization"));
}

/// A second run into the same folder would mix its files with the first one's; a killed run keeps nobody out.
#[cfg(unix)]
#[test]
fn one_run_at_a_time_writes_to_a_folder() {
    let scratch = Scratch::new();
    let mut command = scratch.command("out");
    command.args("--max_train_epochs 1000".split(' ')).stderr(std::process::Stdio::null());
    let mut first = command.spawn().unwrap();
    while !scratch.path("out/metrics.jsonl").exists() {
        assert!(first.try_wait().unwrap().is_none(), "the first run ended before a second could begin");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let second = words(&mut scratch.command("out"), "--max_train_steps 1 --output_name b");
    first.kill().unwrap();
    first.wait().unwrap();
    assert_fails(&second, 1, &["--output_dir", "another run is writing there"]);
    assert_done(&words(&mut scratch.command("out"), "--max_train_steps 1 --output_name b"));
}
