//! An image as the model sees it: decoded, resized to cover its bucket, cut, mirrored.
//!
//! Mirrors `trim_and_resize_if_required` and `utils.resize_image` of sd-scripts 48d368f. Deliberate difference: images are resized
//! and cut always; there, with buckets off and latents not cached, an image of another size is an error.

use super::Sample;
use super::color::Color;
use super::fault::DataFault;
use super::plan::SubsetPlan;
use crate::options::Interpolation;
use anyhow::Result;
use driftless::rng::Generator;
use driftless::vision::{self, Filter, Image, Rgb};

/// What is done to an image beyond resizing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// Mirror it.
    pub flipped: bool,
    /// Cut this far from the left and the top, of the excess; `None`: the center.
    pub crop: Option<(usize, usize)>,
    /// Change its colors.
    pub color: Option<Color>,
}

impl Draw {
    /// The center, not mirrored, in its own colors.
    pub const PLAIN: Self = Self { flipped: false, crop: None, color: None };

    /// A random draw for `sample`.
    pub fn random(sample: &Sample, plan: &SubsetPlan, generator: &mut Generator) -> Self {
        let mut up_to = |excess: usize| generator.randint(0, excess as i64 + 1, 1).first().map_or(0, |&offset| offset as usize);
        let (bucket, resized) = (sample.placement.bucket, sample.placement.resized);
        let crop = plan.random_crop.then(|| (up_to(resized.0 - bucket.0), up_to(resized.1 - bucket.1)));
        let flipped = plan.flip && up_to(1) == 1;
        let color = if plan.color { Color::random(generator) } else { None };
        Self { flipped, crop, color }
    }
}

/// The pixels of `sample`, `placement.bucket` large.
///
/// # Errors
/// When the file cannot be read or decoded, or has another size than when it was looked at first.
pub fn load(sample: &Sample, interpolation: Option<Interpolation>, draw: Draw) -> Result<Rgb> {
    let open = if sample.upright { Image::open_oriented } else { Image::open };
    let image = open(&sample.path)?.to_rgb();
    let (found, expected) = ((image.width, image.height), sample.size);
    if found != expected {
        return Err(DataFault::SizeChanged { path: sample.path.clone(), found, expected }.into());
    }
    let (width, height) = sample.placement.resized;
    let resized = resize(&image, width, height, interpolation);
    let (bucket_width, bucket_height) = sample.placement.bucket;
    let (left, top) = draw.crop.unwrap_or(((width - bucket_width) / 2, (height - bucket_height) / 2));
    let cut = resized.cropped(left, top, bucket_width, bucket_height)?;
    let cut = if draw.flipped { cut.flipped_horizontally() } else { cut };
    Ok(draw.color.map_or_else(|| cut.clone(), |color| color.apply(&cut)))
}

/// Area averaging when neither side grows, else Lanczos; or the filter that is forced.
fn resize(image: &Rgb, width: usize, height: usize, interpolation: Option<Interpolation>) -> Rgb {
    if (image.width, image.height) == (width, height) {
        return image.clone();
    }
    let shrinks = image.width >= width && image.height >= height;
    match interpolation.unwrap_or(if shrinks { Interpolation::Area } else { Interpolation::Lanczos }) {
        Interpolation::Area => vision::resize_area(image, width, height),
        Interpolation::Lanczos => vision::resize(image, width, height, Filter::Lanczos),
        Interpolation::Box => vision::resize(image, width, height, Filter::Box),
        Interpolation::Nearest => vision::resize(image, width, height, Filter::Nearest),
    }
}

#[cfg(test)]
mod tests {
    use super::super::DataSet;
    use super::super::buckets::Placement;
    use super::*;
    use crate::options::Options;

    /// An image whose red is the column and whose green is the row.
    fn sample(folder: &std::path::Path, size: (usize, usize), placement: Placement) -> Sample {
        let path = folder.join("a.png");
        let pixels = (0..size.0 * size.1).flat_map(|i| [(i % size.0) as u8, (i / size.0) as u8, 0]).collect();
        Rgb { width: size.0, height: size.1, pixels }.save_png(&path).unwrap();
        Sample { path, size, caption: String::new(), upright: false, subset: 0, repeats: 1, is_reg: false, placement }
    }

    fn first_pixel(rgb: &Rgb) -> (u8, u8) {
        (rgb.pixels[0], rgb.pixels[1])
    }

    #[test]
    fn cut_at_the_center_or_where_chance_says() {
        let folder = tempfile::tempdir().unwrap();
        let sample = sample(folder.path(), (21, 16), Placement { bucket: (16, 16), resized: (21, 16) });
        let plain = load(&sample, None, Draw::PLAIN).unwrap();
        assert_eq!((plain.width, plain.height, first_pixel(&plain)), (16, 16, (2, 0)));
        let flipped = load(&sample, None, Draw { flipped: true, crop: Some((5, 0)), color: None }).unwrap();
        assert_eq!(first_pixel(&flipped), (20, 0));

        let mut plan = SubsetPlan::from_options(&Options::of(&[]));
        let mut generator = Generator::manual_seed(0);
        assert_eq!(Draw::random(&sample, &plan, &mut generator), Draw::PLAIN);
        (plan.random_crop, plan.flip) = (true, true);
        let draws: Vec<Draw> = (0..200).map(|_| Draw::random(&sample, &plan, &mut generator)).collect();
        for left in 0..=5 {
            assert!(draws.iter().any(|draw| draw.crop == Some((left, 0))), "{left} never came");
        }
        assert!(draws.iter().all(|draw| draw.crop.is_some_and(|(left, top)| left <= 5 && top == 0)));
        assert!((70..130).contains(&draws.iter().filter(|draw| draw.flipped).count()));
    }

    #[test]
    fn shrinking_averages_areas() {
        let folder = tempfile::tempdir().unwrap();
        let sample = sample(folder.path(), (32, 32), Placement { bucket: (16, 16), resized: (16, 16) });
        // Columns 0 and 1 average to 0.5, which rounds to even in neither library: OpenCV gives 1, and 0 for Lanczos' first pixel.
        assert_eq!(
            first_pixel(&load(&sample, None, Draw::PLAIN).unwrap()).0,
            first_pixel(&load(&sample, Some(Interpolation::Area), Draw::PLAIN).unwrap()).0
        );
        let nearest = load(&sample, Some(Interpolation::Nearest), Draw::PLAIN).unwrap();
        assert_eq!(nearest.pixels[3] - nearest.pixels[0], 2);
    }

    #[test]
    fn an_image_that_changed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let placement = Placement { bucket: (16, 16), resized: (16, 16) };
        let mut sample = sample(folder.path(), (16, 16), placement);
        sample.size = (17, 16);
        let message = load(&sample, None, Draw::PLAIN).unwrap_err().to_string();
        assert!(message.contains("a.png") && message.contains("changed"), "{message}");
    }

    #[test]
    fn photographs_are_turned_upright_only_where_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let photograph = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/vision/files/rotated6.jpg");
        std::fs::create_dir_all(folder.path().join("train/1_a")).unwrap();
        Rgb::filled(23, 17, [10, 20, 30]).save_png(folder.path().join("train/1_a/0.png")).unwrap();
        std::fs::copy(photograph, folder.path().join("train/1_a/1.jpg")).unwrap();
        let options =
            ["--resolution=64", "--enable_bucket", "--min_bucket_reso=32", "--max_bucket_reso=128", "--bucket_reso_steps=8"];
        let train = format!("--train_data_dir={}", folder.path().join("train").display());
        let plan = |arguments: &[&str]| super::super::plan(&Options::of(arguments)).unwrap();
        let scan = |arguments: &[&str]| DataSet::scan(plan(&[&[train.as_str()], arguments].concat()), 0);
        let stored = scan(&options).unwrap();
        let upright = scan(&[&options[..], &["--exif_orientation"]].concat()).unwrap();
        let sizes = |set: &DataSet| set.datasets[0].samples.iter().map(|sample| sample.size).collect::<Vec<_>>();
        assert_eq!((sizes(&stored), sizes(&upright)), (vec![(23, 17); 2], vec![(23, 17), (17, 23)]));
        let warned =
            |set: &DataSet| set.warnings.iter().any(|line| line.contains("(1.jpg)") && line.contains("--exif_orientation"));
        assert!(warned(&stored) && !warned(&upright), "{:?} {:?}", stored.warnings, upright.warnings);

        let sample = &upright.datasets[0].samples[1];
        assert!(sample.placement.bucket.0 < sample.placement.bucket.1);
        let seen = load(sample, None, Draw::PLAIN).unwrap();
        assert_eq!((seen.width, seen.height), sample.placement.bucket);

        let config = folder.path().join("data.toml");
        let image_dir = folder.path().join("train/1_a");
        let text = format!("[[datasets]]\n[[datasets.subsets]]\nimage_dir = {image_dir:?}\nexif_orientation = true\n");
        std::fs::write(&config, text).unwrap();
        let config = format!("--dataset_config={}", config.display());
        let set = DataSet::scan(plan(&[&config]), 0).unwrap();
        assert_eq!(sizes(&set), sizes(&upright));
    }
}
