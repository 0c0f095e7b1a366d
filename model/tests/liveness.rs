//! How much memory a pass takes at most: values go at their last use, inside candle's graph and outside, and what is kept stays.
//!
//! The limits are the peaks as measured (bytes allocated, one thread) with a few percent of room for scratch memory. The figures in the
//! comments are those of the same work when callers had to say by hand which values were at their end, so that a limit is crossed as
//! soon as a family of activations is kept again.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{Device, Tensor, Var};
use driftless::ops::{Activation, GradientSink, is_tracked};
use driftless::rng::Generator;
use driftless::taps::TapPlan;
use driftless::unet::{TextContext, UnetInput};
use testkit::pipeline;

/// The system's allocator, counting bytes.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` allocates at most beyond what was there before.
fn peak<T>(work: impl FnOnce() -> T) -> usize {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    drop(work());
    PEAK.load(Ordering::Relaxed) - before
}

fn draw(seed: u64, shape: &[usize]) -> Tensor {
    Generator::manual_seed(seed).randn_tensor(shape, &Device::Cpu).unwrap()
}

/// The peak of a forward and a backward pass without adapters.
fn training(checkpointed: bool) -> usize {
    let pipeline = pipeline();
    let context = TextContext::uncached(draw(1, &[2, 5, pipeline.unet.config().cross_attention_dim]));
    let (noisy, noise) = (Var::from_tensor(&draw(2, &[2, 4, 32, 32])).unwrap(), draw(3, &[2, 4, 32, 32]));
    peak(|| {
        let input = UnetInput { sample: noisy.as_tensor(), timesteps: &[50.0, 700.0], context: &context, residuals: None };
        let prediction = match checkpointed {
            true => pipeline.unet.forward_checkpointed(&input, &GradientSink::new(Vec::new())),
            false => pipeline.unet.forward(&input),
        };
        (prediction.unwrap() - &noise).unwrap().sqr().unwrap().mean_all().unwrap().backward().unwrap()
    })
}

// One test: others beside it would be counted as well.
#[test]
fn values_go_at_their_last_use() {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().unwrap();

    // A chain of sums takes the memory of one, also where candle's graph holds every link (34.6 MB in candle's own sums).
    let (start, step) = (Var::from_tensor(&draw(1, &[1 << 18])).unwrap(), Activation::shared(draw(2, &[1 << 18])));
    let bytes = peak(|| {
        let mut sum = Activation::copied(&start).unwrap();
        for _ in 0..32 {
            sum = sum.add(&step).unwrap();
        }
        assert!(is_tracked(&sum.keep()));
        sum
    });
    println!("32 sums of 1 MiB: {bytes} bytes");
    assert!(bytes < 3 << 20, "{bytes}");

    // A pass with taps holds what it keeps and what it still needs (2.63 MB).
    let pipeline = pipeline();
    let sample = draw(4, &[2, 4, 32, 32]);
    let context = TextContext::new(draw(5, &[1, 5, pipeline.unet.config().cross_attention_dim]));
    let input = UnetInput { sample: &sample, timesteps: &[50.0], context: &context, residuals: None };
    pipeline.unet.forward(&input).unwrap();
    let layout = pipeline.unet.config().layout();
    let tapped = |id: &str| {
        let plan = TapPlan::new(&layout, [layout.parse(id).unwrap()], &[], (32, 32)).unwrap();
        let mut taps = plan.taps();
        let bytes = peak(|| pipeline.unet.forward_tapped(&input, &mut taps).unwrap());
        let kept = taps.kept();
        assert!(kept[0].1.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|value| value.is_finite()), "{id}");
        bytes
    };
    let whole = peak(|| pipeline.unet.forward(&input).unwrap());
    for id in ["mid-repeat1-res-increment", "up-level1-upsampler-out", "up-level2-repeat0-vit-out"] {
        let bytes = tapped(id);
        println!("{id}: {bytes} bytes, a whole pass {whole}");
        assert!(bytes < 2_560_000 && bytes < whole, "{id}: {bytes}, a whole pass {whole}");
    }

    // A step of training (40.9 MB, with checkpoints 11.7 MB).
    for (checkpointed, limit) in [(false, 32_000_000), (true, 10_800_000)] {
        let bytes = training(checkpointed);
        println!("a step of training, checkpointed {checkpointed}: {bytes} bytes");
        assert!(bytes < limit, "checkpointed {checkpointed}: {bytes}");
    }
}
