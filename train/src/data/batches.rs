//! The order of an epoch: which images share a batch, and when it comes.
//!
//! Every image is in its bucket as often as it is repeated; each bucket is shuffled and cut into batches, of which the last may be
//! short; then all batches of all datasets are shuffled. As in sd-scripts, the order of epoch e follows from seed + e alone, so it does not
//! depend on what else was drawn. The orders themselves differ from sd-scripts, whose generator is Python's.

use super::DataSet;
use super::buckets::Size;
use crate::seeds::{Purpose, generator};

/// Images that are trained together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Index of the dataset.
    pub dataset: usize,
    /// Their size.
    pub bucket: Size,
    /// Indices into the dataset's samples.
    pub samples: Vec<usize>,
}

/// The batches of `epoch` (counted from 0) of the run with this `seed`.
pub fn of_epoch(set: &DataSet, seed: u64, epoch: usize) -> Vec<Batch> {
    let mut generator = generator(seed, Purpose::Order, epoch as u64);
    let mut batches = Vec::with_capacity(set.batches_per_epoch());
    for (index, dataset) in set.datasets.iter().enumerate() {
        for (bucket, entries) in &dataset.buckets {
            let order = generator.randperm(entries.len());
            let shuffled: Vec<usize> = order.into_iter().map(|position| entries[position]).collect();
            let cut = shuffled.chunks(dataset.plan.batch_size);
            batches.extend(cut.map(|samples| Batch { dataset: index, bucket: *bucket, samples: samples.to_vec() }));
        }
    }
    let order = generator.randperm(batches.len());
    order.into_iter().map(|position| batches[position].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::buckets::{BucketSettings, Placement};
    use super::super::plan::DatasetPlan;
    use super::super::scan::{Dataset, Sample};
    use super::*;
    use crate::options::Options;
    use std::collections::BTreeMap;

    /// Two buckets: 5 images drawn twice each, and 3 drawn once each.
    fn set(batch_size: usize) -> DataSet {
        let options = Options::of(&[]);
        let buckets = BucketSettings { enable: true, ..DatasetPlan::from_options(&options).buckets };
        let plan = DatasetPlan { batch_size, buckets, ..DatasetPlan::from_options(&options) };
        let sample = |bucket: Size, repeats| Sample {
            path: "".into(),
            size: bucket,
            caption: String::new(),
            subset: 0,
            repeats,
            is_reg: false,
            upright: false,
            placement: Placement { bucket, resized: bucket },
        };
        let mut samples = vec![sample((512, 512), 2); 5];
        samples.extend(vec![sample((576, 448), 1); 3]);
        let mut by_size = BTreeMap::new();
        by_size.insert((512, 512), vec![0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
        by_size.insert((576, 448), vec![5, 6, 7]);
        let dataset = Dataset { plan, subsets: vec![], samples, num_train_images: 13, num_reg_images: 0, buckets: by_size };
        DataSet { datasets: vec![dataset], from_file: false, warnings: vec![], validation: None }
    }

    #[test]
    fn an_epoch_draws_every_entry_once_and_never_mixes_sizes() {
        let set = set(4);
        let batches = of_epoch(&set, 7, 0);
        assert_eq!(batches.len(), 4);
        assert_eq!(set.batches_per_epoch(), 4);
        let mut drawn: Vec<usize> = batches.iter().flat_map(|batch| batch.samples.clone()).collect();
        drawn.sort_unstable();
        assert_eq!(drawn, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7]);
        for batch in &batches {
            assert!(batch.samples.iter().all(|&sample| set.datasets[0].samples[sample].placement.bucket == batch.bucket));
            assert!(batch.samples.len() <= 4);
        }
    }

    #[test]
    fn epochs_and_seeds_differ_and_repeat() {
        let set = set(2);
        assert_eq!(of_epoch(&set, 7, 3), of_epoch(&set, 7, 3));
        assert_ne!(of_epoch(&set, 7, 3), of_epoch(&set, 7, 4));
        assert_ne!(of_epoch(&set, 7, 3), of_epoch(&set, 8, 3));
    }

    #[test]
    fn batches_of_both_sizes_are_mixed() {
        let set = set(1);
        let first = |epoch| of_epoch(&set, 7, epoch)[0].bucket;
        let buckets: std::collections::BTreeSet<Size> = (0..20).map(first).collect();
        assert_eq!(buckets.len(), 2);
    }
}
