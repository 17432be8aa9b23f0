//! EROFS, read in place: uncompressed images, blocks of a page.
//!
//! Nothing is read at mount but the superblock, and nothing is kept but what an inode says of itself:
//! the cost of the root does not grow with its size. The image may be anything: every number in it is
//! checked where it is used, arithmetic is checked, and each loop ends by the size of what it walks.
//!
//! Limits: no compression, no extra devices; extended attributes are not read.

use super::erofs_format::{
    BLOCK_SIZE, CHUNK_BITS_MASK, CHUNK_FORMAT_MASK, CHUNK_INDEXES, ChunkIndex, CompactInode,
    ExtendedInode, FORMAT_EXTENDED, HOLE, INCOMPAT_NAMES, INCOMPAT_SUPPORTED, LAYOUT_CHUNKED,
    LAYOUT_INLINE, LAYOUT_PLAIN, MAGIC, SLOT_SIZE, SUPERBLOCK_OFFSET, SuperBlock,
};
use super::inode::{FileType, Timestamp};
use crate::error::{Errno, Result};
use crate::mm::image::ImageMemory;

/// The longest target of a symbolic link.
const LINK_MAX: u64 = 4096;

/// A mounted image.
#[derive(Clone, Copy, Debug)]
pub struct Erofs {
    image: ImageMemory,
    /// Where inode 0 would be.
    meta: u64,
    /// The root directory's inode number.
    pub root_nid: u64,
    /// Inodes in the image, as it claims.
    pub inode_count: u64,
    /// Blocks in the image, as it claims.
    pub block_count: u64,
    build_time: Timestamp,
}

/// Why an image cannot be mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountError {
    /// EINVAL: not an EROFS image; EOPNOTSUPP: one with a feature that is not there; EIO, EUCLEAN.
    pub errno: Errno,
    /// What it is.
    pub what: &'static str,
}

/// What an inode of the image says.
#[derive(Clone, Copy, Debug)]
pub struct ErofsInode {
    /// Its number.
    pub nid: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Kind of file.
    pub file_type: FileType,
    /// Bytes.
    pub size: u64,
    /// Names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u32,
    /// Last change.
    pub mtime: Timestamp,
    layout: Layout,
}

/// Where an inode's bytes are.
#[derive(Clone, Copy, Debug)]
enum Layout {
    /// In blocks from image offset `start` on.
    Plain { start: u64 },
    /// As plain, but the tail is at image offset `tail`.
    Inline { start: u64, tail: u64 },
    /// In chunks of `1 << bits` bytes; the table is at image offset `table`.
    Chunked { table: u64, bits: u32, entry: ChunkEntry },
    /// Compressed, or newer than this kernel.
    Unsupported,
}

/// What a chunk table is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkEntry {
    /// Block numbers.
    Block,
    /// [`ChunkIndex`]es.
    Index,
}

impl ChunkEntry {
    const fn size(self) -> u64 {
        match self {
            Self::Block => 4,
            Self::Index => 8,
        }
    }
}

/// A run of a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// At this offset of the image.
    Image {
        /// Offset in the image.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Nowhere: zeroes.
    Hole {
        /// Bytes.
        len: u64,
    },
}

impl Erofs {
    /// Accepts an image.
    ///
    /// # Errors
    /// A [`MountError`] that names what is wrong.
    pub fn mount(image: ImageMemory) -> core::result::Result<Self, MountError> {
        let error = |errno, what| MountError { errno, what };
        let sb: SuperBlock = image
            .value(SUPERBLOCK_OFFSET)
            .map_err(|_| error(Errno::EINVAL, "the image is too small for a superblock"))?;
        if sb.magic != MAGIC {
            return Err(error(Errno::EINVAL, "the image is not EROFS"));
        }
        if 1u64.checked_shl(u32::from(sb.block_size_bits)) != Some(BLOCK_SIZE) {
            return Err(error(Errno::EOPNOTSUPP, "the block size is not 4096"));
        }
        let unknown = sb.feature_incompat & !INCOMPAT_SUPPORTED;
        if let Some((_, name)) = INCOMPAT_NAMES.iter().find(|(bits, _)| unknown & bits != 0) {
            return Err(error(Errno::EOPNOTSUPP, name));
        }
        if sb.extra_devices != 0 {
            return Err(error(Errno::EOPNOTSUPP, "more than one device"));
        }
        if sb.directory_block_bits != 0 {
            return Err(error(Errno::EOPNOTSUPP, "large directory blocks"));
        }
        let erofs = Self {
            image,
            meta: u64::from(sb.meta_block) * BLOCK_SIZE,
            root_nid: u64::from(sb.root_nid),
            inode_count: sb.inode_count,
            block_count: u64::from(sb.block_count),
            build_time: timestamp(sb.build_time, sb.build_time_nsec),
        };
        match erofs.inode(erofs.root_nid) {
            Ok(root) if root.file_type == FileType::Directory => Ok(erofs),
            Ok(_) => Err(error(Errno::EUCLEAN, "the root is not a directory")),
            Err(errno) => Err(error(errno, "the root's inode cannot be read")),
        }
    }

    /// The image.
    #[must_use]
    pub fn image(&self) -> &ImageMemory {
        &self.image
    }

    /// Reads an inode.
    ///
    /// # Errors
    /// EIO beyond the image, EUCLEAN for nonsense.
    pub fn inode(&self, nid: u64) -> Result<ErofsInode> {
        let start = nid.checked_mul(SLOT_SIZE).and_then(|o| o.checked_add(self.meta));
        let start = start.ok_or(Errno::EUCLEAN)?;
        let compact: CompactInode = self.image.value(start)?;
        let (mut inode, data, head) = if compact.format & FORMAT_EXTENDED == 0 {
            let inode = ErofsInode {
                nid,
                mode: u32::from(compact.mode),
                file_type: FileType::Regular,
                size: u64::from(compact.size),
                nlink: u32::from(compact.nlink),
                uid: u32::from(compact.uid),
                gid: u32::from(compact.gid),
                rdev: 0,
                mtime: self.build_time,
                layout: Layout::Unsupported,
            };
            (inode, compact.data, size_of::<CompactInode>())
        } else {
            let extended: ExtendedInode = self.image.value(start)?;
            let inode = ErofsInode {
                nid,
                mode: u32::from(extended.mode),
                file_type: FileType::Regular,
                size: extended.size,
                nlink: extended.nlink,
                uid: extended.uid,
                gid: extended.gid,
                rdev: 0,
                mtime: timestamp(extended.mtime, extended.mtime_nsec),
                layout: Layout::Unsupported,
            };
            (inode, extended.data, size_of::<ExtendedInode>())
        };
        inode.file_type = FileType::from_mode(inode.mode).ok_or(Errno::EUCLEAN)?;
        if inode.size > i64::MAX as u64 {
            return Err(Errno::EUCLEAN);
        }
        let xattrs = match u64::from(compact.xattr_count) {
            0 => 0,
            count => 12 + 4 * (count - 1),
        };
        let behind = start.checked_add(head as u64 + xattrs).ok_or(Errno::EUCLEAN)?;
        match inode.file_type {
            FileType::CharDevice | FileType::BlockDevice => inode.rdev = data,
            FileType::Fifo | FileType::Socket => {}
            _ => inode.layout = layout(compact.format >> 1 & 7, data, behind)?,
        }
        Ok(inode)
    }

    /// Where the bytes from `offset` on are; `offset` must be below the size. A run of at least one
    /// byte; `image` runs lie inside of the image.
    ///
    /// # Errors
    /// EUCLEAN for nonsense, EOPNOTSUPP for a compressed file.
    pub fn extent(&self, inode: &ErofsInode, offset: u64) -> Result<Extent> {
        let rest = inode.size.checked_sub(offset).filter(|&rest| rest > 0).ok_or(Errno::EINVAL)?;
        let extent = match inode.layout {
            Layout::Plain { start } => Extent::Image { offset: checked(start, offset)?, len: rest },
            Layout::Inline { start, tail } => {
                let blocks_end = (inode.size - 1) / BLOCK_SIZE * BLOCK_SIZE;
                if offset < blocks_end {
                    Extent::Image { offset: checked(start, offset)?, len: blocks_end - offset }
                } else {
                    // The tail does not cross the block that the inode ends in.
                    if tail % BLOCK_SIZE + (inode.size - blocks_end) > BLOCK_SIZE {
                        return Err(Errno::EUCLEAN);
                    }
                    Extent::Image { offset: checked(tail, offset - blocks_end)?, len: rest }
                }
            }
            Layout::Chunked { table, bits, entry } => {
                let position = checked(table, (offset >> bits) * entry.size())?;
                let block = match entry {
                    ChunkEntry::Block => self.image.value::<u32>(position)?,
                    ChunkEntry::Index => {
                        let index: ChunkIndex = self.image.value(position)?;
                        if index.device != 0 && index.block != HOLE {
                            return Err(Errno::EOPNOTSUPP);
                        }
                        index.block
                    }
                };
                let inside = offset & ((1 << bits) - 1);
                let len = rest.min((1 << bits) - inside);
                match block {
                    HOLE => Extent::Hole { len },
                    _ => Extent::Image {
                        offset: checked(u64::from(block) * BLOCK_SIZE, inside)?,
                        len,
                    },
                }
            }
            Layout::Unsupported => {
                crate::log::unsupported("a compressed file of the root image");
                return Err(Errno::EOPNOTSUPP);
            }
        };
        if let Extent::Image { offset, len } = extent {
            let end = offset.checked_add(len).ok_or(Errno::EUCLEAN)?;
            if end > self.image.len() {
                return Err(Errno::EIO);
            }
        }
        Ok(extent)
    }

    /// Reads into kernel memory; short only at the end of the file.
    ///
    /// # Errors
    /// As [`Self::extent`].
    pub fn read(&self, inode: &ErofsInode, mut offset: u64, dst: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < dst.len() && offset < inode.size {
            let want = dst.len() - done;
            let len = match self.extent(inode, offset)? {
                Extent::Image { offset: at, len } => {
                    let len = want.min(usize::try_from(len).unwrap_or(usize::MAX));
                    self.image.read(at, &mut dst[done..done + len])?;
                    len
                }
                Extent::Hole { len } => {
                    let len = want.min(usize::try_from(len).unwrap_or(usize::MAX));
                    dst[done..done + len].fill(0);
                    len
                }
            };
            done += len;
            offset += len as u64;
        }
        Ok(done)
    }

    /// The target of a symbolic link: its length in `dst`.
    ///
    /// # Errors
    /// EINVAL for other kinds, EUCLEAN if it is too long.
    pub fn read_link(&self, inode: &ErofsInode) -> Result<alloc::vec::Vec<u8>> {
        if inode.file_type != FileType::Symlink {
            return Err(Errno::EINVAL);
        }
        if inode.size >= LINK_MAX {
            return Err(Errno::EUCLEAN);
        }
        let mut target = alloc::vec![0; inode.size as usize];
        self.read(inode, 0, &mut target)?;
        Ok(target)
    }
}

impl ErofsInode {
    /// Whether the data can be read at all: EOPNOTSUPP comes when it is tried.
    #[must_use]
    pub fn is_supported(&self) -> bool {
        !matches!(self.layout, Layout::Unsupported)
    }

    /// Whether the last bytes lie behind the inode instead of in a block of their own.
    #[must_use]
    pub fn has_tail_behind_inode(&self) -> bool {
        matches!(self.layout, Layout::Inline { .. })
    }
}

fn layout(layout: u16, data: u32, behind: u64) -> Result<Layout> {
    Ok(match layout {
        LAYOUT_PLAIN => Layout::Plain { start: u64::from(data) * BLOCK_SIZE },
        LAYOUT_INLINE => Layout::Inline { start: u64::from(data) * BLOCK_SIZE, tail: behind },
        LAYOUT_CHUNKED if data & !CHUNK_FORMAT_MASK & 0xffff == 0 => {
            let entry = match data & CHUNK_INDEXES {
                0 => ChunkEntry::Block,
                _ => ChunkEntry::Index,
            };
            let table = behind.checked_next_multiple_of(entry.size()).ok_or(Errno::EUCLEAN)?;
            let bits = BLOCK_SIZE.ilog2() + (data & CHUNK_BITS_MASK);
            Layout::Chunked { table, bits, entry }
        }
        _ => Layout::Unsupported,
    })
}

fn checked(base: u64, offset: u64) -> Result<u64> {
    base.checked_add(offset).ok_or(Errno::EUCLEAN)
}

fn timestamp(seconds: u64, nanoseconds: u32) -> Timestamp {
    Timestamp { seconds: seconds as i64, nanoseconds: nanoseconds.min(999_999_999) }
}
