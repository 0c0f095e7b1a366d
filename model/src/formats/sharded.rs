//! Models split over several safetensors files, with an index `*.safetensors.index.json` whose `weight_map` says which tensor is
//! in which file (as transformers and diffusers write them).

use super::container::{Container, MAX_HEADER, detect};
use super::positioned::PositionedFile;
use super::weight_file::WeightFile;
use crate::error::{Error, Result, TensorCause, WeightFileCause};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Component, Path};

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Opens all shards that the index names.
pub(super) fn open(index: &PositionedFile) -> Result<WeightFile> {
    let path = index.path();
    let advice = "name a weight file, or an index ending in .safetensors.index.json";
    if detect(index)? != Container::Json || index.len() > MAX_HEADER {
        return Err(Error::file(path, WeightFileCause::NotAnIndex { source: None }, advice));
    }
    let parsed: Index = serde_json::from_slice(&index.read(0, index.len())?)
        .map_err(|error| Error::file(path, WeightFileCause::NotAnIndex { source: Some(error) }, advice))?;
    let mut by_shard: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, shard) in parsed.weight_map {
        by_shard.entry(shard).or_default().push(key);
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut shards = Vec::with_capacity(by_shard.len());
    for (shard, keys) in by_shard {
        if !is_plain_name(&shard) {
            return Err(Error::file(path, WeightFileCause::ShardName { name: shard }, "shards must stand beside the index"));
        }
        let file = WeightFile::open_single(&folder.join(&shard))?;
        if let Some(missing) = keys.iter().find(|key| !file.contains(key)) {
            return Err(Error::tensor(file.path(), missing, TensorCause::MissingInShard { index: path.to_owned() }));
        }
        shards.push((file, keys));
    }
    Ok(WeightFile::from_shards(path.to_owned(), shards))
}

/// Whether `name` is a file's name without any folder: indices come from strangers.
fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) && !name.contains(['/', '\\'])
}
