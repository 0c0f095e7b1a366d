//! Families that are read and not trained, against the programs that write them: the change of the weight and the layer's output, written
//! and read again, and as plain LoRA.
//!
//! Reference: tests/reference/adapters_families.py (lycoris-lora 4.1.3, kohya sd-scripts 48d368f; float64, OFT float32 as both programs
//! compute it). Limit 1e-5; without OFT's own inverse in float32, ours differ by float32 roundings.

use std::collections::BTreeMap;

use candle_core::Tensor;
use driftless::adapter::{Adapter, AdapterFile};
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

#[test]
fn oft_is_that_of_lycoris_and_kohya() {
    check("oft", 12);
}

/// `oft_diag` holds the rotations themselves: those of a quarter turn, by hand. What is no rotation is refused.
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
