//! Adapters in training: first values, and the variables behind them.
//!
//! First values as in kohya's `networks/lora.py` and LyCORIS 4.1 `modules/` (`use_scalar` off): the change is zero, since one factor
//! is. Random numbers come from the given generator, in the order of the parts.

use candle_core::{DType, Device, Tensor, Var};

use super::lokr::{KroneckerFactor, Lokr, factorization};
use super::{Adapter, Factors, LayerKind, Loha, Lora, Part, dora};
use crate::Result;
use crate::rng::Generator;

/// Which family is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// LoRA, on convolutions LoCon.
    Lora,
    /// LoHa.
    Loha,
    /// LoKr.
    Lokr(LokrOptions),
    /// The difference itself.
    Full,
}

/// How LoKr's factors are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LokrOptions {
    /// See [`factorization`]; -1 splits sizes nearest to their root.
    pub factor: i64,
    /// Whether the outer factor is a product too where the rank is below half its size.
    pub decompose_both: bool,
    /// Whether no factor is a product.
    pub full_matrix: bool,
}

/// What a layer's adapter is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainableOptions {
    /// The family.
    pub algorithm: Algorithm,
    /// At least 1.
    pub rank: usize,
    /// Over the rank, the scale.
    pub alpha: f64,
    /// Cores for convolutions whose kernel is larger than 1x1.
    pub tucker: bool,
    /// DoRA, with norms per output (`Some(true)`) or per input.
    pub dora: Option<bool>,
}

/// An adapter with its variables.
#[derive(Clone, Debug)]
pub struct Trainable {
    /// What a layer computes with; it shares the variables.
    pub adapter: Adapter,
    /// The trained tensors, float32.
    pub variables: Vec<(Part, Var)>,
}

impl Trainable {
    /// An adapter that changes nothing yet, for a layer with this weight, and a bias or none.
    ///
    /// # Errors
    /// When the device has no memory for it.
    pub fn init(
        kind: LayerKind,
        weight: &Tensor,
        has_bias: bool,
        options: &TrainableOptions,
        generator: &mut Generator,
        device: &Device,
    ) -> Result<Self> {
        let mut draw = Draw { generator, device };
        let factors = match options.algorithm {
            Algorithm::Lora => lora(kind, options, &mut draw)?,
            Algorithm::Loha => loha(kind, options, &mut draw)?,
            Algorithm::Lokr(lokr_options) => lokr(kind, options, lokr_options, &mut draw)?,
            Algorithm::Full => Factors::Full(draw.zeros(&kind.weight_shape())?),
        };
        let full = options.algorithm == Algorithm::Full;
        // Where alpha means nothing, files hold the rank.
        let alpha = if factors.rank().is_some() { options.alpha } else { options.rank as f64 };
        let mut adapter = Adapter { alpha: (!full).then_some(alpha), ..factors.into() };
        if full && has_bias {
            adapter.bias = Some(draw.zeros(&[kind.features().1])?);
        }
        if let Some(per_output) = options.dora.filter(|_| !full) {
            adapter.magnitude = Some(dora::magnitudes(&weight.to_device(device)?, per_output)?);
        }
        Self::of(&adapter)
    }

    /// An adapter whose tensors become variables.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn of(adapter: &Adapter) -> Result<Self> {
        let mut variables = Vec::new();
        let adapter = adapter.map(|part, tensor| {
            let variable = Var::from_tensor(&tensor.to_dtype(DType::F32)?.contiguous()?)?;
            variables.push((part, variable.clone()));
            Ok(variable.as_tensor().clone())
        })?;
        Ok(Self { adapter, variables })
    }
}

/// Draws first values.
struct Draw<'a> {
    generator: &'a mut Generator,
    device: &'a Device,
}

impl Draw<'_> {
    fn zeros(&self, shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::zeros(shape, DType::F32, self.device)?)
    }

    fn normal(&mut self, shape: &[usize], deviation: f64) -> Result<Tensor> {
        Ok((self.generator.randn_tensor(shape, self.device)? * deviation)?)
    }

    /// `torch.nn.init.kaiming_uniform_` with a = sqrt 5: uniform in plus/minus `1 / sqrt(fan_in)`.
    fn kaiming(&mut self, shape: &[usize]) -> Result<Tensor> {
        let fan_in: usize = shape[1..].iter().product();
        let bound = 1.0 / (fan_in as f32).sqrt();
        let uniform: Vec<f32> = self.generator.rand(shape).into_iter().map(|u| (2.0 * u - 1.0) * bound).collect();
        Ok(Tensor::from_vec(uniform, shape, self.device)?)
    }
}

fn has_core(kind: LayerKind, options: &TrainableOptions) -> bool {
    options.tucker && kind.kernel() > 1
}

fn lora(kind: LayerKind, options: &TrainableOptions, draw: &mut Draw) -> Result<Factors> {
    let (mut down, up) = kind.lora_shapes(options.rank);
    let mid = has_core(kind, options).then(|| [options.rank, options.rank, kind.kernel(), kind.kernel()]);
    if mid.is_some() {
        down[2..].fill(1);
    }
    let (down, up) = (draw.kaiming(&down)?, draw.zeros(&up)?);
    Ok(Factors::Lora(Lora { down, up, mid: mid.map(|shape| draw.kaiming(&shape)).transpose()? }))
}

fn loha(kind: LayerKind, options: &TrainableOptions, draw: &mut Draw) -> Result<Factors> {
    let ((inputs, outputs), kernel, rank) = (kind.features(), kind.kernel(), options.rank);
    let core = [rank, rank, kernel, kernel];
    let (a, b, cores) = match has_core(kind, options) {
        true => ([rank, outputs], [rank, inputs], Some((draw.normal(&core, 0.1)?, draw.normal(&core, 0.1)?))),
        false => ([outputs, rank], [rank, inputs * kernel * kernel], None),
    };
    let (w1_a, w1_b) = (draw.normal(&a, 0.1)?, draw.normal(&b, 1.0)?);
    Ok(Factors::Loha(Loha { w1_a, w1_b, w2_a: draw.zeros(&a)?, w2_b: draw.normal(&b, 1.0)?, cores }))
}

fn lokr(kind: LayerKind, options: &TrainableOptions, lokr: LokrOptions, draw: &mut Draw) -> Result<Factors> {
    let ((inputs, outputs), kernel, rank) = (kind.features(), kind.kernel(), options.rank);
    let ((i1, i2), (o1, o2)) = (factorization(inputs, lokr.factor), factorization(outputs, lokr.factor));
    let is_product = |size: usize| 2 * rank < size && !lokr.full_matrix;
    let w1 = if lokr.decompose_both && is_product(o1.max(i1)) {
        KroneckerFactor::Product { a: draw.kaiming(&[o1, rank])?, b: draw.kaiming(&[rank, i1])?, core: None }
    } else {
        KroneckerFactor::Whole(draw.kaiming(&[o1, i1])?)
    };
    let w2 = if !is_product(o2.max(i2)) {
        let mut shape = kind.weight_shape();
        (shape[0], shape[1]) = (o2, i2);
        KroneckerFactor::Whole(draw.zeros(&shape)?)
    } else if has_core(kind, options) {
        let (a, core) = (draw.kaiming(&[rank, o2])?, draw.kaiming(&[rank, rank, kernel, kernel])?);
        KroneckerFactor::Product { a, b: draw.zeros(&[rank, i2])?, core: Some(core) }
    } else {
        let b = draw.zeros(&[rank, i2 * kernel * kernel])?;
        KroneckerFactor::Product { a: draw.kaiming(&[o2, rank])?, b, core: None }
    };
    Ok(Factors::Lokr(Lokr { w1, w2 }))
}
