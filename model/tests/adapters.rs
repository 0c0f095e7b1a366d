//! Every family of adapters against LyCORIS itself: the change of the weight, the layer's output, and all gradients.
//!
//! Reference: tests/reference/adapters_lycoris.py (lycoris-lora 4.1.3, torch 2.15, float64, stored in float32). Limits: 2e-6 for changes
//! and outputs, 1e-5 for gradients; float32 itself carries 1e-7 per operation.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use driftless::adapter::AdapterFile;
use driftless::adapter::files::Network;
use driftless::adapter::{
    Adapter, BatchClock, Dropout, DropoutRates, DropoutStyle, Factors, LayerShape, Trainable, TrainableOptions,
};
use driftless::adapter::{Algorithm, Lora, Value};
use driftless::ops::{self, GradientSink, Padding};
use driftless::rng::Generator;
use std::sync::Arc;
use testkit::{Fixture, assert_close, fixture};

/// One layer of the fixture.
struct Layer {
    path: String,
    adapter: Adapter,
    stride: usize,
    expected: Fixture,
}

impl Layer {
    fn get(&self, name: &str) -> Tensor {
        self.expected.get(&format!("{}.{name}", self.path))
    }

    /// The layer's output with an adapter on it.
    fn forward(&self, x: &Tensor, adapter: &Adapter) -> Tensor {
        let (weight, bias) = (self.get("base"), self.get("base_bias"));
        let (y, term) = if weight.dims().len() == 2 {
            (ops::linear(x, &weight, Some(&bias)), adapter.linear(x, &weight))
        } else {
            let padding = Padding::same(weight.dims()[2] / 2);
            (ops::conv2d(x, &weight, Some(&bias), self.stride, padding), adapter.conv2d(x, &weight, self.stride, padding))
        };
        match term.unwrap() {
            Some(term) => (y.unwrap() + term).unwrap(),
            None => y.unwrap(),
        }
    }
}

fn layers() -> Vec<Layer> {
    let file = AdapterFile::open(fixture("adapters/lycoris.safetensors")).unwrap();
    let details: serde_json::Value =
        serde_json::from_str(&Fixture::open("adapters/lycoris_expected.safetensors").0.metadata()["layers"]).unwrap();
    let layer = |((network, path), adapter): ((Network, String), Adapter)| {
        assert_eq!(network, Network::Unet);
        let stride = details[&path]["stride"].as_u64().unwrap() as usize;
        Layer { path, adapter, stride, expected: Fixture::open("adapters/lycoris_expected.safetensors") }
    };
    file.entries.into_iter().map(layer).collect()
}

#[test]
fn changes_and_outputs_are_those_of_lycoris() {
    let layers = layers();
    assert_eq!(layers.len(), 31);
    for layer in &layers {
        let name = format!("{} ({})", layer.path, layer.adapter.family());
        assert_close(&format!("{name}: change"), &layer.adapter.delta(&layer.get("base")).unwrap(), &layer.get("delta"), 2e-6);
        assert_close(&format!("{name}: output"), &layer.forward(&layer.get("x"), &layer.adapter), &layer.get("y"), 2e-6);
    }
    let families: std::collections::BTreeSet<String> = layers.iter().map(|layer| layer.adapter.family()).collect();
    for family in ["LoCon", "LoRA", "LoHa", "LoKr", "full difference", "IA3", "LoRA with DoRA", "LoHa with DoRA"] {
        assert!(families.contains(family), "{family} is missing of {families:?}");
    }
}

#[test]
fn gradients_are_those_of_lycoris() {
    for layer in &layers() {
        let trainable = Trainable::of(&layer.adapter).unwrap();
        let x = Var::from_tensor(&layer.get("x")).unwrap();
        let y = layer.forward(x.as_tensor(), &trainable.adapter);
        let gradients = (y * layer.get("g")).unwrap().sum_all().unwrap().backward().unwrap();
        assert_close(&layer.path, gradients.get(&x).unwrap(), &layer.get("x_grad"), 1e-5);
        for (component, variable) in &trainable.variables {
            let expected = layer.get(&format!("grad.{}", component.name()));
            let ours = gradients.get(variable).unwrap_or_else(|| panic!("{}: no gradient of {}", layer.path, component.name()));
            let ours = ours.reshape(expected.shape()).unwrap();
            assert_close(&format!("{}: gradient of {}", layer.path, component.name()), &ours, &expected, 1e-5);
        }
    }
}

/// Inside a block that gradient checkpointing recomputes, the families' own recomputation still reaches every variable.
#[test]
fn gradients_survive_checkpointing_around_the_layer() {
    for layer in layers() {
        let trainable = Trainable::of(&layer.adapter).unwrap();
        let sink = GradientSink::new(trainable.variables.iter().map(|(_, variable)| variable.clone()).collect());
        let x = Var::from_tensor(&layer.get("x")).unwrap();
        let (g, expected) = (layer.get("g"), Fixture::open("adapters/lycoris_expected.safetensors"));
        let (path, adapter) = (layer.path.clone(), trainable.adapter.clone());
        let unused = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
        let y = ops::checkpoint(&sink, [x.as_tensor(), &unused, &unused], move |[x, ..]| Ok(layer.forward(x, &adapter))).unwrap();
        let mut gradients = (y * g).unwrap().sum_all().unwrap().backward().unwrap();
        sink.merge_into(&mut gradients).unwrap();
        for (component, variable) in &trainable.variables {
            let expected = expected.get(&format!("{path}.grad.{}", component.name()));
            let ours = gradients.get(variable).unwrap_or_else(|| panic!("{path}: no gradient of {}", component.name()));
            assert_close(&path, &ours.reshape(expected.shape()).unwrap(), &expected, 1e-5);
        }
    }
}

#[test]
fn a_half_strength_is_half_of_the_change() {
    for layer in &layers() {
        let weight = layer.get("base");
        let half = (layer.adapter.delta(&weight).unwrap() * 0.5).unwrap();
        assert_close(&layer.path, &layer.adapter.scaled(0.5).delta(&weight).unwrap(), &half, 1e-6);
    }
}

fn named(algorithm: &str) -> Algorithm {
    Algorithm::named(algorithm).unwrap()
}

/// First values change nothing, leave every family's other factors where LyCORIS has them, and let a gradient through.
#[test]
fn first_values_change_nothing() {
    let lokr = named("lokr").with("decompose_both", Value::Flag(true)).unwrap();
    let by_four = lokr.clone().with("factor", Value::Number(4)).unwrap();
    let algorithms = [named("lora"), named("loha"), lokr, by_four, named("full")];
    let kinds = [
        LayerShape::Linear { c_in: 32, c_out: 48 },
        LayerShape::Conv2d { c_in: 32, c_out: 48, kernel: 1 },
        LayerShape::Conv2d { c_in: 32, c_out: 48, kernel: 3 },
    ];
    let mut generator = Generator::manual_seed(5);
    for (algorithm, kind, tucker, dora) in algorithms
        .iter()
        .flat_map(|a| kinds.map(|kind| (a, kind)))
        .flat_map(|(a, kind)| [(a, kind, false, None), (a, kind, true, Some(true)), (a, kind, true, Some(false))])
    {
        let weight = generator.randn_tensor(&kind.weight_shape(), &Device::Cpu).unwrap();
        let options = TrainableOptions { algorithm: algorithm.clone(), rank: 2, alpha: 1.0, tucker, dora };
        let trainable = Trainable::init(kind, &weight, true, &options, &mut generator, &Device::Cpu).unwrap();
        let largest = |tensor: &Tensor| tensor.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        let change = trainable.adapter.delta(&weight).unwrap();
        // DoRA divides by the norm it multiplies with: a rounding.
        assert!(largest(&change) <= if dora.is_some() { 2e-6 } else { 0.0 }, "{algorithm:?} {kind:?}: {}", largest(&change));
        trainable.adapter.check(&kind.weight_shape()).unwrap();
        let zeros = trainable.variables.iter().filter(|(_, variable)| largest(variable.as_tensor()) == 0.0).count();
        assert_eq!(zeros, if *algorithm == named("full") { 2 } else { 1 }, "{algorithm:?} {kind:?}");
        let probe = (trainable.adapter.delta(&weight).unwrap() * 1.0).unwrap();
        assert_eq!(probe.dims(), weight.dims());
    }
}

fn dropping(rates: DropoutRates, style: DropoutStyle, clock: &BatchClock) -> (Adapter, Lora) {
    let tensor = |shape: &[usize], seed| Generator::manual_seed(seed).randn_tensor(shape, &Device::Cpu).unwrap();
    let lora = Lora { down: tensor(&[8, 6], 1), up: tensor(&[10, 8], 2), mid: None };
    let dropout = Dropout { rates, style, seed: 3, clock: clock.clone() };
    let factors = Factors::Lora(lora.clone());
    (Adapter { alpha: Some(4.0), dropout: Some(Arc::new(dropout)), ..factors.into() }, lora)
}

const NONE: DropoutRates = DropoutRates { value: 0.0, rank: 0.0, module: 0.0 };

/// kohya's definitions, on the inner product: what is dropped is zero, the rest is scaled to keep the mean.
#[test]
fn dropout_on_the_inner_product_is_kohyas() {
    let (weight, clock) = (Tensor::zeros((10, 6), DType::F32, &Device::Cpu).unwrap(), BatchClock::default());
    // One input at a time and an `up` of ones show the inner product.
    let x = Tensor::ones((64, 3, 6), DType::F32, &Device::Cpu).unwrap();
    let identity = Tensor::eye(8, DType::F32, &Device::Cpu).unwrap();
    for (rates, per_sample) in [(DropoutRates { value: 0.25, ..NONE }, false), (DropoutRates { rank: 0.25, ..NONE }, true)] {
        let (mut adapter, lora) = dropping(rates, DropoutStyle::Inner, &clock);
        adapter.factors = Factors::Lora(Lora { up: identity.clone(), ..lora.clone() });
        let inner: Vec<Vec<Vec<f32>>> = adapter.linear(&x, &weight.narrow(0, 0, 8).unwrap()).unwrap().unwrap().to_vec3().unwrap();
        let whole: Vec<f32> = (lora.down.sum(1).unwrap() * (0.5 / 0.75)).unwrap().to_vec1().unwrap();
        let (mut dropped, mut count) = (0, 0);
        for sample in &inner {
            for token in sample {
                for (rank, value) in token.iter().enumerate() {
                    count += 1;
                    dropped += usize::from(*value == 0.0);
                    assert!(*value == 0.0 || (value - whole[rank]).abs() <= 1e-5, "{value} is neither 0 nor {}", whole[rank]);
                }
            }
            // A rank is dropped for a sample's every token.
            let zeros = |token: &Vec<f32>| token.iter().map(|v| *v == 0.0).collect::<Vec<_>>();
            assert_eq!(sample.iter().all(|token| zeros(token) == zeros(&sample[0])), per_sample);
        }
        // Five standard deviations around a quarter.
        let share = dropped as f64 / count as f64;
        let independent = if per_sample { 64.0 * 8.0 } else { count as f64 };
        assert!((share - 0.25).abs() <= 5.0 * (0.25 * 0.75 / independent).sqrt(), "{share}");
    }
}

/// LyCORIS' definition: rows of the change, not scaled up unless asked.
#[test]
fn dropout_of_rows_is_that_of_lycoris() {
    let (weight, clock) = (Tensor::zeros((10, 6), DType::F32, &Device::Cpu).unwrap(), BatchClock::default());
    let x = Generator::manual_seed(9).randn_tensor(&[4, 6], &Device::Cpu).unwrap();
    let mut seen = 0;
    for batch in 0..20 {
        clock.set(batch);
        for rescale in [false, true] {
            let (adapter, _) = dropping(DropoutRates { rank: 0.5, ..NONE }, DropoutStyle::Rows { rescale }, &clock);
            let whole: Vec<Vec<f32>> = Adapter { dropout: None, ..adapter.clone() }
                .linear(&x, &weight)
                .unwrap()
                .unwrap()
                .t()
                .unwrap()
                .to_vec2()
                .unwrap();
            let kept: Vec<Vec<f32>> = adapter.linear(&x, &weight).unwrap().unwrap().t().unwrap().to_vec2().unwrap();
            let rows = kept.iter().filter(|row| row.iter().any(|v| *v != 0.0)).count();
            let factor = if rescale { 10.0 / rows as f32 } else { 1.0 };
            for (row, whole) in kept.iter().zip(&whole).filter(|(row, _)| row.iter().any(|v| *v != 0.0)) {
                assert!(row.iter().zip(whole).all(|(a, b)| (a - b * factor).abs() <= 1e-5 * b.abs().max(1.0) * factor));
            }
            seen += rows;
        }
    }
    assert!((100..300).contains(&seen), "{seen} of 400 rows were kept");
}

#[test]
fn whole_adapters_are_left_out_by_batch_and_masks_repeat() {
    let (weight, clock) = (Tensor::zeros((10, 6), DType::F32, &Device::Cpu).unwrap(), BatchClock::default());
    let x = Generator::manual_seed(9).randn_tensor(&[4, 6], &Device::Cpu).unwrap();
    let (adapter, _) = dropping(DropoutRates { module: 0.3, value: 0.5, ..NONE }, DropoutStyle::Inner, &clock);
    let mut outputs: BTreeMap<u64, Option<Vec<Vec<f32>>>> = BTreeMap::new();
    for batch in (0..200).chain(0..200) {
        clock.set(batch);
        let output = adapter.linear(&x, &weight).unwrap().map(|term| term.to_vec2().unwrap());
        if let Some(before) = outputs.insert(batch, output.clone()) {
            assert_eq!(before, output, "batch {batch}");
        }
    }
    let skipped = outputs.values().filter(|output| output.is_none()).count();
    assert!((30..90).contains(&skipped), "{skipped} of 200");
    let different: std::collections::BTreeSet<String> = outputs.values().flatten().map(|output| format!("{output:?}")).collect();
    assert!(different.len() > 100, "masks hardly change from batch to batch");
}

/// Plain LoRA in place of each family: exact without a rank, and with one the error that is told.
#[test]
fn every_family_becomes_plain_lora() {
    for layer in &layers() {
        let (weight, expected) = (layer.get("base"), layer.get("delta"));
        let plain = layer.adapter.to_plain(&weight, None).unwrap();
        let lora = plain.adapter.as_plain_lora().expect("plain LoRA");
        assert_eq!(plain.error, 0.0);
        assert_close(&format!("{}: exact", layer.path), &plain.adapter.delta(&weight).unwrap(), &expected, 3e-6);
        match &layer.adapter.factors {
            Factors::Lora(own) if layer.adapter.magnitude.is_none() => assert_eq!(lora.rank(), own.rank()),
            Factors::Loha(own) if layer.adapter.magnitude.is_none() => assert_eq!(lora.rank(), own.rank() * own.rank()),
            Factors::Lokr(own) => assert!(lora.rank() <= own.product_rank() || layer.adapter.magnitude.is_some()),
            _ => assert!(lora.rank() <= expected.dims()[0]),
        }
        let cut = layer.adapter.to_plain(&weight, Some(1)).unwrap();
        assert_eq!(cut.adapter.as_plain_lora().unwrap().rank(), 1);
        let found = testkit::relative_error(&cut.adapter.delta(&weight).unwrap(), &expected);
        assert!((found - cut.error).abs() <= 3e-6, "{}: error {found:e}, told {:e}", layer.path, cut.error);
        // In the layer: the same output, but for the bias that LoRA has not.
        if layer.adapter.bias.is_none() {
            assert_close(&layer.path, &layer.forward(&layer.get("x"), &plain.adapter), &layer.get("y"), 3e-6);
        }
    }
}

/// Adapters of every family on a whole model, attached and merged: the same prediction.
#[test]
fn attached_families_compute_what_merged_ones_do() {
    let pipeline = testkit::pipeline();
    let mut generator = Generator::manual_seed(11);
    let mut entries = driftless::adapter::files::Entries::new();
    let lokr = named("lokr").with("factor", Value::Number(4)).unwrap();
    let families = [
        (named("lora"), None),
        (named("loha"), None),
        (lokr, None),
        (named("lora"), Some(true)),
        (named("loha"), Some(false)),
        (named("full"), None),
    ];
    let networks = [(Network::Unet, pipeline.unet.slots()), (Network::TextEncoder, pipeline.text_encoder.slots())];
    for (network, slots) in networks {
        let trained = slots.all().into_iter().filter(|(_, slot)| !matches!(slot.kind(), LayerShape::Norm { .. }));
        for (number, (path, slot)) in trained.enumerate() {
            let (algorithm, dora) = families[number % families.len()].clone();
            let options = TrainableOptions { algorithm, rank: 2, alpha: 2.0, tucker: number % 2 == 0, dora };
            let (weight, has_bias) = (slot.weight(), slot.bias().is_some());
            let fresh = Trainable::init(slot.kind(), &weight, has_bias, &options, &mut generator, &Device::Cpu).unwrap();
            // First values change nothing; these do.
            let moved = fresh.adapter.map(|_, tensor| {
                let noise = generator.randn_tensor(tensor.dims(), &Device::Cpu)?;
                Ok((tensor.detach() + (noise * 0.02)?)?)
            });
            let path = if network == Network::TextEncoder && !path.starts_with("text_model.") {
                format!("text_model.{path}")
            } else {
                path
            };
            if driftless::model_family::layer_kind(network, &path).is_some() {
                entries.insert((network, path), moved.unwrap());
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("families.safetensors");
    AdapterFile::write_kohya(&file, &entries, &BTreeMap::new(), None).unwrap();
    let ids: Vec<Vec<u32>> = vec![(0..77).collect()];
    let noisy = Generator::manual_seed(12).randn_tensor(&[1, 4, 16, 16], &Device::Cpu).unwrap();
    let predict = || {
        let context = driftless::unet::TextContext::new(pipeline.text_encoder.forward(&ids, 1).unwrap());
        let input = driftless::unet::UnetInput { sample: &noisy, timesteps: &[50.0], context: &context, residuals: None };
        pipeline.unet.forward(&input).unwrap()
    };
    let plain = predict();
    let report = pipeline.attach_adapter(&file, 1.0).unwrap();
    assert!(report.unet > 200 && report.text_encoder >= 6, "{report:?}");
    let attached = predict();
    assert!(testkit::relative_error(&attached, &plain) > 1e-2, "the adapters change nothing");
    pipeline.unet.slots().merge_all().unwrap();
    pipeline.text_encoder.slots().merge_all().unwrap();
    assert_close("merged against attached", &predict(), &attached, 1e-5);
}
