//! What objects there are: eight categories, each out of named parts, with six to eight keypoints. All face right.

use super::geometry::{Point, Shape};
use Shape::{Ellipse, Polygon, Ring, Stroke};
use Tint::{Accent, Dark, Light, Main, Second};

/// A kind of object.
#[derive(Debug)]
pub struct Category {
    /// The word of captions and folders.
    pub name: &'static str,
    /// Its parts, each drawn over those before it. Several may have one name, as the four legs of a horse.
    pub parts: &'static [Part],
    /// Its keypoints.
    pub keypoints: &'static [Keypoint],
}

/// A part of an object.
#[derive(Debug)]
pub struct Part {
    /// What it is.
    pub name: &'static str,
    /// What it covers of the object's frame.
    pub shape: Shape,
    /// Which of the object's colors it has.
    pub tint: Tint,
}

/// Which of an object's colors a part has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tint {
    /// The color that captions name.
    Main,
    /// The object's other color.
    Second,
    /// The style's color of small things: beaks, lamps, flags.
    Accent,
    /// The style's darkest color.
    Dark,
    /// The style's lightest color.
    Light,
}

/// A point that is the same on all objects of a category.
#[derive(Debug)]
pub struct Keypoint {
    /// What it is.
    pub name: &'static str,
    /// Where it is in the object's frame.
    pub at: Point,
}

impl Category {
    /// The names of the parts, each once, in the order in which they are first drawn: class `i + 1` of part masks.
    pub fn part_names(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for part in self.parts {
            if !names.contains(&part.name) {
                names.push(part.name);
            }
        }
        names
    }
}

const fn part(name: &'static str, tint: Tint, shape: Shape) -> Part {
    Part { name, shape, tint }
}

const fn ellipse(x: f64, y: f64, width: f64, height: f64) -> Shape {
    Ellipse { center: [x, y], radii: [width, height] }
}

const fn stroke(from: Point, to: Point, radius: f64) -> Shape {
    Stroke { from, to, radius }
}

const fn keypoint(name: &'static str, x: f64, y: f64) -> Keypoint {
    Keypoint { name, at: [x, y] }
}

/// All categories.
pub const CATEGORIES: [Category; 8] = [FISH, BIRD, HORSE, CAR, BOAT, HOUSE, TEAPOT, CHAIR];

const FISH: Category = Category {
    name: "fish",
    parts: &[
        part("tail", Second, Polygon(&[[-0.5, 0.0], [-1.0, -0.45], [-0.85, 0.0], [-1.0, 0.45]])),
        part("fin", Second, Polygon(&[[-0.25, -0.3], [0.05, -0.7], [0.4, -0.28]])),
        part("fin", Second, Polygon(&[[-0.1, 0.3], [-0.25, 0.65], [0.25, 0.32]])),
        part("body", Main, ellipse(0.1, 0.0, 0.78, 0.42)),
        part("gill", Second, stroke([0.3, -0.2], [0.3, 0.22], 0.045)),
        part("eye", Light, ellipse(0.58, -0.1, 0.11, 0.11)),
        part("eye", Dark, ellipse(0.6, -0.1, 0.055, 0.055)),
    ],
    keypoints: &[
        keypoint("mouth", 0.86, 0.0),
        keypoint("eye", 0.58, -0.1),
        keypoint("upper fin", 0.05, -0.66),
        keypoint("lower fin", -0.22, 0.6),
        keypoint("upper tail", -0.97, -0.41),
        keypoint("lower tail", -0.97, 0.41),
        keypoint("tail root", -0.62, 0.0),
    ],
};

const BIRD: Category = Category {
    name: "bird",
    parts: &[
        part("tail", Second, Polygon(&[[-0.4, 0.0], [-1.0, -0.25], [-1.0, 0.1], [-0.45, 0.3]])),
        part("leg", Dark, stroke([-0.08, 0.4], [-0.08, 0.92], 0.045)),
        part("leg", Dark, stroke([0.18, 0.4], [0.18, 0.92], 0.045)),
        part("body", Main, ellipse(0.02, 0.1, 0.6, 0.42)),
        part("beak", Accent, Polygon(&[[0.75, -0.55], [1.08, -0.4], [0.75, -0.27]])),
        part("head", Main, ellipse(0.52, -0.42, 0.32, 0.3)),
        part("wing", Second, Polygon(&[[0.3, -0.08], [-0.1, -0.18], [-0.62, 0.12], [-0.1, 0.3], [0.2, 0.2]])),
        part("eye", Dark, ellipse(0.62, -0.48, 0.06, 0.06)),
    ],
    keypoints: &[
        keypoint("beak", 1.04, -0.4),
        keypoint("eye", 0.62, -0.48),
        keypoint("crown", 0.52, -0.69),
        keypoint("tail", -0.97, -0.08),
        keypoint("wing tip", -0.57, 0.12),
        keypoint("hind foot", -0.08, 0.92),
        keypoint("fore foot", 0.18, 0.92),
        keypoint("breast", 0.54, 0.22),
    ],
};

const HORSE: Category = Category {
    name: "horse",
    parts: &[
        part("tail", Second, Polygon(&[[-0.62, -0.2], [-0.98, 0.4], [-0.82, 0.52], [-0.55, 0.05]])),
        part("leg", Main, stroke([-0.38, 0.15], [-0.3, 0.93], 0.07)),
        part("leg", Main, stroke([0.3, 0.15], [0.24, 0.93], 0.07)),
        part("leg", Main, stroke([-0.52, 0.1], [-0.56, 0.93], 0.08)),
        part("leg", Main, stroke([0.44, 0.1], [0.5, 0.93], 0.08)),
        part("body", Main, ellipse(-0.05, -0.02, 0.66, 0.33)),
        part("neck", Main, Polygon(&[[0.2, -0.22], [0.52, -0.82], [0.84, -0.62], [0.6, 0.1]])),
        part("head", Main, Polygon(&[[0.5, -0.84], [0.74, -0.88], [1.08, -0.5], [0.94, -0.36], [0.62, -0.52]])),
        part("mane", Second, Polygon(&[[0.12, -0.28], [0.46, -0.92], [0.62, -0.84], [0.4, -0.24]])),
        part("ear", Main, Polygon(&[[0.56, -0.84], [0.6, -1.06], [0.72, -0.84]])),
        part("saddle", Accent, Polygon(&[[-0.3, -0.38], [0.12, -0.38], [0.06, -0.06], [-0.24, -0.06]])),
        part("eye", Dark, ellipse(0.74, -0.72, 0.05, 0.05)),
    ],
    keypoints: &[
        keypoint("muzzle", 1.03, -0.47),
        keypoint("ear", 0.6, -1.01),
        keypoint("eye", 0.74, -0.72),
        keypoint("rump", -0.68, -0.08),
        keypoint("tail", -0.88, 0.44),
        keypoint("fore hoof", 0.5, 0.95),
        keypoint("hind hoof", -0.56, 0.95),
        keypoint("chest", 0.6, 0.06),
    ],
};

const CAR: Category = Category {
    name: "car",
    parts: &[
        part("cabin", Second, Polygon(&[[-0.62, -0.08], [-0.42, -0.52], [0.32, -0.52], [0.62, -0.08]])),
        part("body", Main, Polygon(&[[-1.0, 0.36], [-1.0, -0.06], [-0.6, -0.12], [0.72, -0.12], [1.0, 0.04], [1.0, 0.36]])),
        part("window", Light, Polygon(&[[-0.46, -0.12], [-0.33, -0.43], [0.24, -0.43], [0.44, -0.12]])),
        part("lamp", Accent, ellipse(0.92, 0.1, 0.09, 0.08)),
        part("wheel", Dark, ellipse(-0.56, 0.38, 0.24, 0.24)),
        part("wheel", Dark, ellipse(0.56, 0.38, 0.24, 0.24)),
        part("hub", Light, ellipse(-0.56, 0.38, 0.1, 0.1)),
        part("hub", Light, ellipse(0.56, 0.38, 0.1, 0.1)),
    ],
    keypoints: &[
        keypoint("front", 0.99, 0.3),
        keypoint("rear", -0.99, 0.3),
        keypoint("front of the roof", 0.3, -0.49),
        keypoint("rear of the roof", -0.4, -0.49),
        keypoint("front wheel", 0.56, 0.38),
        keypoint("rear wheel", -0.56, 0.38),
        keypoint("lamp", 0.92, 0.1),
    ],
};

const BOAT: Category = Category {
    name: "boat",
    parts: &[
        part("flag", Accent, Polygon(&[[0.0, -1.0], [-0.32, -0.9], [0.0, -0.78]])),
        part("mast", Dark, stroke([0.0, -0.98], [0.0, 0.3], 0.045)),
        part("sail", Light, Polygon(&[[0.07, -0.88], [0.07, 0.16], [0.76, 0.16]])),
        part("jib", Second, Polygon(&[[-0.07, -0.68], [-0.07, 0.16], [-0.6, 0.16]])),
        part("hull", Main, Polygon(&[[-0.92, 0.28], [0.98, 0.28], [0.66, 0.78], [-0.66, 0.78]])),
    ],
    keypoints: &[
        keypoint("bow", 0.94, 0.3),
        keypoint("stern", -0.88, 0.3),
        keypoint("masthead", 0.0, -0.98),
        keypoint("corner of the sail", 0.72, 0.15),
        keypoint("corner of the jib", -0.56, 0.15),
        keypoint("fore end of the keel", 0.65, 0.76),
        keypoint("aft end of the keel", -0.65, 0.76),
    ],
};

const HOUSE: Category = Category {
    name: "house",
    parts: &[
        part("chimney", Dark, Polygon(&[[0.36, -0.82], [0.58, -0.82], [0.58, -0.2], [0.36, -0.2]])),
        part("wall", Main, Polygon(&[[-0.72, -0.14], [0.72, -0.14], [0.72, 0.86], [-0.72, 0.86]])),
        part("roof", Second, Polygon(&[[-0.94, -0.1], [0.0, -0.88], [0.94, -0.1]])),
        part("door", Dark, Polygon(&[[0.12, 0.26], [0.46, 0.26], [0.46, 0.86], [0.12, 0.86]])),
        part("window", Light, Polygon(&[[-0.52, 0.14], [-0.1, 0.14], [-0.1, 0.52], [-0.52, 0.52]])),
    ],
    keypoints: &[
        keypoint("ridge", 0.0, -0.86),
        keypoint("front eave", 0.9, -0.11),
        keypoint("rear eave", -0.9, -0.11),
        keypoint("front corner", 0.71, 0.85),
        keypoint("rear corner", -0.71, 0.85),
        keypoint("door", 0.29, 0.28),
        keypoint("window", -0.31, 0.33),
        keypoint("chimney", 0.47, -0.8),
    ],
};

const TEAPOT: Category = Category {
    name: "teapot",
    parts: &[
        part("handle", Second, Ring { center: [-0.62, 0.08], outer: [0.4, 0.4], inner: [0.25, 0.25] }),
        part("spout", Main, Polygon(&[[0.4, 0.1], [0.9, -0.42], [1.06, -0.32], [0.6, 0.45]])),
        part("foot", Second, Polygon(&[[-0.3, 0.55], [0.3, 0.55], [0.42, 0.74], [-0.42, 0.74]])),
        part("body", Main, ellipse(0.0, 0.15, 0.64, 0.5)),
        part("lid", Second, Polygon(&[[-0.38, -0.22], [-0.22, -0.42], [0.22, -0.42], [0.38, -0.22]])),
        part("knob", Accent, ellipse(0.0, -0.5, 0.12, 0.12)),
    ],
    keypoints: &[
        keypoint("spout", 0.97, -0.36),
        keypoint("knob", 0.0, -0.52),
        keypoint("handle", -0.96, 0.08),
        keypoint("front of the lid", 0.34, -0.25),
        keypoint("rear of the lid", -0.34, -0.25),
        keypoint("front of the foot", 0.4, 0.73),
        keypoint("rear of the foot", -0.4, 0.73),
    ],
};

const CHAIR: Category = Category {
    name: "chair",
    parts: &[
        part("leg", Second, stroke([-0.44, 0.15], [-0.56, 0.92], 0.06)),
        part("leg", Second, stroke([0.46, 0.15], [0.56, 0.92], 0.06)),
        part("back", Main, Polygon(&[[-0.62, -0.98], [-0.4, -0.98], [-0.3, 0.12], [-0.52, 0.12]])),
        part("seat", Main, Polygon(&[[-0.54, 0.04], [0.6, 0.04], [0.6, 0.24], [-0.54, 0.24]])),
        part("cushion", Accent, ellipse(0.1, 0.0, 0.38, 0.1)),
        part("arm", Second, stroke([-0.36, -0.36], [0.3, -0.36], 0.06)),
        part("arm", Second, stroke([0.3, -0.36], [0.3, 0.08], 0.05)),
    ],
    keypoints: &[
        keypoint("top of the back", -0.51, -0.95),
        keypoint("front of the seat", 0.57, 0.14),
        keypoint("rear of the seat", -0.5, 0.16),
        keypoint("front foot", 0.56, 0.94),
        keypoint("rear foot", -0.56, 0.94),
        keypoint("cushion", 0.1, -0.02),
        keypoint("end of the arm", 0.3, -0.36),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_keypoint_lies_on_its_object() {
        for category in CATEGORIES {
            assert!((6..=8).contains(&category.keypoints.len()), "{}", category.name);
            for point in category.keypoints {
                let covered = category.parts.iter().any(|part| part.shape.covers(point.at));
                assert!(covered, "{}: {} is beside it", category.name, point.name);
            }
        }
    }
}
