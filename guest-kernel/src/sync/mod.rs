//! Locks. See the crate documentation for their order.

mod spinlock;

pub use spinlock::{IrqSpinLock, IrqSpinLockGuard, SpinLock, SpinLockGuard};
