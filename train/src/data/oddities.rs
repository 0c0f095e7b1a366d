//! Oddities of a folder of images that are rarely intended: the images are used as they are, and the user is warned.

use super::Sample;
use super::scan::Subset;
use std::path::PathBuf;

/// An image that is enlarged more than this on a side mostly teaches the artifacts of resampling.
const MOST_ENLARGED: f64 = 4.0;
/// An image of which less than this is left after cutting is rarely intended.
const LEAST_SEEN: f64 = 0.25;

/// A sentence on the images of a folder that are enlarged much, and one on those of which most is cut off.
pub fn describe(folder: &impl std::fmt::Display, samples: &[Sample]) -> Vec<String> {
    let enlarged = list(samples, |sample| {
        let factor = sample.placement.resized.0 as f64 / sample.size.0.max(1) as f64;
        (factor > MOST_ENLARGED).then(|| format!("{}x{} pixels", sample.size.0, sample.size.1))
    });
    let cut = list(samples, |sample| {
        let (bucket, resized) = (sample.placement.bucket, sample.placement.resized);
        let seen = (bucket.0 * bucket.1) as f64 / (resized.0 as f64 * resized.1 as f64);
        (seen < LEAST_SEEN).then(|| format!("{}x{} pixels, {:.0} % seen", sample.size.0, sample.size.1, seen * 100.0))
    });
    let enlarged = enlarged.map(|list| format!("{folder}: enlarged more than {MOST_ENLARGED} times: {list}"));
    let cut = cut.map(|list| format!("{folder}: cut to less than a quarter: {list}; see --enable_bucket"));
    enlarged.into_iter().chain(cut).collect()
}

/// The first five names with a remark, and how many more there are.
fn list(samples: &[Sample], remark: impl Fn(&Sample) -> Option<String>) -> Option<String> {
    let found: Vec<String> = samples
        .iter()
        .filter_map(|sample| {
            let name = sample.path.file_name().unwrap_or_default().to_string_lossy();
            remark(sample).map(|remark| format!("{name} ({remark})"))
        })
        .collect();
    let more = if found.len() > 5 { format!(" and {} more", found.len() - 5) } else { String::new() };
    (!found.is_empty()).then(|| format!("{}{more}", found[..found.len().min(5)].join(", ")))
}

/// A sentence on the images that have no caption file.
pub fn missing_captions(subset: &Subset) -> String {
    let missing = &subset.without_caption;
    let extension = subset.plan.caption_extension.trim_start_matches('.');
    let instead = match subset.plan.class_tokens.as_deref() {
        Some(class) if !class.is_empty() => format!("they train with the caption `{class}`"),
        _ => "they train without a caption".to_owned(),
    };
    let (folder, count, names) = (subset.plan.image_dir.display(), missing.len(), first_names(missing));
    format!("{folder}: {count} of {} images have no .{extension} file ({names}); {instead}", subset.images)
}

/// A sentence on the images that a viewer would show turned, and that train as they are stored.
pub fn not_turned(subset: &Subset, images: &[PathBuf]) -> String {
    let (folder, count, names) = (subset.plan.image_dir.display(), images.len(), first_names(images));
    format!(
        "{folder}: Exif data of {count} of {} images ({names}) ask for turning them, which is not done, as with kohya; see \
         --exif_orientation",
        subset.images
    )
}

fn first_names(paths: &[PathBuf]) -> String {
    let names = paths.iter().take(5).map(|path| path.file_name().unwrap_or_default().to_string_lossy());
    let names = names.collect::<Vec<_>>().join(", ");
    names + if paths.len() > 5 { ", ..." } else { "" }
}
