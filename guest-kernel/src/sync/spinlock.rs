//! Spin locks: [`SpinLock`] for data that interrupt handlers never touch, [`IrqSpinLock`] for the rest.

#![expect(unsafe_code, reason = "the guards hand out the protected data")]

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

use crate::arch;

/// Mutual exclusion by spinning. Not for data that an interrupt handler touches.
pub struct SpinLock<T: ?Sized> {
    locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out one reference at a time.
unsafe impl<T: ?Sized + Send> Send for SpinLock<T> {}
// SAFETY: as above; sharing the lock shares only the right to wait for the value.
unsafe impl<T: ?Sized + Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        Self { locked: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// Waits for the lock.
    pub fn lock(&self) -> SpinLockGuard<'_, T> {
        while self.locked.swap(true, Ordering::Acquire) {
            core::hint::spin_loop();
        }
        SpinLockGuard { lock: self }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<SpinLockGuard<'_, T>> {
        (!self.locked.swap(true, Ordering::Acquire)).then_some(SpinLockGuard { lock: self })
    }

    /// The value, when nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

/// The right to the value; gives the lock back when dropped.
pub struct SpinLockGuard<'a, T: ?Sized> {
    lock: &'a SpinLock<T>,
}

impl<T: ?Sized> Deref for SpinLockGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this guard exists, so the lock is ours.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for SpinLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard exists, so the lock is ours, and `&mut self` makes the reference unique.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for SpinLockGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.locked.store(false, Ordering::Release);
    }
}

/// A spin lock that keeps interrupts off on this CPU while it is held.
pub struct IrqSpinLock<T: ?Sized>(SpinLock<T>);

impl<T> IrqSpinLock<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        Self(SpinLock::new(value))
    }

    /// Turns interrupts off and waits for the lock.
    pub fn lock(&self) -> IrqSpinLockGuard<'_, T> {
        let interrupts = arch::interrupts_save_and_disable();
        IrqSpinLockGuard { guard: Some(self.0.lock()), interrupts }
    }
}

/// The right to the value; gives the lock and the interrupt flag back when dropped.
pub struct IrqSpinLockGuard<'a, T> {
    guard: Option<SpinLockGuard<'a, T>>,
    interrupts: arch::InterruptState,
}

impl<T> Deref for IrqSpinLockGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        match &self.guard {
            Some(guard) => guard,
            None => unreachable!("taken only in drop"),
        }
    }
}

impl<T> DerefMut for IrqSpinLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.guard {
            Some(guard) => guard,
            None => unreachable!("taken only in drop"),
        }
    }
}

impl<T> Drop for IrqSpinLockGuard<'_, T> {
    fn drop(&mut self) {
        self.guard = None; // the lock first, then the interrupts
        arch::interrupts_restore(self.interrupts);
    }
}
