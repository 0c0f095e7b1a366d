//! A panic inside a decoder is that file's error, and nothing of it reaches the terminal.
//!
//! The decoders are other people's code that runs on strangers' bytes. They own all that they write to, so what a panic leaves behind
//! is dropped with it.

use crate::error::{ImageCause, ImageFault};
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Whether this thread is inside [`isolated`], where a panic is an answer.
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Runs a decoder, which works on the thread that calls it.
pub(super) fn isolated<T>(decode: impl FnOnce() -> Result<T, ImageCause>) -> Result<T, ImageCause> {
    keep_decoders_quiet();
    let outer = DECODING.replace(true);
    // Nothing that `decode` shares with the outside is changed by it: it reads bytes and makes new values.
    let result = catch_unwind(AssertUnwindSafe(decode));
    DECODING.set(outer);
    result.unwrap_or_else(|panic| Err(ImageCause::Damaged(ImageFault::Panic { message: message(&*panic) })))
}

/// The standard hook writes to standard error. It is left in place for all other panics.
fn keep_decoders_quiet() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !DECODING.get() {
                others(panic);
            }
        }));
    });
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_the_files_error() {
        let refused = isolated(|| -> Result<(), ImageCause> { panic!("index {} out of range", 7) });
        assert!(matches!(refused, Err(ImageCause::Damaged(fault)) if fault.to_string().contains("index 7 out of range")));
        assert!(!DECODING.get());
        assert!(matches!(isolated(|| Ok(5)), Ok(5)));
        assert!(matches!(
            isolated(|| -> Result<(), ImageCause> { Err(ImageCause::TooLarge(ImageFault::Empty)) }),
            Err(ImageCause::TooLarge(_))
        ));
        // Panics elsewhere are still panics.
        assert!(std::panic::catch_unwind(|| panic!("seen on purpose")).is_err());
    }
}
