//! The heads of CleanDIFT (`src/layers.py`): stacks of gated feed-forward layers whose norms are scaled by an embedding of the timestep. Keys of their
//! matrices are those of the original.

use super::Map;
use crate::optimizer::Parameter;
use candle_core::{Device, Tensor, Var};
use driftless::Result;
use driftless::rng::Generator;

/// Layers of a head.
const LAYERS: usize = 3;
/// Width of the timestep's embedding.
const WIDTH: usize = 256;
/// Layers of the network that it goes through, and their inner width.
const MAPPING: (usize, usize) = (2, 768);
/// The timestep that stands for 1.
const LAST_TIMESTEP: f64 = 999.0;
const EPSILON: f64 = 1e-6;

/// All heads, and what makes their condition.
#[derive(Debug)]
pub struct Heads {
    /// Random frequencies, which are not trained, `[WIDTH / 2, 1]`.
    frequencies: Tensor,
    time_in: Named,
    in_norm: Named,
    blocks: Vec<FeedForward>,
    out_norm: Named,
    heads: Vec<Vec<FeedForward>>,
}

/// A trained matrix under its key.
#[derive(Debug)]
struct Named {
    key: String,
    var: Var,
}

/// A gated feed-forward layer beside its input: `x + down(a silu(g))`, `(a, g) = up(norm(x))`.
#[derive(Debug)]
struct FeedForward {
    norm: Norm,
    up: Named,
    down: Named,
}

/// What the root mean square of a vector is divided out for.
#[derive(Debug)]
enum Norm {
    /// A scale per channel.
    Fixed(Named),
    /// One plus a linear function of the condition.
    Conditioned(Named),
}

impl Heads {
    /// First values: those of `torch.nn.Linear`, zero where the original has zero, so that each head begins as the identity.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(maps: &[Map], generator: &mut Generator, device: &Device) -> Result<Self> {
        let frequencies = generator.randn_tensor(&[WIDTH / 2, 1], device)?;
        let time_in = linear("time_in_proj.weight".into(), (WIDTH, WIDTH), generator, device)?;
        let scale = |key: &str| Named::new(key.into(), Tensor::ones(WIDTH, candle_core::DType::F32, device)?);
        let block = |index: usize, generator: &mut Generator| {
            let norm = Norm::Fixed(scale(&format!("mapping.blocks.{index}.norm.scale"))?);
            FeedForward::new(&format!("mapping.blocks.{index}"), (WIDTH, MAPPING.1), norm, generator, device)
        };
        let blocks = (0..MAPPING.0).map(|index| block(index, generator)).collect::<Result<_>>()?;
        let head = |map: &Map, generator: &mut Generator| -> Result<Vec<FeedForward>> {
            let layer = |index: usize| {
                let key = format!("adapters.{}.layers.{index}", map.name);
                let zero = Tensor::zeros((map.channels, WIDTH), candle_core::DType::F32, device)?;
                let norm = Norm::Conditioned(Named::new(format!("{key}.norm.linear.weight"), zero)?);
                FeedForward::new(&key, (map.channels, map.channels), norm, generator, device)
            };
            (0..LAYERS).map(layer).collect()
        };
        Ok(Self {
            frequencies,
            time_in,
            in_norm: scale("mapping.in_norm.scale")?,
            blocks,
            out_norm: scale("mapping.out_norm.scale")?,
            heads: maps.iter().map(|map| head(map, generator)).collect::<Result<_>>()?,
        })
    }

    /// All that is trained.
    pub fn parameters(&self) -> Vec<Parameter> {
        let layers = self.blocks.iter().chain(self.heads.iter().flatten());
        let own = [&self.time_in, &self.in_norm, &self.out_norm].into_iter();
        own.chain(layers.flat_map(FeedForward::all))
            .map(|named| Parameter { key: named.key.clone(), var: named.var.clone() })
            .collect()
    }

    /// What the heads are told of timesteps, `[n, WIDTH]`.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn condition(&self, timesteps: &[usize], device: &Device) -> Result<Tensor> {
        let shares = timesteps.iter().map(|timestep| (*timestep as f64 / LAST_TIMESTEP) as f32).collect::<Vec<_>>();
        let shares = Tensor::from_vec(shares, (timesteps.len(), 1), device)?;
        let angles = (shares * (2.0 * std::f64::consts::PI))?.matmul(&self.frequencies.t()?)?;
        let features = Tensor::cat(&[angles.cos()?, angles.sin()?], 1)?;
        let mut hidden = rms_norm(&apply(&self.time_in, &features)?, self.in_norm.var.as_tensor())?;
        for block in &self.blocks {
            hidden = block.forward(&hidden, None)?;
        }
        rms_norm(&hidden, self.out_norm.var.as_tensor())
    }

    /// The head of a map, by the map's index.
    ///
    /// # Shapes
    /// `x` `[n, p, c]`, `condition` `[n, WIDTH]`; returns `[n, p, c]`.
    /// # Errors
    /// When a tensor operation fails.
    pub fn forward(&self, index: usize, x: &Tensor, condition: &Tensor) -> Result<Tensor> {
        let layers = self.heads.get(index).into_iter().flatten();
        layers.into_iter().try_fold(x.clone(), |x, layer| layer.forward(&x, Some(condition)))
    }
}

/// Numbers that [`Heads::parameters`] hold.
pub fn parameter_count(maps: &[Map]) -> usize {
    let mapping = MAPPING.0 * (WIDTH + 3 * WIDTH * MAPPING.1);
    let head = |map: &Map| LAYERS * map.channels * (3 * map.channels + WIDTH);
    WIDTH * WIDTH + 2 * WIDTH + mapping + maps.iter().map(head).sum::<usize>()
}

impl Named {
    fn new(key: String, values: Tensor) -> Result<Self> {
        Ok(Self { key, var: Var::from_tensor(&values)? })
    }
}

/// First values of `torch.nn.Linear`: uniform within one over the root of the inputs. `shape` is `(outputs, inputs)`.
fn linear(key: String, shape: (usize, usize), generator: &mut Generator, device: &Device) -> Result<Named> {
    let bound = 1.0 / (shape.1 as f32).sqrt();
    let values = generator.uniform(-bound, bound, shape.0 * shape.1);
    Named::new(key, Tensor::from_vec(values, shape, device)?)
}

impl FeedForward {
    /// For `width` channels with so many inside; `norm` comes first in the original and draws nothing.
    fn new(key: &str, (width, inside): (usize, usize), norm: Norm, generator: &mut Generator, device: &Device) -> Result<Self> {
        let up = linear(format!("{key}.up_proj.weight"), (2 * inside, width), generator, device)?;
        let zero = Tensor::zeros((width, inside), candle_core::DType::F32, device)?;
        Ok(Self { norm, up, down: Named::new(format!("{key}.down_proj.weight"), zero)? })
    }

    fn all(&self) -> [&Named; 3] {
        let norm = match &self.norm {
            Norm::Fixed(named) | Norm::Conditioned(named) => named,
        };
        [norm, &self.up, &self.down]
    }

    /// `x` `[n, c]`, or `[n, p, c]` with a condition `[n, WIDTH]`.
    fn forward(&self, x: &Tensor, condition: Option<&Tensor>) -> Result<Tensor> {
        let normed = match (&self.norm, condition) {
            (Norm::Conditioned(linear), Some(condition)) => {
                let scale = (apply(linear, condition)? + 1.0)?.unsqueeze(1)?;
                rms_norm(x, &scale)?
            }
            (Norm::Fixed(named) | Norm::Conditioned(named), _) => rms_norm(x, named.var.as_tensor())?,
        };
        let up = apply(&self.up, &normed)?;
        let (last, inside) = (up.rank() - 1, up.dim(up.rank() - 1)? / 2);
        let gated = (up.narrow(last, 0, inside)? * up.narrow(last, inside, inside)?.silu()?)?;
        Ok((apply(&self.down, &gated)? + x)?)
    }
}

/// `x W^T` over the last dimension.
fn apply(matrix: &Named, x: &Tensor) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    let width = shape.pop().unwrap_or(1);
    let rows = x.reshape(((), width))?;
    shape.push(matrix.var.dim(0)?);
    Ok(rows.matmul(&matrix.var.as_tensor().t()?)?.reshape(shape)?)
}

/// `x` over its root mean square, times `scale`.
fn rms_norm(x: &Tensor, scale: &Tensor) -> Result<Tensor> {
    let last = x.rank() - 1;
    let root = (x.sqr()?.mean_keepdim(last)? + EPSILON)?.sqrt()?;
    Ok(x.broadcast_mul(&scale.broadcast_div(&root)?)?)
}
