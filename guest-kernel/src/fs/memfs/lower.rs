//! The read-only layer below: inodes of the image, and the nodes that stand for them.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Node, name_cache};
use crate::error::{Errno, Result};
use crate::fs::erofs::{Erofs, ErofsInode, Extent};
use crate::fs::inode::FilePage;
use crate::mm::addr::{PAGE, Phys};
use crate::mm::frame::FrameRef;
use crate::mm::user::UserBuffer;
use crate::sync::SpinLock;

/// Unchanged nodes that nobody uses are dropped when there are this many.
const NODE_COUNT_MAX: usize = 4096;
/// The most pages that a run is followed for.
const RUN_PAGES_MAX: u64 = 512;

/// The image, and the nodes over its inodes by number.
pub(super) struct LowerFs {
    image: Erofs,
    names: name_cache::Owner,
    nodes: SpinLock<Nodes>,
}

struct Nodes {
    by_nid: BTreeMap<u64, Arc<Node>>,
    /// Sweep when there are more than this.
    sweep_at: usize,
}

impl LowerFs {
    pub(super) fn new(image: Erofs) -> Self {
        let nodes = Nodes { by_nid: BTreeMap::new(), sweep_at: NODE_COUNT_MAX };
        Self { image, names: name_cache::Owner::new(), nodes: SpinLock::new(nodes) }
    }

    /// The number of the inode with that name in a directory.
    pub(super) fn lookup(&self, directory: &LowerInode, name: &[u8]) -> Result<Option<u64>> {
        let inode = &directory.inode;
        self.names.look_up(inode.nid, name, || self.image.lookup(inode, name))
    }

    /// Inode numbers from here on are not the image's.
    pub(super) fn first_free_ino(&self) -> u64 {
        self.image.image().len() / 32 + 1
    }

    pub(super) fn root_nid(&self) -> u64 {
        self.image.root_nid
    }

    /// Blocks and inodes in the image.
    pub(super) fn figures(&self) -> (u64, u64) {
        (self.image.block_count, self.image.inode_count)
    }

    /// The node of an inode: the one that there is, or what `make` makes.
    pub(super) fn node(
        &self,
        nid: u64,
        make: impl FnOnce(LowerInode) -> Arc<Node>,
    ) -> Result<Arc<Node>> {
        if let Some(node) = self.nodes.lock().by_nid.get(&nid) {
            return Ok(node.clone());
        }
        let node = make(LowerInode::new(self.image, self.image.inode(nid)?));
        let mut nodes = self.nodes.lock();
        if nodes.by_nid.len() >= nodes.sweep_at {
            // A node that only the map refers to, and that says nothing new, can be made again.
            nodes.by_nid.retain(|_, node| Arc::strong_count(node) > 1 || node.is_changed());
            nodes.sweep_at = NODE_COUNT_MAX.max(2 * nodes.by_nid.len());
        }
        // Another CPU may have been faster.
        Ok(nodes.by_nid.entry(nid).or_insert(node).clone())
    }

    /// Forgets a node whose last name is gone.
    pub(super) fn forget(&self, nid: u64) {
        let node = self.nodes.lock().by_nid.remove(&nid);
        drop(node); // not under the lock: dropping a node frees its pages
    }
}

/// An inode of the image.
pub(super) struct LowerInode {
    pub(super) image: Erofs,
    pub(super) inode: ErofsInode,
    /// The last page, when it does not lie in the image as a page: made on demand, kept.
    tail: SpinLock<Option<FrameRef>>,
}

impl LowerInode {
    fn new(image: Erofs, inode: ErofsInode) -> Self {
        Self { image, inode, tail: SpinLock::new(None) }
    }

    pub(super) fn read_link(&self) -> Result<Vec<u8>> {
        self.image.read_link(&self.inode)
    }

    pub(super) fn read(&self, offset: u64, dst: &mut [u8]) -> Result<usize> {
        self.image.read(&self.inode, offset, dst)
    }

    /// Copies `len` bytes from `offset` on, which are in the file, to the user; how many arrived.
    pub(super) fn copy_to_user(
        &self,
        mut offset: u64,
        len: u64,
        buffer: &mut UserBuffer<'_>,
    ) -> Result<usize> {
        let mut done = 0;
        while (done as u64) < len && buffer.remaining() > 0 {
            let want = len - done as u64;
            let step = match self.image.extent(&self.inode, offset) {
                Ok(Extent::Image { offset, len }) => {
                    let len = want.min(len).min(buffer.remaining() as u64);
                    self.image.image().copy_to_user(offset, len as usize, buffer)
                }
                Ok(Extent::Hole { len }) => buffer.fill_zero(want.min(len) as usize),
                Err(errno) => Err(errno),
            };
            match step {
                Ok(0) => break,
                Ok(count) => {
                    done += count;
                    offset += count as u64;
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Copies the first `len` bytes of a page into a frame.
    pub(super) fn copy_to_frame(&self, index: u64, len: usize, frame: &FrameRef) -> Result<()> {
        let mut done = 0;
        while done < len {
            match self.image.extent(&self.inode, index * PAGE as u64 + done as u64)? {
                Extent::Image { offset, len: run } => {
                    let run = (len - done).min(usize::try_from(run).unwrap_or(usize::MAX));
                    self.image.image().copy_to_frame(offset, run, frame, done)?;
                    done += run;
                }
                Extent::Hole { len: run } => {
                    let run = (len - done).min(usize::try_from(run).unwrap_or(usize::MAX));
                    frame.zero(done, run);
                    done += run;
                }
            }
        }
        Ok(())
    }

    /// A page for a page table.
    pub(super) fn page(&self, index: u64) -> Result<FilePage> {
        if let Some((phys, _)) = self.run(index, 1) {
            return Ok(FilePage::Image(phys));
        }
        let start = index * PAGE as u64;
        let len = self.inode.size.checked_sub(start).filter(|&len| len > 0).ok_or(Errno::ENXIO)?;
        let is_tail = len <= PAGE as u64;
        if is_tail && let Some(frame) = &*self.tail.lock() {
            return Ok(FilePage::Frame(frame.clone()));
        }
        let frame = FrameRef::zeroed()?;
        self.copy_to_frame(index, len.min(PAGE as u64) as usize, &frame)?;
        if is_tail {
            *self.tail.lock() = Some(frame.clone());
        }
        Ok(FilePage::Frame(frame))
    }

    /// From page `index` on: where the file lies in one piece, page by page, and how many pages.
    pub(super) fn run(&self, index: u64, page_count_max: u64) -> Option<(Phys, u64)> {
        let page_count_max = page_count_max.min(RUN_PAGES_MAX);
        let mut start = None;
        let mut count = 0;
        while count < page_count_max {
            let at = index.checked_add(count)?.checked_mul(PAGE as u64)?;
            if at >= self.inode.size {
                break;
            }
            let Ok(Extent::Image { offset, len }) = self.image.extent(&self.inode, at) else {
                break;
            };
            let Some(phys) = self.image.image().phys(offset) else { break };
            let first = *start.get_or_insert(phys);
            if phys.0 != first.0 + count * PAGE as u64 {
                break;
            }
            // A last page that is not full is one all the same: the block's rest belongs to nobody.
            // Not the tail behind an inode, which is aligned by accident at best.
            let is_last = at + len >= self.inode.size;
            let pages = if is_last && !self.inode.has_tail_behind_inode() {
                len.div_ceil(PAGE as u64)
            } else {
                len / PAGE as u64
            };
            if pages == 0 {
                break;
            }
            let room = (self.image.image().len() - offset) / PAGE as u64;
            count += pages.min(room);
            if pages > room {
                break;
            }
        }
        let start = start.filter(|_| count > 0)?;
        Some((start, count.min(page_count_max)))
    }
}
