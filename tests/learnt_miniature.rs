//! The learnt miniature of `assets/miniature`: it draws what captions name, its autoencoder keeps an image recognizable, and features drift
//! on it as the paper says they do.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use driftless::formats::WeightFile;
use driftless::pipeline::{ModelOptions, Pipeline};
use driftless::vision::Image;
use testkit::scenes::layouts::{DataSet, kohya};
use testkit::scenes::{Scene, Style, Wanted};
use testkit::{Program, files, learnt_miniature, message};

const EXTRACT: Program = Program(env!("CARGO_BIN_EXE_extract"));

/// Runs `extract` on the learnt miniature: `given`, and `options` without spaces in them.
fn run(folder: &Path, given: &[&str], options: &str) {
    let model = learnt_miniature().display().to_string();
    let common = ["--model", &model, "--device", "cpu", "--quiet"];
    let output = EXTRACT.run(folder, &given.iter().copied().chain(common).chain(options.split(' ')).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(0), "{}", message(&output));
}

#[test]
fn it_is_small_and_stored_in_float16() {
    let mut bytes = 0;
    for (name, contents) in files(learnt_miniature()) {
        bytes += contents.len();
        if name.ends_with(".safetensors") {
            let file = WeightFile::open(learnt_miniature().join(&name)).unwrap();
            for key in file.names() {
                assert_eq!(file.info(key).unwrap().tensor_dtype(), Some(DType::F16), "{name}: {key}");
            }
        }
    }
    assert!((5_000_000..=10_000_000).contains(&bytes), "{bytes} bytes");
}

#[test]
fn the_autoencoder_keeps_photos_recognizable() {
    let pipeline = Pipeline::load(learnt_miniature(), &ModelOptions::default()).unwrap();
    let photos: Vec<Tensor> = (0..8)
        .map(|seed| {
            let scene = Scene::new(seed, &Wanted { style: Style::Photo, size: [128, 128], category: None, objects: 1 });
            scene.render().image.to_tensor(&Device::Cpu).unwrap()
        })
        .collect();
    let photos = Tensor::cat(&photos, 0).unwrap();
    let again = pipeline.vae.decode(&pipeline.vae.encode(&photos).unwrap().mean).unwrap();
    let mean_of_squares = |values: Tensor| values.sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
    let spread = mean_of_squares(photos.broadcast_sub(&photos.mean_all().unwrap()).unwrap());
    let lost = mean_of_squares((again - photos).unwrap()) / spread;
    assert!(lost < 0.08, "{lost} of the variance is lost");
}

/// The mean color of an image's four corners.
fn ground(path: &Path) -> [f64; 3] {
    let image = Image::open(path).unwrap().to_rgb();
    let mut sums = [0.0; 3];
    let near = |at: usize, size: usize| at < size / 6 || at >= size - size / 6;
    let corners = (0..image.height).flat_map(|y| (0..image.width).map(move |x| (x, y)));
    let corners: Vec<usize> =
        corners.filter(|&(x, y)| near(x, image.width) && near(y, image.height)).map(|(x, y)| y * image.width + x).collect();
    for &pixel in &corners {
        for channel in 0..3 {
            sums[channel] += f64::from(image.pixels[3 * pixel + channel]) / corners.len() as f64;
        }
    }
    sums
}

/// The closest of a photo's colors.
fn named(color: [f64; 3]) -> &'static str {
    let distance = |known: [f64; 3]| (0..3).map(|channel| (known[channel] - color[channel]).powi(2)).sum::<f64>();
    let known = Style::Photo.colors();
    known.iter().min_by(|a, b| distance(a.1).total_cmp(&distance(b.1))).unwrap().0
}

#[test]
fn captions_decide_what_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("layer.json"), r#"["mid-vit-out"]"#).unwrap();
    let grounds = ["blue", "green", "orange", "purple"];
    let mut found = Vec::new();
    for (index, ground_color) in grounds.iter().enumerate() {
        let prompt = format!("a photo of a white boat in front of {} {ground_color} background", article(ground_color));
        let seed = index.to_string();
        let options = "--steps 20 --at-steps 20 --guidance_scale 7 --height 128 --width 128 --layer layer.json";
        let given = ["generate", "--prompt", &prompt, "--seed", &seed, "--output_dir", ground_color];
        run(folder.path(), &given, options);
        found.push(named(ground(&folder.path().join(ground_color).join("picture.png"))));
    }
    assert_eq!(found, grounds);
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

#[test]
fn features_drift_the_more_the_noise_hides() {
    let folder = tempfile::tempdir().unwrap();
    // At `up-level0` the network has 4 x 4 positions, and four images tell little.
    let layers = ["up-level1-upsampler-out", "up-level2-upsampler-out"];
    let sets = format!("[[set]]\nname = 'plain'\nprompt = ''\nlayer = {layers:?}\n");
    std::fs::write(folder.path().join("sets.toml"), sets).unwrap();
    for style in [Style::Print, Style::Drawing] {
        let (style, images) = (style.name(), DataSet { style, side: 128, seed: 1 });
        kohya::write_held_out(&folder.path().join(style), &images, 4).unwrap();
        let scores = format!("{style}-scores");
        let given = ["score", "--input_dir", &format!("{style}/*.png"), "--output", &scores];
        run(folder.path(), &given, "--config sets.toml --img_size 128 --warps 0");
        let means = means(&folder.path().join(scores).join("scores.csv"));
        for layer in layers {
            let at = |timestep: &str| means[&(timestep.to_owned(), layer.to_owned())];
            let consistency = [at("50"), at("261"), at("500")];
            assert!(consistency[0] > consistency[1] && consistency[1] > consistency[2], "{style} {layer}: {consistency:?}");
            assert!(consistency[0] - consistency[2] > 0.05, "{style} {layer}: {consistency:?}");
        }
    }
}

/// Mean `draw_consistency` over the images, by timestep and layer.
fn means(path: &Path) -> BTreeMap<(String, String), f64> {
    let mut sums: BTreeMap<(String, String), (f64, f64)> = BTreeMap::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let fields: Vec<&str> = line.split(',').collect();
        let [_, _, timestep, layer, "draw_consistency", value] = fields[..] else { continue };
        let (sum, count) = sums.entry((timestep.to_owned(), layer.to_owned())).or_default();
        *sum += value.parse::<f64>().unwrap();
        *count += 1.0;
    }
    sums.into_iter().map(|(key, (sum, count))| (key, sum / count)).collect()
}
