//! What each set keeps, once the UNet's sizes are known: layer ids, shapes, and the plan of a forward pass.

use driftless::model_family::LATENT_DOWNSCALE;
use driftless::taps::{LayerId, PassSizes, TapPlan};
use driftless::tokenizer::CONTEXT_LENGTH;
use driftless::unet::UnetConfig;

use crate::fault::{Fault, FaultCause, Faults, SetFault};
use crate::ids::IdMap;
use crate::plan::RunPlan;
use crate::projection::Projection;
use crate::set::ModelChoice;
use crate::set::{FeatureSet, Fusion, FusionMode};
use crate::stores::{aggregated_size, is_pooled};

/// Larger aggregates are a mistake: maps of thousands of keys stretched over thousands of queries.
const LARGEST_AGGREGATE: u64 = 16 << 30;

/// What one set keeps.
#[derive(Debug, Default)]
pub struct Selection {
    /// The layers in the order of the store.
    pub layers: Vec<LayerId>,
    /// What an image's files hold, for prompts of ordinary length.
    pub bytes_per_image: u64,
}

/// The sizes of a pass over a square image of `img_size` pixels a side, with a prompt of ordinary length.
pub fn pass_sizes(img_size: usize) -> PassSizes {
    let side = img_size / LATENT_DOWNSCALE;
    PassSizes { latents: (side, side), image: (side * LATENT_DOWNSCALE, side * LATENT_DOWNSCALE), tokens: CONTEXT_LENGTH }
}

/// A layer's shape as people read it: `320 x 64 x 64`.
pub fn shape_text(shape: [usize; 3]) -> String {
    shape.map(|side| side.to_string()).join(" x ")
}

/// The selections of all sets. `configs` are those of the plan's models.
///
/// # Errors
/// Every layer id that does not exist, pooling that leaves nothing, attention that has no maps.
pub fn select(plan: &RunPlan, configs: &IdMap<ModelChoice, UnetConfig>) -> Result<IdMap<FeatureSet, Selection>, Fault> {
    let mut faults = Faults::default();
    let selections = plan.sets.map(|_, set| {
        let config = &configs[set.pass.model];
        faults.take(select_set(set, plan, config))
    });
    faults.check()?;
    plan.fusions.values().try_for_each(|fusion| check_fusion(fusion, plan, &selections))?;
    Ok(selections)
}

/// What is fused has to hold the same layers at the same sizes.
fn check_fusion(fusion: &Fusion, plan: &RunPlan, selections: &IdMap<FeatureSet, Selection>) -> Result<(), Fault> {
    let first = fusion.first;
    let (keep, layers) = (&plan.sets[first].keep, &selections[first].layers);
    for &other in &fusion.others {
        let unequal = match () {
            () if selections[other].layers != *layers => "layers",
            () if plan.sets[other].keep.feature_resize != keep.feature_resize => "feature_resize",
            () if plan.sets[other].keep.attention != keep.attention => "attention",
            () => continue,
        };
        let sources = [first, other].map(|set| plan.sets[set].name.clone().unwrap_or_default());
        let fault = Fault::failure(SetFault::Unequal { sources, difference: unequal });
        return Err(fault.of(&format!("set `{}`: ", fusion.name)));
    }
    Ok(())
}

/// What the files of one image hold, all sets together.
pub fn bytes_per_image(plan: &RunPlan, selections: &IdMap<FeatureSet, Selection>) -> u64 {
    let written = plan.sets.iter().filter(|(_, set)| set.keep.written);
    let sets = written.map(|(id, _)| selections[id].bytes_per_image);
    let fusions = plan.fusions.values().map(|fusion| {
        let parts = fusion.sources().map(|set| selections[set].bytes_per_image);
        match fusion.mode {
            FusionMode::Mean => parts.max().unwrap_or(0),
            FusionMode::Concat => parts.fold(0, u64::saturating_add),
        }
    });
    sets.chain(fusions).fold(0, u64::saturating_add)
}

fn select_set(set: &FeatureSet, plan: &RunPlan, config: &UnetConfig) -> Result<Selection, Fault> {
    let context = set.name.as_ref().map_or(String::new(), |name| format!("set `{name}`: "));
    let layout = config.layout();
    let layers = set.keep.layers.resolve(&layout, !set.keep.attention.is_empty())?;
    let sizes = pass_sizes(plan.img_size);
    let fail = |cause: FaultCause| Fault::failure(cause).of(&context);
    // Made again for all sets of a pass together; here its faults are found.
    TapPlan::new(&layout, layers.iter().copied(), &set.keep.attention, sizes.latents).map_err(|error| fail(error.into()))?;
    let mut pooled = Vec::with_capacity(layers.len());
    // In the order of the store, as the layers are.
    let shapes = layout.shapes(&sizes, &set.keep.attention);
    for (layer, shape) in shapes.into_iter().filter(|(layer, _)| layers.contains(layer)) {
        pooled.push(if is_pooled(layer) { pooled_shape(shape, set.keep.feature_resize) } else { shape });
        if pooled.last().is_some_and(|shape| shape.contains(&0)) {
            let (ratio, shape) = (set.keep.feature_resize, shape_text(shape));
            return Err(fail(SetFault::PooledAway { ratio, layer, shape }.into()));
        }
    }
    if let Some(projection) = &plan.projection {
        project(&layers, &mut pooled, projection).map_err(|fault| fault.of(&context))?;
    }
    let size = plan.output.dtype.size_in_bytes() as u64;
    let count = |shape: &[usize; 3]| shape.iter().fold(size, |product, side| product.saturating_mul(*side as u64));
    let bytes_per_image = match plan.output.aggregate {
        true => count(&aggregated_size(pooled.iter().copied())),
        false => pooled.iter().fold(0, |sum: u64, shape| sum.saturating_add(count(shape))),
    };
    if plan.output.aggregate && bytes_per_image > LARGEST_AGGREGATE {
        return Err(fail(SetFault::AggregateSize { gigabytes: bytes_per_image >> 30 }.into()));
    }
    Ok(Selection { layers, bytes_per_image })
}

/// The shapes of layers when they are projected.
fn project(layers: &[LayerId], shapes: &mut [[usize; 3]], projection: &Projection) -> Result<(), Fault> {
    let mut faults = Faults::default();
    for (layer, [channels, ..]) in layers.iter().zip(shapes) {
        let checked = projection.check(*layer, *channels);
        faults.keep(checked.map_err(|fault| Fault::of_file(projection.path(), fault).of("--pca ")));
        *channels = projection.dims();
    }
    faults.check()
}

fn pooled_shape([channels, height, width]: [usize; 3], ratio: usize) -> [usize; 3] {
    [channels, height / ratio, width / ratio]
}
