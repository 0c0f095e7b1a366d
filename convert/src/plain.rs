//! Adapters of every family as plain LoRA, layer by layer, with a report of what a rank leaves out.

use crate::fault::Fault;
use crate::model::Model;
use crate::told::LAYERS;
use candle_core::{DType, Device, Tensor};
use driftless::adapter::Adapter;
use driftless::adapter::AdapterFile;
use driftless::adapter::files::{Entries, Network};
use driftless::model_family::{LayerKind, layer_kind};
use driftless::{Error, Result};
use driftless_cli::{Console, Progress};
use rayon::prelude::*;

/// How layers are turned into plain LoRA.
pub struct Plain<'a> {
    /// The highest rank that a layer may have; without it the result is exact.
    pub rank: Option<usize>,
    /// The base model, where one is given.
    pub base: Option<&'a Model>,
    /// Whether differences of biases may be left out.
    pub drop_biases: bool,
    /// Whether differences of norms may be left out.
    pub drop_norms: bool,
}

impl Plain<'_> {
    /// Replaces every layer that is not plain LoRA, and with a rank those of a larger one.
    pub fn apply(&self, file: &mut AdapterFile, console: &Console) -> Result<()> {
        self.leave_out_norms(file, console)?;
        let as_it_is = |adapter: &Adapter| {
            let lora = adapter.as_plain_lora();
            lora.is_some_and(|lora| self.rank.is_none_or(|rank| lora.rank() <= rank))
        };
        let changed: Vec<&(Network, String)> =
            file.entries.iter().filter(|(_, adapter)| !as_it_is(adapter)).map(|(layer, _)| layer).collect();
        let biased = changed.iter().filter(|layer| file.entries[*layer].bias.is_some()).count();
        if let Some((network, path)) = changed.iter().find(|layer| file.entries[**layer].bias.is_some())
            && !self.drop_biases
        {
            return Err(Error::tensor(&file.path, format!("{network}.{path}"), Fault::Bias { count: biased }));
        }
        let progress = Progress::new(console, LAYERS, changed.len());
        let made: Vec<Made> = changed
            .par_iter()
            .map(|layer| {
                let made = self.layer(file, layer);
                progress.advance(1);
                made
            })
            .collect::<Result<_>>()?;
        drop(progress);
        self.tell(&file.entries, &made, console);
        if biased > 0 {
            console.warn(format!("the differences of {biased} biases are left out"));
        }
        for Made { layer, adapter, .. } in made {
            file.entries.insert(layer, adapter);
        }
        Ok(())
    }

    /// Removes trained norms, where that was asked for.
    pub fn leave_out_norms(&self, file: &mut AdapterFile, console: &Console) -> Result<()> {
        let norms = file.entries.values().filter(|adapter| adapter.factors.is_norm()).count();
        let Some(((network, path), _)) = file.entries.iter().find(|(_, adapter)| adapter.factors.is_norm()) else {
            return Ok(());
        };
        if !self.drop_norms || norms == file.entries.len() {
            let fault = Fault::Norm { count: norms, alone: self.drop_norms };
            return Err(Error::tensor(&file.path, format!("{network}.{path}"), fault));
        }
        file.entries.retain(|_, adapter| !adapter.factors.is_norm());
        console.warn(format!("the differences of {norms} norms are left out"));
        Ok(())
    }

    fn layer(&self, file: &AdapterFile, layer: &(Network, String)) -> Result<Made> {
        let (network, path) = layer;
        let adapter = &file.entries[layer];
        let wrong = |fault: Fault| Error::tensor(&file.path, format!("{network}.{path}"), fault);
        let weight = match self.base.and_then(|base| base.network(*network)) {
            Some(component) => component.tensor(&format!("{path}.weight"), &Device::Cpu)?.to_dtype(DType::F32)?,
            None if adapter.needs_base() => {
                return Err(wrong(Fault::NeedsBase { family: adapter.family() }));
            }
            None => {
                let kind = layer_kind(*network, path).unwrap_or(LayerKind::Linear);
                // All wider kernels of SD1.5 are 3x3.
                let kernel = if kind == LayerKind::Convolution { 3 } else { 1 };
                let shape = adapter.factors.weight_shape(kind.is_convolution().then_some(kernel));
                let shape = shape.ok_or_else(|| wrong(Fault::NoShape))?;
                Tensor::zeros(shape, DType::F32, &Device::Cpu)?
            }
        };
        let plain = adapter.to_plain(&weight, self.rank).map_err(|source| wrong(Fault::NotPlain { source: Box::new(source) }))?;
        Ok(Made { layer: layer.clone(), adapter: plain.adapter, error: plain.error })
    }

    /// Reports how each layer was converted, and its error.
    fn tell(&self, entries: &Entries, made: &[Made], console: &Console) {
        let mut largest: Option<&Made> = None;
        for one in made {
            let (network, path) = &one.layer;
            let (family, rank) = (entries[&one.layer].family(), one.adapter.factors.rank().unwrap_or_default());
            let line = format!("{network}.{path}: {family} as LoRA of rank {rank}");
            console.detail(|| match one.error > 0.0 {
                true => format!("{line}, {} of the change left out", percent(one.error)),
                false => format!("{line}, exact"),
            });
            if largest.is_none_or(|other| one.error > other.error) {
                largest = Some(one);
            }
        }
        let cut = made.iter().filter(|one| one.error > 0.0).count();
        match largest.filter(|_| cut > 0) {
            Some(Made { layer: (network, path), error, .. }) => console.result(format!(
                "{} layers became plain LoRA, {cut} of them cut to rank {}; most is left out of {network}.{path}: {}",
                made.len(),
                self.rank.unwrap_or_default(),
                percent(*error)
            )),
            None if !made.is_empty() => {
                let rank = made.iter().filter_map(|one| one.adapter.factors.rank()).max().unwrap_or_default();
                console.result(format!("{} layers became plain LoRA, exactly, of rank {rank} at most", made.len()));
                if rank > 256 {
                    console.warn(format!(
                        "rank {rank} makes a large file; --rank N gives a smaller one and tells what that leaves out"
                    ));
                }
            }
            None => {}
        }
    }
}

/// A layer as plain LoRA.
struct Made {
    layer: (Network, String),
    adapter: Adapter,
    error: f64,
}

/// A share as a percentage with two significant digits.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    if value >= 10.0 { format!("{value:.0} %") } else { format!("{value:.2} %") }
}
