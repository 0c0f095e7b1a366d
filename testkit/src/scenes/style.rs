//! How scenes look: the base style on which a model is trained, and styles that are shifted from it.

use super::categories::Tint;
use super::geometry::Point;

/// A color, each channel 0.0..=255.0.
pub type Color = [f64; 3];

/// How a scene looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Evenly colored objects in soft light, before cloudy grounds.
    Photo,
    /// Other colors; objects in stripes, before checks, stripes or dots.
    Print,
    /// Ink lines on paper, objects without color.
    Drawing,
}

/// The colors of a style: what captions call them, and what they are.
const PHOTO: [(&str, Color); 8] = [
    ("red", [205.0, 55.0, 45.0]),
    ("orange", [235.0, 140.0, 45.0]),
    ("yellow", [238.0, 208.0, 75.0]),
    ("green", [70.0, 160.0, 75.0]),
    ("blue", [60.0, 100.0, 205.0]),
    ("purple", [130.0, 75.0, 170.0]),
    ("white", [240.0, 238.0, 230.0]),
    ("brown", [125.0, 85.0, 55.0]),
];
const PRINT: [(&str, Color); 8] = [
    ("pink", [245.0, 130.0, 175.0]),
    ("teal", [20.0, 130.0, 130.0]),
    ("olive", [125.0, 130.0, 40.0]),
    ("navy", [25.0, 35.0, 95.0]),
    ("beige", [225.0, 205.0, 165.0]),
    ("maroon", [110.0, 20.0, 45.0]),
    ("mint", [150.0, 225.0, 190.0]),
    ("gray", [130.0, 130.0, 135.0]),
];
const PAPER: [(&str, Color); 3] =
    [("white", [246.0, 244.0, 238.0]), ("yellowed", [240.0, 226.0, 190.0]), ("gray", [212.0, 214.0, 218.0])];

/// The colors of one object or ground, drawn once per scene.
#[derive(Clone, Debug)]
pub struct Paint {
    /// Its color's index among [`Style::colors`].
    pub main: usize,
    /// Another color's index.
    pub second: usize,
    /// Decides textures.
    pub seed: u32,
}

impl Style {
    /// All styles, the base style first.
    pub const ALL: [Self; 3] = [Self::Photo, Self::Print, Self::Drawing];

    /// The name in captions' tags and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Photo => "photo",
            Self::Print => "print",
            Self::Drawing => "drawing",
        }
    }

    /// The named colors of objects and grounds; a drawing's are papers.
    pub fn colors(self) -> &'static [(&'static str, Color)] {
        match self {
            Self::Photo => &PHOTO,
            Self::Print => &PRINT,
            Self::Drawing => &PAPER,
        }
    }

    /// Half of the width of the lines along parts' edges, as a share of the image's shorter side.
    pub(super) fn line(self) -> Option<f64> {
        match self {
            Self::Photo | Self::Print => None,
            Self::Drawing => Some(0.006),
        }
    }

    /// The color of lines.
    pub(super) fn ink(self, ground: &Paint) -> Color {
        [[30.0, 32.0, 40.0], [40.0, 50.0, 120.0], [95.0, 60.0, 40.0]][ground.seed as usize % 3]
    }

    /// The color of a part at a point of its object's frame and of the image (0.0..=1.0 along the shorter side).
    pub(super) fn part(self, tint: Tint, paint: &Paint, ground: &Paint, frame: Point, at: Point) -> Color {
        let colors = self.colors();
        match self {
            Self::Photo => scaled(self.tint(tint, paint), 0.82 + 0.18 * (1.0 - 0.5 * (at[0] + at[1]))),
            Self::Print => {
                let along = frame[0] * 3.0 + frame[1] * f64::from(paint.seed % 7) - 3.0;
                let color = self.tint(tint, paint);
                if (along * 2.0).floor().rem_euclid(2.0) == 0.0 { color } else { scaled(color, 0.68) }
            }
            Self::Drawing => scaled(colors[ground.main].1, if tint == Tint::Dark { 0.55 } else { 1.0 }),
        }
    }

    fn tint(self, tint: Tint, paint: &Paint) -> Color {
        let colors = self.colors();
        let [accent, dark, light] = match self {
            Self::Photo => [[248.0, 190.0, 60.0], [38.0, 38.0, 44.0], [232.0, 240.0, 246.0]],
            Self::Print | Self::Drawing => [[250.0, 245.0, 110.0], [50.0, 10.0, 60.0], [255.0, 235.0, 225.0]],
        };
        match tint {
            Tint::Main => colors[paint.main].1,
            Tint::Second => colors[paint.second].1,
            Tint::Accent => accent,
            Tint::Dark => dark,
            Tint::Light => light,
        }
    }

    /// The color of the ground at a point of the image (0.0..=1.0 along the shorter side).
    pub(super) fn ground(self, paint: &Paint, [x, y]: Point) -> Color {
        let colors = self.colors();
        let (main, second) = (colors[paint.main].1, colors[paint.second].1);
        match self {
            Self::Photo => {
                let clouds = noise(paint.seed, x * 5.0, y * 5.0) * 0.7 + noise(paint.seed ^ 1, x * 13.0, y * 13.0) * 0.3;
                scaled(mixed(main, second, 0.35 * y), 0.7 + 0.4 * clouds)
            }
            Self::Print => {
                let even = |value: f64| value.floor().rem_euclid(2.0) == 0.0;
                let figure = match paint.seed % 3 {
                    0 => even(x * 9.0) != even(y * 9.0),
                    1 => even((x + y) * 8.0),
                    _ => {
                        let (u, v) = ((x * 7.0).rem_euclid(1.0) - 0.5, (y * 7.0).rem_euclid(1.0) - 0.5);
                        u * u + v * v < 0.08
                    }
                };
                if figure { mixed(main, second, 0.7) } else { main }
            }
            Self::Drawing => scaled(main, 0.95 + 0.05 * noise(paint.seed, x * 40.0, y * 40.0)),
        }
    }

    /// A sentence that says what is seen, of `things` such as `a red fish` or `a red fish and a blue car`.
    pub(super) fn sentence(self, things: &str, ground: &str) -> String {
        match self {
            Self::Photo => format!("a photo of {things} in front of {} background", with_article(ground)),
            Self::Print => format!("a textile print of {things} on {} pattern", with_article(ground)),
            Self::Drawing => format!("a line drawing of {things} on {ground} paper"),
        }
    }
}

/// `a red`, `an orange`.
pub(super) fn with_article(word: &str) -> String {
    let article = if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {word}")
}

fn scaled(color: Color, factor: f64) -> Color {
    color.map(|channel| (channel * factor).min(255.0))
}

fn mixed(from: Color, to: Color, share: f64) -> Color {
    std::array::from_fn(|channel| from[channel] + (to[channel] - from[channel]) * share)
}

/// Smooth noise, 0.0..=1.0: random values on the whole numbers, smoothly in between.
fn noise(seed: u32, x: f64, y: f64) -> f64 {
    let (column, row) = (x.floor(), y.floor());
    let smooth = |t: f64| t * t * (3.0 - 2.0 * t);
    let (u, v) = (smooth(x - column), smooth(y - row));
    let value = |dx: i64, dy: i64| lattice(seed, column as i64 + dx, row as i64 + dy);
    let (top, bottom) = (value(0, 0) + (value(1, 0) - value(0, 0)) * u, value(0, 1) + (value(1, 1) - value(0, 1)) * u);
    top + (bottom - top) * v
}

/// The random value of a whole point: a mixing function of 32 bits (the finalizer of MurmurHash3).
fn lattice(seed: u32, column: i64, row: i64) -> f64 {
    let mut bits = seed ^ (column as u32).wrapping_mul(0x9e37_79b9) ^ (row as u32).wrapping_mul(0x85eb_ca77);
    bits = (bits ^ (bits >> 16)).wrapping_mul(0x85eb_ca6b);
    bits = (bits ^ (bits >> 13)).wrapping_mul(0xc2b2_ae35);
    f64::from(bits ^ (bits >> 16)) / f64::from(u32::MAX)
}
