//! What the allocator of programs drives out of its lists leaves the process.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use driftless::ops::ReusingAllocator;

#[global_allocator]
static ALLOCATOR: ReusingAllocator = ReusingAllocator::new();

const MIB: usize = 1 << 20;

fn block(size: usize) -> Vec<u8> {
    vec![1; size]
}

/// Resident MiB.
fn resident() -> usize {
    let statistics = std::fs::read_to_string("/proc/self/statm").unwrap();
    statistics.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096 / MIB
}

// One test: another beside it would be counted as well.
#[test]
fn what_the_lists_give_back_leaves_the_process() {
    let before = resident();
    // The system's allocator learns that blocks as large as the first one come and go.
    drop(block(20 * MIB));
    drop(block(28 * MIB));
    // Blocks with something small between them, which stays; then one that drives them out of the lists.
    let (blocks, between): (Vec<_>, Vec<_>) = (0..8).map(|_| (block(4 * MIB), block(200_000))).unzip();
    drop(blocks);
    let large = block(48 * MIB);
    let now = resident();
    assert!(now <= before + 48 + 8, "{now} MiB, {before} MiB before a block of 48");
    drop((between, large));
}
