//! What each set keeps, once the UNet's sizes are known: layer ids, shapes, and the plan of a forward pass.

use driftless::taps::{LayerId, TapPlan};
use driftless::unet::UnetConfig;

use crate::plan::{Fault, Faults, FeatureSet, Fusion, FusionMode, RunPlan};
use crate::shapes::{self, Shapes, TOKENS};
use crate::stores::{aggregated_size, is_pooled};

/// Larger aggregates are a mistake: maps of thousands of keys stretched over thousands of queries.
const LARGEST_AGGREGATE: u64 = 16 << 30;

/// What one set keeps.
#[derive(Debug)]
pub struct Selection {
    /// The layers in the order of the store.
    pub layers: Vec<LayerId>,
    /// What an image's files hold, for prompts of ordinary length.
    pub bytes_per_image: u64,
}

/// The selections of all sets. `configs` are those of the plan's models.
///
/// # Errors
/// Every layer id that does not exist, pooling that leaves nothing, attention that has no maps.
pub fn select(plan: &RunPlan, configs: &[UnetConfig]) -> Result<Vec<Selection>, Fault> {
    let mut faults = Faults::default();
    let of_model = |number: usize| plan.models.iter().position(|(_, sets)| sets.contains(&number)).unwrap_or(0);
    let select = |(number, set)| {
        let config = &configs[of_model(number)];
        faults.keep(select_set(set, plan, config, &Shapes::new(config, plan.img_size, TOKENS)))
    };
    let selections: Vec<Selection> = plan.sets.iter().enumerate().filter_map(select).collect();
    faults.check()?;
    plan.fusions.iter().try_for_each(|fusion| check_fusion(fusion, plan, &selections))?;
    Ok(selections)
}

/// What is fused has to hold the same layers at the same sizes.
fn check_fusion(fusion: &Fusion, plan: &RunPlan, selections: &[Selection]) -> Result<(), Fault> {
    let first = fusion.of[0];
    let (set, layers) = (&plan.sets[first], &selections[first].layers);
    for &other in &fusion.of[1..] {
        let unequal = match () {
            () if selections[other].layers != *layers => "layers",
            () if plan.sets[other].feature_resize != set.feature_resize => "feature_resize",
            () if plan.sets[other].attention != set.attention => "attention",
            () => continue,
        };
        let names = [first, other].map(|set| plan.sets[set].name.clone().unwrap_or_default()).join("` and `");
        return Err(Fault::failure(format!("set `{}`: `{names}` differ in {unequal} and cannot be fused", fusion.name)));
    }
    Ok(())
}

/// What the files of one image hold, all sets together.
pub fn bytes_per_image(plan: &RunPlan, selections: &[Selection]) -> u64 {
    let sets = plan.sets.iter().zip(selections).filter(|(set, _)| set.written).map(|(_, selection)| selection.bytes_per_image);
    let fusions = plan.fusions.iter().map(|fusion| {
        let parts = fusion.of.iter().map(|set| selections[*set].bytes_per_image);
        match fusion.mode {
            FusionMode::Mean => parts.max().unwrap_or(0),
            FusionMode::Concat => parts.fold(0, u64::saturating_add),
        }
    });
    sets.chain(fusions).fold(0, u64::saturating_add)
}

fn select_set(set: &FeatureSet, plan: &RunPlan, config: &UnetConfig, shapes: &Shapes) -> Result<Selection, Fault> {
    let place = set.name.as_ref().map_or(String::new(), |name| format!("set `{name}`: "));
    let layout = config.layout();
    let layers = set.layers.resolve(&layout, !set.attention.is_empty())?;
    let side = shapes.latent_side();
    let fail = |problem: String| Fault::failure(format!("{place}{problem}"));
    // Made again for all sets of a pass together; here its faults are found.
    TapPlan::new(&layout, layers.iter().copied(), &set.attention, (side, side)).map_err(|error| fail(error.to_string()))?;
    let mut pooled = Vec::with_capacity(layers.len());
    for layer in &layers {
        let shape = shapes.of(*layer, &set.attention);
        pooled.push(if is_pooled(*layer) { pooled_shape(shape, set.feature_resize) } else { shape });
        if pooled.last().is_some_and(|shape| shape.contains(&0)) {
            let problem = format!("leaves nothing of `{layer}`, which is {}", shapes::text(shape));
            return Err(fail(format!("--feature-resize {} {problem}", set.feature_resize)));
        }
    }
    let size = plan.output.dtype.size_in_bytes() as u64;
    let count = |shape: &[usize; 3]| shape.iter().fold(size, |product, side| product.saturating_mul(*side as u64));
    let bytes_per_image = match plan.output.aggregate {
        true => count(&aggregated_size(pooled.iter().copied())),
        false => pooled.iter().fold(0, |sum: u64, shape| sum.saturating_add(count(shape))),
    };
    if plan.output.aggregate && bytes_per_image > LARGEST_AGGREGATE {
        let cause =
            "attention maps (`-map` layers) are stretched to the largest layer; leave them out or leave out --aggregate-output";
        return Err(fail(format!("one aggregated file would have {} GB: {cause}", bytes_per_image >> 30)));
    }
    Ok(Selection { layers, bytes_per_image })
}

fn pooled_shape([channels, height, width]: [usize; 3], ratio: usize) -> [usize; 3] {
    [channels, height / ratio, width / ratio]
}
