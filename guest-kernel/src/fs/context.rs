//! Root, working directory and umask of a process.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use super::inode::InodeRef;
use super::mount::Mounts;
use crate::sync::SpinLock;

/// What path walks of a process start from. Threads share it.
pub struct FsContext {
    /// The tree.
    pub mounts: Arc<Mounts>,
    root: SpinLock<InodeRef>,
    working: SpinLock<InodeRef>,
    umask: AtomicU32,
}

impl FsContext {
    /// At the root of the tree.
    #[must_use]
    pub fn new(mounts: Arc<Mounts>, umask: u32) -> Self {
        let root = mounts.root().clone();
        Self {
            mounts,
            working: SpinLock::new(root.clone()),
            root: SpinLock::new(root),
            umask: AtomicU32::new(umask & 0o777),
        }
    }

    /// At the root of an empty tree in memory.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        let root = super::memfs::mount(1, 1 << 20, 0o755, &[]);
        Self::new(Arc::new(Mounts::new(root)), 0o022)
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> InodeRef {
        self.root.lock().clone()
    }

    /// Sets the root directory.
    pub fn set_root(&self, root: InodeRef) {
        let old = core::mem::replace(&mut *self.root.lock(), root);
        drop(old);
    }

    /// The working directory.
    #[must_use]
    pub fn working(&self) -> InodeRef {
        self.working.lock().clone()
    }

    /// Sets the working directory.
    pub fn set_working(&self, working: InodeRef) {
        let old = core::mem::replace(&mut *self.working.lock(), working);
        drop(old);
    }

    /// The file mode creation mask.
    #[must_use]
    pub fn umask(&self) -> u32 {
        self.umask.load(Ordering::Relaxed)
    }

    /// Sets the mask; gives the old one.
    pub fn set_umask(&self, umask: u32) -> u32 {
        self.umask.swap(umask & 0o777, Ordering::Relaxed)
    }

    /// A copy of its own for a new process.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self {
            mounts: self.mounts.clone(),
            root: SpinLock::new(self.root()),
            working: SpinLock::new(self.working()),
            umask: AtomicU32::new(self.umask()),
        }
    }
}
