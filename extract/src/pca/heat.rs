//! Attention over the image: which places attend to some tokens of the prompt, as colors laid half over the image.

use driftless::vision::{Filter, Rgb, resize};
use features::stores::Feature;

use super::pieces::Piece;

/// The cross-attention maps in a piece, `[tokens, h, w]` each: those of an aggregate, of the layer `attn`, and of a `-cross-map` layer, whose
/// heads are averaged. `name` is the image's, in which the layer's id stands.
pub fn maps(piece: &Piece, name: &str, tokens: usize) -> Vec<Feature> {
    let feature = &piece.feature;
    let [channels, height, width] = feature.shape;
    let is_layer = |accept: &dyn Fn(&str) -> bool| name.split('/').any(accept);
    if piece.is_attention {
        return vec![feature.clone()];
    }
    if is_layer(&|part| part == "attn") && tokens > 0 && channels.is_multiple_of(tokens) {
        let maps = feature.values.chunks_exact(tokens * height * width);
        return maps.map(|values| Feature { shape: [tokens, height, width], values: values.to_vec() }).collect();
    }
    match is_layer(&|part| part.ends_with("-cross-map")) {
        true => mean_of_heads(feature).into_iter().collect(),
        false => Vec::new(),
    }
}

/// `[heads, queries, keys]` to `[keys, h, w]` of a square image.
fn mean_of_heads(map: &Feature) -> Option<Feature> {
    let [heads, queries, keys] = map.shape;
    let side = queries.isqrt();
    if side * side != queries || heads == 0 {
        return None;
    }
    let mut values = vec![0.0; keys * queries];
    for head in map.values.chunks_exact((queries * keys).max(1)) {
        for (query, row) in head.chunks_exact(keys.max(1)).enumerate() {
            row.iter().enumerate().for_each(|(key, value)| values[key * queries + query] += value / heads as f32);
        }
    }
    Some(Feature { shape: [keys, side, side], values })
}

/// A token that a map has no attention to.
#[derive(Debug, thiserror::Error)]
#[error("has attention to {keys} tokens, counted from 0; --token names {beyond}")]
pub struct NoSuchToken {
    keys: usize,
    beyond: usize,
}

/// The attention that `tokens` get together, laid over an image whose short side becomes `side` pixels. Without tokens: what all but the
/// start token get, which takes most of it and says nothing.
///
/// # Errors
/// When a token lies beyond the map's.
pub fn over(image: &Rgb, map: &Feature, tokens: &[usize], side: usize) -> Result<Rgb, NoSuchToken> {
    let [keys, height, width] = map.shape;
    if let Some(&beyond) = tokens.iter().find(|token| **token >= keys) {
        return Err(NoSuchToken { keys, beyond });
    }
    let is_wanted = |key: usize| if tokens.is_empty() { key > 0 } else { tokens.contains(&key) };
    let mut heat = vec![0.0; height * width];
    for (_, values) in map.values.chunks_exact((height * width).max(1)).enumerate().filter(|(key, _)| is_wanted(*key)) {
        heat.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }
    let short = image.width.min(image.height).max(1);
    let (out_width, out_height) = ((image.width * side / short).max(1), (image.height * side / short).max(1));
    let image = resize(image, out_width, out_height, Filter::Bicubic);
    // The network saw the image squeezed to a square, so the map is stretched to the image's own sides.
    let gray = Rgb { width, height, pixels: levels(&heat).into_iter().flat_map(|level| [level; 3]).collect() };
    let gray = resize(&gray, out_width, out_height, Filter::Bicubic);
    let places = image.pixels.as_chunks::<3>().0.iter().zip(gray.pixels.as_chunks::<3>().0);
    let blend = |(pixel, level): (&[u8; 3], &[u8; 3])| {
        let color = color(level[0]);
        [0, 1, 2].map(|i| u8::midpoint(pixel[i], color[i]))
    };
    Ok(Rgb { width: out_width, height: out_height, pixels: places.flat_map(blend).collect() })
}

/// 0 for the least, 255 for the most; equal numbers are 0.
fn levels(heat: &[f32]) -> Vec<u8> {
    let least = heat.iter().copied().fold(f32::INFINITY, f32::min);
    let most = heat.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // The cast saturates, and turns the not-a-number of equal numbers into 0.
    heat.iter().map(|value| ((value - least) / (most - least) * 255.0) as u8).collect()
}

/// Black, red, yellow, white.
fn color(level: u8) -> [u8; 3] {
    let third = |from: i32| (3 * i32::from(level) - from).clamp(0, 255) as u8;
    [third(0), third(255), third(510)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(is_attention: bool, shape: [usize; 3]) -> Piece {
        let values = (0..shape.iter().product::<usize>()).map(|i| i as f32).collect();
        Piece { name: String::new(), is_attention, feature: Feature { shape, values } }
    }

    #[test]
    fn maps_of_every_form() {
        assert_eq!(maps(&piece(true, [3, 2, 2]), "x", 3).len(), 1);
        assert_eq!(maps(&piece(false, [6, 2, 2]), "attn/x", 3).len(), 2);
        assert!(maps(&piece(false, [6, 2, 2]), "up-level1-upsampler-out/x", 3).is_empty());
        // Two heads, four queries, three keys: the mean of heads, keys first.
        let found = maps(&piece(false, [2, 4, 3]), "up-level1-repeat0-vit-block0-cross-map/x", 3);
        assert_eq!(found[0].shape, [3, 2, 2]);
        assert_eq!(found[0].values[..5], [6.0, 9.0, 12.0, 15.0, 7.0]);
    }

    #[test]
    fn attended_places_are_bright() {
        let image = Rgb::filled(8, 4, [100, 100, 100]);
        let map = Feature { shape: [2, 1, 2], values: vec![1.0, 0.0, 0.0, 1.0] };
        let drawn = over(&image, &map, &[], 4).unwrap();
        assert_eq!((drawn.width, drawn.height), (8, 4));
        assert_eq!(drawn.pixels[..3], [50, 50, 50]);
        assert_eq!(drawn.pixels[21..24], [177, 177, 177]);
        let start = over(&image, &map, &[0], 4).unwrap();
        assert_eq!(start.pixels[..3], [177, 177, 177]);
        assert!(over(&image, &map, &[2], 4).unwrap_err().to_string().contains("--token names 2"));
    }
}
