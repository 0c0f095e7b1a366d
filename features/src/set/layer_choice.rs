//! Layer files: which layers a feature set has.
//!
//! The original's format is a JSON object from id to bool of which the ids mapped to true are kept, and an empty object means every
//! layer. Differences: a list of ids is read as well; `attn` and `vae-out` can be asked for like any other layer; an id that does not
//! exist is an error that names the nearest one, where the original drops it without a word. The `cross-k` and `cross-v` ids that the
//! original's files map to false are passed over; mapped to true they are an error, since no such layer can be extracted.

use std::collections::HashMap;
use std::path::Path;

use driftless::formats::read_config;
use driftless::taps::{LayerId, Layout};
use serde_json::Value;

use crate::fault::{Fault, LayerFault};

/// The layers of a feature set, by name. Equal where the names are; where they stand is for messages alone.
#[derive(Clone, Debug, Eq)]
pub enum LayerChoice {
    /// Every layer of the UNet.
    Everything,
    /// These; `origin` is the file or option, for messages.
    Listed {
        /// Where the names stand.
        origin: String,
        /// The ids as written, with whether they are wanted.
        ids: Vec<(String, bool)>,
    },
}

impl PartialEq for LayerChoice {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Everything, Self::Everything) => true,
            (Self::Listed { ids, .. }, Self::Listed { ids: others, .. }) => ids == others,
            (Self::Everything, Self::Listed { .. }) | (Self::Listed { .. }, Self::Everything) => false,
        }
    }
}

impl LayerChoice {
    /// Reads a layer file.
    ///
    /// # Errors
    /// When it cannot be read, is no JSON, or is neither an object of bools nor a list of strings.
    pub fn from_file(path: &Path) -> Result<Self, Fault> {
        let origin = path.display().to_string();
        let wrong = |fault: LayerFault| Fault::of_file(path, fault);
        // What is there and no regular file is named as what it is.
        if !path.exists() {
            return Err(wrong(LayerFault::NoFile));
        }
        match read_config::<Value>(path).map_err(Fault::failure)? {
            Value::Object(entries) if entries.is_empty() => Ok(Self::Everything),
            Value::Object(entries) => {
                let ids = entries.into_iter().map(|(id, wanted)| match wanted {
                    Value::Bool(wanted) => Ok((id, wanted)),
                    found => Err(wrong(LayerFault::NotABool { id, found })),
                });
                let ids = ids.collect::<Result<_, _>>()?;
                Ok(Self::Listed { origin, ids })
            }
            Value::Array(ids) => {
                let ids = ids.into_iter().map(|id| match id {
                    Value::String(id) => Ok(id),
                    found => Err(wrong(LayerFault::NotAnId { found })),
                });
                let ids = ids.collect::<Result<Vec<_>, _>>()?;
                Ok(Self::from_list(origin, ids))
            }
            _ => Err(wrong(LayerFault::NotALayerFile)),
        }
    }

    /// A plain list of ids.
    pub fn from_list(origin: impl Into<String>, ids: impl IntoIterator<Item = String>) -> Self {
        Self::Listed { origin: origin.into(), ids: ids.into_iter().map(|id| (id, true)).collect() }
    }

    /// The ids that this UNet has, in the order of the original's store: forward order, then `vae-out`, then `attn`.
    ///
    /// `attention` says whether the aggregate was asked for: then `attn` belongs to the set whether listed or not, as in the
    /// original.
    ///
    /// # Errors
    /// Every id that does not exist, each with the nearest one; a set without any layer; `attn` without categories.
    pub fn resolve(&self, layout: &Layout, attention: bool) -> Result<Vec<LayerId>, Fault> {
        let known = layout.ids();
        let mut chosen = match self {
            Self::Everything => known,
            Self::Listed { origin, ids } => {
                let wanted = parse_all(layout, origin, ids)?;
                if wanted.contains(&LayerId::Attn) && !attention {
                    return Err(Fault::failure(LayerFault::NoAttention).of(&format!("{origin}: ")));
                }
                if wanted.is_empty() && !attention {
                    return Err(Fault::failure(LayerFault::NoLayer).of(&format!("{origin}: ")));
                }
                known.into_iter().chain([LayerId::VaeOut]).filter(|id| wanted.contains(id)).collect()
            }
        };
        chosen.extend(attention.then_some(LayerId::Attn));
        Ok(chosen)
    }
}

fn parse_all(layout: &Layout, origin: &str, ids: &[(String, bool)]) -> Result<Vec<LayerId>, Fault> {
    /// Ids that are told of many that do not exist.
    const SHOWN: usize = 5;
    let (mut wanted, mut shown, mut count) = (Vec::new(), Vec::new(), 0);
    let known: HashMap<String, LayerId> =
        layout.ids().into_iter().chain([LayerId::VaeOut, LayerId::Attn]).map(|id| (id.to_string(), id)).collect();
    for (id, is_wanted) in ids {
        let depends_on_text = id.ends_with("cross-k") || id.ends_with("cross-v");
        if !is_wanted && depends_on_text {
            continue;
        }
        match known.get(id) {
            Some(id) if *is_wanted => wanted.push(*id),
            Some(_) => {}
            None => {
                count += 1;
                // The nearest names of all would take a minute to find for thousands.
                let error = (count <= SHOWN).then(|| layout.parse(id).err());
                shown.extend(error.flatten());
            }
        }
    }
    match shown.is_empty() {
        true => Ok(wanted),
        false => Err(Fault::failure(LayerFault::Unknown { shown, count }).of(&format!("{origin}: "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<LayerChoice, Fault> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layers.json");
        std::fs::write(&path, text).unwrap();
        LayerChoice::from_file(&path)
    }

    fn resolve(text: &str, attention: bool) -> Result<Vec<String>, Fault> {
        let ids = read(text)?.resolve(&Layout::stable_diffusion_1_5(), attention)?;
        Ok(ids.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_store_order_does_not_depend_on_the_files() {
        let ids = resolve(r#"{"unet-out": true, "vae-out": true, "unet-in": true, "mid-vit-out": false}"#, true).unwrap();
        assert_eq!(ids, ["unet-in", "unet-out", "vae-out", "attn"]);
        assert_eq!(resolve(r#"["unet-out", "unet-in"]"#, false).unwrap(), ["unet-in", "unet-out"]);
    }

    #[test]
    fn an_empty_object_is_everything() {
        assert_eq!(resolve("{}", false).unwrap().len(), 197);
        assert_eq!(resolve("{}", true).unwrap().len(), 198);
    }

    #[test]
    fn attention_alone() {
        assert_eq!(resolve(r#"["attn"]"#, true).unwrap(), ["attn"]);
        assert!(resolve(r#"["attn"]"#, false).unwrap_err().to_string().contains("--attention"));
    }

    #[test]
    fn faults_name_what_is_wrong() {
        let message = resolve(r#"{"up-level1-repeat1-vit-block0-cros-q": true}"#, false).unwrap_err().to_string();
        assert!(message.contains("did you mean `up-level1-repeat1-vit-block0-cross-q`"), "{message}");
        let message = resolve(r#"{"up-level1-repeat1-vit-block0-cross-k": true}"#, false).unwrap_err().to_string();
        assert!(message.contains("text alone"), "{message}");
        let message = resolve(r#"{"unet-in": false}"#, false).unwrap_err().to_string();
        assert!(message.contains("no layer is wanted"), "{message}");
        let message = read(r#"{"unet-in": 1}"#).unwrap_err().to_string();
        assert!(message.contains("`unet-in` is 1"), "{message}");
        assert!(read("[1]").is_err() && read("3").is_err() && read("{").is_err());
    }

    #[test]
    fn what_is_no_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let message = LayerChoice::from_file(&folder.path().join("layers.json")).unwrap_err().to_string();
        assert!(message.contains("no such layer file"), "{message}");
        let message = LayerChoice::from_file(folder.path()).unwrap_err().to_string();
        assert!(message.contains("is a folder"), "{message}");
    }

    #[test]
    fn the_originals_false_cross_keys_are_passed_over() {
        let ids = resolve(r#"{"unet-in": true, "up-level1-repeat1-vit-block0-cross-k": false}"#, false).unwrap();
        assert_eq!(ids, ["unet-in"]);
    }

    #[test]
    fn every_shipped_layer_file_resolves() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/layers");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let choice = LayerChoice::from_file(&path).unwrap();
            let ids = choice.resolve(&Layout::stable_diffusion_1_5(), false).unwrap();
            assert!(!ids.is_empty(), "{}", path.display());
            count += 1;
        }
        assert!(count >= 6, "{count} layer files");
    }
}
