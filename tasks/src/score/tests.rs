//! Properties of the scores, and their numbers against a transcription in float64.

use driftless::rng::Generator;
use driftless::vision::Rgb;
use features::stores::Feature;

use super::*;
use crate::matching::{Target, descriptors};
use crate::warp::Warp;

fn noise(generator: &mut Generator, shape: [usize; 3]) -> Feature {
    Feature { shape, values: generator.randn(&shape) }
}

fn sum(a: &Feature, b: &Feature, spread: f32) -> Feature {
    Feature { shape: a.shape, values: a.values.iter().zip(&b.values).map(|(a, b)| a + spread * b).collect() }
}

/// `count` draws of a feature.
fn draws(generator: &mut Generator, shape: [usize; 3], spread: f32, count: usize) -> Vec<Feature> {
    let clean = noise(generator, shape);
    (0..count).map(|_| sum(&clean, &noise(generator, shape), spread)).collect()
}

fn consistency(draws: &[Feature]) -> f64 {
    draw_consistency(&draws.iter().collect::<Vec<_>>()).unwrap()
}

/// Neighboring channels turned against each other, and everything scaled.
fn mixed(feature: &Feature) -> Feature {
    let [channels, height, width] = feature.shape;
    let positions = height * width;
    let mut values = feature.values.clone();
    for pair in 0..channels / 2 {
        for at in 0..positions {
            let (a, b) = (feature.values[2 * pair * positions + at], feature.values[(2 * pair + 1) * positions + at]);
            values[2 * pair * positions + at] = 3.0 * (0.6 * a - 0.8 * b);
            values[(2 * pair + 1) * positions + at] = 3.0 * (0.8 * a + 0.6 * b);
        }
    }
    Feature { shape: feature.shape, values }
}

// Reference: tests/reference/scores.py, numpy and torch in float64. 1e-6: the only rounding is that of float64 sums.
#[test]
fn numbers_equal_the_transcription() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/tasks/scores.json");
    let fixture: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 2);
    for case in cases {
        let shape: [usize; 3] = serde_json::from_value(case["shape"].clone()).unwrap();
        let values: Vec<Vec<f32>> = serde_json::from_value(case["draws"].clone()).unwrap();
        let [a, b, c] = &values.into_iter().map(|values| Feature { shape, values }).collect::<Vec<_>>()[..] else { panic!() };
        let close = |name: &str, found: f64| {
            let expected = case[name].as_f64().unwrap();
            assert!((found - expected).abs() < 1e-6, "{name}: {found}, expected {expected}");
        };
        close("draw_consistency", draw_consistency(&[a, b, c]).unwrap());
        close("cka", cka(a, b).unwrap().unwrap());
        let both = paper(a, b, c).unwrap();
        close("paper", both.raw.unwrap());
        close("paper_scale_free", both.scale_free.unwrap());
        close("latent", latent_agreement(&a.values, &b.values).unwrap());
        let points: Vec<[f64; 2]> = serde_json::from_value(case["points"].clone()).unwrap();
        let expected: Vec<(usize, usize, f64)> = serde_json::from_value(case["matches"].clone()).unwrap();
        let found = Target::new(b, [40, 32]).find(&descriptors(a, &points, [40, 32]));
        for (found, (row, column, cosine)) in found.iter().zip(&expected) {
            // Of cosines this near another position is as good.
            let same = (found.row, found.column) == (*row, *column);
            assert!(
                (found.cosine - cosine).abs() < 1e-6 && (same || (found.cosine - cosine).abs() < 1e-5),
                "{found:?} {row} {column}"
            );
        }
        assert_eq!(found.len(), expected.len());
    }
}

#[test]
fn nothing_drifts_without_noise() {
    let mut generator = Generator::manual_seed(0);
    let same = draws(&mut generator, [6, 8, 8], 0.0, 3);
    assert_eq!(consistency(&same), 1.0);
    assert!((cka(&same[0], &same[1]).unwrap().unwrap() - 1.0).abs() < 1e-12);
    assert_eq!(latent_agreement(&same[0].values, &same[1].values), Some(1.0));
    let anchor = noise(&mut generator, [6, 8, 8]);
    assert_eq!(paper(&same[0], &same[1], &anchor).unwrap(), Paper { raw: Some(1.0), scale_free: Some(1.0) });
    assert_eq!(paper(&anchor, &same[1], &anchor).unwrap().raw, Some(0.0));
    // What does not vary says nothing.
    let flat = Feature { shape: [6, 8, 8], values: vec![2.0; 384] };
    assert_eq!(consistency(&[flat.clone(), flat.clone()]), 1.0);
    assert_eq!(cka(&flat, &anchor).unwrap(), None);
}

#[test]
fn mixing_channels_and_scaling_change_nothing() {
    let mut generator = Generator::manual_seed(1);
    for shape in [[6, 5, 5], [40, 4, 4]] {
        let plain = draws(&mut generator, shape, 0.7, 4);
        let other: Vec<Feature> = plain.iter().map(mixed).collect();
        assert!((consistency(&plain) - consistency(&other)).abs() < 1e-6);
        let of = |a: &Feature, b: &Feature| cka(a, b).unwrap().unwrap();
        assert!((of(&plain[0], &plain[1]) - of(&other[0], &plain[1])).abs() < 1e-6);
        let [a, b] = [&plain, &other].map(|of| paper(&of[0], &of[1], &of[2]).unwrap());
        assert!((a.raw.unwrap() - b.raw.unwrap()).abs() < 1e-5 && (a.scale_free.unwrap() - b.scale_free.unwrap()).abs() < 1e-5);
    }
}

/// Two draws say on average what eight say. The signal's variance is 1 and the noise's 0.49, so that the score is 1 / 1.49.
#[test]
fn the_number_of_draws_does_not_bias_consistency() {
    let mut generator = Generator::manual_seed(2);
    for count in [2, 3, 8] {
        let trials = 60;
        let mean =
            (0..trials).map(|_| 1.0 - consistency(&draws(&mut generator, [4, 12, 12], 0.7, count))).sum::<f64>() / trials as f64;
        // The mean of 60 trials is uncertain by some 0.003.
        assert!((mean - 0.49 / 1.49).abs() < 0.01, "{count} draws: {mean}");
    }
}

#[test]
fn consistency_falls_with_the_noise() {
    let scores = [0.1, 0.5, 2.0].map(|spread| consistency(&draws(&mut Generator::manual_seed(3), [6, 8, 8], spread, 4)));
    assert!(scores[0] > 0.98 && scores.is_sorted_by(|a, b| a > b), "{scores:?}");
}

/// A feature that says where it is, warped exactly: every point is found again.
#[test]
fn points_are_found_where_the_warp_says() {
    let (cells, side) = (32, 128);
    // A code of the point whose slowest wave is longer than the image, so that no two points have the same.
    let code = |[y, x]: [f64; 2]| {
        let waves = [1.0, 2.0, 3.0, 5.0].map(|rate| [y, x].map(|at| [(rate * at / 30.0).sin(), (rate * at / 30.0).cos()]));
        waves.into_iter().flatten().flatten().map(|value| value as f32).collect::<Vec<f32>>()
    };
    let feature = |of: &dyn Fn([f64; 2]) -> [f64; 2]| {
        let center = |cell: usize| (cell as f64 + 0.5) * (side / cells) as f64 - 0.5;
        let codes: Vec<Vec<f32>> = (0..cells * cells).map(|at| code(of([center(at / cells), center(at % cells)]))).collect();
        let channels = codes[0].len();
        let values = (0..channels).flat_map(|channel| codes.iter().map(move |code| code[channel])).collect();
        Feature { shape: [channels, cells, cells], values }
    };
    for number in 0..3 {
        let warp = Warp::new(1, number);
        let (plain, warped) = (feature(&|point| point), feature(&|point| warp.source(point, side)));
        let found = warp_pck(&plain, &warped, &warp, side).unwrap();
        assert!(found.pck == 1.0 && found.cells < 0.5, "{number}: {found:?}");
        let lost = noise(&mut Generator::manual_seed(4), plain.shape);
        assert!(warp_pck(&plain, &lost, &warp, side).unwrap().pck < 0.3);
    }
    let away = Warp::Similarity { turn: [1.0, 0.0], shift: [3.0, 0.0] };
    let plain = feature(&|point| point);
    assert!(matches!(warp_pck(&plain, &plain, &away, side), Err(ScoreFault::NoOverlap)));
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let mut generator = Generator::manual_seed(5);
    let (a, b) = (noise(&mut generator, [2, 3, 3]), noise(&mut generator, [2, 3, 4]));
    let refused = |fault: Option<ScoreFault>| fault.map(|fault| fault.to_string()).unwrap_or_default();
    assert!(matches!(draw_consistency(&[&a]), Err(ScoreFault::OneDraw { found: 1 })));
    for fault in [draw_consistency(&[&a, &b]).err(), cka(&a, &b).err(), paper(&a, &a, &b).err()] {
        let words = refused(fault);
        assert!(words.starts_with("features of shapes [2, 3, 3] and [2, 3, 4] cannot be compared"), "{words}");
    }
}

#[test]
fn images_by_their_gradients_and_edges() {
    let square = |left: usize| {
        let mut image = Rgb::filled(48, 48, [20, 20, 20]);
        for y in 12..36 {
            for x in left..left + 24 {
                image.pixels[(y * 48 + x) * 3..][..3].fill(230);
            }
        }
        image
    };
    let (here, near, away, empty) = (square(12), square(13), square(20), Rgb::filled(48, 48, [20, 20, 20]));
    assert!((gradient_correlation(&here, &here).unwrap() - 1.0).abs() < 1e-12 && edge_agreement(&here, &here) == 1.0);
    assert_eq!(edge_agreement(&here, &near), 1.0);
    let far = edge_agreement(&here, &away);
    assert!((0.2..0.9).contains(&far), "{far}");
    assert!(gradient_correlation(&here, &away).unwrap() < gradient_correlation(&here, &near).unwrap());
    assert_eq!(
        (gradient_correlation(&here, &empty), edge_agreement(&here, &empty), edge_agreement(&empty, &empty)),
        (None, 0.0, 1.0)
    );
}
