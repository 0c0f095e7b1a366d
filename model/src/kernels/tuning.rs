//! What the kernels' speed was tuned by, in one place: how work is cut for caches and threads, and from which size on a method pays.
//!
//! Found by measuring on AVX2 (Zen 3: 32 KiB, 512 KiB and a share of 32 MiB of cache) and AVX-512 (Sapphire Rapids: 48 KiB, 2 MiB) at
//! the sizes of Stable Diffusion (`cargo bench -p benches --bench roofline`). Sizes in elements are float32 numbers. Where a constant
//! decides in which order numbers are summed up, its text says so: another value changes results in their last digits.

/// The microkernel of instruction sets that compute in float32 vectors.
pub mod microkernel {
    /// Products that one sum in registers takes, before it is added to the destination. Decides an order of summation.
    pub const SUM_DEPTH: usize = 64;
    /// How many runs of the left operand ahead of use are asked for: about what a last-level cache needs to answer.
    pub const PREFETCH_RUNS: usize = 6;
    /// Elements of a line of a cache.
    pub const CACHE_LINE: usize = 16;
}

/// Matrix products.
pub mod gemm {
    /// Rows of a panel that are multiplied at once: with 16 or 32 columns they stay in a first-level cache. A multiple of the depth of
    /// one sum in registers, and so without influence on results.
    pub const KC: usize = 320;
    /// Elements of the left operand that a task packs, about: they stay in a second-level cache.
    pub const MC_ELEMENTS: usize = 1 << 16;
    /// The most rows of the left operand that a task takes: the sums of one panel stay in a first-level cache beside it.
    pub const MC_MAX: usize = 192;
    /// Rows of a task are whole tiles, and at least about so many: fewer do not repay reading the panels.
    pub const MC_MIN: usize = 12;
    /// Elements of the right operand that are packed at once, about: a last-level cache holds them.
    pub const NC_ELEMENTS: usize = 1_500_000;
    /// Panels whose sums are written together: runs of several lines of a cache.
    pub const EPILOGUE_PANELS: usize = 4;
    /// Tasks per thread and product, about: enough to even out threads of unequal speed.
    pub const TASKS_PER_THREAD: usize = 3;
    /// The fewest rows and columns for which packing pays. Decides by which code, and so in which order, a product is summed up.
    pub const PACKED_SIZE: usize = 16;
    /// The least depth for which packing pays; as [`PACKED_SIZE`].
    pub const PACKED_DEPTH: usize = 8;
}

/// Packing.
pub mod packing {
    /// Elements of a row or column that are transposed at once, into a buffer that a first-level cache holds.
    pub const SEGMENT: usize = 64;
    /// Tiles of the left operand that are transposed at once, and the most rows of them.
    pub const TILES: usize = 16;
    /// The most rows of the tiles that are transposed at once.
    pub const ROWS: usize = 192;
}

/// Convolutions over explicit columns (im2col), for few channels, and gradients of weights.
pub mod columns {
    /// Elements of one tile of the column matrix: about what a second-level cache holds. Decides an order of summation (of gradients
    /// of weights).
    pub const TILE: usize = 400_000;
    /// Tiles are a multiple of this many positions wide where the image allows: whole panels of every instruction set.
    pub const STEP: usize = 64;
    /// The widest tile; wider ones gain nothing.
    pub const WIDEST: usize = 768;
    /// The most rows of the column matrix, and positions at once, of a task that computes a weight's gradient. As [`TILE`].
    pub const GRADIENT_TILE: (usize, usize) = (64, 8192);
}

/// Convolutions as implicit matrix products.
pub mod implicit {
    /// Positions whose input is transposed at once: the buffer stays in a first-level cache.
    pub const SEGMENT: usize = 64;
    /// Rows of a panel of filters that are multiplied at once, about: they stay in a first-level cache. Whole groups of channels with
    /// all their taps, so it decides an order of summation.
    pub const KC: usize = 320;
    /// Tiles of positions that stay in a second-level cache while all panels of a task meet them.
    pub const MC_TILES: usize = 8;
    /// Elements of a batch's columns, about: a last-level cache holds them.
    pub const BATCH: usize = 1_500_000;
    /// The fewest positions in a batch where the images have as many: the filters are packed once per batch.
    pub const MIN_POSITIONS: usize = 512;
    /// Panels of a task at most: their filters and sums stay in a second-level cache.
    pub const MAX_PANELS: usize = 8;
    /// The fewest channels on either side that fill vectors well enough. Decides by which code a convolution is computed.
    pub const MIN_CHANNELS: usize = 16;
}

/// Convolutions by Winograd's algorithm.
pub mod winograd {
    /// Tiles whose rows are transposed at once: the buffer stays in a first-level cache.
    pub const SEGMENT: usize = 16;
    /// Input channels whose transformed filters are in cache at once.
    pub const KC: usize = 320;
    /// The same where a batch has few tiles, and filters are many times larger than the maps.
    pub const KC_OF_SMALL_BATCHES: usize = 64;
    /// Tiles below which a batch counts as small.
    pub const SMALL_BATCH: usize = 40;
    /// Elements of a batch's transformed input, about: a last-level cache holds most of them.
    pub const BATCH: usize = 6_000_000;
    /// The fewest tiles in a batch where the maps have as many: the filters are transformed once per batch.
    pub const MIN_TILES: usize = 128;
    /// The fewest channels on either side for which transforming pays. Decides by which code a convolution is computed.
    pub const MIN_CHANNELS: usize = 16;
    /// What transforming a filter costs, in products of a tile. As [`MIN_CHANNELS`].
    pub const FILTER_IN_TILES: usize = 2;
    /// Filters of one output channel that are read at once: their taps stay in a first-level cache.
    pub const FILTERS_AT_ONCE: usize = 8;
}

/// Attention. The number of keys in a tile decides an order of summation.
pub mod attention {
    /// Queries of a task of the forward pass.
    pub const QUERIES: usize = 256;
    /// The most keys of a tile: a panel's scores take 16 to 32 KiB, which a first-level cache holds.
    pub const MAX_KEYS: usize = 256;
    /// The fewest where heads are wide: with fewer, bringing the output up to date costs more than the cache saves.
    pub const MIN_KEYS: usize = 128;
    /// Keys in a tile are a multiple of this: whole tiles and panels of every instruction set.
    pub const KEYS_STEP: usize = 32;
    /// Elements of the keys in a tile, about: they and the values stay in a second-level cache.
    pub const TILE: usize = 1 << 14;
    /// Queries of a block of the backward pass: with [`BACKWARD_KEYS`] the weights between them take 64 KiB, and so do their gradients.
    pub const BACKWARD_QUERIES: usize = 128;
    /// The most keys of a tile of the backward pass.
    pub const BACKWARD_KEYS: usize = 128;
}

/// Passes over memory: activations, norms, transposition.
pub mod passes {
    /// Elements that one task handles: large against the cost of a task, small against a cache.
    pub const CHUNK: usize = 1 << 14;
    /// Elements whose mean and squared deviations are taken at once: they stay in a first-level cache. Decides an order of summation.
    pub const STATISTICS: usize = 2048;
    /// Rows of a transposed matrix that one task writes.
    pub const TRANSPOSE_ROWS: usize = 32;
    /// Columns of a transposed matrix that are written at once: whole vectors of every instruction set.
    pub const TRANSPOSE_COLUMNS: usize = 64;
}
