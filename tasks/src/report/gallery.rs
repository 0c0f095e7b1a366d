//! Images in rows with labels, each within the page itself.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, html};

use super::text::seen;

/// Images up to this width are enlarged without smoothing, so that the pixels of a feature stay visible.
const SMALL: u32 = 128;

/// Rows of images about several subjects.
#[derive(Clone, Debug, Default)]
pub struct Gallery {
    /// What is to be seen.
    pub caption: String,
    /// A subject each: a photo.
    pub exhibits: Vec<Exhibit>,
}

/// What there is of one photo.
#[derive(Clone, Debug, Default)]
pub struct Exhibit {
    /// Its name.
    pub name: String,
    /// Rows of images.
    pub strips: Vec<Strip>,
}

/// A row of images.
#[derive(Clone, Debug, Default)]
pub struct Strip {
    /// What they have in common, a layer for example; may be empty.
    pub label: String,
    /// The images.
    pub images: Vec<Image>,
}

/// An image with its label.
#[derive(Clone, Debug)]
pub struct Image {
    label: String,
    png: Vec<u8>,
    width: u32,
    height: u32,
}

/// Bytes that are no PNG file.
#[derive(Debug, thiserror::Error)]
#[error("the image `{label}` of a report: expected a PNG file, found {found} bytes that begin otherwise")]
pub struct NotPng {
    label: String,
    found: usize,
}

impl Image {
    /// An image out of a PNG file.
    ///
    /// # Errors
    /// When the bytes do not begin as a PNG file of at least one pixel.
    pub fn new(label: impl Into<String>, png: Vec<u8>) -> Result<Self, NotPng> {
        let label = label.into();
        match size(&png) {
            Some((width, height)) => Ok(Self { label, width, height, png }),
            None => Err(NotPng { label, found: png.len() }),
        }
    }

    fn markup(&self) -> Markup {
        let data = STANDARD.encode(&self.png);
        html! {
            figure {
                img class=[(self.width.max(self.height) <= SMALL).then_some("small")] width=(self.width) height=(self.height) alt=(seen(&self.label))
                    decoding="async" src={ "data:image/png;base64," (data) };
                figcaption { (seen(&self.label)) }
            }
        }
    }
}

/// Width and height out of the header, which is a PNG file's first chunk.
fn size(png: &[u8]) -> Option<(u32, u32)> {
    let header = png.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR")?;
    let (width, rest) = header.split_first_chunk()?;
    let (height, _) = rest.split_first_chunk()?;
    let (width, height) = (u32::from_be_bytes(*width), u32::from_be_bytes(*height));
    (width > 0 && height > 0).then_some((width, height))
}

impl Gallery {
    /// The images as HTML.
    pub fn render(&self) -> String {
        self.markup().into_string()
    }

    pub(super) fn markup(&self) -> Markup {
        html! {
            div.gallery {
                @if !self.caption.is_empty() { p.note { (seen(&self.caption)) } }
                @for exhibit in &self.exhibits {
                    article {
                        h3 { (seen(&exhibit.name)) }
                        @for strip in &exhibit.strips {
                            div.strip {
                                @if !strip.label.is_empty() { h4 { (seen(&strip.label)) } }
                                div.images { @for image in &strip.images { (image.markup()) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        [&b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"[..], &width.to_be_bytes(), &height.to_be_bytes(), b"rest"].concat()
    }

    #[test]
    fn images_stand_in_the_page_with_their_sizes() {
        let image = |label: &str, width| Image::new(label, png(width, 64)).unwrap();
        let strips = vec![Strip { label: "mid-vit-out".to_owned(), images: vec![image("plain", 64), image("photo", 512)] }];
        let gallery = Gallery { caption: String::new(), exhibits: vec![Exhibit { name: "train0".to_owned(), strips }] };
        let page = gallery.render();
        assert!(page.contains(r#"<img class="small" width="64" height="64" alt="plain""#), "{page}");
        assert!(page.contains(r#"<img width="512" height="64" alt="photo""#));
        assert!(page.contains(&format!("src=\"data:image/png;base64,{}\"", STANDARD.encode(png(512, 64)))));
    }

    #[test]
    fn what_is_no_png_is_refused() {
        for bytes in [Vec::new(), b"\xff\xd8\xff".to_vec(), png(0, 4), png(4, 4)[..20].to_vec()] {
            assert!(Image::new("a", bytes).unwrap_err().to_string().contains("`a`"));
        }
    }
}
