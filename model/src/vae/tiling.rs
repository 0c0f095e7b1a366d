//! Large images in overlapping tiles that are blended into each other (diffusers `AutoencoderKL.tiled_encode`, `tiled_decode`).
//!
//! A tile does not see beyond its edge, and its norms take their statistics from the tile alone, so the result differs from that of
//! one pass. Images up to [`TILED_FROM`] pixels are therefore done whole: about 1.6 GB at 1024 px with SD1.5's widths.

use candle_core::{Device, Tensor};

use super::Vae;
use crate::Result;

/// Images with a side above this many pixels are encoded and decoded in tiles.
pub const TILED_FROM: usize = 1024;

/// Side of a tile in pixels, SD1.5's training size.
const TILE: usize = 512;

/// Share of a tile that overlaps the next one: diffusers' `tile_overlap_factor`.
const OVERLAP: f64 = 0.25;

/// Moments `[1, 2 latents, h / 8, w / 8]` of one image.
pub(super) fn encode(vae: &Vae, image: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = image.dims4()?;
    if height.max(width) <= TILED_FROM {
        return vae.encode_whole(image);
    }
    let tiles = Tiles { side_in: TILE, side_out: TILE / vae.config.downscale() };
    tiles.run(image, |tile| vae.encode_whole(tile))
}

/// Image `[1, 3, 8 h, 8 w]` of one set of latents.
pub(super) fn decode(vae: &Vae, latents: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = latents.dims4()?;
    let downscale = vae.config.downscale();
    if height.max(width) * downscale <= TILED_FROM {
        return vae.decode_whole(latents);
    }
    let tiles = Tiles { side_in: TILE / downscale, side_out: TILE };
    tiles.run(latents, |tile| vae.decode_whole(tile))
}

/// The sides of a tile before and after the network.
struct Tiles {
    side_in: usize,
    side_out: usize,
}

impl Tiles {
    fn run(&self, x: &Tensor, network: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        let step = (self.side_in as f64 * (1.0 - OVERLAP)) as usize;
        let blend = (self.side_out as f64 * OVERLAP) as usize;
        let keep = self.side_out - blend;
        let mut rows = Vec::new();
        let mut above: Vec<Tensor> = Vec::new();
        for top in (0..height).step_by(step) {
            let mut row: Vec<Tensor> = Vec::new();
            for (column, left) in (0..width).step_by(step).enumerate() {
                let tile = x.narrow(2, top, self.side_in.min(height - top))?.narrow(3, left, self.side_in.min(width - left))?;
                let mut tile = network(&tile.contiguous()?)?;
                if let Some(above) = above.get(column) {
                    tile = blended(above, &tile, 2, blend)?;
                }
                if let Some(left) = row.last() {
                    tile = blended(left, &tile, 3, blend)?;
                }
                row.push(tile);
            }
            let kept = row.iter().map(|tile| crop(tile, keep)).collect::<Result<Vec<_>>>()?;
            rows.push(Tensor::cat(&kept, 3)?);
            above = row;
        }
        Ok(Tensor::cat(&rows, 2)?.contiguous()?)
    }
}

/// `next` with its first `extent` rows (axis 2) or columns (axis 3) faded in from the last ones of `previous`.
fn blended(previous: &Tensor, next: &Tensor, axis: usize, extent: usize) -> Result<Tensor> {
    let (from, to) = (previous.dim(axis)?, next.dim(axis)?);
    let extent = extent.min(from).min(to);
    let mut shape = [1; 4];
    shape[axis] = extent;
    let ramp: Vec<f32> = (0..extent).map(|i| i as f32 / extent as f32).collect();
    let ramp = Tensor::from_vec(ramp, &shape, &Device::Cpu)?.to_device(next.device())?.to_dtype(next.dtype())?;
    let fade_out = previous.narrow(axis, from - extent, extent)?.broadcast_mul(&ramp.affine(-1.0, 1.0)?)?;
    let fade_in = next.narrow(axis, 0, extent)?.broadcast_mul(&ramp)?;
    let rest = next.narrow(axis, extent, to - extent)?;
    let faded = (fade_out + fade_in)?;
    Ok(if to == extent { faded } else { Tensor::cat(&[&faded, &rest], axis)? })
}

/// The first `side` rows and columns, or fewer where the tile is smaller.
fn crop(tile: &Tensor, side: usize) -> Result<Tensor> {
    let (_, _, height, width) = tile.dims4()?;
    Ok(tile.narrow(2, 0, side.min(height))?.narrow(3, 0, side.min(width))?)
}
