//! `--optimizer_type` and `--optimizer_args`.
//!
//! Names are those of PyTorch and kohya, in any case. Defaults are PyTorch's, not those of `candle-optimisers`, where the two differ.

use super::adamw::{AdamW, Settings};
use super::library::Library;
use super::{Group, Optimizer};
use crate::options::OptimizationOptions;
use crate::options::values::KeyValue;
use crate::options::values::ValueError;
use anyhow::Result;
use candle_optimisers::{Decay, Momentum};
use candle_optimisers::{
    adadelta::{Adadelta, ParamsAdaDelta},
    adagrad::{Adagrad, ParamsAdaGrad},
    adam::{Adam, ParamsAdam},
    adamax::{Adamax, ParamsAdaMax},
    esgd::{ParamsSGD, SGD},
    nadam::{NAdam, ParamsNAdam},
    radam::{ParamsRAdam, RAdam},
    rmsprop::{ParamsRMSprop, RMSprop},
};

/// An optimizer, or an argument for it, that cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "a variant's fields are what its message shows")]
pub enum OptimizerFault {
    #[error("--optimizer_type: {0} (there are {names})", names = NAMES.join(", "))]
    Unknown(driftless::Error),
    #[error("--optimizer_type {found} is not supported; there are {}", NAMES.join(", "))]
    NotSupported { found: String },
    #[error("--optimizer_args {0}")]
    Argument(ValueError),
    #[error("--optimizer_args {key}={found}: expected a number that is 0 or above")]
    Negative { key: String, found: String },
    #[error("--optimizer_args betas: both must be from 0 to below 1")]
    Betas,
    #[error("Nesterov momentum needs momentum above 0 and no dampening")]
    Nesterov,
    #[error("--optimizer_args for {optimizer}: {error} (it takes {known})")]
    UnknownArgument { optimizer: String, error: Box<driftless::Error>, known: String },
}

/// What the options choose, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    kind: Kind,
    /// A sentence for the user, when the name runs as something else.
    pub notice: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    AdamW(Settings),
    Adam { settings: Settings, amsgrad: bool },
    NAdam { settings: Settings, momentum_decay: f64 },
    RAdam(Settings),
    Adamax(Settings),
    RMSprop { alpha: f64, eps: f64, weight_decay: f64, momentum: f64, centered: bool },
    Adagrad { lr_decay: f64, eps: f64, weight_decay: f64, initial: f64 },
    Adadelta { rho: f64, eps: f64, weight_decay: f64 },
    Sgd { momentum: f64, nesterov: bool, dampening: f64, weight_decay: f64 },
}

const NAMES: [&str; 16] = [
    "AdamW",
    "AdamW8bit",
    "PagedAdamW",
    "PagedAdamW8bit",
    "PagedAdamW32bit",
    "Adam",
    "NAdam",
    "RAdam",
    "Adamax",
    "RMSprop",
    "Adagrad",
    "Adadelta",
    "SGD",
    "SGDNesterov",
    "SGDNesterov8bit",
    "AdaGrad",
];

/// kohya's other optimizers, which are refused by name.
const REFUSED: [&str; 16] = [
    "Lion",
    "Lion8bit",
    "PagedLion8bit",
    "AdEMAMix8bit",
    "PagedAdEMAMix8bit",
    "DAdaptation",
    "DAdaptAdamPreprint",
    "DAdaptAdaGrad",
    "DAdaptAdam",
    "DAdaptAdan",
    "DAdaptAdanIP",
    "DAdaptLion",
    "DAdaptSGD",
    "Adafactor",
    "Prodigy",
    "AdamWScheduleFree",
];

impl Choice {
    /// The optimizer that `options` name.
    ///
    /// # Errors
    /// When the name is unknown or not supported, or an argument is not one of its own.
    pub fn new(options: &OptimizationOptions) -> Result<Self, OptimizerFault> {
        let name = options.optimizer_type.rsplit('.').next().unwrap_or_default().to_lowercase();
        let mut arguments = Arguments::new(&options.optimizer_args);
        let mut notice = None;
        let kind = match name.as_str() {
            "adamw" => Kind::AdamW(arguments.adam(0.01)?),
            "adamw8bit" | "pagedadamw" | "pagedadamw8bit" | "pagedadamw32bit" => {
                notice = Some(format!("{} runs as AdamW with float32 moments", options.optimizer_type));
                Kind::AdamW(arguments.adam(0.01)?)
            }
            "adam" => Kind::Adam { settings: arguments.adam(0.0)?, amsgrad: arguments.flag("amsgrad")? },
            "nadam" => Kind::NAdam { settings: arguments.adam(0.0)?, momentum_decay: arguments.number("momentum_decay", 0.004)? },
            "radam" => Kind::RAdam(arguments.adam(0.0)?),
            "adamax" => Kind::Adamax(arguments.adam(0.0)?),
            "rmsprop" => Kind::RMSprop {
                alpha: arguments.number("alpha", 0.99)?,
                eps: arguments.number("eps", 1e-8)?,
                weight_decay: arguments.number("weight_decay", 0.0)?,
                momentum: arguments.number("momentum", 0.0)?,
                centered: arguments.flag("centered")?,
            },
            "adagrad" => Kind::Adagrad {
                lr_decay: arguments.number("lr_decay", 0.0)?,
                eps: arguments.number("eps", 1e-10)?,
                weight_decay: arguments.number("weight_decay", 0.0)?,
                initial: arguments.number("initial_accumulator_value", 0.0)?,
            },
            "adadelta" => Kind::Adadelta {
                rho: arguments.number("rho", 0.9)?,
                eps: arguments.number("eps", 1e-6)?,
                weight_decay: arguments.number("weight_decay", 0.0)?,
            },
            "sgd" => arguments.sgd(0.0, false)?,
            "sgdnesterov" => arguments.sgd(0.9, true)?,
            "sgdnesterov8bit" => {
                notice = Some("SGDNesterov8bit runs as SGDNesterov with float32 momentum".to_owned());
                arguments.sgd(0.9, true)?
            }
            unknown => {
                if REFUSED.iter().any(|refused| refused.to_lowercase() == unknown) {
                    return Err(OptimizerFault::NotSupported { found: options.optimizer_type.clone() });
                }
                let error = driftless::Error::unknown("optimizer", &options.optimizer_type, NAMES);
                return Err(OptimizerFault::Unknown(error));
            }
        };
        arguments.finish(&options.optimizer_type)?;
        Ok(Self { kind, notice })
    }

    /// Whether a run with it can save a state to resume from.
    pub fn can_resume(&self) -> bool {
        matches!(self.kind, Kind::AdamW(_))
    }

    /// The optimizer for `groups`.
    ///
    /// # Errors
    /// When memory for its state is lacking.
    pub fn build(&self, groups: &[Group]) -> Result<Box<dyn Optimizer>> {
        // What learning rate is given here does not matter: every step sets its own.
        let lr = 0.0;
        let decay = |weight_decay: f64| (weight_decay != 0.0).then_some(Decay::WeightDecay(weight_decay));
        let described = |name: &str| format!("{name}({})", self.arguments());
        Ok(match self.kind.clone() {
            Kind::AdamW(settings) => Box::new(AdamW::new(groups, settings)?),
            Kind::Adam { settings: s, amsgrad } => {
                let (beta_1, beta_2) = s.betas;
                let params = ParamsAdam { lr, beta_1, beta_2, eps: s.eps, weight_decay: decay(s.weight_decay), amsgrad };
                Box::new(Library::<Adam>::new(groups, params, described("Adam"))?)
            }
            Kind::NAdam { settings: s, momentum_decay } => {
                let (beta_1, beta_2) = s.betas;
                let params = ParamsNAdam { lr, beta_1, beta_2, eps: s.eps, weight_decay: decay(s.weight_decay), momentum_decay };
                Box::new(Library::<NAdam>::new(groups, params, described("NAdam"))?)
            }
            Kind::RAdam(s) => {
                let (beta_1, beta_2) = s.betas;
                let params = ParamsRAdam { lr, beta_1, beta_2, weight_decay: decay(s.weight_decay), eps: s.eps };
                Box::new(Library::<RAdam>::new(groups, params, described("RAdam"))?)
            }
            Kind::Adamax(s) => {
                let (beta_1, beta_2) = s.betas;
                let params = ParamsAdaMax { lr, beta_1, beta_2, weight_decay: decay(s.weight_decay), eps: s.eps };
                Box::new(Library::<Adamax>::new(groups, params, described("Adamax"))?)
            }
            Kind::RMSprop { alpha, eps, weight_decay, momentum, centered } => {
                let some = |x: f64| (x != 0.0).then_some(x);
                let (weight_decay, momentum) = (some(weight_decay), some(momentum));
                let params = ParamsRMSprop { lr, alpha, eps, weight_decay, momentum, centered };
                Box::new(Library::<RMSprop>::new(groups, params, described("RMSprop"))?)
            }
            Kind::Adagrad { lr_decay, eps, weight_decay, initial } => {
                let params = ParamsAdaGrad { lr, lr_decay, initial_acc: initial, weight_decay: decay(weight_decay), eps };
                Box::new(Library::<Adagrad>::new(groups, params, described("Adagrad"))?)
            }
            Kind::Adadelta { rho, eps, weight_decay } => {
                let params = ParamsAdaDelta { lr, rho, eps, weight_decay: decay(weight_decay) };
                Box::new(Library::<Adadelta>::new(groups, params, described("Adadelta"))?)
            }
            Kind::Sgd { momentum, nesterov, dampening, weight_decay } => {
                let momentum = (momentum != 0.0).then_some(match nesterov {
                    true => Momentum::Nesterov(momentum),
                    false => Momentum::Classical(momentum),
                });
                let params = ParamsSGD { lr, weight_decay: decay(weight_decay), momentum, dampening };
                Box::new(Library::<SGD>::new(groups, params, described("SGD"))?)
            }
        })
    }

    fn arguments(&self) -> String {
        let text = format!("{:?}", self.kind);
        text.split_once(['{', '(']).map_or(String::new(), |(_, inner)| inner.trim_end_matches(['}', ')', ' ']).trim().to_owned())
    }
}

/// The `--optimizer_args`, crossed off as they are used.
struct Arguments<'a> {
    left: Vec<&'a KeyValue>,
    known: Vec<&'static str>,
}

impl<'a> Arguments<'a> {
    fn new(arguments: &'a [KeyValue]) -> Self {
        Self { left: arguments.iter().collect(), known: vec![] }
    }

    fn take(&mut self, key: &'static str) -> Option<&'a KeyValue> {
        self.known.push(key);
        // The last of several wins, as in a Python dictionary.
        let found = self.left.iter().rev().find(|argument| argument.key == key).copied();
        self.left.retain(|argument| argument.key != key);
        found
    }

    fn number(&mut self, key: &'static str, default: f64) -> Result<f64, OptimizerFault> {
        let Some(argument) = self.take(key) else { return Ok(default) };
        let number: f64 = argument.number().map_err(OptimizerFault::Argument)?;
        if number.is_finite() && number >= 0.0 {
            return Ok(number);
        }
        Err(OptimizerFault::Negative { key: key.to_owned(), found: argument.value.clone() })
    }

    fn flag(&mut self, key: &'static str) -> Result<bool, OptimizerFault> {
        self.take(key).map_or(Ok(false), |argument| argument.flag()).map_err(OptimizerFault::Argument)
    }

    fn adam(&mut self, weight_decay: f64) -> Result<Settings, OptimizerFault> {
        let betas = match self.take("betas") {
            Some(argument) => argument.pair().map_err(OptimizerFault::Argument)?,
            None => (0.9, 0.999),
        };
        if ![betas.0, betas.1].iter().all(|beta| (0.0..1.0).contains(beta)) {
            return Err(OptimizerFault::Betas);
        }
        let eps = self.number("eps", 1e-8)?;
        Ok(Settings { betas, eps, weight_decay: self.number("weight_decay", weight_decay)? })
    }

    fn sgd(&mut self, momentum: f64, nesterov: bool) -> Result<Kind, OptimizerFault> {
        let nesterov = nesterov || self.flag("nesterov")?;
        let momentum = self.number("momentum", momentum)?;
        let (dampening, weight_decay) = (self.number("dampening", 0.0)?, self.number("weight_decay", 0.0)?);
        if nesterov && (momentum <= 0.0 || dampening != 0.0) {
            return Err(OptimizerFault::Nesterov);
        }
        Ok(Kind::Sgd { momentum, nesterov, dampening, weight_decay })
    }

    fn finish(self, name: &str) -> Result<(), OptimizerFault> {
        let Some(unknown) = self.left.first() else { return Ok(()) };
        let error = Box::new(driftless::Error::unknown("argument", &unknown.key, self.known.iter().copied()));
        Err(OptimizerFault::UnknownArgument { optimizer: name.to_owned(), error, known: self.known.join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Gradients, Parameter};
    use super::*;
    use crate::options::Options;
    use candle_core::{Device, Var};

    fn choice(arguments: &[&str]) -> Result<Choice, OptimizerFault> {
        Choice::new(&Options::of(arguments).optimization)
    }

    #[test]
    fn arguments_reach_their_settings() {
        let plain = choice(&[]).unwrap();
        assert_eq!(plain.kind, Kind::AdamW(Settings { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.01 }));
        let set = choice(&["--optimizer_type=AdamW8bit", "--optimizer_args", "weight_decay=0.1", "betas=0.9,0.99"]).unwrap();
        assert_eq!(set.kind, Kind::AdamW(Settings { betas: (0.9, 0.99), eps: 1e-8, weight_decay: 0.1 }));
        assert!(set.notice.unwrap().contains("AdamW8bit") && plain.notice.is_none());
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        for (arguments, expected) in [
            (vec!["--optimizer_type=Prodigy"], "Prodigy is not supported"),
            (vec!["--optimizer_type=AdmaW"], "did you mean `AdamW`"),
            (vec!["--optimizer_args=weight_decy=1"], "did you mean `weight_decay`"),
            (vec!["--optimizer_args=eps=small"], "eps=small"),
            (vec!["--optimizer_args=betas=0.9"], "two numbers"),
            (vec!["--optimizer_args=betas=0.9,1.5"], "below 1"),
            (vec!["--optimizer_type=SGD", "--optimizer_args=nesterov=True"], "momentum"),
        ] {
            let message = choice(&arguments).unwrap_err().to_string();
            assert!(message.contains(expected), "{arguments:?}: {message}");
        }
    }

    /// Each moves two matrices towards the minimum of a bowl, the one with the higher rate farther; a matrix that the loss does not
    /// see stays where it is.
    #[test]
    fn every_optimizer_goes_downhill_at_its_groups_rate() {
        for name in NAMES {
            let var = || Var::new(&[3f32, -2.0], &Device::Cpu).unwrap();
            let group = |rate| Group { name: String::new(), rate, parameters: vec![Parameter { key: "k".into(), var: var() }] };
            let groups = vec![group(0.01), group(0.001), group(0.01)];
            let mut optimizer = choice(&[&format!("--optimizer_type={name}")]).unwrap().build(&groups).unwrap();
            let at = |index: usize| groups[index].parameters[0].var.as_tensor().clone();
            let loss = |index: usize| (at(index).sqr().unwrap().sum_all().unwrap() * 0.5).unwrap();
            let value = |index: usize| loss(index).to_scalar::<f32>().unwrap();
            for _ in 0..5 {
                let mut gradients = Gradients::new(&groups);
                let sum = (loss(0) + loss(1)).unwrap();
                gradients.add(&groups, &mut sum.backward().unwrap()).unwrap();
                optimizer.step(&gradients, &[0.01, 0.001, 0.01]).unwrap();
            }
            assert!(value(0) < value(1) && value(1) < 6.5, "{name}: {} {}", value(0), value(1));
            assert_eq!(at(2).to_vec1::<f32>().unwrap(), [3.0, -2.0], "{name}");
            assert!(optimizer.description().contains('('), "{}", optimizer.description());
        }
    }
}
