//! LDM names against diffusers' own conversion, both ways.

use driftless::formats::write_safetensors;
use driftless::model_family::naming::ldm::{Renaming, ema_name, is_dropped, table, table_to_ldm};
use driftless::model_family::naming::{text_encoder, vae_attention};
use driftless::model_family::{Network, sd15};
use driftless::weights::Component;
use std::collections::BTreeMap;

/// Both names.
fn pair(renaming: &Renaming) -> (&str, &str) {
    (&renaming.name, &renaming.stored)
}

#[derive(serde::Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    levels: usize,
    unet: Vec<(String, String)>,
    vae: Vec<(String, String)>,
}

// Reference: diffusers 0.32 loaders.single_file_utils on miniature models of 4 levels with 2 layers and of 3 levels with 1 layer;
// tests/reference/checkpoint_names.py. Every name, no exceptions.
#[test]
fn names_are_those_of_diffusers_both_ways() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/checkpoint/ldm_names.json");
    let fixture: Fixture = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(fixture.cases.iter().map(|case| case.levels).collect::<Vec<_>>(), [4, 3]);
    for case in fixture.cases {
        // Both networks in one file, as in a checkpoint.
        let stored: Vec<String> = case.unet.iter().chain(&case.vae).map(|(_, ldm)| ldm.clone()).collect();
        for (network, pairs) in [(Network::Unet, &case.unet), (Network::Vae, &case.vae)] {
            let expected: BTreeMap<&str, &str> = pairs.iter().map(|(name, ldm)| (name.as_str(), ldm.as_str())).collect();
            assert_eq!(expected.len(), pairs.len());
            let found = table(stored.iter().map(String::as_str), &sd15::FAMILY, network);
            assert_eq!(found.iter().map(pair).collect::<BTreeMap<_, _>>(), expected);
            assert_eq!(found.len(), pairs.len());
            let back = table_to_ldm(expected.keys().copied(), &sd15::FAMILY, network).unwrap();
            assert_eq!(back.iter().map(pair).collect::<BTreeMap<_, _>>(), expected);
        }
    }
}

#[test]
fn names_of_no_weight_are_not_translated() {
    let good = ["model.diffusion_model.input_blocks.1.0.in_layers.0.weight", "model.diffusion_model.input_blocks.3.0.op.weight"];
    for bad in [
        "input_blocks.3.1.op.weight",
        "input_blocks.0.1.in_layers.0.weight",
        "input_blocks.99999999999999999999.0.in_layers.0.weight",
        "input_blocks.0.0.op.weight",
        "input_blocks.1.0.in_layers.1.weight",
        "input_blocks.01.0.in_layers.0.weight",
        "output_blocks.2.1.conv2.weight.",
        "middle_block.3.in_layers.0.weight",
        "",
    ] {
        let bad = format!("model.diffusion_model.{bad}");
        let found = table(good.iter().copied().chain([bad.as_str()]), &sd15::FAMILY, Network::Unet);
        assert_eq!(found.iter().filter(|found| found.stored == bad && !bad.contains("output")).count(), 0, "{bad}");
    }
    assert_eq!(
        table_to_ldm(["down_blocks.0.resnets.0.conv1.weight", "x"].into_iter(), &sd15::FAMILY, Network::Unet),
        Err(vec!["x".to_owned()])
    );
}

#[test]
fn all_spellings_of_the_attention_layer_have_one_name() {
    let current = "decoder.mid_block.attentions.0.";
    for (stored, now) in [
        ("query", "to_q"),
        ("key", "to_k"),
        ("value", "to_v"),
        ("proj_attn", "to_out.0"),
        ("group_norm", "group_norm"),
        ("to_q", "to_q"),
        ("to_out.0", "to_out.0"),
    ] {
        assert_eq!(vae_attention::to_current(&format!("{current}{stored}.weight")), format!("{current}{now}.weight"));
    }
    let ldm = |layer: &str| {
        let names = [
            format!("first_stage_model.decoder.mid.attn_1.{layer}.bias"),
            "first_stage_model.decoder.up.0.block.0.conv1.weight".into(),
        ];
        table(names.iter().map(String::as_str), &sd15::FAMILY, Network::Vae)
            .into_iter()
            .map(|found| found.name)
            .find(|name| name.contains("attentions"))
    };
    for (stored, now) in [
        ("q", "to_q"),
        ("to_q", "to_q"),
        ("norm", "group_norm"),
        ("proj_out", "to_out.0"),
        ("to_out.0", "to_out.0"),
        ("query", "to_q"),
    ] {
        assert_eq!(ldm(stored), Some(format!("{current}{now}.bias")), "{stored}");
    }
    assert_eq!(ldm("x"), None);
}

#[test]
fn an_autoencoder_alone_opens_in_either_naming() {
    let folder = tempfile::tempdir().unwrap();
    let open = |names: [&str; 4]| -> Vec<String> {
        let path = folder.path().join("vae.safetensors");
        let tensor = candle_core::Tensor::zeros(1, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        write_safetensors(&path, names.map(|name| (name.to_owned(), tensor.clone())), &BTreeMap::new()).unwrap();
        Component::open_file(Network::Vae, &path).unwrap().names().map(str::to_owned).collect()
    };
    let both = ["decoder.conv_in.weight", "quant_conv.weight"];
    let current = ["decoder.up_blocks.0.resnets.0.conv1.weight", "encoder.conv_norm_out.weight"];
    let expected = [both[0], current[0], current[1], both[1]];
    assert_eq!(open([both[0], both[1], "decoder.up.0.block.0.conv1.weight", "encoder.norm_out.weight"]), expected);
    assert_eq!(open([both[0], both[1], current[0], current[1]]), expected);
}

#[test]
fn text_encoders_have_one_name_with_and_without_their_level() {
    assert_eq!(text_encoder::with_level("encoder.layers.0.mlp.fc1.weight"), "text_model.encoder.layers.0.mlp.fc1.weight");
    assert_eq!(text_encoder::with_level("text_model.final_layer_norm.bias"), "text_model.final_layer_norm.bias");
    let names = [
        "cond_stage_model.transformer.embeddings.position_ids",
        "cond_stage_model.transformer.embeddings.token_embedding.weight",
    ];
    let found = table(names.into_iter(), &sd15::FAMILY, Network::TextEncoder);
    assert_eq!(found.iter().map(pair).collect::<Vec<_>>(), [("text_model.embeddings.token_embedding.weight", names[1])]);
}

#[test]
fn known_entries_that_are_no_weights_are_dropped() {
    for name in [
        "betas",
        "posterior_variance",
        "logvar",
        "model_ema.decay",
        "model_ema.diffusion_modelout2weight",
        "first_stage_model.loss.logvar",
        "cond_stage_model.logit_scale",
        "global_step",
    ] {
        assert!(is_dropped(name), "{name}");
    }
    assert!(!is_dropped("model.diffusion_model.out.2.weight") && !is_dropped("betas2"));
    assert_eq!(ema_name("model.diffusion_model.out.2.weight").as_deref(), Some("model_ema.diffusion_modelout2weight"));
}
