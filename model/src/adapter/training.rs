//! How families are trained: the names and arguments that LyCORIS has for it, and first values.
//!
//! First values as in kohya's `networks/lora.py` and LyCORIS 4.1 `modules/` (`use_scalar` off): the change is zero, since one factor
//! is. Random numbers come from the given generator, in the order of the components.

use candle_core::{DType, Device, Tensor};

use super::LayerShape;
use super::families::{Factors, LORA_TRAINING, REGISTRY};
use crate::error::ArgumentCause;
use crate::rng::Generator;
use crate::{Error, Result};

/// What a family is in training.
pub(super) struct Training {
    /// LyCORIS' names, in `--network_args algo=`.
    pub algorithms: &'static [&'static str],
    /// Arguments of this family alone.
    pub arguments: &'static [Argument],
    /// Whether alpha over the rank scales the change.
    pub has_scale: bool,
    /// Whether the layer's bias is trained beside the weight.
    pub with_bias: bool,
    /// Whether DoRA and dropout of rows go with it.
    pub takes_magnitudes: bool,
    /// An adapter that changes nothing yet.
    pub first_values: fn(&mut FirstValues) -> Result<Factors>,
}

/// An argument of a family.
#[derive(Debug)]
pub struct Argument {
    /// LyCORIS' name.
    pub name: &'static str,
    /// Its value where it is not given, and thereby its type.
    pub default: Value,
    /// Whether a value is in range.
    pub accepts: fn(Value) -> bool,
    /// The range, in words that end a sentence.
    pub range: &'static str,
}

/// The value of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A whole number.
    Number(i64),
    /// A switch.
    Flag(bool),
}

/// Which family is trained, with its own arguments.
#[derive(Clone)]
pub struct Algorithm {
    training: &'static Training,
    given: Vec<(&'static str, Value)>,
}

impl std::fmt::Debug for Algorithm {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {:?}", self.name(), self.given)
    }
}

impl PartialEq for Algorithm {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name() && self.training.arguments.iter().all(|a| self.value(a.name) == other.value(a.name))
    }
}

impl Algorithm {
    /// The names of all algorithms that are trained, by which `named` finds them.
    pub fn names() -> impl Iterator<Item = &'static str> {
        trained().flat_map(|training| training.algorithms).copied()
    }

    /// LyCORIS' names of the families that are read and not trained.
    pub fn untrained() -> impl Iterator<Item = &'static str> {
        REGISTRY.iter().filter(|row| row.training.is_none()).map(|row| row.metadata)
    }

    /// Plain LoRA.
    pub fn lora() -> Self {
        Self { training: &LORA_TRAINING, given: Vec::new() }
    }

    /// The algorithm that LyCORIS gives this name, with the defaults of its arguments.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the nearest name.
    pub fn named(name: &str) -> Result<Self> {
        trained()
            .find(|training| training.algorithms.contains(&name))
            .map(|training| Self { training, given: Vec::new() })
            .ok_or_else(|| Error::unknown("algo", name, Self::names()))
    }

    /// The arguments of all algorithms, each with LyCORIS' name of the algorithm that takes it.
    pub fn all_arguments() -> impl Iterator<Item = (&'static str, &'static Argument)> {
        trained().flat_map(|training| training.arguments.iter().map(|argument| (training.algorithms[0], argument)))
    }

    /// The same with an argument's value.
    ///
    /// # Errors
    /// [`Error::Argument`] when this algorithm has no such argument, or the value is of another type or out of range.
    pub fn with(mut self, name: &str, value: Value) -> Result<Self> {
        let Some(argument) = self.training.arguments.iter().find(|argument| argument.name == name) else {
            return Err(Error::argument(name, ArgumentCause::NotOfAlgorithm { algorithm: self.name().to_string() }));
        };
        if !(argument.accepts)(value) {
            return Err(Error::argument(name, ArgumentCause::OutOfRange { expected: argument.range }));
        }
        self.given.retain(|(other, _)| *other != argument.name);
        self.given.push((argument.name, value));
        Ok(self)
    }

    /// LyCORIS' first name for it.
    pub fn name(&self) -> &'static str {
        self.training.algorithms[0]
    }

    /// Whether alpha over the rank scales the change.
    pub fn has_scale(&self) -> bool {
        self.training.has_scale
    }

    /// Whether the layer's bias is trained beside the weight.
    pub fn with_bias(&self) -> bool {
        self.training.with_bias
    }

    /// Whether DoRA and dropout of rows go with it.
    pub fn takes_magnitudes(&self) -> bool {
        self.training.takes_magnitudes
    }

    /// First values for one layer.
    pub(super) fn first_values(&self, draw: &mut FirstValues) -> Result<Factors> {
        (self.training.first_values)(draw)
    }

    fn value(&self, name: &str) -> Option<Value> {
        let given = self.given.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
        given.or_else(|| self.training.arguments.iter().find(|argument| argument.name == name).map(|argument| argument.default))
    }

    /// A number among the arguments of its family; 0 for none of these.
    pub(super) fn number(&self, name: &str) -> i64 {
        match self.value(name) {
            Some(Value::Number(number)) => number,
            Some(Value::Flag(_)) | None => 0,
        }
    }

    /// A switch among the arguments of its family; off for none of these.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.value(name) == Some(Value::Flag(true))
    }
}

/// The families that are trained.
fn trained() -> impl Iterator<Item = &'static Training> {
    REGISTRY.iter().filter_map(|row| row.training)
}

/// What a layer's adapter is to be.
#[derive(Clone, Debug, PartialEq)]
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

/// Draws a layer's first values.
pub(super) struct FirstValues<'a> {
    pub kind: LayerShape,
    pub rank: usize,
    pub options: &'a TrainableOptions,
    pub generator: &'a mut Generator,
    pub device: &'a Device,
}

impl FirstValues<'_> {
    /// Whether the layer gets a core.
    pub fn has_core(&self) -> bool {
        self.options.tucker && self.kind.kernel() > 1
    }

    pub fn zeros(&self, shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::zeros(shape, DType::F32, self.device)?)
    }

    pub fn normal(&mut self, shape: &[usize], deviation: f64) -> Result<Tensor> {
        Ok((self.generator.randn_tensor(shape, self.device)? * deviation)?)
    }

    /// `torch.nn.init.kaiming_uniform_` with a = sqrt 5: uniform in plus/minus `1 / sqrt(fan_in)`.
    pub fn kaiming(&mut self, shape: &[usize]) -> Result<Tensor> {
        let fan_in: usize = shape[1..].iter().product();
        let bound = 1.0 / (fan_in as f32).sqrt();
        let uniform: Vec<f32> = self.generator.rand(shape).into_iter().map(|u| (2.0 * u - 1.0) * bound).collect();
        Ok(Tensor::from_vec(uniform, shape, self.device)?)
    }
}
