//! Families that are read and not trained, against the programs that write them: the change of the weight and the layer's output, written
//! and read again, and as plain LoRA.
//!
//! Reference: tests/reference/adapters_families.py (lycoris-lora 4.1.3, LyCORIS 5a108f3 for older forms, kohya sd-scripts 48d368f,
//! cloneofsimo's lora_diffusion d84074b; float64, OFT float32 as the programs compute it). Limit 1e-5; without OFT's own inverse in float32, ours differ by float32 roundings.

use std::collections::BTreeMap;

use candle_core::Tensor;
use driftless::adapter::files::Network;
use driftless::adapter::{Adapter, AdapterFile, LayerShape};
use driftless::ops::{self, Padding};
use testkit::{Fixture, assert_close, fixture};

const LIMIT: f64 = 1e-5;

/// The layers of a family's fixture with their adapters, and what is expected.
fn layers(family: &str) -> (Vec<(String, Adapter)>, Fixture, serde_json::Value) {
    let file = AdapterFile::open(fixture(&format!("adapters/{family}.safetensors"))).unwrap();
    let expected = Fixture::open(&format!("adapters/{family}_expected.safetensors"));
    let details = serde_json::from_str(&expected.0.metadata()["layers"]).unwrap();
    (file.entries.into_iter().map(|((_, path), adapter)| (path, adapter)).collect(), expected, details)
}

/// Changes and outputs on linear layers and convolutions, and a file of the same adapters.
fn check(family: &str, count: usize) {
    let (layers, expected, details) = layers(family);
    assert_eq!(layers.len(), count);
    for (path, adapter) in &layers {
        let get = |name: &str| expected.get(&format!("{path}.{name}"));
        let (weight, bias, x) = (get("base"), get("base_bias"), get("x"));
        let name = format!("{path} ({})", adapter.family());
        assert_close(&format!("{name}: change"), &adapter.delta(&weight).unwrap(), &get("delta"), LIMIT);
        let (y, term) = if weight.dims().len() == 2 {
            (ops::linear(&x, &weight, Some(&bias)), adapter.linear(&x, &weight))
        } else {
            let (stride, padding) = (details[path]["stride"].as_u64().unwrap() as usize, Padding::same(weight.dims()[2] / 2));
            (ops::conv2d(&x, &weight, Some(&bias), stride, padding), adapter.conv2d(&x, &weight, stride, padding))
        };
        let output = (y.unwrap() + term.unwrap().unwrap()).unwrap();
        assert_close(&format!("{name}: output"), &output, &get("y"), LIMIT);
        assert!(adapter.needs_base());
        let plain = adapter.to_plain(&weight, None).unwrap();
        assert!(plain.adapter.as_plain_lora().is_some() && plain.error == 0.0);
        assert_close(&format!("{name}: as LoRA"), &plain.adapter.delta(&weight).unwrap(), &get("delta"), LIMIT);
        let half = (adapter.delta(&weight).unwrap() * 0.5).unwrap();
        assert_close(&format!("{name}: half"), &adapter.scaled(0.5).delta(&weight).unwrap(), &half, 1e-6);
    }
    goes_through_a_file(family);
}

/// kohya's format holds the adapter tensor for tensor.
fn goes_through_a_file(family: &str) {
    let file = AdapterFile::open(fixture(&format!("adapters/{family}.safetensors"))).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("again.safetensors");
    AdapterFile::write_kohya(&path, &file.entries, &BTreeMap::new(), None).unwrap();
    let again = AdapterFile::open(&path).unwrap();
    assert_eq!(file.entries.keys().collect::<Vec<_>>(), again.entries.keys().collect::<Vec<_>>());
    let numbers = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (layer, adapter) in &file.entries {
        let (before, after) = (adapter.components(), again.entries[layer].components());
        assert_eq!(before.len(), after.len());
        for ((name, tensor), (other, same)) in before.into_iter().zip(after) {
            assert_eq!((name, numbers(tensor)), (other, numbers(same)));
        }
        assert_eq!(adapter.alpha, again.entries[layer].alpha);
    }
}

#[test]
fn glora_is_that_of_lycoris() {
    check("glora", 4);
}

/// Files of LyCORIS 1 have the factors of each product under each other's name.
#[test]
fn glora_of_lycoris_1_is_told_by_its_shapes() {
    check("glora_1", 2);
}

#[test]
fn oft_is_that_of_lycoris_and_kohya() {
    check("oft", 12);
}

#[test]
fn boft_is_that_of_lycoris() {
    check("boft", 5);
}

/// `oft_diag` holds the rotations themselves, with the scales of rows in them.
#[test]
fn stored_rotations_are_those_of_lycoris() {
    check("oft_diag", 4);
}

/// A quarter turn, by hand. What is no rotation is refused.
#[test]
fn stored_rotations_are_applied_transposed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("diag.safetensors");
    let write = |numbers: &[f32]| {
        let block = Tensor::from_vec(numbers.to_vec(), (1, 2, 2), &candle_core::Device::Cpu).unwrap();
        let key = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.oft_diag";
        driftless::formats::write_safetensors(&file, [(key.to_owned(), block)], &BTreeMap::new()).unwrap();
        AdapterFile::open(&file)
    };
    let adapter = write(&[0.0, 1.0, -1.0, 0.0]).unwrap().entries.into_values().next().unwrap();
    let weight = Tensor::new(&[[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]], &candle_core::Device::Cpu).unwrap();
    let turned = (&weight + adapter.delta(&weight).unwrap()).unwrap();
    assert_eq!(turned.to_vec2::<f32>().unwrap(), [[-4.0, -5.0, -6.0], [1.0, 2.0, 3.0]]);
    let message = write(&[0.1, 0.2, 0.1, 0.2]).unwrap_err().to_string();
    assert!(message.contains("no rotations"), "{message}");
}

/// Changes of scale and shift, and what a norm with them computes.
#[test]
fn trained_norms_are_those_of_lycoris() {
    let (layers, expected, details) = layers("norm");
    assert_eq!(layers.len(), 2);
    for (path, adapter) in &layers {
        let get = |name: &str| expected.get(&format!("{path}.{name}"));
        let (weight, bias, x) = (get("base"), get("base_bias"), get("x"));
        assert_close(&format!("{path}: change"), &adapter.delta(&weight).unwrap(), &get("delta"), LIMIT);
        let weight = driftless::adapter::merged_weight(&weight, &[adapter]).unwrap();
        let bias = driftless::adapter::merged_bias(Some(&bias), &[adapter]).unwrap().unwrap();
        let y = match details[path]["groups"].as_u64().unwrap() {
            0 => ops::layer_norm(&x, &weight, &bias, 1e-5),
            groups => ops::group_norm(&x, &weight, &bias, groups as usize, 1e-5, false),
        };
        assert_close(&format!("{path}: output"), &y.unwrap(), &get("y"), LIMIT);
        assert!(adapter.to_plain(&weight, None).unwrap_err().to_string().contains("no LoRA"));
    }
    goes_through_a_file("norm");
}

/// A file that changes every norm of the miniature model.
fn all_norms(folder: &std::path::Path, pipeline: &driftless::pipeline::Pipeline) -> std::path::PathBuf {
    let mut generator = driftless::rng::Generator::manual_seed(3);
    let mut tensors = Vec::new();
    for (prefix, slots) in [("lora_unet_", pipeline.unet.slots()), ("lora_te_", pipeline.text_encoder.slots())] {
        for (path, slot) in slots.all() {
            let LayerShape::Norm { channels } = slot.kind() else { continue };
            for component in ["w_norm", "b_norm"] {
                let values = generator.randn_tensor(&[channels], &candle_core::Device::Cpu).unwrap();
                tensors.push((format!("{prefix}{}.{component}", path.replace('.', "_")), (values * 0.1).unwrap()));
            }
        }
    }
    let file = folder.join("norms.safetensors");
    driftless::formats::write_safetensors(&file, tensors, &BTreeMap::new()).unwrap();
    file
}

/// Changes of every norm of both networks change the prediction, merged as attached, and leave no trace when taken off.
#[test]
fn attached_norms_compute_what_merged_ones_do() {
    let pipeline = testkit::pipeline();
    let folder = tempfile::tempdir().unwrap();
    let file = all_norms(folder.path(), &pipeline);
    let ids: Vec<Vec<u32>> = vec![(0..77).collect()];
    let noisy = driftless::rng::Generator::manual_seed(4).randn_tensor(&[1, 4, 16, 16], &candle_core::Device::Cpu).unwrap();
    let predict = || {
        let context = driftless::unet::TextContext::new(pipeline.text_encoder.forward(&ids, 1).unwrap());
        let input = driftless::unet::UnetInput { sample: &noisy, timesteps: &[50.0], context: &context, residuals: None };
        pipeline.unet.forward(&input).unwrap()
    };
    let plain = predict();
    let report = pipeline.attach_adapter(&file, 1.0).unwrap();
    assert!(report.unet > 50 && report.text_encoder >= 5, "{report:?}");
    let attached = predict();
    assert!(testkit::relative_error(&attached, &plain) > 1e-2, "the norms change nothing");
    pipeline.detach_adapters();
    assert_eq!(testkit::relative_error(&predict(), &plain), 0.0);
    pipeline.attach_adapter(&file, 1.0).unwrap();
    pipeline.unet.slots().merge_all().unwrap();
    pipeline.text_encoder.slots().merge_all().unwrap();
    assert_eq!(testkit::relative_error(&predict(), &attached), 0.0);
}

/// The changes of a file of cloneofsimo's, by network and layer.
fn check_list(name: &str, expected: &Fixture, networks: &[Network]) {
    let file = AdapterFile::open(fixture(&format!("adapters/{name}"))).unwrap();
    let mut names: Vec<String> = expected.names();
    names.retain(|name| networks.iter().any(|network| name.starts_with(&format!("{network}."))));
    let found: std::collections::BTreeSet<String> =
        file.entries.keys().map(|(network, path)| format!("{network}.{path}")).collect();
    assert_eq!(found, names.into_iter().collect());
    for ((network, path), adapter) in &file.entries {
        let change = expected.get(&format!("{network}.{path}"));
        assert_close(&format!("{name}, {path}"), &adapter.delta(&change).unwrap(), &change, LIMIT);
        assert!(adapter.as_plain_lora().is_some() && adapter.scale() == 1.0);
    }
}

#[test]
fn layers_without_names_are_known_by_their_order() {
    let expected = Fixture::open("adapters/list_expected.safetensors");
    check_list("list_unet.pt", &expected, &[Network::Unet]);
    check_list("list_older.pt", &expected, &[Network::Unet]);
    check_list("list_text_encoder.pt", &expected, &[Network::TextEncoder]);
    check_list("list.safetensors", &expected, &[Network::Unet, Network::TextEncoder]);
    let extended = Fixture::open("adapters/list_extended_expected.safetensors");
    check_list("list_extended.safetensors", &extended, &[Network::Unet]);
}

/// A list that lacks a layer, or has one of another size, is no list of a network.
#[test]
fn lists_that_fit_no_network_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list.safetensors");
    let whole = Fixture::open("adapters/list.safetensors");
    let tensors = |keep: &dyn Fn(&str) -> bool| {
        let kept = whole
            .names()
            .into_iter()
            .filter(|name| keep(name))
            .map(|name| (name.clone(), whole.0.tensor(&name, &candle_core::Device::Cpu).unwrap()));
        driftless::formats::write_safetensors(&file, kept.collect::<Vec<_>>(), &BTreeMap::new()).unwrap();
        AdapterFile::open(&file).unwrap_err().to_string()
    };
    assert!(tensors(&|name| name != "unet:3:down").contains("`unet:3:down` of cloneofsimo's format, is missing"));
    assert!(tensors(&|name| !name.starts_with("unet:3:")).contains("out of turn"));
    // The first nine layers are those of one block, and a UNet has more.
    let of_one_block = |name: &str| {
        name.strip_prefix("unet:").is_some_and(|rest| rest.split(':').next().unwrap().len() == 1 && !rest.starts_with('9'))
    };
    assert!(tensors(&of_one_block).contains("blocks 8 wide"));
    assert!(tensors(&|name| name.starts_with("unet:0:") || name.starts_with("unet:1:")).contains("the one before"));
}
