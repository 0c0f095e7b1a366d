//! Procedural images whose truth is known: objects out of named parts, at known poses, on textured grounds, in a base style and in
//! styles that are shifted from it. What a scene shows is said by its captions, its part and object masks, its keypoints and its boxes.
//!
//! A scene depends on its seed, style and size alone, and is made by exact arithmetic only (no function whose last digit differs between
//! platforms), so that the same seed gives the same bytes everywhere.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `geometry` | shapes, and the pose that brings them into the image |
//! | `categories` | what objects there are: their parts and keypoints |
//! | `style` | colors and textures of the styles |
//! | `scene` | what a seed draws: objects, poses, colors, captions |
//! | `render` | a scene as pixels and masks |
//! | [`layouts`] | the folders of public data sets |

mod categories;
mod geometry;
pub mod layouts;
mod render;
mod scene;
mod style;

pub use categories::{CATEGORIES, Category, Keypoint, Part};
pub use geometry::{Point, Pose, Shape};
pub use render::Rendered;
pub use scene::{Object, Scene, Wanted};
pub use style::Style;
