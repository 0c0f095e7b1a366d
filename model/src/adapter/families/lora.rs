//! LoRA (Hu et al., arXiv 2106.09685) on linear layers and convolutions: `dW = up down`.
//!
//! Mirrors kohya's `networks/lora.py` `LoRAModule`, peft's `lora.Linear` and `lora.Conv2d`, and LyCORIS' `LoConModule`: for a
//! convolution `down` has the layer's kernel, stride and padding, and `up` is 1x1. With a core (LyCORIS, `use_tucker`) the kernel is
//! the core's: `dW[o, c, a, b] = sum over i, j of up[o, i] mid[i, j, a, b] down[j, c]`.

use candle_core::{DType, Tensor};

use super::Factors;
use crate::adapter::LayerShape;
use crate::adapter::component::{Component, Spelling};
use crate::adapter::core_product::{core_product, matrix};
use crate::adapter::family::{Change, Family, ThinTerm, fits};
use crate::adapter::stored_layer::StoredLayer;
use crate::adapter::training::{FirstValues, Training};
use crate::error::{AdapterCause, AdapterMisfit};
use crate::model_family::LayerKind;
use crate::{Error, Result};

/// The factor next to the input.
pub const DOWN: Component = Component::named("lora_down.weight").described("the down factor (lora_down, lora_A)").dotted(&[
    (Spelling::Peft, ".lora_A.weight"),
    (Spelling::Own, ".lora_linear_layer.down.weight"),
    (Spelling::Own, ".lora.down.weight"),
    (Spelling::Processor, "_lora.down.weight"),
]);
/// The factor next to the output.
pub const UP: Component = Component::named("lora_up.weight").described("the up factor (lora_up, lora_B)").dotted(&[
    (Spelling::Peft, ".lora_B.weight"),
    (Spelling::Own, ".lora_linear_layer.up.weight"),
    (Spelling::Own, ".lora.up.weight"),
    (Spelling::Processor, "_lora.up.weight"),
]);
/// The core of a factorized convolution.
const MID: Component = Component::named("lora_mid.weight");

/// LoRA's factors. The tensors may be variables (in training) or plain.
#[derive(Clone, Debug)]
pub struct Lora {
    /// `[r, c_in]`, for a convolution `[r, c_in, k, k]`, with a core `[r, c_in, 1, 1]`.
    pub down: Tensor,
    /// `[c_out, r]`, for a convolution `[c_out, r, 1, 1]`.
    pub up: Tensor,
    /// `[r, r, k, k]`.
    pub mid: Option<Tensor>,
}

impl Lora {
    /// The rank: rows of `down`.
    pub fn rank(&self) -> usize {
        self.down.dims()[0]
    }

    /// `up down`, float32, `[c_out, c_in * k * k]`.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn product(&self) -> Result<Tensor> {
        let (up, down) = (matrix(&self.up)?, matrix(&self.down)?);
        match &self.mid {
            None => Ok(up.matmul(&down)?),
            Some(mid) => core_product(&up.t()?.contiguous()?, mid, &down),
        }
    }

    /// `down` with the core contracted into it (then in float32): exact at the same rank.
    ///
    /// # Shapes
    /// `[r, c_in]` or `[r, c_in, k, k]`.
    /// # Errors
    /// When the shapes disagree.
    pub fn down_with_core(&self) -> Result<Tensor> {
        let Some(mid) = &self.mid else { return Ok(self.down.clone()) };
        let (rank, inner, height, width) = mid.dims4()?;
        let inputs = self.down.dims()[1];
        // [i, a, b, j] times [j, c] is [i, a, b, c].
        let core = mid.to_dtype(DType::F32)?.permute((0, 2, 3, 1))?.contiguous()?.reshape((rank * height * width, inner))?;
        let contracted = core.matmul(&matrix(&self.down)?)?.reshape((rank, height, width, inputs))?;
        Ok(contracted.permute((0, 3, 1, 2))?.contiguous()?)
    }
}

/// LoRA in training.
pub(in crate::adapter) static TRAINING: Training = Training {
    algorithms: &["lora", "locon"],
    arguments: &[],
    has_scale: true,
    with_bias: false,
    takes_magnitudes: Lora::TAKES_MAGNITUDES,
    first_values: |draw| Ok(Factors::Lora(Lora::first_values(draw)?)),
};

impl Family for Lora {
    const NAME: &'static str = "LoRA";
    const COMPONENTS: &'static [Component] = &[DOWN, UP, MID];
    const SCALED: &'static [Component] = &[UP];
    const METADATA: &'static str = "locon";
    const TAKES_MAGNITUDES: bool = true;
    const TRAINING: Option<&'static Training> = Some(&TRAINING);

    fn read(layer: &StoredLayer) -> Result<Self> {
        let mid_key = layer.key(MID);
        if let (Some(key), false, false) = (mid_key, layer.has(DOWN), layer.has(UP)) {
            return Err(layer.wrong(key, AdapterCause::NoFactors));
        }
        let (down_key, up_key) = (layer.needed(DOWN, UP)?, layer.needed(UP, DOWN)?);
        let down = read_down(layer, down_key, mid_key.is_some())?;
        let up = read_up(layer, up_key)?;
        let rank = down.dims()[0];
        let mid = mid_key.map(|key| layer.core(key)).transpose()?;
        if up.dims()[1] != rank {
            let (found, other_shape) = (up.dims().to_vec(), down.dims().to_vec());
            let cause = AdapterCause::Rank { rank: found[1], found, other: down_key.to_owned(), other_rank: rank, other_shape };
            return Err(layer.wrong(up_key, cause));
        }
        if let (Some(mid), Some(key)) = (&mid, mid_key) {
            layer.square(key, mid, rank)?;
        }
        Ok(Self { down, up, mid })
    }

    fn name(&self) -> &'static str {
        if self.down.dims().get(2).is_some_and(|kernel| *kernel > 1) || self.mid.is_some() { "LoCon" } else { "LoRA" }
    }

    fn rank(&self) -> Option<usize> {
        Some(Self::rank(self))
    }

    fn product(&self, _base: &Tensor) -> Result<Tensor> {
        Self::product(self)
    }

    fn components(&self) -> Vec<(Component, &Tensor)> {
        let factors = [(DOWN, Some(&self.down)), (UP, Some(&self.up)), (MID, self.mid.as_ref())];
        factors.into_iter().filter_map(|(component, tensor)| Some((component, tensor?))).collect()
    }

    fn map(&self, change: &mut Change) -> Result<Self> {
        Ok(Self {
            down: change(DOWN, &self.down)?,
            up: change(UP, &self.up)?,
            mid: self.mid.as_ref().map(|mid| change(MID, mid)).transpose()?,
        })
    }

    fn has_core(&self) -> bool {
        self.mid.is_some()
    }

    fn weight_shape(&self) -> Option<Vec<usize>> {
        let whole = self.mid.as_ref().unwrap_or(&self.down);
        Some([&[self.up.dims()[0], self.down.dims()[1]], whole.dims().get(2..).unwrap_or_default()].concat())
    }

    fn check(&self, weight: &[usize]) -> Result<(), AdapterMisfit> {
        fits(&self.weight_shape().unwrap_or_default(), weight)
    }

    /// Published files keep the factors of 1x1 convolutions and linear layers in each other's shape.
    fn fitted(&self, kind: LayerShape) -> Result<Self, AdapterMisfit> {
        let rank = Self::rank(self);
        let (mut down, up) = shapes(kind, rank)?;
        let mut mid = None;
        if let (Some(core), LayerShape::Conv2d { kernel, .. }) = (&self.mid, kind) {
            down[2..].fill(1);
            mid = Some(fit("mid", core, &[rank, rank, kernel, kernel])?);
        } else if self.mid.is_some() {
            return Err(AdapterMisfit::Core);
        }
        Ok(Self { down: fit("down", &self.down, &down)?, up: fit("up", &self.up, &up)?, mid })
    }

    fn as_product(&self, _base: &Tensor, most: usize) -> Result<Option<(Tensor, Tensor)>> {
        if Self::rank(self) > most {
            return Ok(None);
        }
        Ok(Some((matrix(&self.up)?, matrix(&self.down_with_core()?)?)))
    }

    /// `up(mid(down(x)))`, through products of the rank's size.
    fn thin_term(&self, term: &ThinTerm) -> Result<Option<Tensor>> {
        let application = term.application;
        let up = match term.rows {
            Some(rows) if application.channels_first() => self.up.broadcast_mul(&rows.reshape(((), 1, 1, 1))?)?,
            Some(rows) => self.up.broadcast_mul(rows)?,
            None => self.up.clone(),
        };
        let cast = |factor: &Tensor| factor.to_dtype(term.x.dtype());
        let pointwise = application.pointwise();
        let down = cast(&self.down)?;
        let hidden = match &self.mid {
            None => application.apply(term.x, &down)?,
            Some(mid) => application.apply(&pointwise.apply(term.x, &down)?, &cast(mid)?)?,
        };
        Ok(Some(pointwise.apply(&(term.inner)(hidden)?, &cast(&up)?)?))
    }
}

impl Lora {
    /// `up` is zero.
    fn first_values(draw: &mut FirstValues) -> Result<Self> {
        let (kind, rank) = (draw.kind, draw.rank);
        let (mut down, up) = shapes(kind, rank).map_err(|misfit| Error::argument(Self::NAME, misfit))?;
        let mid = draw.has_core().then(|| [rank, rank, kind.kernel(), kind.kernel()]);
        if mid.is_some() {
            down[2..].fill(1);
        }
        let (down, up) = (draw.kaiming(&down)?, draw.zeros(&up)?);
        Ok(Self { down, up, mid: mid.map(|shape| draw.kaiming(&shape)).transpose()? })
    }
}

/// The shapes of `down` and `up` at a rank.
fn shapes(kind: LayerShape, rank: usize) -> Result<(Vec<usize>, Vec<usize>), AdapterMisfit> {
    match kind {
        LayerShape::Linear { c_in, c_out } => Ok((vec![rank, c_in], vec![c_out, rank])),
        LayerShape::Conv2d { c_in, c_out, kernel } => Ok((vec![rank, c_in, kernel, kernel], vec![c_out, rank, 1, 1])),
        LayerShape::Norm { channels } => Err(AdapterMisfit::Kind { family: Lora::NAME, found: vec![channels] }),
    }
}

/// `down` of a file; with a core its kernel is 1x1.
fn read_down(layer: &StoredLayer, key: &str, has_core: bool) -> Result<Tensor> {
    let tensor = layer.numbers(key)?;
    let shape = tensor.dims().to_vec();
    let wide_kernel = layer.kind == LayerKind::Convolution && !has_core;
    match (layer.kind, shape.as_slice()) {
        (LayerKind::Linear, [_, _]) => Ok(tensor),
        (LayerKind::Linear, &[rank, inputs, 1, 1]) => Ok(tensor.reshape((rank, inputs))?),
        (_, [_, _, 1, 1]) => Ok(tensor),
        (_, [_, _, _, _]) if wide_kernel => Ok(tensor),
        (_, &[rank, inputs]) if !wide_kernel => Ok(tensor.reshape((rank, inputs, 1, 1))?),
        _ => Err(layer.wrong_shape(key, &shape, if wide_kernel { "[rank, in, k, k]" } else { "[rank, in]" })),
    }
}

/// `up` of a file.
fn read_up(layer: &StoredLayer, key: &str) -> Result<Tensor> {
    let tensor = layer.numbers(key)?;
    let shape = tensor.dims().to_vec();
    match (layer.kind, shape.as_slice()) {
        (LayerKind::Linear, [_, _]) => Ok(tensor),
        (LayerKind::Linear, &[outputs, rank, 1, 1]) => Ok(tensor.reshape((outputs, rank))?),
        (_, [_, _, 1, 1]) => Ok(tensor),
        (_, &[outputs, rank]) => Ok(tensor.reshape((outputs, rank, 1, 1))?),
        _ => Err(layer.wrong_shape(key, &shape, "[out, rank]")),
    }
}

/// `tensor` in `shape`, where both differ in sizes of one alone.
fn fit(component: &'static str, tensor: &Tensor, shape: &[usize]) -> Result<Tensor, AdapterMisfit> {
    if tensor.dims() == shape {
        return Ok(tensor.clone());
    }
    let misfit = || AdapterMisfit::Factor { component, expected: shape.to_vec(), found: tensor.dims().to_vec() };
    let plain = |dims: &[usize]| dims.iter().copied().filter(|&d| d != 1).collect::<Vec<_>>();
    if plain(tensor.dims()) == plain(shape) { tensor.reshape(shape).map_err(|_| misfit()) } else { Err(misfit()) }
}
