//! Runs a loop with the widest vector instructions of the processor at hand.

/// Evaluates a block compiled for every instruction set that `pulp` knows, on the best one present.
///
/// The block is a closure that `pulp` calls inside a function with the instruction set enabled; it has to be inlined there to
/// profit, with all that it calls. A closure that can be called repeatedly is reached through a shim that the compiler shares
/// between the instruction sets instead; moving `once` out of it makes it callable once, and inlined.
macro_rules! vectorise {
    ($block:block) => {{
        struct Once;
        let once = Once;
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                let Once = { once };
                $block
            },
        )
    }};
}

pub(in crate::ops) use vectorise;
