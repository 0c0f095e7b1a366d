//! Shapes in an object's own frame, and the pose that brings the frame into the image.

/// x to the right, y down. In an object's frame the object fills about -1..=1; in an image the unit is the pixel, and pixel 0 covers
/// 0.0..1.0.
pub type Point = [f64; 2];

/// What a part covers of its object's frame.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// An ellipse with upright axes.
    Ellipse {
        /// Its middle.
        center: Point,
        /// Half of its width and of its height.
        radii: Point,
    },
    /// The area between two ellipses around the same middle.
    Ring {
        /// Their middle.
        center: Point,
        /// Half of the outer width and height.
        outer: Point,
        /// Half of the inner width and height.
        inner: Point,
    },
    /// A simple polygon.
    Polygon(&'static [Point]),
    /// A line with round ends.
    Stroke {
        /// One end.
        from: Point,
        /// The other end.
        to: Point,
        /// Half of its width.
        radius: f64,
    },
}

impl Shape {
    /// Whether the shape covers a point of the frame.
    pub fn covers(&self, [x, y]: Point) -> bool {
        let in_ellipse = |[cx, cy]: Point, [rx, ry]: Point| {
            let (u, v) = ((x - cx) / rx, (y - cy) / ry);
            u * u + v * v <= 1.0
        };
        match *self {
            Self::Ellipse { center, radii } => in_ellipse(center, radii),
            Self::Ring { center, outer, inner } => in_ellipse(center, outer) && !in_ellipse(center, inner),
            Self::Polygon(corners) => {
                let edges = corners.iter().zip(corners.iter().cycle().skip(1));
                let crossings =
                    edges.filter(|&(&[x0, y0], &[x1, y1])| (y0 > y) != (y1 > y) && x < x0 + (y - y0) * (x1 - x0) / (y1 - y0));
                crossings.count() % 2 == 1
            }
            Self::Stroke { from: [x0, y0], to: [x1, y1], radius } => {
                let (dx, dy) = (x1 - x0, y1 - y0);
                let along = (((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
                let (u, v) = (x - x0 - along * dx, y - y0 - along * dy);
                u * u + v * v <= radius * radius
            }
        }
    }

    /// The smallest upright box around the shape: left top and right bottom.
    pub fn bounds(&self) -> [Point; 2] {
        let around = |[cx, cy]: Point, [rx, ry]: Point| [[cx - rx, cy - ry], [cx + rx, cy + ry]];
        match *self {
            Self::Ellipse { center, radii } => around(center, radii),
            Self::Ring { center, outer, .. } => around(center, outer),
            Self::Polygon(corners) => enclosing(corners.iter().copied()),
            Self::Stroke { from, to, radius } => {
                let [[left, top], [right, bottom]] = enclosing([from, to].into_iter());
                [[left - radius, top - radius], [right + radius, bottom + radius]]
            }
        }
    }
}

/// The smallest upright box around points.
pub(super) fn enclosing(points: impl Iterator<Item = Point>) -> [Point; 2] {
    let nothing = [[f64::INFINITY; 2], [f64::NEG_INFINITY; 2]];
    points.fold(nothing, |[low, high], [x, y]| [[low[0].min(x), low[1].min(y)], [high[0].max(x), high[1].max(y)]])
}

/// Brings an object's frame into the image: a stretch and, where the object faces left, a reflection within the frame, then a similarity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pose {
    /// Where the frame's middle comes to lie, in pixels.
    pub center: Point,
    /// Pixels per unit of the frame.
    pub scale: f64,
    /// Cosine and sine of the clockwise turn.
    pub turn: [f64; 2],
    /// Factors of the frame's axes, near 1: no two objects of a category are the same.
    pub stretch: Point,
    /// Objects face right in their frame; this one faces left.
    pub mirrored: bool,
}

impl Pose {
    /// A point of the frame in the image.
    pub fn to_image(&self, [x, y]: Point) -> Point {
        let x = if self.mirrored { -x } else { x };
        let (u, v) = (x * self.stretch[0] * self.scale, y * self.stretch[1] * self.scale);
        let [cosine, sine] = self.turn;
        [self.center[0] + cosine * u - sine * v, self.center[1] + sine * u + cosine * v]
    }

    /// A point of the image in the frame.
    pub fn to_frame(&self, [x, y]: Point) -> Point {
        let (u, v) = (x - self.center[0], y - self.center[1]);
        let [cosine, sine] = self.turn;
        let across = (cosine * u + sine * v) / (self.scale * self.stretch[0]);
        let down = (cosine * v - sine * u) / (self.scale * self.stretch[1]);
        [if self.mirrored { -across } else { across }, down]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pose_and_its_inverse_cancel() {
        let (t, scale) = (0.2, 37.0);
        let turn = [(1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t)];
        for mirrored in [false, true] {
            let pose = Pose { center: [50.0, 61.0], scale, turn, stretch: [0.9, 1.1], mirrored };
            let [x, y] = pose.to_frame(pose.to_image([0.3, -0.7]));
            assert!((x - 0.3).abs() < 1e-12 && (y + 0.7).abs() < 1e-12, "{x} {y}");
        }
    }

    #[test]
    fn shapes_cover_what_they_should_and_nothing_outside_their_bounds() {
        let triangle = Shape::Polygon(&[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]);
        assert!(triangle.covers([0.2, 0.2]) && !triangle.covers([0.8, 0.8]));
        let ring = Shape::Ring { center: [0.0; 2], outer: [1.0; 2], inner: [0.5; 2] };
        assert!(ring.covers([0.7, 0.0]) && !ring.covers([0.2, 0.0]));
        let stroke = Shape::Stroke { from: [-1.0, 0.0], to: [1.0, 0.0], radius: 0.1 };
        assert!(stroke.covers([1.05, 0.0]) && !stroke.covers([0.0, 0.2]));
        for shape in [triangle, ring, stroke] {
            let [[left, top], [right, bottom]] = shape.bounds();
            for step in 0..10_000 {
                let [x, y] = [f64::from(step % 100) / 25.0 - 2.0, f64::from(step / 100) / 25.0 - 2.0];
                let within = (left..=right).contains(&x) && (top..=bottom).contains(&y);
                assert!(within || !shape.covers([x, y]), "{shape:?} covers {x} {y}");
            }
        }
    }
}
