//! Forward passes and a LoRA step, on the miniature model, or on the folder that `DRIFTLESS_MODEL` names (`DRIFTLESS_SIZE` gives the
//! image's side, 512 by default there). tests/reference/bench_torch.py times the same items beside PyTorch.

use std::path::PathBuf;

use benches::Amount;
use candle_core::DType;
use criterion::{Criterion, criterion_group, criterion_main};
use driftless::miniature::{Size, write_model};

fn networks(criterion: &mut Criterion) {
    let (folder, size, temporary) = match std::env::var_os("DRIFTLESS_MODEL") {
        Some(model) => {
            let size = std::env::var("DRIFTLESS_SIZE").ok().and_then(|size| size.parse().ok()).unwrap_or(512);
            (PathBuf::from(model), size, None)
        }
        None => {
            let temporary = tempfile::tempdir().expect("a folder for the miniature model");
            write_model(temporary.path(), Size::Miniature, DType::F32, 0).expect("the miniature model");
            (temporary.path().to_owned(), 128, Some(temporary))
        }
    };
    for item in benches::ITEMS {
        let mut work = benches::prepare(item, &folder, None, Amount { batch: 1, size }).expect(item);
        criterion.bench_function(item, |bencher| bencher.iter(|| work().expect(item)));
    }
    drop(temporary);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = networks
}
criterion_main!(benches);
