//! One layer of an adapter file: which family its parts are of, and whether they are whole and agree.

use super::parts::Reader;
use super::peft_config::Scales;
use super::read::Layer;
use crate::adapter::Part;
use crate::adapter::{Adapter, Factors, Ia3, KroneckerFactor, Loha, Lokr, Lora};
use crate::error::{Error, Result};
use crate::formats::WeightFile;
use crate::model_family::{LayerKind, Network};
use candle_core::Tensor;

/// One layer's parts in a file.
pub(super) struct LayerParts<'a> {
    pub file: &'a WeightFile,
    pub network: Network,
    pub path: &'a str,
    pub kind: LayerKind,
    pub layer: &'a Layer,
}

/// More elements than any layer's weight has: SD1.5's largest has 29.5 million. A Kronecker product of small factors may claim more
/// than memory holds.
const LARGEST_WEIGHT: usize = 1 << 26;

/// The families by the parts that only they have.
const FAMILIES: [(&str, &[Part]); 5] = [
    ("LoRA", &[Part::Down, Part::Up, Part::Mid]),
    ("LoHa", &[Part::HadamardW1A, Part::HadamardW1B, Part::HadamardW2A, Part::HadamardW2B, Part::HadamardT1, Part::HadamardT2]),
    (
        "LoKr",
        &[
            Part::KroneckerW1,
            Part::KroneckerW1A,
            Part::KroneckerW1B,
            Part::KroneckerW2,
            Part::KroneckerW2A,
            Part::KroneckerW2B,
            Part::KroneckerT2,
        ],
    ),
    ("full difference", &[Part::Difference, Part::BiasDifference]),
    ("IA3", &[Part::ScaleVector, Part::OnInput]),
];

impl LayerParts<'_> {
    /// Reads and checks the layer.
    pub fn read(&self, scales: &Scales) -> Result<Adapter> {
        let mut found: Option<(&str, &str)> = None;
        for (family, parts) in FAMILIES {
            let Some(key) = parts.iter().find_map(|part| self.key(*part)) else { continue };
            // A difference of the bias goes with any family.
            if let Some((other, other_key)) = found.filter(|_| family != "full difference" || self.has(Part::Difference)) {
                let problem = format!("is a part of {family}, but `{other_key}` of the same layer is one of {other}");
                return Err(self.wrong(key, problem));
            }
            found = found.or(Some((family, key)));
        }
        let Some((family, _)) = found else {
            let key = self.layer.values().next().map_or(self.path, |(key, _)| key);
            return Err(self.wrong(key, "stands without the factors it belongs to".into()));
        };
        let reader = Reader { file: self.file, kind: self.kind };
        let factors = match family {
            "LoRA" => Factors::Lora(self.lora(&reader)?),
            "LoHa" => Factors::Loha(self.loha(&reader)?),
            "LoKr" => Factors::Lokr(self.lokr(&reader)?),
            "IA3" => Factors::Ia3(self.ia3(&reader)?),
            _ => Factors::Full(reader.weight(self.needed(Part::Difference, Part::BiasDifference)?)?),
        };
        let changed = factors.weight_shape(None).unwrap_or_default();
        let elements = changed.iter().try_fold(1usize, |count, size| count.checked_mul(*size));
        if elements.is_none_or(|count| count > LARGEST_WEIGHT) {
            let key = self.layer.values().next().map_or(self.path, |(key, _)| key);
            return Err(self.wrong(key, format!("changes a weight of shape {changed:?}, larger than any of the model's")));
        }
        let alpha = self.alpha(&factors, scales)?;
        let bias = self.key(Part::BiasDifference).map(|key| reader.vector(key)).transpose()?;
        let magnitude = self.key(Part::Magnitude).map(|key| reader.magnitude(key)).transpose()?;
        if let (Some(key), Factors::Full(_) | Factors::Ia3(_)) = (self.key(Part::Magnitude), &factors) {
            return Err(self.wrong(key, format!("is a magnitude of DoRA, which {family} does not have")));
        }
        Ok(Adapter { alpha, bias, magnitude, ..factors.into() })
    }

    fn key(&self, part: Part) -> Option<&str> {
        self.layer.get(&part).map(|(key, _)| key.as_str())
    }

    fn has(&self, part: Part) -> bool {
        self.layer.contains_key(&part)
    }

    /// The key of a part without which `other`, which is there, means nothing.
    fn needed(&self, part: Part, other: Part) -> Result<&str> {
        self.key(part).ok_or_else(|| {
            let key = self.key(other).or_else(|| self.layer.values().next().map(|(key, _)| key.as_str())).unwrap_or(self.path);
            let what = match part {
                Part::Down => "the down factor (lora_down, lora_A)",
                Part::Up => "the up factor (lora_up, lora_B)",
                part => part.name(),
            };
            self.wrong(key, format!("its partner, {what}, is missing"))
        })
    }

    fn wrong(&self, key: &str, problem: String) -> Error {
        Error::tensor(self.file.path(), key, problem)
    }

    fn lora(&self, reader: &Reader) -> Result<Lora> {
        let mid_key = self.key(Part::Mid);
        if let (Some(key), false, false) = (mid_key, self.has(Part::Down), self.has(Part::Up)) {
            return Err(self.wrong(key, "stands without the factors it belongs to".into()));
        }
        let (down_key, up_key) = (self.needed(Part::Down, Part::Up)?, self.needed(Part::Up, Part::Down)?);
        let down = reader.down(down_key, mid_key.is_some())?;
        let up = reader.up(up_key)?;
        let mid = mid_key.map(|key| reader.core(key)).transpose()?;
        let rank = down.dims()[0];
        if up.dims()[1] != rank {
            let problem =
                format!("has rank {} ({:?}), `{down_key}` has rank {rank} ({:?})", up.dims()[1], up.dims(), down.dims());
            return Err(self.wrong(up_key, problem));
        }
        if let (Some(mid), Some(key)) = (&mid, mid_key) {
            self.square(key, mid, rank)?;
        }
        Ok(Lora { down, up, mid })
    }

    fn loha(&self, reader: &Reader) -> Result<Loha> {
        let part = |part, other| -> Result<(&str, Tensor)> {
            let key = self.needed(part, other)?;
            Ok((key, reader.matrix(key)?))
        };
        let (a1, w1_a) = part(Part::HadamardW1A, Part::HadamardW1B)?;
        let (b1, w1_b) = part(Part::HadamardW1B, Part::HadamardW1A)?;
        let (a2, w2_a) = part(Part::HadamardW2A, Part::HadamardW2B)?;
        let (b2, w2_b) = part(Part::HadamardW2B, Part::HadamardW2A)?;
        let cores = if self.has(Part::HadamardT1) || self.has(Part::HadamardT2) {
            let (t1, t2) = (self.needed(Part::HadamardT1, Part::HadamardT2)?, self.needed(Part::HadamardT2, Part::HadamardT1)?);
            let cores = (reader.core(t1)?, reader.core(t2)?);
            self.square(t1, &cores.0, w1_b.dims()[0])?;
            self.square(t2, &cores.1, w2_b.dims()[0])?;
            if cores.0.dims()[2..] != cores.1.dims()[2..] {
                return Err(self.wrong(t2, format!("has shape {:?}, `{t1}` has {:?}", cores.1.dims(), cores.0.dims())));
            }
            Some(cores)
        } else {
            None
        };
        // With cores the ranks of `a` stand first.
        let (rank_axis, size_axis) = if cores.is_some() { (0, 1) } else { (1, 0) };
        for (key, a, other, b) in [(a1, &w1_a, b1, &w1_b), (a2, &w2_a, b2, &w2_b)] {
            self.agree(key, a, rank_axis, other, b, 0)?;
        }
        self.agree(a2, &w2_a, size_axis, a1, &w1_a, size_axis)?;
        self.agree(b2, &w2_b, 1, b1, &w1_b, 1)?;
        Ok(Loha { w1_a, w1_b, w2_a, w2_b, cores })
    }

    fn lokr(&self, reader: &Reader) -> Result<Lokr> {
        let w1 = self.kronecker([Part::KroneckerW1, Part::KroneckerW1A, Part::KroneckerW1B], None, reader)?;
        let inner = [Part::KroneckerW2, Part::KroneckerW2A, Part::KroneckerW2B];
        let w2 = self.kronecker(inner, self.key(Part::KroneckerT2), reader)?;
        Ok(Lokr { w1, w2 })
    }

    fn kronecker(&self, [whole, a, b]: [Part; 3], core: Option<&str>, reader: &Reader) -> Result<KroneckerFactor> {
        if let Some(key) = self.key(whole) {
            if let Some(other) = self.key(a).or(self.key(b)).or(core) {
                return Err(self.wrong(other, format!("and `{key}` are two forms of the same factor")));
            }
            let factor = if whole == Part::KroneckerW1 { reader.matrix(key)? } else { reader.weight_like(key)? };
            return Ok(KroneckerFactor::Whole(factor));
        }
        let (a_key, b_key) = (self.needed(a, b)?, self.needed(b, a)?);
        let (a, b) = (reader.matrix(a_key)?, reader.matrix(b_key)?);
        let core = match core {
            None => None,
            Some(key) => {
                let tensor = reader.core(key)?;
                self.square(key, &tensor, b.dims()[0])?;
                Some(tensor)
            }
        };
        self.agree(a_key, &a, usize::from(core.is_none()), b_key, &b, 0)?;
        Ok(KroneckerFactor::Product { a, b, core })
    }

    fn ia3(&self, reader: &Reader) -> Result<Ia3> {
        let key = self.needed(Part::ScaleVector, Part::OnInput)?;
        let on_input = self.needed(Part::OnInput, Part::ScaleVector)?;
        Ok(Ia3 { weight: reader.numbers(key)?, on_input: self.file.scalar(on_input)? != 0.0 })
    }

    /// A core's first two sizes are the rank.
    fn square(&self, key: &str, core: &Tensor, rank: usize) -> Result<()> {
        if core.dims()[..2] == [rank, rank] {
            return Ok(());
        }
        Err(self.wrong(key, format!("has shape {:?}; its first two sizes must be the rank, {rank}", core.dims())))
    }

    /// Two sizes that are the same number.
    fn agree(&self, key: &str, tensor: &Tensor, axis: usize, other: &str, same: &Tensor, same_axis: usize) -> Result<()> {
        if tensor.dims()[axis] == same.dims()[same_axis] {
            return Ok(());
        }
        Err(self.wrong(key, format!("has shape {:?}, which does not fit `{other}` of shape {:?}", tensor.dims(), same.dims())))
    }

    fn alpha(&self, factors: &Factors, scales: &Scales) -> Result<Option<f64>> {
        let stored = self.layer.get(&Part::Alpha);
        let Some(rank) = factors.rank() else {
            // Alpha means nothing here; programs store whatever they like.
            return stored.map(|(key, _)| self.file.scalar(key)).transpose().map(|alpha| alpha.filter(|a| a.is_finite()));
        };
        let (alpha, key) = match stored {
            Some((key, _)) => (Some(self.file.scalar(key)?), key.as_str()),
            None => match self.layer.get(&Part::Down) {
                Some((key, scheme)) => (scales.alpha(*scheme, self.network, self.path, rank)?, key.as_str()),
                None => (None, self.path),
            },
        };
        if let Some(alpha) = alpha
            && (!alpha.is_finite() || alpha == 0.0)
        {
            let why =
                if alpha == 0.0 { "programs read it as no change or as alpha = rank" } else { "it must be a finite number" };
            return Err(self.wrong(key, format!("alpha is {alpha}; {why}")));
        }
        Ok(alpha)
    }
}
