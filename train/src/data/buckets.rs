//! Buckets: the size that an image is resized and cropped to, so that a batch holds images of one size.
//!
//! Mirrors sd-scripts 48d368f: `model_util.make_bucket_resolutions`, `train_util.BucketManager.select_bucket`,
//! `BaseDataset.adjust_min_max_bucket_reso_by_steps`; in the same order of floating-point operations, since an image's bucket can
//! depend on the last bit.
//!
//! Deliberate difference: an image that is smaller than one step on a side, for which `bucket_no_upscale` gives an empty bucket, is
//! refused by name.

use super::fault::DataFault;
use std::collections::BTreeSet;

/// Width and height in pixels. Ordered by width, then height, as kohya lists buckets.
pub type Size = (usize, usize);

/// How an image is resized and then cropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Placement {
    /// The size after cropping.
    pub bucket: Size,
    /// The size before cropping; at least as large as the bucket on both sides.
    pub resized: Size,
}

/// How sizes are chosen.
#[derive(Debug, Clone, PartialEq)]
pub enum Buckets {
    /// Everything becomes this size.
    Fixed(Size),
    /// The size nearest in shape, of these.
    Listed(Vec<Size>),
    /// Made from each image's own size; never larger than it.
    NoUpscale {
        /// Most pixels.
        area: usize,
        /// Sides are multiples of this.
        step: usize,
    },
}

/// The options that buckets depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketSettings {
    /// `--resolution`.
    pub resolution: Size,
    /// `--enable_bucket`.
    pub enable: bool,
    /// `--min_bucket_reso`.
    pub min: usize,
    /// `--max_bucket_reso`.
    pub max: usize,
    /// `--bucket_reso_steps`.
    pub step: usize,
    /// `--bucket_no_upscale`.
    pub no_upscale: bool,
}

/// The longest side of an image that trains, as `--resolution` has it.
const MOST_SIDE: usize = 16_384;

impl BucketSettings {
    /// Shortest and longest side, rounded to multiples of the step: down and up.
    pub fn limits(&self) -> (usize, usize) {
        (self.min - self.min % self.step, self.max.div_ceil(self.step) * self.step)
    }

    /// The buckets.
    ///
    /// # Errors
    /// When the options contradict each other.
    pub fn buckets(&self) -> Result<Buckets, DataFault> {
        let (width, height) = self.resolution;
        if !self.enable {
            return Ok(Buckets::Fixed(self.resolution));
        }
        if self.step == 0 || !self.step.is_multiple_of(8) {
            return Err(DataFault::BucketSteps { found: self.step });
        }
        if self.no_upscale {
            return Ok(Buckets::NoUpscale { area: width * height, step: self.step });
        }
        if self.max > MOST_SIDE || self.step > MOST_SIDE {
            return Err(DataFault::BucketsTooLarge { side: self.max, step: self.step, most: MOST_SIDE });
        }
        match self.limits() {
            (0, _) => Err(DataFault::SmallestBucket { found: self.min, least: self.step }),
            (min, _) if min > width.min(height) => {
                Err(DataFault::SmallestBucketTooLarge { found: self.min, most: width.min(height) })
            }
            (_, max) if max < width.max(height) => {
                Err(DataFault::LargestBucketTooSmall { found: self.max, least: width.max(height) })
            }
            (min, max) => Ok(Buckets::Listed(list(width * height, min, max, self.step))),
        }
    }
}

/// All sizes with sides in multiples of `step` from `min` to `max` that hold at most `area` pixels and fill it best for their width.
fn list(area: usize, min: usize, max: usize, step: usize) -> Vec<Size> {
    let mut sizes = BTreeSet::new();
    let square = ((area as f64).sqrt() / step as f64).floor() as usize * step;
    sizes.insert((square, square));
    for width in (min..=max).step_by(step) {
        let height = max.min(area / width / step * step);
        if height >= min {
            sizes.insert((width, height));
            sizes.insert((height, width));
        }
    }
    sizes.into_iter().collect()
}

impl Buckets {
    /// The bucket of an image of `width` times `height` pixels.
    ///
    /// # Errors
    /// When the image is too small or too narrow for any bucket.
    pub fn place(&self, width: usize, height: usize) -> Result<Placement, DataFault> {
        if width == 0 || height == 0 {
            return Err(DataFault::EmptyImage);
        }
        match self {
            Self::Fixed(size) => Ok(cover(width, height, *size)),
            Self::Listed(sizes) => Ok(cover(width, height, nearest(width, height, sizes))),
            Self::NoUpscale { area, step } => shrink(width, height, *area, *step),
        }
    }
}

/// The size itself when it is listed; otherwise the one whose aspect ratio is nearest, the first of several.
fn nearest(width: usize, height: usize, sizes: &[Size]) -> Size {
    if sizes.contains(&(width, height)) {
        return (width, height);
    }
    let aspect = width as f64 / height as f64;
    let distance = |size: &Size| (size.0 as f64 / size.1 as f64 - aspect).abs();
    let first = sizes.first().copied().unwrap_or((width, height));
    sizes.iter().copied().fold(first, |best, size| if distance(&size) < distance(&best) { size } else { best })
}

/// The smallest resize that covers `bucket`.
fn cover(width: usize, height: usize, bucket: Size) -> Placement {
    let (w, h) = (width as f64, height as f64);
    let (bucket_w, bucket_h) = (bucket.0 as f64, bucket.1 as f64);
    let scale = if w / h > bucket_w / bucket_h { bucket_h / h } else { bucket_w / w };
    // Rounding may fall one pixel short of the bucket on the side that sets the scale; kohya would then stop with an error.
    let resized = (round(w * scale).max(bucket.0), round(h * scale).max(bucket.1));
    Placement { bucket, resized }
}

fn shrink(width: usize, height: usize, area: usize, step: usize) -> Result<Placement, DataFault> {
    let aspect = width as f64 / height as f64;
    let resized = if width * height > area {
        let to_step = |x: f64| round(x) / step * step;
        let free_width = (area as f64 * aspect).sqrt();
        let free_height = area as f64 / free_width;
        let by_width = to_step(free_width);
        let height_for_it = to_step(by_width as f64 / aspect);
        let by_height = to_step(free_height);
        let width_for_it = to_step(by_height as f64 * aspect);
        if height_for_it == 0 || by_height == 0 {
            return Err(DataFault::TooSmall { width, height, step });
        }
        let error = |w: usize, h: usize| (w as f64 / h as f64 - aspect).abs();
        if error(by_width, height_for_it) < error(width_for_it, by_height) {
            (by_width, round(by_width as f64 / aspect))
        } else {
            (round(by_height as f64 * aspect), by_height)
        }
    } else {
        (width, height)
    };
    let bucket = (resized.0 - resized.0 % step, resized.1 - resized.1 % step);
    if bucket.0 == 0 || bucket.1 == 0 {
        return Err(DataFault::TooSmall { width, height, step });
    }
    Ok(Placement { bucket, resized })
}

/// Half up, as kohya's `int(x + 0.5)`.
fn round(x: f64) -> usize {
    (x + 0.5) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn settings(resolution: Size) -> BucketSettings {
        BucketSettings { resolution, enable: true, min: 256, max: 1024, step: 64, no_upscale: false }
    }

    fn size(value: &Value) -> Size {
        (value[0].as_u64().unwrap() as usize, value[1].as_u64().unwrap() as usize)
    }

    // Reference: sd-scripts 48d368f, BucketManager, 200 random sizes under each setting: tests/reference/train_buckets.py.
    // Integers, so equality is exact.
    #[test]
    fn every_size_goes_where_kohya_puts_it() {
        let fixture: Value =
            serde_json::from_str(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/train/buckets.json")))
                .unwrap();
        for case in fixture["cases"].as_array().unwrap() {
            let number = |key: &str| case[key].as_u64().unwrap() as usize;
            let settings = BucketSettings {
                resolution: size(&case["resolution"]),
                enable: case["enable"].as_bool().unwrap(),
                min: number("min"),
                max: number("max"),
                step: number("step"),
                no_upscale: case["no_upscale"].as_bool().unwrap(),
            };
            let buckets = settings.buckets().unwrap();
            if let Buckets::Listed(sizes) = &buckets {
                let expected: Vec<Size> = case["list"].as_array().unwrap().iter().map(size).collect();
                assert_eq!(*sizes, expected, "{settings:?}");
            }
            let images = case["images"].as_array().unwrap();
            assert_eq!(images.len(), 200);
            for image in images {
                let (width, height) = size(&image["size"]);
                let expected = Placement { bucket: size(&image["bucket"]), resized: size(&image["resized"]) };
                assert_eq!(buckets.place(width, height).unwrap(), expected, "{width}x{height} with {settings:?}");
            }
        }
    }

    #[test]
    fn the_list_for_512() {
        let Buckets::Listed(sizes) = settings((512, 512)).buckets().unwrap() else { panic!() };
        assert_eq!(sizes.len(), 17);
        assert_eq!((sizes[0], sizes[8], sizes[16]), ((256, 832), (512, 512), (1024, 256)));
    }

    #[test]
    fn a_resized_image_always_covers_its_bucket() {
        let buckets = settings((512, 650 - 650 % 64)).buckets().unwrap();
        for width in (1..3000).step_by(37) {
            for height in (1..3000).step_by(41) {
                for buckets in [&buckets, &Buckets::Fixed((512, 650))] {
                    let placement = buckets.place(width, height).unwrap();
                    assert!(
                        placement.resized.0 >= placement.bucket.0 && placement.resized.1 >= placement.bucket.1,
                        "{width}x{height}"
                    );
                }
            }
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for (changed, expected) in [
            (BucketSettings { min: 640, ..settings((512, 512)) }, "min_bucket_reso"),
            (BucketSettings { max: 448, ..settings((512, 512)) }, "max_bucket_reso"),
            (BucketSettings { min: 32, ..settings((512, 512)) }, "min_bucket_reso"),
            (BucketSettings { step: 0, ..settings((512, 512)) }, "bucket_reso_steps"),
            (BucketSettings { step: 12, ..settings((512, 512)) }, "bucket_reso_steps"),
        ] {
            assert!(changed.buckets().unwrap_err().to_string().contains(expected), "{changed:?}");
        }
    }

    #[test]
    fn an_image_of_one_pixel_is_refused_only_where_nothing_is_enlarged() {
        let no_upscale = BucketSettings { no_upscale: true, ..settings((512, 512)) }.buckets().unwrap();
        assert!(no_upscale.place(1, 1).unwrap_err().to_string().contains("1x1"));
        assert!(no_upscale.place(30000, 40).unwrap_err().to_string().contains("30000x40"));
        assert_eq!(settings((512, 512)).buckets().unwrap().place(1, 1).unwrap().bucket, (512, 512));
    }
}
