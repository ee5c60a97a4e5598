//! The atomics the seqlock is built from: the real ones, or loom's when its model checker runs.

#[cfg(not(loom))]
pub(super) use core::{
    hint::spin_loop,
    sync::atomic::{AtomicU64, Ordering, fence},
};

#[cfg(loom)]
pub(super) use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicU64, Ordering, fence},
};
