//! SPair-71k's folders, and the lists of pairs of diffusion-hyperfeatures.
//!
//! Coordinates are those of pixel indices: the middle of the first pixel is 0.

use std::path::Path;

use driftless::Result;
use driftless::vision::Gray;
use serde_json::{Map, Value, json};

use super::{DataSet, Split, create_parent, write_jpeg, write_text};
use crate::scenes::{CATEGORIES, Object, Point, Rendered};

/// Images per category in each split.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Of `trn`.
    pub training: usize,
    /// Of `val`.
    pub validation: usize,
    /// Of `test`.
    pub test: usize,
}

/// An annotated image.
struct Annotated {
    /// `CATEGORY/NAME.jpg`.
    path: String,
    stem: String,
    object: Object,
    rendered: Rendered,
    box_: [usize; 4],
}

/// Writes `JPEGImages`, `ImageAnnotation`, `Segmentation`, `PairAnnotation` and `Layout` (`large`: all ordered pairs of two images of a
/// category; `small`: every fourth), and `JPEGImages/spair_71k_{train,val,test}.json`, the same pairs as lists. Names of pairs hold a
/// colon, as SPair's do.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: &Path, data: &DataSet, counts: Counts) -> Result<()> {
    let splits = [
        (Split::Training, "trn", "train", counts.training),
        (Split::Validation, "val", "val", counts.validation),
        (Split::Test, "test", "test", counts.test),
    ];
    for (split, name, list_name, count) in splits {
        let (mut list, mut names) = (Vec::new(), Vec::new());
        for category in 0..CATEGORIES.len() {
            let first = category * count;
            let images =
                (first..first + count).filter_map(|index| annotated(data, split, name, index, category)).collect::<Vec<_>>();
            images.iter().try_for_each(|image| write_image(folder, image))?;
            for source in &images {
                for target in images.iter().filter(|target| target.path != source.path) {
                    let pair = Pair::new(source, target);
                    if pair.keypoints.is_empty() {
                        continue;
                    }
                    let pair_name = format!("{:06}-{}-{}:{}", names.len(), source.stem, target.stem, CATEGORIES[category].name);
                    let annotation = pair.annotation(names.len(), &pair_name);
                    write_json(&folder.join("PairAnnotation").join(name).join(format!("{pair_name}.json")), &annotation)?;
                    list.push(pair.list_entry());
                    names.push(pair_name);
                }
            }
        }
        write_json(&folder.join("JPEGImages").join(format!("spair_71k_{list_name}.json")), &Value::Array(list))?;
        for (layout, every) in [("large", 1), ("small", 4)] {
            let lines: String = names.iter().step_by(every).map(|name| format!("{name}\n")).collect();
            write_text(&folder.join("Layout").join(layout).join(format!("{name}.txt")), &lines)?;
        }
    }
    Ok(())
}

fn annotated(data: &DataSet, split: Split, name: &str, index: usize, category: usize) -> Option<Annotated> {
    let scene = data.scene(split, index, &data.wanted(Some(category), 1));
    let rendered = scene.render();
    let object = scene.objects.into_iter().next()?;
    let stem = format!("{name}_{index:06}");
    let path = format!("{}/{stem}.jpg", object.category().name);
    let box_ = rendered.boxes[0]?;
    Some(Annotated { path, stem, object, rendered, box_ })
}

impl Annotated {
    /// Its keypoints, those that can be seen.
    fn keypoints(&self) -> Vec<Option<Point>> {
        let points = self.object.keypoints().into_iter().zip(&self.rendered.visible[0]);
        points
            .map(|(point, visible)| visible.then(|| point.map(|value| ((value - 0.5).max(0.0) * 100.0).round() / 100.0)))
            .collect()
    }

    fn pose(&self) -> &'static str {
        if self.object.pose.mirrored { "Left" } else { "Right" }
    }

    fn size(&self) -> Value {
        json!([self.rendered.image.width, self.rendered.image.height, 3])
    }

    /// 1 where the object reaches the image's border.
    fn truncated(&self) -> u8 {
        let [left, top, right, bottom] = self.box_;
        u8::from(left == 0 || top == 0 || right + 1 == self.rendered.image.width || bottom + 1 == self.rendered.image.height)
    }
}

fn write_image(folder: &Path, image: &Annotated) -> Result<()> {
    let category = image.object.category();
    write_jpeg(&folder.join("JPEGImages").join(&image.path), &image.rendered.image)?;
    let keypoints: Map<String, Value> =
        image.keypoints().iter().enumerate().map(|(index, point)| (index.to_string(), json!(point))).collect();
    let annotation = json!({
        "filename": format!("{}.jpg", image.stem),
        "category": category.name,
        "image_width": image.rendered.image.width,
        "image_height": image.rendered.image.height,
        "image_depth": 3,
        "pose": image.pose(),
        "truncated": image.truncated(),
        "occluded": 0,
        "difficult": 0,
        "bndbox": image.box_,
        "kps": keypoints,
    });
    write_json(&folder.join("ImageAnnotation").join(category.name).join(format!("{}.json", image.stem)), &annotation)?;
    let mask = folder.join("Segmentation").join(category.name).join(format!("{}.png", image.stem));
    create_parent(&mask)?;
    let label = image.object.category as u8 + 1;
    let pixels = image.rendered.objects.pixels.iter().map(|pixel| if *pixel == 0 { 0 } else { label }).collect();
    Gray { pixels, ..image.rendered.objects }.save_png(&mask)
}

/// Two images of a category, and what can be seen in both.
struct Pair<'a> {
    source: &'a Annotated,
    target: &'a Annotated,
    /// Index of the keypoint, where it is in the source, where it is in the target.
    keypoints: Vec<(usize, Point, Point)>,
}

impl<'a> Pair<'a> {
    fn new(source: &'a Annotated, target: &'a Annotated) -> Self {
        let points = source.keypoints().into_iter().zip(target.keypoints()).enumerate();
        let keypoints = points.filter_map(|(index, (from, to))| Some((index, from?, to?))).collect();
        Self { source, target, keypoints }
    }

    fn sources(&self) -> Vec<Point> {
        self.keypoints.iter().map(|(_, from, _)| *from).collect()
    }

    fn targets(&self) -> Vec<Point> {
        self.keypoints.iter().map(|(_, _, to)| *to).collect()
    }

    fn annotation(&self, id: usize, name: &str) -> Value {
        let Self { source, target, .. } = self;
        let file = |image: &Annotated| format!("{}.jpg", image.stem);
        let ratio =
            (source.object.pose.scale / target.object.pose.scale).max(target.object.pose.scale / source.object.pose.scale);
        json!({
            "pair_id": id,
            "filename": name,
            "src_imname": file(source),
            "trg_imname": file(target),
            "src_imsize": source.size(),
            "trg_imsize": target.size(),
            "src_bndbox": source.box_,
            "trg_bndbox": target.box_,
            "category": source.object.category().name,
            "src_pose": source.pose(),
            "trg_pose": target.pose(),
            "src_kps": self.sources(),
            "trg_kps": self.targets(),
            "kps_ids": self.keypoints.iter().map(|(index, ..)| index.to_string()).collect::<Vec<_>>(),
            "mirror": u8::from(source.object.pose.mirrored != target.object.pose.mirrored),
            "viewpoint_variation": 0,
            "scale_variation": u8::from(ratio > 1.25),
            "truncation": source.truncated() + 2 * target.truncated(),
            "occlusion": 0,
        })
    }

    fn list_entry(&self) -> Value {
        json!({
            "source_path": self.source.path,
            "target_path": self.target.path,
            "source_points": self.sources(),
            "target_points": self.targets(),
            "category": self.source.object.category().name,
            "source_bounding_box": self.source.box_,
            "target_bounding_box": self.target.box_,
        })
    }
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    write_text(path, &value.to_string())
}
