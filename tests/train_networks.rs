//! The `train` command with LyCORIS' families and with dropout: what is written, that it resumes to the byte, and that other commands
//! read it.

use candle_core::{DType, Device, Tensor};
use driftless::adapter::AdapterFile;
use driftless::adapter::files::Network;
use driftless::formats::WeightFile;
use driftless::miniature::{Size, write_dataset, write_model};
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

/// A model, images, and a scratch folder for output.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    write_model(&folder.path().join("model"), Size::Miniature, DType::F32, 0).unwrap();
    write_dataset(&folder.path().join("data"), 2, 64).unwrap();
    folder
}

fn train(folder: &Path, output: &str, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    command.env("HF_HUB_OFFLINE", "1").current_dir(folder);
    command.args("--pretrained_model_name_or_path model --train_data_dir data --resolution 64 --seed 3 --device cpu".split(' '));
    command.args("--threads 2 --output_name a --learning_rate 1e-2 --train_batch_size 2 --cache_latents".split(' '));
    command.args(["--output_dir", output]).args(line.split(' ')).output().unwrap()
}

fn done(folder: &Path, output: &str, line: &str) -> AdapterFile {
    let result = train(folder, output, line);
    assert_eq!(result.status.code(), Some(0), "{line}: {}", String::from_utf8_lossy(&result.stderr));
    AdapterFile::open(folder.join(output).join("a.safetensors")).unwrap()
}

fn largest(tensor: &Tensor) -> f32 {
    tensor.to_dtype(DType::F32).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

/// Every family trains on UNet and text encoder, is written under LyCORIS' names, and every matrix has moved.
#[test]
fn families_of_lycoris_train() {
    let scratch = folder();
    let base = WeightFile::open(scratch.path().join("model/unet/diffusion_pytorch_model.safetensors")).unwrap();
    for (arguments, family, parts) in [
        ("algo=loha conv_dim=1", "LoHa", &["hada_w1_a", "hada_w2_b", "alpha"][..]),
        ("algo=lokr factor=4 use_tucker=True", "LoKr", &["lokr_w1", "lokr_w2_a", "lokr_t2"]),
        ("algo=locon dora_wd=True use_tucker=True", "LoRA with DoRA", &["lora_mid.weight", "dora_scale"]),
        ("algo=full preset=attn-only", "full difference", &["diff", "diff_b"]),
    ] {
        let line = format!("--network_module lycoris.kohya --network_dim 2 --max_train_steps 2 --network_args {arguments}");
        let adapter = done(scratch.path(), family, &line);
        for network in [Network::Unet, Network::TextEncoder] {
            assert!(adapter.entries.keys().any(|(n, _)| *n == network), "{family}: no layer of the {network}");
        }
        assert!(adapter.entries.values().any(|layer| layer.family() == family), "{family}");
        let file = WeightFile::open(&adapter.path).unwrap();
        for part in parts {
            assert!(file.names().any(|name| name.ends_with(&format!(".{part}"))), "{family}: no `{part}`");
        }
        for ((network, path), layer) in adapter.entries.iter().filter(|((network, _), _)| *network == Network::Unet) {
            let weight = base.tensor(&format!("{path}.weight"), &Device::Cpu).unwrap();
            assert!(largest(&layer.delta(&weight).unwrap()) > 0.0, "{family}: {network}.{path} has not moved");
        }
        assert_eq!(adapter.metadata["ss_network_module"], "lycoris.kohya");
        assert!(adapter.metadata["ss_network_args"].contains(arguments.split(' ').next().unwrap().split_once('=').unwrap().1));
    }
    // What kohya takes for LoRA alone is named and left out, as its users' presets have it.
    let limited =
        "--network_module lycoris.kohya --network_dim 2 --max_train_steps 1 --scale_weight_norms 1 --network_args algo=loha";
    let result = train(scratch.path(), "limited", limited);
    let message = String::from_utf8_lossy(&result.stderr);
    assert!(result.status.success() && message.contains("--scale_weight_norms limits the norms of LoRA alone"), "{message}");
    // The whole preset: ends of the UNet and its time embedding are adapted too.
    let loha = AdapterFile::open(scratch.path().join("LoHa/a.safetensors")).unwrap();
    for path in ["conv_in", "conv_out", "time_embedding.linear_1"] {
        assert!(loha.entries.contains_key(&(Network::Unet, path.to_owned())), "{path}");
    }
}

/// A run that was saved and resumed ends with the same bytes: masks of dropout follow from the batch.
#[test]
fn dropout_resumes_to_the_byte_and_survives_checkpointing() {
    let scratch = folder();
    for (name, network) in [
        ("lora", "--network_dim 4 --network_dropout 0.2 --network_args rank_dropout=0.2 module_dropout=0.1 conv_dim=2"),
        ("loha", "--network_module lycoris.kohya --network_dim 2 --network_args algo=loha rank_dropout=0.3 module_dropout=0.1"),
    ] {
        let output = |kind: &str| format!("{name}-{kind}");
        done(scratch.path(), &output("whole"), &format!("--max_train_steps 4 {network}"));
        done(scratch.path(), &output("half"), &format!("--max_train_steps 4 --save_every_n_steps 2 --save_state {network}"));
        let resume = format!("--max_train_steps 4 --resume {}/a-step00000002-state {network}", output("half"));
        done(scratch.path(), &output("resumed"), &resume);
        let bytes = |kind: &str| {
            let file = WeightFile::open(scratch.path().join(output(kind)).join("a.safetensors")).unwrap();
            let names: Vec<String> = file.names().map(str::to_owned).collect();
            let tensor =
                |name: &String| file.tensor(name, &Device::Cpu).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            names.iter().map(|name| (name.clone(), tensor(name))).collect::<Vec<_>>()
        };
        assert_eq!(bytes("whole"), bytes("resumed"), "{name}");
        // Recomputed blocks draw the same masks, so the result differs by rounding alone.
        done(scratch.path(), &output("checkpointed"), &format!("--max_train_steps 4 --gradient_checkpointing {network}"));
        for ((layer, a), (_, b)) in bytes("whole").iter().zip(&bytes("checkpointed")) {
            let most = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // Adam's steps are of the rate's size, 1e-2, wherever a gradient is as small as rounding.
            assert!(most <= 2e-2, "{name}: {layer} differs by {most}");
        }
    }
}

/// The adapter in a state is an adapter like any other, and holds every bit that a resumed run needs, whatever the family; 0.3 is no
/// number of float32's.
#[test]
fn states_hold_adapters_of_every_family() {
    let scratch = folder();
    let lycoris = "--network_module lycoris.kohya --network_dim 2 --network_alpha 0.3 --network_args";
    for (name, network) in [
        ("lora", "--network_dim 2 --network_alpha 0.3 --network_args conv_dim=1 conv_alpha=0.3".to_owned()),
        ("loha", format!("{lycoris} algo=loha conv_dim=1 use_tucker=True")),
        ("lokr", format!("{lycoris} algo=lokr factor=4 use_tucker=True")),
        ("dora", format!("{lycoris} algo=locon dora_wd=True use_tucker=True")),
        ("full", format!("{lycoris} algo=full preset=attn-only")),
    ] {
        let whole = done(scratch.path(), name, &format!("--max_train_steps 2 --save_every_n_steps 1 --save_state {network}"));
        let state = scratch.path().join(name).join("a-step00000001-state");
        let kept = AdapterFile::open(state.join("adapter.safetensors")).unwrap();
        assert!(kept.entries.keys().eq(whole.entries.keys()), "{name}");
        let rest = format!("{name}-rest");
        done(scratch.path(), &rest, &format!("--max_train_steps 2 --resume {} {network}", state.display()));
        let bytes = |folder: &str| std::fs::read(scratch.path().join(folder).join("a.safetensors")).unwrap();
        assert!(bytes(name) == bytes(&rest), "{name}: the resumed run ended elsewhere");
    }
}

#[test]
fn an_adapter_of_a_family_is_a_start_for_another_run() {
    let scratch = folder();
    let network = "--network_module lycoris.kohya --network_dim 2 --network_alpha 4 --network_args algo=loha preset=attn-mlp";
    let first = done(scratch.path(), "first", &format!("--max_train_steps 1 {network}"));
    let again = network.replace("--network_alpha 4", "--network_alpha 2");
    let start = "--max_train_steps 1 --unet_lr 1e-12 --text_encoder_lr 1e-12 --network_weights first/a.safetensors";
    let next = done(scratch.path(), "next", &format!("{start} {again}"));
    let base = WeightFile::open(scratch.path().join("model/unet/diffusion_pytorch_model.safetensors")).unwrap();
    for ((network, path), layer) in next.entries.iter().filter(|((network, _), _)| *network == Network::Unet) {
        let weight = base.tensor(&format!("{path}.weight"), &Device::Cpu).unwrap();
        let (a, b) = (layer.delta(&weight).unwrap(), first.entries[&(*network, path.clone())].delta(&weight).unwrap());
        assert!(largest(&(&a - &b).unwrap()) <= 1e-5 * largest(&b), "{path}");
    }
    let result = train(scratch.path(), "other", &format!("{start} --network_dim 2"));
    let message = String::from_utf8_lossy(&result.stderr).into_owned();
    assert_eq!(result.status.code(), Some(1), "{message}");
    assert!(message.contains("is LoHa, not LoRA"), "{message}");
}
