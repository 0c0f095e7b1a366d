//! What is really there: the images of a plan with sizes, captions and buckets.
//!
//! Mirrors `DreamBoothDataset.__init__` and `BaseDataset.make_buckets` of sd-scripts 48d368f, regularization images included. Exif
//! orientation is applied only where that is asked for (`--exif_orientation`): there it never is, and it moves photographs to other
//! buckets.

use super::buckets::{Placement, Size};
use super::fault::DataFault;
use super::held_back::{self, Stems};
use super::plan::{DataPlan, DatasetPlan, SubsetPlan};
use super::{caption_file, images_in, oddities};
use crate::faults::Faults;
use anyhow::{Context, Result};
use driftless::vision::{Header, Image};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The whole data set.
#[derive(Debug, Clone)]
pub struct DataSet {
    /// Batches of all of them are mixed.
    pub datasets: Vec<Dataset>,
    /// Whether it was written in a `--dataset_config`.
    pub from_file: bool,
    /// Sentences for the user.
    pub warnings: Vec<String>,
    /// The images that are held back, as a data set of its own in which nothing is left to chance.
    pub validation: Option<Box<DataSet>>,
}

/// Images that share a resolution and a batch size.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The plan it was made from.
    pub plan: DatasetPlan,
    /// What was found in each subset of the plan that is used.
    pub subsets: Vec<Subset>,
    /// All images, in order of subset and path.
    pub samples: Vec<Sample>,
    /// Draws per epoch of training images.
    pub num_train_images: usize,
    /// Regularization images times the repeats that the plan gives them.
    pub num_reg_images: usize,
    /// For each bucket in order of size: indices into `samples`, as often as they are drawn in an epoch.
    pub buckets: BTreeMap<Size, Vec<usize>>,
}

/// What was found in one folder.
#[derive(Debug, Clone)]
pub struct Subset {
    /// The plan it was made from.
    pub plan: SubsetPlan,
    /// Images, without repeats.
    pub images: usize,
    /// Images with a caption file.
    pub captions: usize,
    /// Images without.
    pub without_caption: Vec<PathBuf>,
    /// How many captions hold a tag (lower-cased).
    pub tag_frequency: BTreeMap<String, usize>,
}

/// One image.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Its file.
    pub path: PathBuf,
    /// Width and height, as stored or turned upright.
    pub size: Size,
    /// Whether it is to be turned upright as its Exif orientation says.
    pub upright: bool,
    /// Its caption before anything is done to it.
    pub caption: String,
    /// Index of its subset.
    pub subset: usize,
    /// Draws per epoch.
    pub repeats: usize,
    /// A regularization image.
    pub is_reg: bool,
    /// What size it becomes.
    pub placement: Placement,
}

/// The most draws in an epoch that a run can have: ten million, which is months of training.
const MOST_DRAWS: usize = 10_000_000;

impl DataSet {
    /// Looks at every image of `plan`: decodes it whole, so that a broken one shows now, reads its caption, and chooses its bucket.
    /// `seed` is that of the run, from which it follows what is held back for validation.
    ///
    /// # Errors
    /// All that is wrong, together: folders and images that cannot be read, images that fit no bucket, captions that are not UTF-8; or
    /// that nothing is left to train on.
    pub fn scan(plan: DataPlan, seed: u64) -> Result<Self> {
        Self::scan_telling(plan, seed, &|| {})
    }

    /// [`DataSet::scan`], which calls `looked` behind each image, from several threads: thousands of them take their time.
    ///
    /// # Errors
    /// As there.
    pub fn scan_telling(plan: DataPlan, seed: u64, looked: &(dyn Fn() + Sync)) -> Result<Self> {
        let mut faults = Faults::default();
        let held_back = held_back::choose(&plan, seed)?;
        let asked = plan.datasets.iter().flat_map(|dataset| &dataset.subsets).any(|subset| subset.validation_split > 0.0);
        let (mut warnings, mut datasets, mut validation) = (plan.warnings, Vec::new(), Vec::new());
        for (plan, stems) in plan.datasets.into_iter().zip(held_back) {
            let Some((dataset, rest)) = scan_dataset(plan, &stems, &mut warnings, &mut faults, looked) else { continue };
            datasets.push(dataset);
            validation.extend(rest);
        }
        faults.check()?;
        if asked && validation.is_empty() {
            warnings
                .push("validation_split is too small for so few images: none is held back, and there is no validation".into());
        }
        let from_file = plan.from_file;
        let validation = Self { datasets: validation, from_file, warnings: vec![], validation: None };
        let set =
            Self { datasets, from_file, warnings, validation: (!validation.datasets.is_empty()).then(|| Box::new(validation)) };
        match set.datasets.iter().all(|dataset| dataset.num_train_images == 0) {
            true => Err(set.emptiness().into()),
            false => Ok(set),
        }
    }

    /// Images that are held back.
    pub fn num_validation_images(&self) -> usize {
        self.validation.as_ref().map_or(0, |set| set.num_train_images())
    }

    /// Draws per epoch, without regularization.
    pub fn num_train_images(&self) -> usize {
        self.datasets.iter().map(|dataset| dataset.num_train_images).sum()
    }

    /// Regularization images, with their repeats.
    pub fn num_reg_images(&self) -> usize {
        self.datasets.iter().map(|dataset| dataset.num_reg_images).sum()
    }

    /// Batches per epoch.
    pub fn batches_per_epoch(&self) -> usize {
        self.datasets.iter().map(Dataset::batches_per_epoch).sum()
    }

    fn emptiness(&self) -> DataFault {
        let subsets = self.datasets.iter().flat_map(|dataset| &dataset.plan.subsets);
        let folders = subsets.map(|plan| plan.image_dir.clone()).collect();
        match self.validation {
            Some(_) => DataFault::AllHeldBack { folders },
            None => DataFault::NoImages { folders },
        }
    }
}

impl Dataset {
    /// Batches per epoch: each bucket's last one may be short.
    pub fn batches_per_epoch(&self) -> usize {
        self.buckets.values().map(|entries| entries.len().div_ceil(self.plan.batch_size)).sum()
    }

    /// Mean distance between the aspect ratios of images and of their buckets; kohya's `mean_img_ar_error`.
    pub fn mean_aspect_error(&self) -> f64 {
        let aspect = |size: Size| size.0 as f64 / size.1 as f64;
        let errors = self.samples.iter().map(|sample| (aspect(sample.placement.bucket) - aspect(sample.size)).abs());
        errors.sum::<f64>() / (self.samples.len().max(1)) as f64
    }
}

/// The dataset without, and one with only the images that are held back; `stems` are theirs, by subset of the plan. `None` when it
/// cannot be used at all.
fn scan_dataset(
    plan: DatasetPlan,
    stems: &[Stems],
    warnings: &mut Vec<String>,
    faults: &mut Faults,
    looked: &(dyn Fn() + Sync),
) -> Option<(Dataset, Option<Dataset>)> {
    if plan.batch_size == 0 {
        faults.push(DataFault::NoBatchSize);
    }
    let buckets = faults.keep(plan.buckets.buckets());
    let (mut subsets, mut train, mut reg, mut held) = (Vec::<Subset>::new(), Vec::new(), Vec::new(), Vec::new());
    for (subset_plan, held_back) in plan.subsets.iter().zip(stems) {
        let folder = &subset_plan.image_dir.display();
        if subset_plan.repeats < 1 {
            warnings.push(format!("{folder}: left out, because its images are repeated 0 times"));
            continue;
        }
        if subsets.iter().any(|subset| subset.plan.image_dir == subset_plan.image_dir) {
            warnings.push(format!("{folder}: left out, because the data set names it already"));
            continue;
        }
        let index = subsets.len();
        let Some((subset, mut samples)) = scan_subset(subset_plan, index, warnings, faults, looked) else { continue };
        if samples.is_empty() {
            warnings.push(format!("{folder}: left out, because there are no images in it"));
            continue;
        }
        if let Some(buckets) = &buckets {
            for sample in &mut samples {
                let placement = buckets.place(sample.size.0, sample.size.1);
                let placement = faults.keep(placement.with_context(|| sample.path.display().to_string()));
                sample.placement = placement.unwrap_or(sample.placement);
            }
        }
        warnings.extend(oddities::describe(folder, &samples));
        if subset_plan.is_reg {
            reg.extend(samples)
        } else {
            let is_held = |sample: &Sample| held_back.contains(held_back::stem(&sample.path));
            let (validation, training): (Vec<Sample>, Vec<Sample>) = samples.into_iter().partition(is_held);
            train.extend(training);
            held.extend(validation);
        }
        subsets.push(subset);
    }
    let draws = [draws(&train), draws(&reg)];
    if draws.iter().any(|draws| *draws > MOST_DRAWS) {
        let most = subsets.iter().max_by_key(|subset| subset.images.saturating_mul(subset.plan.repeats));
        let folder = most.map_or_else(PathBuf::new, |subset| subset.plan.image_dir.clone());
        faults.push(DataFault::TooManyDraws { folder, most: MOST_DRAWS });
    }
    if !faults.is_empty() {
        return None;
    }
    let validation = (!held.is_empty()).then(|| for_validation(&plan, &subsets, held));
    let [num_train_images, num_reg_images] = draws;
    if num_train_images < num_reg_images {
        warnings.push("some regularization images are not used, because there are more of them than training images".into());
    }
    let mut samples = train;
    samples.extend(evened_out(reg, num_train_images));
    let buckets = by_size(&samples);
    Some((Dataset { plan, subsets, samples, num_train_images, num_reg_images, buckets }, validation))
}

fn draws(samples: &[Sample]) -> usize {
    samples.iter().fold(0, |draws, sample| draws.saturating_add(sample.repeats))
}

fn by_size(samples: &[Sample]) -> BTreeMap<Size, Vec<usize>> {
    let mut by_size: BTreeMap<Size, Vec<usize>> = BTreeMap::new();
    for (index, sample) in samples.iter().enumerate() {
        by_size.entry(sample.placement.bucket).or_default().extend(std::iter::repeat_n(index, sample.repeats));
    }
    by_size
}

/// The images that are held back: each once, none changed.
fn for_validation(plan: &DatasetPlan, subsets: &[Subset], held: Vec<Sample>) -> Dataset {
    let settled = |subset: &Subset| {
        let captions = subset.plan.captions.settled();
        let plan = SubsetPlan { repeats: 1, captions, flip: false, color: false, random_crop: false, ..subset.plan.clone() };
        Subset { plan, ..subset.clone() }
    };
    let samples: Vec<Sample> = held.into_iter().map(|sample| Sample { repeats: 1, ..sample }).collect();
    Dataset {
        plan: plan.clone(),
        subsets: subsets.iter().map(settled).collect(),
        num_train_images: samples.len(),
        num_reg_images: 0,
        buckets: by_size(&samples),
        samples,
    }
}

/// Regularization images drawn about as often as training images: taken until there are enough, then repeated once more each, in
/// turn, until there are.
fn evened_out(mut reg: Vec<Sample>, num_train_images: usize) -> Vec<Sample> {
    let mut draws = 0;
    let mut used = 0;
    while draws < num_train_images && used < reg.len() {
        draws += reg[used].repeats;
        used += 1;
    }
    reg.truncate(used);
    let mut turn = 0;
    while draws < num_train_images && !reg.is_empty() {
        let index = turn % reg.len();
        reg[index].repeats += 1;
        draws += 1;
        turn += 1;
    }
    reg
}

/// The size of an image, and its caption if there is a file of it; each may be at fault by itself.
type Looked = (Result<Header>, Result<Option<String>>);

/// Looks at one image; decoded whole, so that it will be readable when its turn comes.
fn look(path: &Path, plan: &SubsetPlan) -> Looked {
    let header = Image::header(path).and_then(|header| Image::open(path).map(|_| header));
    (header.map_err(Into::into), caption_file::read(path, &plan.caption_extension, plan.captions.wildcard))
}

/// `None` when the folder cannot be read at all.
fn scan_subset(
    plan: &SubsetPlan,
    index: usize,
    warnings: &mut Vec<String>,
    faults: &mut Faults,
    looked: &(dyn Fn() + Sync),
) -> Option<(Subset, Vec<Sample>)> {
    let folder = &plan.image_dir;
    let images = faults.keep(images_in(folder).with_context(|| format!("image folder {}", folder.display())))?;
    faults.keep(caption_file::check_extension(&plan.caption_extension))?;
    let mut subset =
        Subset { plan: plan.clone(), images: images.len(), captions: 0, without_caption: vec![], tag_frequency: BTreeMap::new() };
    let look = |path: &PathBuf| {
        let found = look(path, plan);
        looked();
        found
    };
    let found: Vec<Looked> = images.par_iter().map(look).collect();
    let (mut samples, mut not_turned) = (Vec::with_capacity(images.len()), Vec::new());
    for (path, (header, from_file)) in images.into_iter().zip(found) {
        let (Some(header), Some(from_file)) = (faults.keep(header), faults.keep(from_file)) else { continue };
        let upright_size = header.upright_size.filter(|_| plan.exif_orientation);
        if header.upright_size.is_some() && upright_size.is_none() {
            not_turned.push(path.clone());
        }
        match &from_file {
            Some(_) => subset.captions += 1,
            None => subset.without_caption.push(path.clone()),
        }
        let caption = from_file.or_else(|| plan.class_tokens.clone()).unwrap_or_default();
        for tag in caption.split(',').map(|tag| tag.trim().to_lowercase()).filter(|tag| !tag.is_empty()) {
            *subset.tag_frequency.entry(tag).or_default() += 1;
        }
        let placement = Placement { bucket: (0, 0), resized: (0, 0) };
        samples.push(Sample {
            path,
            size: upright_size.unwrap_or(header.size),
            upright: upright_size.is_some(),
            caption,
            subset: index,
            repeats: plan.repeats,
            is_reg: plan.is_reg,
            placement,
        });
    }
    if !not_turned.is_empty() {
        warnings.push(oddities::not_turned(&subset, &not_turned));
    }
    if !subset.without_caption.is_empty() && !plan.is_reg {
        warnings.push(oddities::missing_captions(&subset));
    }
    Some((subset, samples))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use driftless::vision::Rgb;
    use std::path::Path;

    fn image(path: &Path, width: usize, height: usize) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        Rgb::filled(width, height, [10, 20, 30]).save_png(path).unwrap();
    }

    fn scan(folder: &Path, arguments: &[&str]) -> Result<DataSet> {
        let train = format!("--train_data_dir={}", folder.join("train").display());
        let arguments: Vec<&str> = std::iter::once(train.as_str()).chain(arguments.iter().copied()).collect();
        DataSet::scan(super::super::plan(&Options::of(&arguments))?, 0)
    }

    #[test]
    fn the_three_caption_groups() {
        let folder = tempfile::tempdir().unwrap();
        for group in ["10_empty", "10_wd", "10_kosmos"] {
            for number in 0..3 {
                image(&folder.path().join(format!("train/{group}/{number}.png")), 40, 30);
            }
        }
        for number in 0..3 {
            std::fs::write(folder.path().join(format!("train/10_empty/{number}.txt")), "").unwrap();
            std::fs::write(folder.path().join(format!("train/10_wd/{number}.txt")), format!("Street, car, n{number}")).unwrap();
        }
        std::fs::write(folder.path().join("train/10_kosmos/0.txt"), "A street.").unwrap();

        let set = scan(folder.path(), &["--train_batch_size=4", "--resolution=64"]).unwrap();
        let dataset = &set.datasets[0];
        assert_eq!((dataset.num_train_images, dataset.batches_per_epoch()), (90, 23));
        let captions: Vec<_> = dataset.samples.iter().map(|sample| sample.caption.as_str()).collect();
        assert_eq!(
            captions,
            ["", "", "", "A street.", "kosmos", "kosmos", "Street, car, n0", "Street, car, n1", "Street, car, n2"]
        );
        assert_eq!(dataset.subsets[2].tag_frequency["street"], 3);
        assert_eq!(set.warnings.len(), 1, "{:?}", set.warnings);
        assert!(set.warnings[0].contains("2 of 3") && set.warnings[0].contains("`kosmos`"), "{:?}", set.warnings);
    }

    #[test]
    fn regularization_images_are_evened_out() {
        let folder = tempfile::tempdir().unwrap();
        image(&folder.path().join("train/7_a/0.png"), 40, 30);
        for number in 0..3 {
            image(&folder.path().join(format!("reg/1_b/{number}.png")), 40, 30);
        }
        let reg = format!("--reg_data_dir={}", folder.path().join("reg").display());
        let set = scan(folder.path(), &[&reg]).unwrap();
        let repeats: Vec<_> = set.datasets[0].samples.iter().map(|sample| (sample.is_reg, sample.repeats)).collect();
        assert_eq!(repeats, [(false, 7), (true, 3), (true, 2), (true, 2)]);
        assert_eq!((set.num_train_images(), set.num_reg_images(), set.batches_per_epoch()), (7, 3, 14));
    }

    #[test]
    fn surplus_regularization_images_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        image(&folder.path().join("train/2_a/0.png"), 40, 30);
        for number in 0..9 {
            image(&folder.path().join(format!("reg/1_b/{number}.png")), 40, 30);
        }
        let reg = format!("--reg_data_dir={}", folder.path().join("reg").display());
        let set = scan(folder.path(), &[&reg]).unwrap();
        assert_eq!(set.datasets[0].samples.len(), 3);
        assert!(set.warnings.iter().any(|warning| warning.contains("more of them")), "{:?}", set.warnings);
    }

    #[test]
    fn an_image_is_held_back_in_all_caption_groups() {
        let folder = tempfile::tempdir().unwrap();
        for group in ["10_empty", "10_wd", "10_kosmos"] {
            for number in 0..10 {
                image(&folder.path().join(format!("train/{group}/{number}.png")), 40, 30);
            }
        }
        let options = ["--validation_split=0.2", "--validation_seed=5", "--flip_aug", "--color_aug", "--shuffle_caption"];
        let set = scan(folder.path(), &options).unwrap();
        assert_eq!((set.num_train_images(), set.num_validation_images()), (240, 6));
        let validation = &set.validation.as_ref().unwrap().datasets[0];
        let stems = |dataset: &Dataset| -> Stems {
            dataset.samples.iter().map(|sample| held_back::stem(&sample.path).to_owned()).collect()
        };
        assert_eq!(stems(validation).len(), 2);
        assert!(stems(validation).is_disjoint(&stems(&set.datasets[0])));
        let plan = &validation.subsets[0].plan;
        assert!(!plan.flip && !plan.color && !plan.captions.shuffle && plan.captions.is_fixed());

        let same = scan(folder.path(), &["--validation_split=0.2", "--validation_seed=5"]).unwrap();
        assert_eq!(stems(&same.validation.unwrap().datasets[0]), stems(validation));
        let others =
            (0..5).map(|seed| scan(folder.path(), &["--validation_split=0.2", &format!("--validation_seed={seed}")]).unwrap());
        let different: std::collections::BTreeSet<Stems> =
            others.map(|set| stems(&set.validation.unwrap().datasets[0])).collect();
        assert!(different.len() > 2, "the seed chooses");

        let message = format!("{:#}", scan(folder.path(), &["--validation_split=1"]).unwrap_err());
        assert!(message.contains("lower validation_split"), "{message}");
        let set = scan(folder.path(), &["--validation_split=0.01"]).unwrap();
        assert!(
            set.validation.is_none() && set.warnings.iter().any(|warning| warning.contains("too small")),
            "{:?}",
            set.warnings
        );
    }

    #[test]
    fn a_damaged_image_is_named() {
        let folder = tempfile::tempdir().unwrap();
        image(&folder.path().join("train/1_a/0.png"), 40, 30);
        std::fs::write(folder.path().join("train/1_a/1.png"), "not an image").unwrap();
        let message = format!("{:#}", scan(folder.path(), &[]).unwrap_err());
        assert!(message.contains("1_a/1.png"), "{message}");
    }

    #[test]
    fn folders_without_images_are_an_error_only_when_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("train/1_a")).unwrap();
        let message = format!("{:#}", scan(folder.path(), &[]).unwrap_err());
        assert!(message.contains("no training images") && message.contains("1_a"), "{message}");
        image(&folder.path().join("train/1_b/0.png"), 40, 30);
        let set = scan(folder.path(), &[]).unwrap();
        assert!(set.warnings.iter().any(|warning| warning.contains("1_a")), "{:?}", set.warnings);
    }
}
