//! What is mounted: the root, and a short, fixed list of directories in it.
//!
//! A mount is known by its name in the root directory, and what it covers is made when it is first
//! entered: at boot every instruction counts.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::inode::{InodeRef, same};
use super::path::Place;
use crate::sync::SpinLock;

/// A file system on a directory in the root.
pub struct Mount {
    /// The directory's name.
    pub name: &'static str,
    /// Type of the file system.
    pub kind: &'static str,
    /// Options, as /proc/mounts shows them.
    pub options: &'static str,
    /// Device number of the file system.
    pub dev: u64,
    /// Makes the file system; gives its root directory.
    pub make: fn() -> InodeRef,
    /// Its root directory, once it was entered.
    root: SpinLock<Option<InodeRef>>,
}

impl Mount {
    /// A mount that nobody has entered.
    #[must_use]
    pub const fn new(
        name: &'static str,
        kind: &'static str,
        options: &'static str,
        dev: u64,
        make: fn() -> InodeRef,
    ) -> Self {
        Self { name, kind, options, dev, make, root: SpinLock::new(None) }
    }

    /// Its root directory.
    #[must_use]
    pub fn root(&self) -> InodeRef {
        self.root.lock().get_or_insert_with(self.make).clone()
    }

    fn has_root(&self, inode: &InodeRef) -> bool {
        self.root.lock().as_ref().is_some_and(|root| same(root, inode))
    }
}

/// The tree.
pub struct Mounts {
    root: InodeRef,
    list: Vec<Mount>,
}

impl Mounts {
    /// A tree of one file system.
    #[must_use]
    pub fn new(root: InodeRef) -> Self {
        Self { root, list: Vec::new() }
    }

    /// Adds a mount.
    pub fn add(&mut self, mount: Mount) {
        self.list.push(mount);
    }

    /// All but the root.
    #[must_use]
    pub fn list(&self) -> &[Mount] {
        &self.list
    }

    /// The root directory of the tree.
    #[must_use]
    pub fn root(&self) -> &InodeRef {
        &self.root
    }

    /// What is mounted on a name of a directory.
    #[must_use]
    #[inline]
    pub fn at(&self, directory: &InodeRef, name: &[u8]) -> Option<InodeRef> {
        if !same(directory, &self.root) {
            return None;
        }
        self.list.iter().find(|mount| mount.name.as_bytes() == name).map(Mount::root)
    }

    /// The place that the file system with this root directory covers.
    #[must_use]
    pub fn place_of(&self, root: &InodeRef) -> Option<Place> {
        let mount = self.list.iter().find(|mount| mount.has_root(root))?;
        Some(Place { directory: self.root.clone(), name: Arc::from(mount.name.as_bytes()) })
    }

    /// A number for the mount that a device number belongs to: 1 is the root.
    #[must_use]
    pub fn number_of_device(&self, dev: u64) -> u64 {
        match self.list.iter().position(|mount| mount.dev == dev) {
            Some(index) => index as u64 + 2,
            None => 1,
        }
    }
}
