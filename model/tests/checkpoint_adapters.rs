//! Adapter files: every spelling means the same change, and every writer's file reads back as it.

use candle_core::{DType, Device, Tensor};
use driftless::adapter::AdapterFile;
use driftless::adapter::files::{Network, UnknownKeys};
use driftless::adapter::{Adapter, Factors, Lora};
use driftless::formats::{WeightFile, write_safetensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/checkpoint/adapters")).join(name)
}

/// The change that factors make, flattened to a matrix, in float64.
fn change(adapter: &Adapter) -> Vec<f64> {
    let lora = adapter.as_plain_lora().expect("plain LoRA");
    let (rank, outputs) = (lora.down.dims()[0], lora.up.dims()[0]);
    let down = lora.down.to_dtype(DType::F64).unwrap().reshape((rank, ())).unwrap();
    let up = lora.up.to_dtype(DType::F64).unwrap().reshape((outputs, rank)).unwrap();
    (up.matmul(&down).unwrap() * adapter.scale()).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Checks an adapter's changes against the expected ones; answers how many layers it has.
fn assert_changes(adapter: &AdapterFile, tolerance: f64) -> usize {
    let expected = WeightFile::open(fixture("expected.safetensors")).unwrap();
    for ((network, path), layer) in &adapter.entries {
        let expected = expected.tensor(&format!("{network}.{path}"), &Device::Cpu).unwrap();
        let expected = expected.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let found = change(layer);
        assert_eq!(found.len(), expected.len(), "{network}.{path}");
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
        let error = norm(&mut found.iter().zip(&expected).map(|(a, b)| a - b)) / norm(&mut expected.iter().copied());
        assert!(error <= tolerance, "{network}.{path}: relative error {error:e}");
    }
    adapter.entries.len()
}

// Reference: diffusers 0.32, peft 0.14, torch 2.15; tests/reference/checkpoint_adapters.py. The expected change is stored in float32
// after a float64 product, and some spellings hold alpha / r multiplied into a float32 factor: one rounding each, so 2e-7.
#[test]
fn every_spelling_means_the_same_change() {
    let all = 22;
    let cases = [
        ("kohya.safetensors", all),
        ("kohya.ckpt", all),
        ("kohya_legacy.pt", all),
        ("kohya_views.ckpt", all),
        ("diffusers.safetensors", all),
        ("diffusers_saved.safetensors", all),
        ("diffusers_metadata.safetensors", 0),
        ("diffusers_own.safetensors", all),
        ("diffusers_older.safetensors", 0),
        ("diffusers_oldest.safetensors", 0),
        ("peft_unet/adapter_model.safetensors", 0),
        ("peft_text_encoder/adapter_model.safetensors", 5),
    ];
    let expected = WeightFile::open(fixture("expected.safetensors")).unwrap().names().len();
    for (name, layers) in cases {
        let adapter = AdapterFile::open(fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let found = assert_changes(&adapter, 2e-7);
        if layers == all {
            assert_eq!(found, expected, "{name}");
        } else {
            assert!(found >= 4 && (layers == 0 || found == layers), "{name}: {found} layers");
        }
    }
    assert_eq!(AdapterFile::open(fixture("kohya.safetensors")).unwrap().metadata["note"], "kept");
}

#[test]
fn every_writer_reads_back_as_the_same_change() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = AdapterFile::open(fixture("kohya.safetensors")).unwrap();
    let (kohya, diffusers, peft) =
        (folder.path().join("k.safetensors"), folder.path().join("d.safetensors"), folder.path().join("peft"));
    AdapterFile::write_kohya(&kohya, &adapter.entries, &adapter.metadata, None).unwrap();
    AdapterFile::write_diffusers(&diffusers, &adapter.entries, &adapter.metadata, None).unwrap();
    AdapterFile::write_peft(&peft, &adapter.entries, &adapter.metadata, None).unwrap();
    // kohya's and PEFT's are the numbers themselves; diffusers' have the scale in one factor.
    assert_eq!(assert_changes(&AdapterFile::open(&kohya).unwrap(), 2e-7), adapter.entries.len());
    let read = AdapterFile::open(&diffusers).unwrap();
    assert_eq!(assert_changes(&read, 2e-7), adapter.entries.len());
    let unet = assert_changes(&AdapterFile::open(peft.join("unet/adapter_model.safetensors")).unwrap(), 2e-7);
    let text = assert_changes(&AdapterFile::open(peft.join("text_encoder/adapter_model.safetensors")).unwrap(), 2e-7);
    assert_eq!(unet + text, adapter.entries.len());
    // One rank per network, no alpha, no metadata that only some versions read.
    for network in [Network::Unet, Network::TextEncoder] {
        let mut ranks: Vec<usize> =
            read.entries.iter().filter(|((n, _), _)| *n == network).map(|(_, a)| a.factors.rank().unwrap()).collect();
        ranks.dedup();
        assert_eq!(ranks.len(), 1, "{network}");
    }
    assert!(read.entries.values().all(|adapter| adapter.alpha.is_none()));
    let file = WeightFile::open(&diffusers).unwrap();
    assert!(file.names().all(|name| name.ends_with(".lora_A.weight") || name.ends_with(".lora_B.weight")));
    assert_eq!(
        file.metadata().iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(),
        [("format", "pt"), ("note", "kept")]
    );
    // Deterministic.
    let again = folder.path().join("again.safetensors");
    AdapterFile::write_kohya(&again, &adapter.entries, &adapter.metadata, None).unwrap();
    assert_eq!(std::fs::read(&kohya).unwrap(), std::fs::read(&again).unwrap());
}

/// A file of these tensors, and the words with which it is refused.
fn refusal(tensors: Vec<(&str, Tensor)>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.safetensors");
    write_safetensors(&path, tensors.into_iter().map(|(k, t)| (k.to_owned(), t)), &BTreeMap::new()).unwrap();
    let message = AdapterFile::open(&path).map(|_| ()).expect_err("must be refused").to_string();
    assert!(message.contains("bad.safetensors"), "{message}");
    message
}

#[test]
fn what_is_wrong_is_refused_by_name() {
    const DOWN: &str = "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight";
    const UP: &str = "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight";
    const ALPHA: &str = "lora_unet_mid_block_attentions_0_proj_in.alpha";
    let t = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
    let number = |value: f32| Tensor::new(value, &Device::Cpu).unwrap();
    let pair = || vec![(DOWN, t(&[2, 3])), (UP, t(&[4, 2]))];
    let with = |more: Vec<(&'static str, Tensor)>| pair().into_iter().chain(more).collect::<Vec<_>>();
    let nan = (t(&[4, 2]) * f64::NAN).unwrap();
    let cases: Vec<(Vec<(&str, Tensor)>, &[&str])> = vec![
        (vec![(DOWN, t(&[2, 3]))], &[DOWN, "partner"]),
        (vec![(UP, t(&[2, 3]))], &[UP, "partner"]),
        (vec![(ALPHA, number(1.0))], &[ALPHA, "without the factors"]),
        (vec![(DOWN, t(&[3, 3])), (UP, t(&[4, 2]))], &[UP, "rank 2", "rank 3"]),
        (vec![(DOWN, t(&[2, 3])), (UP, nan)], &[UP, "not a finite number"]),
        (vec![(DOWN, t(&[0, 3])), (UP, t(&[4, 0]))], &[DOWN, "empty"]),
        (vec![(DOWN, t(&[2, 3]).to_dtype(DType::I64).unwrap()), (UP, t(&[4, 2]))], &[DOWN, "I64"]),
        (vec![(DOWN, t(&[2, 3, 3, 3])), (UP, t(&[4, 2]))], &[DOWN, "1x1 convolution"]),
        (with(vec![(ALPHA, number(0.0))]), &[ALPHA, "alpha is 0"]),
        (with(vec![(ALPHA, number(f32::INFINITY))]), &[ALPHA, "finite"]),
        (with(vec![(ALPHA, t(&[2]))]), &[ALPHA, "one number"]),
        (with(vec![("unet.mid_block.attentions.0.proj_in.lora_A.weight", t(&[2, 3]))]), &[DOWN, "lora_A", "both"]),
        (
            with(vec![("lora_unet_mid_block_nothing.alpha", number(1.0))]),
            &["lora_unet_mid_block_nothing.alpha", "not understood"],
        ),
        (with(vec![("lora_unet_conv_in.hada_w1_a", t(&[2, 2]))]), &["hada_w1_a", "hada_w1_b", "missing"]),
        (with(vec![("lora_unet_conv_in.dora_scale", t(&[2, 1]))]), &["dora_scale", "without the factors"]),
        (with(vec![("lora_unet_mid_block_attentions_0_proj_in.diff", t(&[4, 3]))]), &["diff", "full difference", "LoRA"]),
        (with(vec![("lora_unet_mid_block_attentions_0_proj_in.dora_scale", t(&[2, 3]))]), &["dora_scale", "[2, 3]"]),
        (with(vec![("lora_unet_mid_block_attentions_0_proj_in.w_norm", t(&[3]))]), &["w_norm", "trained norm", "LoRA"]),
        (vec![("lora_unet_conv_in.weight", t(&[4]))], &["weight", "on_input", "missing"]),
        (with(vec![("lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha", number(1.0))]), &["SDXL"]),
        (vec![("conv_in.weight", t(&[2, 2]))], &["is no adapter", "conv_in.weight"]),
        (vec![("model.diffusion_model.out.2.weight", t(&[2, 2]))], &["not an adapter", "checkpoint"]),
        (vec![], &["without tensors"]),
    ];
    for (tensors, words) in cases {
        let message = refusal(tensors);
        for word in words {
            assert!(message.contains(word), "`{message}` lacks `{word}`");
        }
    }
    let peft = refusal(vec![
        ("base_model.model.mid_block.attentions.0.proj_in.lora_A.weight", t(&[2, 3])),
        ("base_model.model.mid_block.attentions.0.proj_in.lora_B.weight", t(&[4, 2])),
    ]);
    assert!(peft.contains("adapter_config.json"), "{peft}");
}

/// A factorized convolution (LoCon with core): the formula, written out.
#[test]
fn cores_are_contracted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("core.safetensors");
    let ramp = |n: usize, shape: &[usize]| {
        (Tensor::arange(0f32, n as f32, &Device::Cpu).unwrap() / 7.0).unwrap().reshape(shape).unwrap()
    };
    let (down, mid, up) = (ramp(2 * 3, &[2, 3, 1, 1]), ramp(2 * 2 * 6, &[2, 2, 3, 2]), ramp(5 * 2, &[5, 2, 1, 1]));
    let name = |part: &str| format!("lora_unet_mid_block_resnets_0_conv1.{part}");
    let tensors = [
        ("lora_down.weight", &down),
        ("lora_mid.weight", &mid),
        ("lora_up.weight", &up),
        ("alpha", &Tensor::new(3f32, &Device::Cpu).unwrap()),
    ];
    write_safetensors(&path, tensors.map(|(part, tensor)| (name(part), tensor.clone())), &BTreeMap::new()).unwrap();
    let adapter = AdapterFile::open(&path).unwrap();
    let layer = &adapter.entries[&(Network::Unet, "mid_block.resnets.0.conv1".to_owned())];
    let base = Tensor::zeros((5, 3, 3, 2), DType::F32, &Device::Cpu).unwrap();
    let found = layer.delta(&base).unwrap().to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let Factors::Lora(lora) = &layer.factors else { panic!("{}", layer.family()) };
    let contracted = Lora { down: lora.down_with_core().unwrap(), up: lora.up.clone(), mid: None };
    let contracted = change(&Adapter { alpha: layer.alpha, ..Factors::Lora(contracted).into() });
    assert!(found.iter().zip(&contracted).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs().max(1.0)));
    let at = |tensor: &Tensor, index: usize| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()[index] as f64;
    let mut position = 0;
    for o in 0..5 {
        for c in 0..3 {
            for ab in 0..6 {
                let mut expected = 0.0;
                for i in 0..2 {
                    for j in 0..2 {
                        expected += at(&up, o * 2 + i) * at(&mid, (i * 2 + j) * 6 + ab) * at(&down, j * 3 + c);
                    }
                }
                expected *= 3.0 / 2.0;
                // One float32 product and sum of two inside.
                assert!((found[position] - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{o} {c} {ab}");
                position += 1;
            }
        }
    }
}

#[test]
fn unknown_keys_are_collected_when_that_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("more.safetensors");
    let kohya = WeightFile::open(fixture("kohya.safetensors")).unwrap();
    let tensors = kohya.names().map(|name| (name.to_owned(), kohya.tensor(name, &Device::Cpu).unwrap()));
    let more = tensors.chain([("something".to_owned(), Tensor::new(1f32, &Device::Cpu).unwrap())]);
    write_safetensors(&path, more, &BTreeMap::new()).unwrap();
    assert!(AdapterFile::open(&path).unwrap_err().to_string().contains("`something`"));
    let adapter = AdapterFile::from_weights(&WeightFile::open(&path).unwrap(), UnknownKeys::Collect).unwrap();
    assert_eq!(adapter.unknown_keys, ["something"]);
    assert_changes(&adapter, 2e-7);
}

/// Numbers that an element type cannot hold are refused and leave no file.
#[test]
fn overflow_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let layer = (Network::Unet, "conv_in".to_owned());
    let large = |shape: &[usize]| (Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap() * 1e5).unwrap();
    let factors = Factors::Lora(Lora { down: large(&[1, 2, 3, 3]), up: large(&[3, 1, 1, 1]), mid: None });
    let entries = BTreeMap::from([(layer, factors.into())]);
    for result in [
        AdapterFile::write_kohya(folder.path().join("a.safetensors"), &entries, &BTreeMap::new(), Some(DType::F16)),
        AdapterFile::write_diffusers(folder.path().join("b.safetensors"), &entries, &BTreeMap::new(), Some(DType::F16)),
        AdapterFile::write_peft(folder.path().join("c"), &entries, &BTreeMap::new(), Some(DType::F16)),
    ] {
        let message = result.unwrap_err().to_string();
        assert!(message.contains("conv_in") && message.contains("f16"), "{message}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
