//! What a seed draws: objects with their poses and colors, and what captions say of them.

use driftless::rng::Generator;

use super::categories::{CATEGORIES, Category};
use super::geometry::{Point, Pose};
use super::style::{Paint, Style, with_article};

/// What kind of scene is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// How it looks.
    pub style: Style,
    /// Width and height in pixels.
    pub size: [usize; 2],
    /// The only category, as its index in [`CATEGORIES`]; none: any.
    pub category: Option<usize>,
    /// The largest number of objects; there is always one.
    pub objects: usize,
}

/// An image's truth.
#[derive(Clone, Debug)]
pub struct Scene {
    /// How it looks.
    pub style: Style,
    /// Width and height in pixels.
    pub size: [usize; 2],
    /// What is seen, each drawn over those before it.
    pub objects: Vec<Object>,
    pub(super) ground: Paint,
}

/// An object of a scene.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its category's index in [`CATEGORIES`].
    pub category: usize,
    /// Where it is and how it stands.
    pub pose: Pose,
    pub(super) paint: Paint,
}

impl Object {
    /// Its category.
    pub fn category(&self) -> &'static Category {
        &CATEGORIES[self.category]
    }

    /// Its keypoints in pixels of the image, in the category's order; some may lie outside of it.
    pub fn keypoints(&self) -> Vec<Point> {
        self.category().keypoints.iter().map(|point| self.pose.to_image(point.at)).collect()
    }
}

impl Scene {
    /// The scene of a seed.
    pub fn new(seed: u64, wanted: &Wanted) -> Self {
        let mut draw = Draw(Generator::manual_seed(seed));
        let count = 1 + draw.below(wanted.objects.max(1));
        let palette = wanted.style.colors().len();
        let ground = draw.paint(palette, None);
        let objects = (0..count)
            .map(|index| {
                let category = draw.below(CATEGORIES.len());
                let pose = draw.pose(wanted.size, index, count);
                Object { category: wanted.category.unwrap_or(category), pose, paint: draw.paint(palette, Some(ground.main)) }
            })
            .collect();
        Self { style: wanted.style, size: wanted.size, objects, ground }
    }

    /// What is seen, as a sentence: `a photo of a red fish in front of a green background`.
    pub fn sentence(&self) -> String {
        let things: Vec<String> = self.objects.iter().map(|object| self.thing(object)).collect();
        self.style.sentence(&things.join(" and "), self.ground_name())
    }

    /// What is seen, as tags: `fish, red, green background, photo`.
    pub fn tags(&self) -> String {
        let mut tags = Vec::new();
        for object in &self.objects {
            tags.push(object.category().name.to_owned());
            tags.extend(self.color_name(object).map(str::to_owned));
        }
        tags.extend([format!("{} background", self.ground_name()), self.style.name().to_owned()]);
        tags.join(", ")
    }

    fn thing(&self, object: &Object) -> String {
        let name = object.category().name;
        match self.color_name(object) {
            Some(color) => format!("{} {name}", with_article(color)),
            None => with_article(name),
        }
    }

    fn color_name(&self, object: &Object) -> Option<&'static str> {
        match self.style {
            Style::Photo | Style::Print => Some(self.style.colors()[object.paint.main].0),
            Style::Drawing => None,
        }
    }

    fn ground_name(&self) -> &'static str {
        self.style.colors()[self.ground.main].0
    }
}

/// Random choices by exact arithmetic.
struct Draw(Generator);

impl Draw {
    /// An index below `count`.
    fn below(&mut self, count: usize) -> usize {
        self.0.random() as usize % count
    }

    /// A number in `low..high`.
    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (f64::from(self.0.random()) / 4_294_967_296.0)
    }

    /// Colors, the main one not `but`.
    fn paint(&mut self, palette: usize, but: Option<usize>) -> Paint {
        let main = match but {
            Some(but) => (but + 1 + self.below(palette - 1)) % palette,
            None => self.below(palette),
        };
        let second = (main + 1 + self.below(palette - 1)) % palette;
        Paint { main, second, seed: self.0.random() }
    }

    /// A pose for object `index` of `count`, which stand side by side: all of an object is within the image, or nearly.
    fn pose(&mut self, [width, height]: [usize; 2], index: usize, count: usize) -> Pose {
        let (width, height) = (width as f64 / count as f64, height as f64);
        let side = width.min(height);
        let scale = side * self.between(0.27, 0.42);
        // The turn of twice the angle whose tangent is t: up to 28 degrees either way.
        let t = self.between(-0.25, 0.25);
        let turn = [(1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t)];
        let stretch = [self.between(0.88, 1.12), self.between(0.88, 1.12)];
        let mirrored = self.below(2) == 1;
        let mut along = |length: f64| {
            let room = (length / 2.0 - scale).max(0.0);
            length / 2.0 + self.between(-room, room)
        };
        Pose { center: [width * index as f64 + along(width), along(height)], scale, turn, stretch, mirrored }
    }
}
