//! The generator against PyTorch's own draws.
//!
//! Reference: torch 2.15.0, CPU, float32: tests/reference/rng.py makes tests/fixtures/rng/draws.json.

use candle_core::{DType, Device};
use driftless::rng::Generator;
use serde::Deserialize;

/// PyTorch's vector kernels compute logarithm, sine and cosine to about one unit in the last place of float32, and values reach 5.
const NORMAL_TOLERANCE: f64 = 1e-6;

#[derive(Deserialize)]
struct Draws {
    seeds: Vec<PerSeed>,
    interleaved: Vec<Interleaved>,
    states: Vec<Saved>,
}

#[derive(Deserialize)]
struct PerSeed {
    seed: String,
    rand: Vec<f32>,
    uniform: Vec<f32>,
    randn: std::collections::BTreeMap<usize, Vec<f32>>,
    randn_large: Large,
    randint: Vec<Integers>,
    randperm: std::collections::BTreeMap<usize, Vec<usize>>,
}

#[derive(Deserialize)]
struct Large {
    #[serde(rename = "4x64x64")]
    latents: Summary,
    odd: Summary,
}

#[derive(Deserialize)]
struct Summary {
    first: Vec<f32>,
    last: Vec<f32>,
    sum: f64,
    sum_of_squares: f64,
    sum_by_position: f64,
}

#[derive(Deserialize)]
struct Integers {
    low: i64,
    high: i64,
    values: Vec<String>,
}

#[derive(Deserialize)]
struct Interleaved {
    seed: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    call: String,
    size: usize,
    values: Vec<f64>,
}

#[derive(Deserialize)]
struct Saved {
    history: String,
    calls: Vec<(String, usize)>,
    state: String,
    following: Vec<f32>,
}

fn draws() -> Draws {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/rng/draws.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn seeded(seed: &str) -> Generator {
    Generator::manual_seed(seed.parse().unwrap())
}

fn assert_near(ours: &[f32], theirs: &[f32], context: &str) {
    assert_eq!(ours.len(), theirs.len(), "{context}");
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((f64::from(*a) - f64::from(*b)).abs() <= NORMAL_TOLERANCE, "{context}, element {i}: {a} for {b}");
    }
}

#[test]
fn uniforms_are_equal_to_the_bit() {
    for case in draws().seeds {
        assert_eq!(seeded(&case.seed).rand(&[5, 4]), case.rand, "seed {}", case.seed);
        assert_eq!(seeded(&case.seed).uniform(-0.125, 0.3, 20), case.uniform, "seed {}", case.seed);
    }
}

#[test]
fn normals_of_every_small_size_agree() {
    for case in draws().seeds {
        for (n, theirs) in &case.randn {
            assert_near(&seeded(&case.seed).randn(&[*n]), theirs, &format!("seed {}, randn({n})", case.seed));
        }
    }
}

#[test]
fn normals_of_latents_agree() {
    for case in draws().seeds {
        for (shape, theirs) in [(&[1, 4, 64, 64], &case.randn_large.latents), (&[3, 7, 11, 5], &case.randn_large.odd)] {
            let context = format!("seed {}, {shape:?}", case.seed);
            let ours = seeded(&case.seed).randn(shape);
            assert_near(&ours[..32], &theirs.first, &context);
            assert_near(&ours[ours.len() - 32..], &theirs.last, &context);
            let mut sums = [0.0; 3];
            for (i, &x) in ours.iter().enumerate() {
                let x = f64::from(x);
                sums[0] += x;
                sums[1] += x * x;
                sums[2] += x * (i + 1) as f64 / ours.len() as f64;
            }
            // Independent roundings of some 1e-7 over 16384 values: 1e-4 is far above their sum and far below one wrong value.
            for (ours, theirs) in sums.into_iter().zip([theirs.sum, theirs.sum_of_squares, theirs.sum_by_position]) {
                assert!((ours - theirs).abs() < 1e-4, "{context}: {ours} for {theirs}");
            }
        }
    }
}

#[test]
fn integers_and_permutations_are_equal() {
    for case in draws().seeds {
        for integers in &case.randint {
            let theirs: Vec<i64> = integers.values.iter().map(|x| x.parse().unwrap()).collect();
            let ours = seeded(&case.seed).randint(integers.low, integers.high, theirs.len());
            assert_eq!(ours, theirs, "seed {}, {}..{}", case.seed, integers.low, integers.high);
        }
        for (n, theirs) in &case.randperm {
            assert_eq!(&seeded(&case.seed).randperm(*n), theirs, "seed {}", case.seed);
        }
    }
}

#[test]
fn interleaved_calls_stay_in_step() {
    for case in draws().interleaved {
        let mut generator = seeded(&case.seed);
        for (i, step) in case.steps.iter().enumerate() {
            let ours: Vec<f64> = match step.call.as_str() {
                "randn" => generator.randn(&[step.size]).into_iter().map(f64::from).collect(),
                "rand" => generator.rand(&[step.size]).into_iter().map(f64::from).collect(),
                "uniform" => generator.uniform(-1.0, 2.0, step.size).into_iter().map(f64::from).collect(),
                "randint" => generator.randint(0, 1000, step.size).into_iter().map(|x| x as f64).collect(),
                "randperm" => generator.randperm(step.size).into_iter().map(|x| x as f64).collect(),
                other => panic!("{other}"),
            };
            assert_eq!(ours.len(), step.values.len());
            for (a, b) in ours.iter().zip(&step.values) {
                assert!((a - b).abs() <= NORMAL_TOLERANCE, "seed {}, call {i} ({}): {a} for {b}", case.seed, step.call);
            }
        }
    }
}

#[test]
fn states_are_those_of_torch_and_continue() {
    for case in draws().states {
        let theirs: Vec<u8> =
            (0..case.state.len()).step_by(2).map(|i| u8::from_str_radix(&case.state[i..i + 2], 16).unwrap()).collect();
        let mut generator = Generator::manual_seed(42);
        for (call, size) in &case.calls {
            if call == "randn" {
                generator.randn(&[*size])
            } else {
                generator.rand(&[*size])
            };
        }
        let ours = generator.state();
        // The spare normal (bytes 5024..5032) is a float64 product of library functions and may differ in its last bits.
        assert_eq!(ours[..5024], theirs[..5024], "{}", case.history);
        assert_eq!(ours[5032..], theirs[5032..], "{}", case.history);
        let spare = |state: &[u8]| f64::from_le_bytes(state[5024..5032].try_into().unwrap());
        assert!((spare(&ours) - spare(&theirs)).abs() < 1e-12, "{}", case.history);

        let mut continued = Generator::from_state(&theirs).unwrap();
        let mut values = continued.randn(&[5]);
        values.extend(continued.rand(&[3]));
        assert_near(&values, &case.following, &case.history);

        let mut again = Generator::from_state(&ours).unwrap();
        assert!(again == generator);
        assert_eq!(again.randn(&[5]), generator.randn(&[5]));
        assert_eq!(again.random64(), generator.random64());
        assert_eq!(again.initial_seed(), 42);
    }
}

#[test]
fn broken_states_are_refused() {
    let mut generator = Generator::manual_seed(1);
    generator.randn(&[3]);
    let state = generator.state();
    assert!(Generator::from_state(&state).is_ok());
    assert!(Generator::from_state(&state[1..]).is_err());
    assert!(Generator::from_state(&[]).is_err());
    // The counter `left`, the mark `seeded`, the index `next`, the upper half of a word, the mark of the spare normal.
    for at in [8, 12, 16, 23, 28, 5040] {
        let mut broken = state.clone();
        broken[at] ^= 0x82;
        assert!(Generator::from_state(&broken).is_err(), "byte {at}");
    }
}

#[test]
fn a_tensor_holds_the_same_draws() {
    let tensor = Generator::manual_seed(3).randn_tensor(&[2, 3, 4], &Device::Cpu).unwrap();
    assert_eq!((tensor.dims(), tensor.dtype()), ([2, 3, 4].as_slice(), DType::F32));
    assert_eq!(tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(), Generator::manual_seed(3).randn(&[24]));
}
