//! `--color_aug`: a small change of hue or brightness.
//!
//! Mirrors `train_util.AugHelper.color_aug` of sd-scripts 48d368f, which computes on OpenCV's 8-bit HSV (hue in 180 steps) of an image
//! whose red and blue are taken for each other, and raises 0..255 values, not 0..1, to a power.

use driftless::rng::Generator;
use driftless::vision::Rgb;

/// A change of colors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Color {
    /// Turns the hue by so many of OpenCV's 180 steps.
    Hue(f64),
    /// Raises every value to this power.
    Power(f64),
}

/// A third of the draws are changed.
const CHANCE: f64 = 0.33;
const MOST_HUE: f64 = 8.0;

impl Color {
    /// A random change; `None` most of the time.
    pub fn random(generator: &mut Generator) -> Option<Self> {
        let mut uniform = || generator.rand(&[1]).first().copied().map_or(0.0, f64::from);
        if uniform() > CHANCE {
            return None;
        }
        let hue = uniform() > 0.5;
        let position = uniform();
        Some(if hue { Self::Hue((2.0 * position - 1.0) * MOST_HUE) } else { Self::Power(0.95 + 0.1 * position) })
    }

    /// The image in other colors.
    pub fn apply(self, image: &Rgb) -> Rgb {
        let mut pixels = image.pixels.clone();
        match self {
            Self::Hue(shift) => {
                let shift = if shift < 0.0 { 180.0 + shift } else { shift };
                for pixel in pixels.chunks_exact_mut(3) {
                    let [hue, saturation, value] = to_hsv(pixel[0], pixel[1], pixel[2]);
                    let turned = ((f64::from(hue) + shift) % 180.0) as u8;
                    pixel.copy_from_slice(&from_hsv(turned, saturation, value));
                }
            }
            Self::Power(power) => {
                let table: Vec<u8> = (0..256).map(|value| f64::from(value).powf(power).clamp(0.0, 255.0) as u8).collect();
                pixels.iter_mut().for_each(|value| *value = table[usize::from(*value)]);
            }
        }
        Rgb { pixels, ..*image }
    }
}

/// OpenCV's fixed-point digits.
const SHIFT: i32 = 12;

/// OpenCV's `COLOR_BGR2HSV` for bytes.
fn to_hsv(b: u8, g: u8, r: u8) -> [u8; 3] {
    let (b, g, r) = (i32::from(b), i32::from(g), i32::from(r));
    let value = b.max(g).max(r);
    let range = value - b.min(g).min(r);
    let reciprocal = |numerator: f64, denominator: i32| match denominator {
        0 => 0,
        _ => (numerator * f64::from(1 << SHIFT) / f64::from(denominator)).round_ties_even() as i32,
    };
    let rounded = |product: i32| (product + (1 << (SHIFT - 1))) >> SHIFT;
    let saturation = rounded(range * reciprocal(255.0, value));
    let sector = match value {
        _ if value == r => g - b,
        _ if value == g => b - r + 2 * range,
        _ => r - g + 4 * range,
    };
    let hue = rounded(sector * reciprocal(30.0, range));
    let hue = if hue < 0 { hue + 180 } else { hue };
    [hue as u8, saturation as u8, value as u8]
}

/// OpenCV's `COLOR_HSV2BGR` for bytes, computed in float32 and cut off as its vector code does.
fn from_hsv(hue: u8, saturation: u8, value: u8) -> [u8; 3] {
    let (s, v) = (f32::from(saturation) * (1.0 / 255.0), f32::from(value) * (1.0 / 255.0));
    let h = f32::from(hue) * (6.0 / 180.0);
    let sector = h.floor();
    let f = h - sector;
    let (p, q, t) = (v * (1.0 - s), v * (1.0 - s * f), v * (1.0 - s * (1.0 - f)));
    let [b, g, r] = match sector as u8 {
        0 => [p, t, v],
        1 => [p, v, q],
        2 => [t, v, p],
        3 => [v, q, p],
        4 => [v, p, t],
        _ => [q, p, v],
    };
    [b, g, r].map(|x| (x * 255.0) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn bytes(value: &Value) -> Vec<u8> {
        value.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u8).collect()
    }

    // Reference: sd-scripts 48d368f AugHelper.color_aug on OpenCV, with Python's random numbers replaced: tests/reference/train_color.py.
    // Powers to the byte. Hues but for one value in a thousand by 1: OpenCV's vector code fuses products that are rounded here.
    #[test]
    fn colors_are_those_of_kohya() {
        let fixture: Value =
            serde_json::from_str(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/train/color.json")))
                .unwrap();
        let pixels = bytes(&fixture["pixels"]);
        let image = Rgb { width: pixels.len() / 3, height: 1, pixels };
        let cases = fixture["cases"].as_array().unwrap();
        assert!(cases.len() >= 8);
        for case in cases {
            let color = match case["hue"].as_f64() {
                Some(shift) => Color::Hue(shift),
                None => Color::Power(case["power"].as_f64().unwrap()),
            };
            let (found, expected) = (color.apply(&image).pixels, bytes(&case["pixels"]));
            let off: Vec<u8> = found.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).filter(|off| *off > 0).collect();
            let allowed = if matches!(color, Color::Hue(_)) { found.len() / 1000 } else { 0 };
            assert!(off.len() <= allowed && off.iter().all(|off| *off == 1), "{color:?}: {} values differ: {off:?}", off.len());
        }
    }

    #[test]
    fn a_third_is_changed_within_bounds() {
        let mut generator = Generator::manual_seed(0);
        let drawn: Vec<Color> = (0..3000).filter_map(|_| Color::random(&mut generator)).collect();
        assert!((850..1150).contains(&drawn.len()), "{}", drawn.len());
        let hues = drawn.iter().filter(|color| matches!(color, Color::Hue(shift) if shift.abs() <= 8.0)).count();
        let powers = drawn.iter().filter(|color| matches!(color, Color::Power(power) if (0.95..=1.05).contains(power))).count();
        assert_eq!(hues + powers, drawn.len());
        assert!(hues > 350 && powers > 350);
    }
}
