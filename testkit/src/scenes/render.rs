//! A scene as pixels and masks.

use driftless::vision::{Gray, Rgb};

use super::geometry::{Point, enclosing};
use super::scene::Scene;
use super::style::Color;

/// Samples per pixel along each axis.
const SAMPLES: usize = 4;
/// A sample that no part covers.
const NOTHING: u16 = 0;

/// A scene's image, and what is seen where.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The image.
    pub image: Rgb,
    /// Per pixel the part at its middle: 0 is the ground, `i + 1` the name `i` of [`super::Category::part_names`].
    pub parts: Gray,
    /// Per pixel the object at its middle: 0 is the ground, `i + 1` object `i` of the scene.
    pub objects: Gray,
    /// Per object the corners of the smallest box around what is seen of it, `[x1, y1, x2, y2]` in pixels, the last ones included; none
    /// when nothing is seen of it.
    pub boxes: Vec<Option<[usize; 4]>>,
    /// Per object and keypoint, whether it is in the image and not behind another object.
    pub visible: Vec<Vec<bool>>,
}

/// A part of an object of the scene: what a sample shows, less one.
struct Piece {
    object: usize,
    part: usize,
}

impl Scene {
    /// Draws the scene.
    pub fn render(&self) -> Rendered {
        let [width, height] = self.size;
        let (pieces, samples) = self.samples();
        let image = Rgb { width, height, pixels: self.pixels(&pieces, &samples) };
        let middle = |pixel: usize| {
            let (x, y) = (pixel % width * SAMPLES + SAMPLES / 2, pixel / width * SAMPLES + SAMPLES / 2);
            samples[y * width * SAMPLES + x]
        };
        let mask = |label: &dyn Fn(&Piece) -> usize| {
            let pixels = (0..width * height).map(|pixel| match middle(pixel) {
                NOTHING => 0,
                piece => (label(&pieces[usize::from(piece) - 1]) + 1) as u8,
            });
            Gray { width, height, pixels: pixels.collect() }
        };
        let objects = mask(&|piece| piece.object);
        let parts = mask(&|piece| {
            let category = self.objects[piece.object].category();
            let name = category.parts[piece.part].name;
            category.part_names().iter().position(|other| *other == name).unwrap_or_default()
        });
        let boxes = (0..self.objects.len()).map(|object| bounding_box(&objects, object as u8 + 1)).collect();
        let visible = (0..self.objects.len()).map(|object| self.visible(object, &objects)).collect();
        Rendered { image, parts, objects, boxes, visible }
    }

    /// What each sample shows: an index into the pieces plus one, or [`NOTHING`].
    fn samples(&self) -> (Vec<Piece>, Vec<u16>) {
        let [width, height] = self.size.map(|side| side * SAMPLES);
        let (mut pieces, mut samples) = (Vec::new(), vec![NOTHING; width * height]);
        for (object, shown) in self.objects.iter().enumerate() {
            for (part, drawn) in shown.category().parts.iter().enumerate() {
                pieces.push(Piece { object, part });
                let [[left, top], [right, bottom]] = drawn.shape.bounds();
                let corners =
                    [[left, top], [right, top], [right, bottom], [left, bottom]].map(|corner| shown.pose.to_image(corner));
                let [low, high] = enclosing(corners.into_iter()).map(|corner| corner.map(|value| value * SAMPLES as f64));
                let range = |from: f64, to: f64, most: usize| from.max(0.0) as usize..((to.max(0.0) as usize) + 1).min(most);
                for y in range(low[1], high[1], height) {
                    for x in range(low[0], high[0], width) {
                        if drawn.shape.covers(shown.pose.to_frame(sample_point(x, y))) {
                            samples[y * width + x] = pieces.len() as u16;
                        }
                    }
                }
            }
        }
        (pieces, samples)
    }

    /// The mean color of each pixel's samples.
    fn pixels(&self, pieces: &[Piece], samples: &[u16]) -> Vec<u8> {
        let [width, height] = self.size;
        let mut pixels = Vec::with_capacity(width * height * 3);
        for pixel in 0..width * height {
            let (left, top) = (pixel % width * SAMPLES, pixel / width * SAMPLES);
            let mut sum = [0.0; 3];
            for y in top..top + SAMPLES {
                for x in left..left + SAMPLES {
                    let color = self.sample_color(pieces, samples, x, y);
                    sum = std::array::from_fn(|channel| sum[channel] + color[channel]);
                }
            }
            pixels.extend(sum.map(|channel: f64| (channel / (SAMPLES * SAMPLES) as f64 + 0.5).clamp(0.0, 255.0) as u8));
        }
        pixels
    }

    fn sample_color(&self, pieces: &[Piece], samples: &[u16], x: usize, y: usize) -> Color {
        let side = self.size[0].min(self.size[1]) as f64;
        let shown = samples[y * self.size[0] * SAMPLES + x];
        if let Some(radius) = self.style.line()
            && self.at_an_edge(samples, x, y, (radius * side * SAMPLES as f64).max(1.0) as usize)
        {
            return self.style.ink(&self.ground);
        }
        let point = sample_point(x, y);
        let at = point.map(|value| value / side);
        match shown {
            NOTHING => self.style.ground(&self.ground, at),
            piece => {
                let Piece { object, part } = pieces[usize::from(piece) - 1];
                let object = &self.objects[object];
                let tint = object.category().parts[part].tint;
                self.style.part(tint, &object.paint, &self.ground, object.pose.to_frame(point), at)
            }
        }
    }

    /// Whether something else is seen `radius` samples to one of the sides.
    fn at_an_edge(&self, samples: &[u16], x: usize, y: usize, radius: usize) -> bool {
        let [width, height] = self.size.map(|side| side * SAMPLES);
        let shown = samples[y * width + x];
        let (left, right) = (x.saturating_sub(radius), (x + radius).min(width - 1));
        let (above, below) = (y.saturating_sub(radius), (y + radius).min(height - 1));
        [(left, y), (right, y), (x, above), (x, below)].iter().any(|&(x, y)| samples[y * width + x] != shown)
    }

    fn visible(&self, object: usize, objects: &Gray) -> Vec<bool> {
        let hidden_by_another = |x: usize, y: usize| usize::from(objects.pixels[y * objects.width + x]) > object + 1;
        let points = self.objects[object].keypoints();
        let within = |[x, y]: Point| (0.0..objects.width as f64).contains(&x) && (0.0..objects.height as f64).contains(&y);
        points.into_iter().map(|point| within(point) && !hidden_by_another(point[0] as usize, point[1] as usize)).collect()
    }
}

/// A sample's middle, in pixels.
fn sample_point(x: usize, y: usize) -> Point {
    [x, y].map(|value| (value as f64 + 0.5) / SAMPLES as f64)
}

fn bounding_box(mask: &Gray, label: u8) -> Option<[usize; 4]> {
    let seen = mask.pixels.iter().enumerate().filter(|(_, pixel)| **pixel == label);
    seen.map(|(index, _)| [index % mask.width, index / mask.width]).fold(None, |found: Option<[usize; 4]>, [x, y]| {
        let [left, top, right, bottom] = found.unwrap_or([x, y, x, y]);
        Some([left.min(x), top.min(y), right.max(x), bottom.max(y)])
    })
}
