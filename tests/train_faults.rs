//! What goes wrong for users: one clear error or warning each, and nothing that was there is lost.

#[path = "train_place.rs"]
mod place;

use driftless::adapter::AdapterFile;
use driftless::vision::Rgb;
use place::*;
use std::path::Path;
use testkit::{message, miniature};

fn warnings(message: &str) -> Vec<&str> {
    message.lines().filter(|line| line.starts_with("warning: ")).collect()
}

#[test]
fn images_without_captions_train_with_the_folders_word() {
    let place = Place::new();
    for number in 0..4 {
        std::fs::remove_file(place.path(&format!("data/1_wd/00{number}.txt"))).unwrap();
    }
    let output = words(&mut place.command("out"), "--max_train_steps 1");
    assert_done(&output);
    let message = message(&output);
    assert!(warnings(&message).len() == 1 && message.contains("4 of 4 images have no .txt file"), "{message}");
    assert!(message.contains("they train with the caption `wd`"), "{message}");
}

#[test]
fn images_of_odd_sizes_are_named_and_used() {
    let place = Place::new();
    Rgb::filled(1, 1, [7, 8, 9]).save_png(place.path("data/1_wd/000.png")).unwrap();
    Rgb::filled(30_000, 64, [7, 8, 9]).save_png(place.path("data/1_wd/001.png")).unwrap();
    let output = words(&mut place.command("out"), "--max_train_epochs 1 --cache_latents");
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
    std::fs::write(place.path("data/1_wd/002.png"), header).unwrap();
    assert_fails(&words(&mut place.command("large"), "--max_train_steps 1"), 1, &["002.png", "30000"]);
    std::fs::write(place.path("data/1_wd/002.png"), "no image").unwrap();
    assert_fails(&words(&mut place.command("large"), "--max_train_steps 1"), 1, &["002.png"]);
    assert!(!place.path("large").exists());
}

#[test]
fn a_loss_that_is_no_number_keeps_the_last_good_state() {
    let place = Place::new();
    let options = "--max_train_epochs 4 --save_state --lr_scheduler constant_with_warmup --lr_warmup_steps 2 --max_grad_norm 0";
    let output = words(&mut place.command("out"), &format!("{options} --learning_rate 1e18"));
    let message = message(&output);
    assert_fails(&output, 1, &["of step ", "the run stops"]);
    let step = lines(&place.path("out/metrics.jsonl")).len();
    assert!(step >= 1, "{message}");
    let adapter = place.path(&format!("out/a-step{step:08}.safetensors"));
    let spoilt = message.contains("is spoilt by step");
    assert_eq!(adapter.exists(), !spoilt, "{message}");
    if !spoilt {
        AdapterFile::open(&adapter).unwrap();
        let state = place.path(&format!("out/a-step{step:08}-state"));
        assert!(message.contains(&format!("--resume {}", state.display())), "{message}");
    }
    assert!(!place.path("out/a.safetensors").exists());
}

/// Before the first step there is nothing to keep.
#[test]
fn a_loss_that_is_no_number_at_once_leaves_nothing() {
    let place = Place::new();
    let options = "--max_train_steps 4 --lr_scheduler constant_with_warmup --lr_warmup_steps 4 --noise_offset";
    let output = words(&mut place.command("out"), &format!("{options} 1e38"));
    assert_fails(&output, 1, &["loss of step 1 is", "nothing was trained yet"]);
}

/// A limit on the size of files stands in for a full disk, for which one has to be root.
#[cfg(unix)]
#[test]
fn a_disk_that_is_full_on_the_way_does_not_end_the_run() {
    let place = Place::new();
    let inner = place.command("out");
    let words: Vec<String> =
        std::iter::once(inner.get_program()).chain(inner.get_args()).map(|word| word.to_string_lossy().into_owned()).collect();
    let mut shell = std::process::Command::new("sh");
    // 8 blocks of 512 bytes (or 1024, by shell): room for some lines of metrics, not for an adapter.
    shell.arg("-c").arg("ulimit -f 8; trap '' XFSZ; exec \"$@\"").arg("sh").args(&words);
    shell
        .env("HF_HUB_OFFLINE", "1")
        .env("TMPDIR", place.path(""))
        .args("--max_train_epochs 2 --save_every_n_epochs 1".split(' '));
    let output = shell.output().unwrap();
    let message = message(&output);
    assert_fails(&output, 1, &["the adapter could not be saved", "a.safetensors"]);
    assert_eq!(warnings(&message).iter().filter(|line| line.contains("training goes on")).count(), 1, "{message}");
    assert_eq!(leftovers(&place.path("out")), ["metrics.jsonl"]);
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
    let place = Place::new();
    std::fs::create_dir_all(place.path("temporary")).unwrap();
    // A folder of the adapter's name stands in its way.
    std::fs::create_dir_all(place.path("out/a.safetensors")).unwrap();
    let output = words(place.command("out").env("TMPDIR", place.path("temporary")), "--max_train_steps 2");
    assert_fails(&output, 1, &["could not be saved where it belongs", "temporary"]);
    let saved = leftovers(&place.path("temporary"));
    assert_eq!(saved.len(), 1, "{saved:?}");
    AdapterFile::open(place.path("temporary").join(&saved[0])).unwrap();
}

#[test]
fn an_output_folder_that_cannot_be_written_shows_before_training() {
    let place = Place::new();
    std::fs::write(place.path("file"), "in the way").unwrap();
    assert_fails(&words(&mut place.command("file/out"), "--max_train_steps 1"), 1, &["--output_dir", "file/out"]);
    assert_eq!(std::fs::read_to_string(place.path("file")).unwrap(), "in the way");
}

#[test]
fn a_model_that_predicts_the_velocity_has_to_be_meant() {
    let place = Place::new();
    let own = place.path("model");
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
            .arg(place.path("data"))
            .arg("--output_dir")
            .arg(place.path("out"));
        words(&mut command, &format!("--resolution 64 --learning_rate 1e-3 --max_train_steps 1 --seed 1 {options}"))
    };
    assert_fails(&run(""), 1, &["predicts the velocity", "--v_parameterization"]);
    assert_done(&run("--v_parameterization"));
}

/// A second run into the same folder would mix its files with the first one's; a killed run keeps nobody out.
#[cfg(unix)]
#[test]
fn one_run_at_a_time_writes_to_a_folder() {
    let place = Place::new();
    let mut command = place.command("out");
    command.args("--max_train_epochs 1000".split(' ')).stderr(std::process::Stdio::null());
    let mut first = command.spawn().unwrap();
    while !place.path("out/metrics.jsonl").exists() {
        assert!(first.try_wait().unwrap().is_none(), "the first run ended before a second could begin");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let second = words(&mut place.command("out"), "--max_train_steps 1 --output_name b");
    first.kill().unwrap();
    first.wait().unwrap();
    assert_fails(&second, 1, &["--output_dir", "another run is writing there"]);
    assert_done(&words(&mut place.command("out"), "--max_train_steps 1 --output_name b"));
}
