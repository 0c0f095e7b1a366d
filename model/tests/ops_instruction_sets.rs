//! `DRIFTLESS_SIMD`: every instruction set of this processor gives the same numbers within rounding, and others are refused.
//!
//! The variable is read once per process, so each set is run in a process of its own: this test, started again.

use std::process::{Command, Output};

use candle_core::{Device, Tensor, Var};
use driftless::ops::{self, Mask, Padding};

/// Where the process that was started again writes its numbers.
const DESTINATION: &str = "DRIFTLESS_TEST_DESTINATION";
const THIS_TEST: &str = "every_instruction_set_gives_the_same_numbers";

/// Smooth numbers about 1 in size.
fn waves(shape: &[usize], speed: f32) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|index| 1.5 * (speed * index as f32 + 0.3).sin() + 0.1).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Results and gradients of the operations whose kernels depend on the instruction set.
fn results() -> Vec<Tensor> {
    let image = Var::from_tensor(&waves(&[2, 35, 19, 22], 0.71)).unwrap();
    let (kernel, small, bias) = (waves(&[37, 35, 3, 3], 1.37), waves(&[37, 35, 1, 1], 0.93), waves(&[37], 0.57));
    let tokens = Var::from_tensor(&waves(&[2, 33, 40], 0.83)).unwrap();
    let (matrix, scale) = (waves(&[72, 40], 1.13), waves(&[35], 0.37));
    let outputs = [
        ops::conv2d(&image, &kernel, Some(&bias), 1, Padding::same(1)),
        ops::conv2d(&image, &kernel, Some(&bias), 2, Padding::same(1)),
        ops::conv2d(&image, &small, None, 1, Padding::same(0)),
        ops::group_norm(&image, &scale, &scale, 5, 1e-5, true),
        ops::linear(&tokens, &matrix, None),
        ops::geglu(&tokens),
        ops::attention(&tokens, &tokens, &tokens, 2, Mask::None),
    ];
    let mut all = Vec::new();
    for output in outputs {
        let output = output.unwrap();
        let loss = (&output * waves(output.dims(), 0.49)).unwrap().sum_all().unwrap();
        let gradients = loss.backward().unwrap();
        all.extend([&image, &tokens].iter().filter_map(|input| gradients.get(input)).cloned());
        all.push(output);
    }
    all
}

fn numbers() -> Vec<Vec<f32>> {
    results().iter().map(|tensor| tensor.flatten_all().unwrap().to_vec1().unwrap()).collect()
}

fn start_again(name: &str, destination: &std::path::Path) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let command = command.args(["--exact", THIS_TEST]).env("DRIFTLESS_SIMD", name).env(DESTINATION, destination);
    command.output().unwrap()
}

#[test]
fn every_instruction_set_gives_the_same_numbers() {
    if let Some(destination) = std::env::var_os(DESTINATION) {
        let bytes: Vec<u8> = numbers().concat().iter().flat_map(|number| number.to_le_bytes()).collect();
        std::fs::write(destination, bytes).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let expected = numbers();
    let mut ran = Vec::new();
    for name in ["scalar", "avx2", "avx512", "neon"] {
        let destination = folder.path().join(name);
        let output = start_again(name, &destination);
        let Ok(bytes) = std::fs::read(&destination) else {
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert!(
                text.contains("DRIFTLESS_SIMD") && text.contains(&format!("Instructions {{ found: {name:?}, available: ")),
                "{name}: {text}"
            );
            continue;
        };
        ran.push(name);
        let mut got = bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        for (index, expected) in expected.iter().enumerate() {
            let (mut difference, mut norm) = (0.0, 0.0);
            for (&expected, got) in expected.iter().zip(&mut got) {
                difference += (f64::from(expected) - f64::from(got)).powi(2);
                norm += f64::from(expected).powi(2);
            }
            let error = (difference / norm).sqrt();
            // Sums of a few hundred products in two orders, some with fused multiplication.
            assert!(error <= 3e-6, "{name}, result {index}: relative error {error:e}");
        }
        assert_eq!(got.count(), 0, "{name}: more numbers than expected");
    }
    assert!(ran.contains(&"scalar"), "the portable path did not run");
    #[cfg(target_arch = "x86_64")]
    assert_eq!(ran.contains(&"avx2"), is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"));
}

#[test]
fn an_unknown_instruction_set_is_refused_with_the_choices() {
    let folder = tempfile::tempdir().unwrap();
    let output = start_again("sse9", &folder.path().join("nothing"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{text}");
    assert!(["DRIFTLESS_SIMD", "sse9", "scalar"].iter().all(|word| text.contains(word)), "{text}");
}
