//! Directories: names in memory, over the names of a lower directory.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use super::node::{Body, Node, State};
use crate::error::{Errno, Result};
use crate::fs::inode::{DirectoryEntry, Feed, FileType, NewInode, Removal, Replace, Timestamp};
use crate::fs::path::Place;
use crate::sync::SpinLockGuard;

/// Position of "..".
const DOT_DOT_POSITION: u64 = 1;
/// Entries of the lower directory begin here; their position in it is added.
const LOWER_POSITION: u64 = 2;
/// Entries in memory begin here, in the order they were made.
const MEMORY_POSITION: u64 = 1 << 40;
/// The most names an inode can have.
const LINK_MAX: u32 = 65_000;
/// No tree is deeper: a bound for walks to the root.
const DEPTH_MAX: usize = 1 << 16;

/// What a directory holds itself.
pub(super) struct Directory {
    names: BTreeMap<Arc<[u8]>, Entry>,
    /// The names that are there, by position.
    order: BTreeMap<u64, Arc<[u8]>>,
    next_position: u64,
    is_removed: bool,
}

enum Entry {
    Node {
        node: Arc<Node>,
        position: u64,
    },
    /// A name of the lower directory that is gone.
    Whiteout,
}

impl Directory {
    pub(super) fn new() -> Self {
        Self {
            names: BTreeMap::new(),
            order: BTreeMap::new(),
            next_position: MEMORY_POSITION,
            is_removed: false,
        }
    }

    fn insert(&mut self, name: &[u8], node: Arc<Node>) {
        let name: Arc<[u8]> = name.into();
        let position = self.next_position;
        self.next_position += 1;
        self.order.insert(position, name.clone());
        self.names.insert(name, Entry::Node { node, position });
    }

    /// Puts another node behind a name that is there.
    fn replace(&mut self, name: &[u8], node: Arc<Node>) {
        match self.names.get_mut(name) {
            Some(Entry::Node { node: old, .. }) => *old = node,
            _ => self.insert(name, node),
        }
    }

    /// Removes a name; `is_below`: it would be seen again but for a whiteout.
    fn remove(&mut self, name: &[u8], is_below: bool) {
        if let Some(Entry::Node { position, .. }) = self.names.remove(name) {
            self.order.remove(&position);
        }
        if is_below {
            self.names.insert(name.into(), Entry::Whiteout);
        }
    }
}

impl Node {
    /// Locks the node and gives its directory.
    fn directory<R>(&self, use_it: impl FnOnce(&mut Directory) -> R) -> Result<R> {
        match &mut self.state.lock().body {
            Body::Directory(directory) => Ok(use_it(directory)),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn find(&self, name: &[u8]) -> Result<Arc<Self>> {
        let known = self.directory(|directory| match directory.names.get(name) {
            Some(Entry::Node { node, .. }) => Some(Ok(node.clone())),
            Some(Entry::Whiteout) => Some(Err(Errno::ENOENT)),
            None => None,
        })?;
        if let Some(known) = known {
            return known;
        }
        let nid = self.lower_nid(name)?;
        let Some(nid) = nid else { return self.make_preset(name) };
        let node = self.fs.lower_node(nid)?;
        // Named for the first time. A directory that a broken image names again elsewhere stays here,
        // so that the way up always leads to the root.
        let is_new = node.state.lock().place.is_none() && node.ino != self.root_ino();
        if is_new && node.check_alive() != Err(Errno::ENOENT) {
            let this = self.reference()?;
            node.state.lock().place.get_or_insert_with(|| (this, name.into()));
        }
        Ok(node)
    }

    /// The number behind a name of the lower directory.
    fn lower_nid(&self, name: &[u8]) -> Result<Option<u64>> {
        match (&self.fs.lower, &self.lower) {
            (Some(fs), Some(directory)) => fs.lookup(directory, name),
            _ => Ok(None),
        }
    }

    /// Makes a node that this directory has from the start.
    fn make_preset(&self, name: &[u8]) -> Result<Arc<Self>> {
        let preset = self.presets.iter().find(|p| p.name == name).ok_or(Errno::ENOENT)?;
        let new = NewInode {
            file_type: preset.file_type,
            permissions: preset.permissions,
            uid: 0,
            gid: 0,
            rdev: preset.rdev,
            target: preset.target,
        };
        let node = Self::new(&self.fs, &new, preset.children);
        node.set_place(Some((self.reference()?, name.into())));
        let mut state = self.locked_directory()?;
        let is_directory = node.file_type == FileType::Directory;
        let Body::Directory(directory) = &mut state.body else { return Err(Errno::ENOTDIR) };
        match directory.names.get(name) {
            // Another CPU was faster.
            Some(Entry::Node { node, .. }) => return Ok(node.clone()),
            Some(Entry::Whiteout) => return Err(Errno::ENOENT),
            None => directory.insert(name, node.clone()),
        }
        if self.lower.is_some() {
            // Without a lower directory it was counted at the start.
            state.nlink += u32::from(is_directory);
            state.changed = true;
        }
        Ok(node)
    }

    /// Whether a name is there from the start, or in the lower directory.
    fn has_below(&self, name: &[u8]) -> Result<bool> {
        let in_lower = self.lower_nid(name)?.is_some();
        Ok(in_lower || self.presets.iter().any(|preset| preset.name == name))
    }

    fn root_ino(&self) -> u64 {
        self.fs.lower.as_ref().map_or(0, |lower| lower.root_nid())
    }

    pub(super) fn known_place(&self) -> Option<Place> {
        let (directory, name) = self.state.lock().place.clone()?;
        Some(Place { directory, name })
    }

    /// The size that stat shows: 20 bytes a name, as tmpfs counts.
    pub(super) fn directory_size(&self, directory: &Directory) -> u64 {
        let lower = self.lower.as_ref().map_or(0, |lower| lower.inode.size);
        lower + 20 * (2 + directory.order.len() as u64)
    }

    pub(super) fn show_entries(
        &self,
        position: u64,
        sink: &mut dyn FnMut(&DirectoryEntry<'_>) -> Feed,
    ) -> Result<()> {
        let parent = self.state.lock().place.clone();
        for preset in self.presets {
            match self.find(preset.name) {
                Ok(_) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        let dots: [(&[u8], u64); 2] =
            [(b".", self.ino), (b"..", parent.map_or(self.ino, |(parent, _)| parent.ino))];
        for (at, (name, ino)) in (0..).zip(dots) {
            let entry = DirectoryEntry { name, ino, file_type: FileType::Directory, next: at + 1 };
            if position <= at && sink(&entry) == Feed::Full {
                return Ok(());
            }
        }
        if position < MEMORY_POSITION
            && self.show_lower_entries(position.saturating_sub(LOWER_POSITION), sink)? == Feed::Full
        {
            return Ok(());
        }
        self.directory(|directory| {
            for (&at, name) in directory.order.range(position.max(MEMORY_POSITION)..) {
                let Some(Entry::Node { node, .. }) = directory.names.get(name) else { continue };
                let entry =
                    DirectoryEntry { name, ino: node.ino, file_type: node.file_type, next: at + 1 };
                if sink(&entry) == Feed::Full {
                    break;
                }
            }
        })
    }

    fn show_lower_entries(
        &self,
        mut at: u64,
        sink: &mut dyn FnMut(&DirectoryEntry<'_>) -> Feed,
    ) -> Result<Feed> {
        let Some(lower) = &self.lower else { return Ok(Feed::More) };
        while let Some(entry) = lower.image.entry_at(&lower.inode, at)? {
            at = entry.next;
            let name = entry.name.as_bytes();
            let is_hidden = matches!(name, b"." | b"..")
                || self.directory(|directory| directory.names.contains_key(name))?;
            if is_hidden {
                continue;
            }
            let shown = DirectoryEntry {
                name,
                ino: entry.nid,
                file_type: entry.file_type,
                next: LOWER_POSITION + at,
            };
            if sink(&shown) == Feed::Full {
                return Ok(Feed::Full);
            }
        }
        Ok(Feed::More)
    }

    fn check_empty(&self) -> Result<()> {
        let mut outcome = Ok(());
        self.show_entries(DOT_DOT_POSITION + 1, &mut |_| {
            outcome = Err(Errno::ENOTEMPTY);
            Feed::Full
        })?;
        outcome
    }

    pub(super) fn create_node(&self, name: &[u8], new: &NewInode<'_>) -> Result<Arc<Self>> {
        let _namespace = self.fs.namespace.lock();
        self.check_free(name)?;
        let node = Self::new(&self.fs, new, &[]);
        let this = self.reference()?;
        node.set_place(Some((this, name.into())));
        self.add(name, node.clone())?;
        Ok(node)
    }

    pub(super) fn link_node(&self, name: &[u8], target: &Self) -> Result<()> {
        if !Arc::ptr_eq(&self.fs, &target.fs) {
            return Err(Errno::EXDEV);
        }
        if target.file_type == FileType::Directory {
            return Err(Errno::EPERM);
        }
        let _namespace = self.fs.namespace.lock();
        self.check_free(name)?;
        {
            let mut state = target.state.lock();
            match state.nlink {
                0 => return Err(Errno::ENOENT), // unlinked meanwhile
                LINK_MAX.. => return Err(Errno::EMLINK),
                _ => state.nlink += 1,
            }
            state.ctime = Timestamp::now();
            state.changed = true;
        }
        self.add(name, target.reference()?)
    }

    pub(super) fn remove_name(&self, name: &[u8], removal: Removal) -> Result<()> {
        let _namespace = self.fs.namespace.lock();
        let node = self.find(name)?;
        match (removal, node.file_type) {
            (Removal::File, FileType::Directory) => return Err(Errno::EISDIR),
            (Removal::File, _) => {}
            (Removal::Directory, FileType::Directory) => {
                node.check_empty()?;
            }
            (Removal::Directory, _) => return Err(Errno::ENOTDIR),
        }
        self.take(name, &node)?;
        node.forget_name();
        Ok(())
    }

    pub(super) fn rename_node(
        &self,
        name: &[u8],
        to: &Self,
        to_name: &[u8],
        replace: Replace,
    ) -> Result<()> {
        if !Arc::ptr_eq(&self.fs, &to.fs) {
            return Err(Errno::EXDEV);
        }
        let _namespace = self.fs.namespace.lock();
        let node = self.find(name)?;
        to.check_alive()?;
        let old = match to.find(to_name) {
            Ok(old) => Some(old),
            Err(Errno::ENOENT) => None,
            Err(errno) => return Err(errno),
        };
        if replace == Replace::Never && old.is_some() {
            return Err(Errno::EEXIST);
        }
        if node.file_type == FileType::Directory && to.is_within(&node)? {
            return Err(Errno::EINVAL);
        }
        if replace == Replace::Exchange {
            return self.exchange(name, &node, to, to_name, old.ok_or(Errno::ENOENT)?);
        }
        if let Some(old) = &old {
            if Arc::ptr_eq(old, &node) {
                return Ok(()); // two names of one file: rename(2) does nothing
            }
            match (node.file_type, old.file_type) {
                (FileType::Directory, FileType::Directory) => old.check_empty()?,
                (FileType::Directory, _) => return Err(Errno::ENOTDIR),
                (_, FileType::Directory) => return Err(Errno::EISDIR),
                _ => {}
            }
            to.take(to_name, old)?;
            old.forget_name();
        }
        self.take(name, &node)?;
        node.set_place(Some((to.reference()?, to_name.into())));
        node.state.lock().change_attributes();
        to.add(to_name, node)
    }

    fn exchange(
        &self,
        name: &[u8],
        node: &Arc<Self>,
        to: &Self,
        to_name: &[u8],
        other: Arc<Self>,
    ) -> Result<()> {
        if other.file_type == FileType::Directory && self.is_within(&other)? {
            return Err(Errno::EINVAL);
        }
        self.put(name, other.clone())?;
        to.put(to_name, node.clone())?;
        node.set_place(Some((to.reference()?, to_name.into())));
        other.set_place(Some((self.reference()?, name.into())));
        let is_directory = |node: &Self| u32::from(node.file_type == FileType::Directory);
        let (gone, come) = (is_directory(node), is_directory(&other));
        self.adjust_links(gone, come)?;
        to.adjust_links(come, gone)?;
        node.state.lock().change_attributes();
        other.state.lock().change_attributes();
        Ok(())
    }

    fn adjust_links(&self, less: u32, more: u32) -> Result<()> {
        let mut state = self.locked_directory()?;
        state.nlink = (state.nlink + more).saturating_sub(less);
        Ok(())
    }

    /// Whether this directory is `ancestor` or below it.
    fn is_within(&self, ancestor: &Arc<Self>) -> Result<bool> {
        let mut at = self.reference()?;
        for _ in 0..DEPTH_MAX {
            if Arc::ptr_eq(&at, ancestor) {
                return Ok(true);
            }
            let place = at.state.lock().place.clone();
            match place {
                Some((parent, _)) => at = parent,
                None => return Ok(false),
            }
        }
        Err(Errno::ELOOP)
    }

    fn check_alive(&self) -> Result<()> {
        match self.directory(|directory| directory.is_removed)? {
            true => Err(Errno::ENOENT),
            false => Ok(()),
        }
    }

    /// Whether a new name can be made.
    fn check_free(&self, name: &[u8]) -> Result<()> {
        self.check_alive()?;
        match self.find(name) {
            Ok(_) => Err(Errno::EEXIST),
            Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn locked_directory(&self) -> Result<SpinLockGuard<'_, State>> {
        if self.file_type != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        Ok(self.state.lock())
    }

    /// Adds a name that is free.
    fn add(&self, name: &[u8], node: Arc<Self>) -> Result<()> {
        let is_directory = node.file_type == FileType::Directory;
        let now = Timestamp::now();
        let mut state = self.locked_directory()?;
        state.touch(now);
        state.nlink += u32::from(is_directory);
        let Body::Directory(directory) = &mut state.body else { return Err(Errno::ENOTDIR) };
        // A whiteout of that name goes: the entry in memory hides the lower one as well.
        directory.names.remove(name);
        directory.insert(name, node);
        Ok(())
    }

    /// Puts another node behind a name.
    fn put(&self, name: &[u8], node: Arc<Self>) -> Result<()> {
        let now = Timestamp::now();
        let mut state = self.locked_directory()?;
        state.touch(now);
        let Body::Directory(directory) = &mut state.body else { return Err(Errno::ENOTDIR) };
        directory.replace(name, node);
        Ok(())
    }

    /// Takes a name away.
    fn take(&self, name: &[u8], node: &Self) -> Result<()> {
        let now = Timestamp::now();
        let is_below = self.has_below(name)?;
        let mut state = self.locked_directory()?;
        state.touch(now);
        if node.file_type == FileType::Directory {
            state.nlink = state.nlink.saturating_sub(1);
        }
        let Body::Directory(directory) = &mut state.body else { return Err(Errno::ENOTDIR) };
        directory.remove(name, is_below);
        Ok(())
    }

    /// A name of this node is gone.
    fn forget_name(&self) {
        if let Body::Directory(directory) = &mut self.state.lock().body {
            directory.is_removed = true;
        }
        self.drop_link(if self.file_type == FileType::Directory { u32::MAX } else { 1 });
    }

    fn set_place(&self, place: Option<(Arc<Self>, Arc<[u8]>)>) {
        let mut state = self.state.lock();
        let old = core::mem::replace(&mut state.place, place);
        state.changed = true;
        drop(state);
        drop(old); // perhaps the last reference to the directory
    }
}

impl State {
    fn change_attributes(&mut self) {
        self.ctime = Timestamp::now();
        self.changed = true;
    }
}
