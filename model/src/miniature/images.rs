//! Images to train on and to extract from when no data set is at hand: colored shapes on soft gradients, with captions that name
//! them. Deterministic: the same number gives the same bytes everywhere.

use std::path::Path;

use crate::formats::write_atomically;
use crate::rng::Generator;
use crate::vision::Rgb;
use crate::{Error, Result};

const COLORS: [(&str, [f32; 3]); 6] = [
    ("red", [220.0, 50.0, 40.0]),
    ("green", [60.0, 170.0, 70.0]),
    ("blue", [50.0, 90.0, 210.0]),
    ("yellow", [235.0, 205.0, 60.0]),
    ("white", [240.0, 240.0, 235.0]),
    ("black", [25.0, 25.0, 30.0]),
];
const SHAPES: [&str; 3] = ["circle", "square", "triangle"];

/// An image and what it shows.
struct Scene {
    image: Rgb,
    color: &'static str,
    shape: &'static str,
    ground: &'static str,
}

/// Writes `count` images `NAME.png` of `side` x `side` pixels, without captions; numbers start at `first`.
///
/// # Errors
/// When a file cannot be written.
pub fn write_images(folder: &Path, first: u64, count: u64, side: usize) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    (first..first + count).try_for_each(|index| scene(index, side).image.save_png(folder.join(format!("{index:03}.png"))))
}

/// Writes the paper's training layout: the same `count` images in `10_empty` (empty captions), `10_wd` (tags) and `10_kosmos`
/// (sentences).
///
/// # Errors
/// When a file cannot be written.
pub fn write_dataset(folder: &Path, count: u64, side: usize) -> Result<()> {
    for group in ["10_empty", "10_wd", "10_kosmos"] {
        let folder = folder.join(group);
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        for index in 0..count {
            let Scene { image, color, shape, ground } = scene(index, side);
            image.save_png(folder.join(format!("{index:03}.png")))?;
            let caption = match group {
                "10_wd" => format!("{shape}, {color}, {ground} background, simple"),
                "10_kosmos" => format!("a photo of a {color} {shape} in front of a {ground} background"),
                _ => String::new(),
            };
            write_atomically(folder.join(format!("{index:03}.txt")), |file| file.write_bytes(caption.as_bytes()))?;
        }
    }
    Ok(())
}

fn scene(index: u64, side: usize) -> Scene {
    let mut generator = Generator::manual_seed(index);
    let mut pick = |n: usize| generator.random() as usize % n;
    let color = pick(COLORS.len());
    let ground = (color + 1 + pick(COLORS.len() - 1)) % COLORS.len();
    let shape = pick(SHAPES.len());
    let (x0, y0) = (side * (30 + pick(40)) / 100, side * (30 + pick(40)) / 100);
    let radius = (side * (15 + pick(15)) / 100).max(1) as isize;
    let mut pixels = Vec::with_capacity(side * side * 3);
    for y in 0..side {
        for x in 0..side {
            let (dx, dy) = (x as isize - x0 as isize, y as isize - y0 as isize);
            let inside = match SHAPES[shape] {
                "circle" => dx * dx + dy * dy <= radius * radius,
                "square" => dx.abs() <= radius && dy.abs() <= radius,
                _ => dy.abs() <= radius && 2 * dx.abs() <= dy + radius,
            };
            let light = 0.75 + 0.25 * (x + y) as f32 / (2 * side) as f32;
            let value = if inside { COLORS[color].1 } else { COLORS[ground].1 };
            pixels.extend(value.map(|channel| (channel * light) as u8));
        }
    }
    let image = Rgb { width: side, height: side, pixels };
    Scene { image, color: COLORS[color].0, shape: SHAPES[shape], ground: COLORS[ground].0 }
}
