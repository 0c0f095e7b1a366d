//! Spreads independent tasks over the threads of rayon's pool, with one workspace per thread.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

/// Runs `work` once per item, on all threads; each thread makes a `workspace` for itself when it gets its first item.
///
/// Unlike rayon's `for_each_init`, which makes one workspace per split, this bounds memory by the number of threads.
pub fn for_each<T: Send, W>(items: Vec<T>, workspace: impl Fn() -> W + Sync, work: impl Fn(&mut W, T) + Sync) {
    let workers = rayon::current_num_threads().min(items.len());
    let queue = Mutex::new(items.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    (0..workers).into_par_iter().with_max_len(1).for_each(|_| {
        let Some(first) = next() else { return };
        let mut own = workspace();
        work(&mut own, first);
        while let Some(item) = next() {
            work(&mut own, item);
        }
    });
}
