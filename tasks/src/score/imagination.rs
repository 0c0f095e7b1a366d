//! How near to the image is what the network predicts it to be from the noised latents.

use driftless::vision::{Rgb, canny};

/// Canny's thresholds, as for condition images.
const CANNY: (u32, u32) = (100, 200);
/// How far apart two edges may be, in pixels, to be the same.
const TOLERANCE: i64 = 2;

/// `1 - ||predicted - latents||^2 / ||latents||^2`: 1 means that nothing is invented. `None` for latents of zeros.
///
/// With the cumulative alpha `a` of the timestep the difference is `(1 - a) / a` times the squared error of the predicted noise, so this is
/// the denoising loss of the image, scaled.
pub fn latent_agreement(latents: &[f32], predicted: &[f32]) -> Option<f64> {
    let square = |value: f64| value * value;
    let whole: f64 = latents.iter().map(|value| square(f64::from(*value))).sum();
    let off: f64 = latents.iter().zip(predicted).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    (whole > 0.0).then(|| 1.0 - off / whole)
}

/// Pearson's correlation of the magnitudes of gradients (central differences of luma, inner pixels) of two images of one size. `None`
/// where one of them has the same everywhere.
pub fn gradient_correlation(a: &Rgb, b: &Rgb) -> Option<f64> {
    let [a, b] = [a, b].map(gradients);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_a, mean_b) = (mean(&a), mean(&b));
    let sum = |of: &dyn Fn(f64, f64) -> f64| a.iter().zip(&b).map(|(a, b)| of(a - mean_a, b - mean_b)).sum::<f64>();
    let norms = (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt();
    (norms > 0.0).then(|| sum(&|a, b| a * b) / norms)
}

fn gradients(image: &Rgb) -> Vec<f64> {
    let luma = |x: usize, y: usize| {
        let at = (y * image.width + x) * 3;
        let [red, green, blue] = [0, 1, 2].map(|channel| f64::from(image.pixels[at + channel]));
        0.299 * red + 0.587 * green + 0.114 * blue
    };
    let inner = |size: usize| 1..size.saturating_sub(1);
    let of = |y: usize| {
        inner(image.width).map(move |x| {
            let (dx, dy) = (luma(x + 1, y) - luma(x - 1, y), luma(x, y + 1) - luma(x, y - 1));
            (dx * dx + dy * dy).sqrt()
        })
    };
    inner(image.height).flat_map(of).collect()
}

/// F1 of Canny's edges of two images of one size, where an edge counts as found that has one of the other image within two pixels. 1 where
/// neither has edges, 0 where one has.
pub fn edge_agreement(a: &Rgb, b: &Rgb) -> f64 {
    let [a, b] = [a, b].map(|image| canny(image, CANNY.0, CANNY.1));
    let found = |edges: &driftless::vision::Gray, among: &driftless::vision::Gray| {
        let (width, height) = (among.width as i64, among.height as i64);
        let near = |x: i64, y: i64| {
            let mut around = (-TOLERANCE..=TOLERANCE).flat_map(|dy| (-TOLERANCE..=TOLERANCE).map(move |dx| (dx, dy)));
            around.any(|(dx, dy)| {
                let (x, y) = (x + dx, y + dy);
                let inside = (0..width).contains(&x) && (0..height).contains(&y);
                inside && dx * dx + dy * dy <= TOLERANCE * TOLERANCE && among.pixels[(y * width + x) as usize] > 0
            })
        };
        let all: Vec<usize> = (0..edges.pixels.len()).filter(|at| edges.pixels[*at] > 0).collect();
        let hits = all.iter().filter(|at| near(**at as i64 % width, **at as i64 / width)).count();
        (hits as f64, all.len() as f64)
    };
    let ((hits_a, all_a), (hits_b, all_b)) = (found(&a, &b), found(&b, &a));
    match (all_a > 0.0, all_b > 0.0) {
        (false, false) => 1.0,
        (true, false) | (false, true) => 0.0,
        (true, true) => {
            let (precision, recall) = (hits_a / all_a, hits_b / all_b);
            if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 }
        }
    }
}
