//! What every driver promises, written once and run over each of them on real loopback sockets.
//!
//! [`world::World`] checks the contract that holds at all times (nothing after `Closed`, nothing received in a pause, …);
//! the tests bring about the situations.

mod accepting;
mod closing;
mod load;
mod moving;
mod streams;
mod waking;
mod world;

/// Makes a test of each behaviour for each driver: a function that takes a [`world::Make`].
macro_rules! for_each_driver {
    ($($behaviour:ident),* $(,)?) => {
        mod mio {
            $(#[test]
            fn $behaviour() {
                super::$behaviour(crate::driver::tests::world::mio);
            })*
        }
        #[cfg(target_os = "linux")]
        mod uring {
            $(#[test]
            fn $behaviour() {
                if crate::driver::tests::world::uring_may_run() {
                    super::$behaviour(crate::driver::tests::world::uring);
                }
            })*
        }
        #[cfg(target_os = "linux")]
        mod uring_undeferred {
            $(#[test]
            fn $behaviour() {
                if crate::driver::tests::world::uring_may_run() {
                    super::$behaviour(crate::driver::tests::world::uring_undeferred);
                }
            })*
        }
    };
}
use for_each_driver;
