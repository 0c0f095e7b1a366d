//! cloneofsimo's format (lora_diffusion d84074b `lora.py`), in which layers have no names: `up` and `down` of each stand in the order in
//! which a walk over the network meets its layers.
//!
//! | form | keys |
//! | --- | --- |
//! | list | a pickled list `[up, down, up, down, ..]` of one network |
//! | numbered | safetensors with `unet:0:up`, `unet:0:down`, `unet:1:up`, .., and the same of `text_encoder` |
//!
//! The walk is `modules()` of diffusers' UNet, in which `up_blocks` come before `mid_block` and a block's attentions before its residual
//! blocks. Older diffusers have a block's feed-forward layer before its second attention, and older versions of the program leave it out:
//! shapes decide, as they do which network a list is of, how many blocks it has, and whether residual blocks take part.

use super::Network;
use crate::adapter::Component;
use crate::adapter::families::{DOWN, UP};
use crate::error::{AdapterCause, Error, Result};
use crate::formats::WeightFile;
use std::collections::{BTreeMap, BTreeSet};

/// How the program names the networks of its numbered form.
const NUMBERED: [(&str, Network); 2] = [("unet:", Network::Unet), ("text_encoder:", Network::TextEncoder)];

/// Attention of the UNet, in the order in which its layers are made (diffusers 0.3 to 0.35 `Attention`).
const ATTENTION: [&str; 4] = ["to_q", "to_k", "to_v", "to_out.0"];
/// Attention of the text encoder (transformers 4.49 `CLIPAttention`).
const TEXT_ATTENTION: [&str; 4] = ["k_proj", "v_proj", "q_proj", "out_proj"];
/// A residual block (diffusers `ResnetBlock2D`); the last is not in every one.
const RESNET: [&str; 4] = ["conv1", "time_emb_proj", "conv2", "conv_shortcut"];

/// A named tensor.
pub(super) struct Named {
    pub key: String,
    pub network: Network,
    pub path: String,
    pub component: Component,
}

/// Whether the file is of this format.
pub(super) fn is_nameless(file: &WeightFile) -> bool {
    is_list(file) || file.names().any(|key| numbered(key).is_some())
}

/// The names of all tensors of a file of this format, and the keys that are none of its; `None` for other files.
///
/// # Errors
/// [`Error::Tensor`] for a factor without its partner, and for shapes that no network's layers have in this order.
pub(super) fn names(file: &WeightFile) -> Result<Option<(Vec<Named>, Vec<String>)>> {
    if is_list(file) {
        let key = |position: usize| position.to_string();
        let pairs = pairs(file, |index| (key(2 * index), key(2 * index + 1)))?;
        let network = if pairs.iter().all(Pair::is_square) { Network::TextEncoder } else { Network::Unet };
        return Ok(Some((named(network, &pairs, file)?, Vec::new())));
    }
    let is_numbered = |key: &&str| numbered(key).is_some();
    if !file.names().any(|key| is_numbered(&key)) {
        return Ok(None);
    }
    let mut all = Vec::new();
    for (prefix, network) in NUMBERED {
        let pairs = pairs(file, |index| (format!("{prefix}{index}:up"), format!("{prefix}{index}:down")))?;
        let found: BTreeSet<&str> = pairs.iter().flat_map(|pair| [pair.up.as_str(), pair.down.as_str()]).collect();
        let mut of_network = file.names().filter(is_numbered).filter(|key| key.starts_with(prefix));
        if let Some(key) = of_network.find(|key| !found.contains(key)) {
            return Err(Error::tensor(file.path(), key, AdapterCause::OutOfTurn));
        }
        all.extend(named(network, &pairs, file)?);
    }
    Ok(Some((all, file.names().filter(|key| !is_numbered(key)).map(str::to_owned).collect())))
}

/// A list of tensors has its positions for names.
fn is_list(file: &WeightFile) -> bool {
    file.names().len() > 1 && file.names().all(|key| key.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The rest of a key of the numbered form.
fn numbered(key: &str) -> Option<&str> {
    let rest = NUMBERED.iter().find_map(|(prefix, _)| key.strip_prefix(prefix))?;
    rest.strip_suffix(":up").or_else(|| rest.strip_suffix(":down")).filter(|index| index.bytes().all(|b| b.is_ascii_digit()))
}

/// Two factors and the shape of the weight that they change.
struct Pair {
    up: String,
    down: String,
    outputs: usize,
    inputs: usize,
    /// Height of the kernel of a convolution.
    kernel: Option<usize>,
}

impl Pair {
    fn is_square(&self) -> bool {
        self.outputs == self.inputs && self.kernel.is_none()
    }
}

/// All pairs, as long as `keys` names tensors that are there.
fn pairs(file: &WeightFile, keys: impl Fn(usize) -> (String, String)) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    loop {
        let (up, down) = keys(pairs.len());
        let alone = |key: &str, partner: &str| {
            let component = format!("`{partner}` of cloneofsimo's format");
            Err(Error::tensor(file.path(), key, AdapterCause::PartnerMissing { component }))
        };
        let (up_shape, down_shape) = match (file.info(&up), file.info(&down)) {
            (None, None) => return Ok(pairs),
            (Some(_), None) => return alone(&up, &down),
            (None, Some(_)) => return alone(&down, &up),
            (Some(up), Some(down)) => (up.shape.as_slice(), down.shape.as_slice()),
        };
        let (outputs, inputs, kernel) = match (up_shape, down_shape) {
            (&[outputs, rank], &[inner, inputs]) if rank == inner => (outputs, inputs, None),
            (&[outputs, rank, 1, 1], &[inner, inputs, kernel, _]) if rank == inner => (outputs, inputs, Some(kernel)),
            _ => {
                let (found, other_shape) = (up_shape.to_vec(), down_shape.to_vec());
                return Err(Error::tensor(file.path(), &up, AdapterCause::Unequal { found, other: down, other_shape }));
            }
        };
        pairs.push(Pair { up, down, outputs, inputs, kernel });
    }
}

/// The names of a network's factors.
fn named(network: Network, pairs: &[Pair], file: &WeightFile) -> Result<Vec<Named>> {
    let paths = match network {
        Network::TextEncoder => text_paths(pairs, file)?,
        Network::Unet => unet_paths(pairs, file)?,
        Network::Vae | Network::ControlNet => Vec::new(),
    };
    let both = |(path, pair): (String, &Pair)| {
        let one = |key: &str, component| Named { key: key.to_owned(), network, path: path.clone(), component };
        [one(&pair.up, UP), one(&pair.down, DOWN)]
    };
    Ok(paths.into_iter().zip(pairs).flat_map(both).collect())
}

fn text_paths(pairs: &[Pair], file: &WeightFile) -> Result<Vec<String>> {
    let width = pairs.first().map_or(0, |pair| pair.outputs);
    if let Some(pair) = pairs.iter().find(|pair| !pair.is_square() || pair.outputs != width) {
        return Err(misplaced(file, pair, &format!("an attention of a text encoder {width} wide")));
    }
    if let (Some(last), true) = (pairs.last(), !pairs.len().is_multiple_of(TEXT_ATTENTION.len())) {
        return Err(misplaced(file, last, "the last layer of a text encoder's attentions"));
    }
    let path = |index: usize| {
        format!("text_model.encoder.layers.{}.self_attn.{}", index / TEXT_ATTENTION.len(), TEXT_ATTENTION[index % 4])
    };
    Ok((0..pairs.len()).map(path).collect())
}

/// The layers of one transformer or residual block.
struct Unit {
    kind: UnitKind,
    /// Channels of its output.
    width: usize,
    layers: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum UnitKind {
    Transformer,
    Resnet,
}

fn unet_paths(pairs: &[Pair], file: &WeightFile) -> Result<Vec<String>> {
    let (mut units, mut start) = (Vec::new(), 0);
    while let Some(first) = pairs.get(start) {
        let unit = match first.kernel {
            Some(_) => resnet(&pairs[start..]),
            None => transformer(&pairs[start..]),
        };
        let unit = unit.map_err(|(at, expected)| misplaced(file, pairs.get(start + at).unwrap_or(first), &expected))?;
        start += unit.layers.len();
        units.push(unit);
    }
    let Some(first) = pairs.first() else { return Ok(Vec::new()) };
    let places = layout(&units).ok_or_else(|| {
        let widths: Vec<String> = units.iter().map(|unit| unit.width.to_string()).collect();
        misplaced(file, first, &format!("the first of a UNet of Stable Diffusion's plan with blocks {} wide", widths.join(", ")))
    })?;
    let path = |(place, unit): (String, Unit)| unit.layers.into_iter().map(move |layer| format!("{place}.{layer}"));
    Ok(places.into_iter().zip(units).flat_map(path).collect())
}

fn misplaced(file: &WeightFile, pair: &Pair, expected: &str) -> Error {
    let kernel = pair.kernel.map_or(String::new(), |kernel| format!(", kernel {kernel}"));
    let found = format!("a layer of {} outputs and {} inputs{kernel}", pair.outputs, pair.inputs);
    Error::tensor(file.path(), &pair.up, AdapterCause::OutOfOrder { found, expected: expected.to_owned() })
}

/// The layers of a transformer at the front of `pairs`, or which pair is wrong and what was expected of it.
fn transformer(pairs: &[Pair]) -> Result<Unit, (usize, String)> {
    let width = pairs[0].outputs;
    let gate = |at: usize| pairs.get(at).is_some_and(|pair| (pair.outputs, pair.inputs, pair.kernel) == (8 * width, width, None));
    let attention = |number: usize| ATTENTION.map(|layer| format!("transformer_blocks.0.attn{number}.{layer}"));
    let feed_forward = || ["transformer_blocks.0.ff.net.0.proj".to_owned()];
    let mut layers = attention(1).to_vec();
    if gate(4) {
        layers.extend(feed_forward());
        layers.extend(attention(2));
    } else {
        layers.extend(attention(2));
        if gate(8) {
            layers.extend(feed_forward());
        }
    }
    for (at, layer) in layers.iter().enumerate() {
        let Some(pair) = pairs.get(at) else { return Err((at.saturating_sub(1), format!("the one before `{layer}`"))) };
        let of_text = layer.ends_with("attn2.to_k") || layer.ends_with("attn2.to_v");
        let outputs = if layer.ends_with(".proj") { 8 * width } else { width };
        if pair.kernel.is_some() || pair.outputs != outputs || (!of_text && pair.inputs != width) {
            return Err((at, format!("`{layer}` of a block {width} wide")));
        }
    }
    Ok(Unit { kind: UnitKind::Transformer, width, layers })
}

/// The layers of a residual block at the front of `pairs`, or which pair is wrong and what was expected of it.
fn resnet(pairs: &[Pair]) -> Result<Unit, (usize, String)> {
    let width = pairs[0].outputs;
    let shortcut = pairs.get(3).is_some_and(|pair| (pair.outputs, pair.kernel) == (width, Some(1)));
    let layers = &RESNET[..if shortcut { 4 } else { 3 }];
    for (at, layer) in layers.iter().enumerate() {
        let fits =
            pairs.get(at).is_some_and(|pair| pair.outputs == width && pair.kernel.is_none() == (*layer == "time_emb_proj"));
        if !fits {
            return Err((at.min(pairs.len() - 1), format!("`{layer}` of a block {width} wide")));
        }
    }
    Ok(Unit { kind: UnitKind::Resnet, width, layers: layers.iter().map(|layer| (*layer).to_owned()).collect() })
}

/// Where each unit is, for the one UNet of Stable Diffusion's plan that has units of these kinds and widths in this order; `None` where
/// there is none, or where several fit and none has Stable Diffusion's two layers to a block.
fn layout(units: &[Unit]) -> Option<Vec<String>> {
    let transformers = units.iter().filter(|unit| unit.kind == UnitKind::Transformer).count();
    let with_resnets = transformers < units.len();
    // Of `blocks` blocks with attention on either side, the left ones have `layers` transformers, the right ones one more, the middle one.
    let plans = (1..transformers).filter_map(|layers| {
        let each = 2 * layers + 1;
        (transformers - 1).is_multiple_of(each).then(|| plan((transformers - 1) / each, layers, with_resnets))
    });
    let fitting: Vec<(usize, Vec<Place>)> = plans.filter(|(_, places)| fits(places, units)).collect();
    let chosen = match fitting.as_slice() {
        [only] => only,
        several => several.iter().find(|(layers, _)| *layers == 2)?,
    };
    Some(chosen.1.iter().map(|place| place.path.clone()).collect())
}

/// Where a unit may be.
struct Place {
    kind: UnitKind,
    /// Units of one level have one width.
    level: usize,
    path: String,
}

/// The places of a UNet, in the order of the walk, and its layers to a block.
fn plan(blocks: usize, layers: usize, with_resnets: bool) -> (usize, Vec<Place>) {
    let mut places = Vec::new();
    let mut add = |block: String, level: usize, attentions: usize, resnets: usize| {
        let mut some = |kind, name: &str, count: usize| {
            places.extend((0..count).map(|index| Place { kind, level, path: format!("{block}.{name}.{index}") }));
        };
        some(UnitKind::Transformer, "attentions", attentions);
        some(UnitKind::Resnet, "resnets", if with_resnets { resnets } else { 0 });
    };
    for block in 0..=blocks {
        add(format!("down_blocks.{block}"), block, if block < blocks { layers } else { 0 }, layers);
    }
    for block in 0..=blocks {
        add(format!("up_blocks.{block}"), blocks - block, if block > 0 { layers + 1 } else { 0 }, layers + 1);
    }
    add("mid_block".to_owned(), blocks, 1, 2);
    (layers, places)
}

/// Whether units of these kinds can stand in these places, with one width to a level.
fn fits(places: &[Place], units: &[Unit]) -> bool {
    let mut widths = BTreeMap::new();
    places.len() == units.len()
        && places
            .iter()
            .zip(units)
            .all(|(place, unit)| place.kind == unit.kind && *widths.entry(place.level).or_insert(unit.width) == unit.width)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(outputs: usize, inputs: usize) -> Pair {
        Pair { up: String::new(), down: String::new(), outputs, inputs, kernel: None }
    }

    fn block(width: usize) -> Vec<Pair> {
        let attention = |inputs: usize| [pair(width, width), pair(width, inputs), pair(width, inputs), pair(width, width)];
        attention(width).into_iter().chain(attention(768)).chain([pair(8 * width, width)]).collect()
    }

    fn places(widths: &[usize]) -> Option<Vec<String>> {
        layout(&widths.iter().map(|width| transformer(&block(*width)).unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn stable_diffusion_has_its_middle_last() {
        let widths = [320, 320, 640, 640, 1280, 1280, 1280, 1280, 1280, 640, 640, 640, 320, 320, 320, 1280];
        let places = places(&widths).unwrap();
        assert_eq!((places[0].as_str(), places[5].as_str()), ("down_blocks.0.attentions.0", "down_blocks.2.attentions.1"));
        assert_eq!((places[6].as_str(), places[14].as_str()), ("up_blocks.1.attentions.0", "up_blocks.3.attentions.2"));
        assert_eq!(places[15], "mid_block.attentions.0");
    }

    #[test]
    fn other_widths_are_no_unet() {
        let mut widths = [320, 320, 640, 640, 1280, 1280, 1280, 1280, 1280, 640, 640, 640, 320, 320, 320, 1280];
        widths[7] = 640;
        assert_eq!(places(&widths), None);
        assert_eq!(places(&[320, 320]), None);
        // Four blocks of one width are one block on either side with one layer.
        assert_eq!(places(&[8; 4]).unwrap()[3], "mid_block.attentions.0");
    }
}
