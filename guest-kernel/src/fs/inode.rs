//! What every file system implements: [`Inode`], an object with a name somewhere in the tree.
//!
//! A trait object: the tree mixes file systems (the root, /proc), an indirect call costs two
//! instructions, and a call that a kind of file does not have falls to a default that answers the
//! errno Linux answers.
//!
//! Rules for implementations: user memory is touched only while no lock is held, because touching it
//! may fault and the fault handler asks inodes for pages. Names are one component, 1 to 255 bytes,
//! without '/', and not "." or "..": the path walk sees to that.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use linux_raw_sys::general as linux;

use super::abi::Statfs;
use super::file::{Object, Opening};
use super::path::Place;
use crate::error::{Errno, Result};
use crate::mm::addr::Phys;
use crate::mm::frame::FrameRef;
use crate::mm::user::UserBuffer;

/// A shared inode.
pub type InodeRef = Arc<dyn Inode>;

/// What kind of file an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// A file of bytes.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named (or unnamed) pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl FileType {
    /// The type in a mode word.
    #[must_use]
    pub fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & linux::S_IFMT {
            linux::S_IFREG => Self::Regular,
            linux::S_IFDIR => Self::Directory,
            linux::S_IFLNK => Self::Symlink,
            linux::S_IFCHR => Self::CharDevice,
            linux::S_IFBLK => Self::BlockDevice,
            linux::S_IFIFO => Self::Fifo,
            linux::S_IFSOCK => Self::Socket,
            _ => return None,
        })
    }

    /// The bits of `S_IFMT`.
    #[must_use]
    pub const fn mode(self) -> u32 {
        match self {
            Self::Regular => linux::S_IFREG,
            Self::Directory => linux::S_IFDIR,
            Self::Symlink => linux::S_IFLNK,
            Self::CharDevice => linux::S_IFCHR,
            Self::BlockDevice => linux::S_IFBLK,
            Self::Fifo => linux::S_IFIFO,
            Self::Socket => linux::S_IFSOCK,
        }
    }

    /// `DT_*`.
    #[must_use]
    pub const fn dirent_type(self) -> u8 {
        (self.mode() >> 12) as u8
    }
}

/// A point in time since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamp {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds of the second.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let ns = crate::time::realtime_ns();
        Self { seconds: (ns / 1_000_000_000) as i64, nanoseconds: (ns % 1_000_000_000) as u32 }
    }
}

/// All that stat tells.
#[derive(Clone, Copy, Debug, Default)]
pub struct Metadata {
    /// The file system's device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The device a device node stands for.
    pub rdev: u64,
    /// Bytes.
    pub size: u64,
    /// Units of 512 bytes in use.
    pub blocks: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the contents.
    pub mtime: Timestamp,
    /// Last change of the attributes.
    pub ctime: Timestamp,
}

/// What a permission check looks at.
#[derive(Clone, Copy, Debug)]
pub struct Permissions {
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Attributes to set; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttributeChange {
    /// Permission bits, set-id and sticky bits included.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Last access.
    pub atime: Option<Timestamp>,
    /// Last change of the contents.
    pub mtime: Option<Timestamp>,
}

/// What to create, besides the name.
#[derive(Clone, Copy, Debug)]
pub struct NewInode<'a> {
    /// Kind of file.
    pub file_type: FileType,
    /// Permission bits, the umask taken off.
    pub permissions: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u64,
    /// Target of a symbolic link.
    pub target: &'a [u8],
}

/// An entry that [`Inode::read_directory`] shows.
#[derive(Clone, Copy, Debug)]
pub struct DirectoryEntry<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its inode number.
    pub ino: u64,
    /// Its type.
    pub file_type: FileType,
    /// The position after it: stays valid while entries come and go.
    pub next: u64,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// The entry was taken.
    More,
    /// There was no room for it: it comes again next time.
    Full,
}

/// What a directory entry is expected to be when it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// unlink: anything but a directory.
    File,
    /// rmdir: an empty directory.
    Directory,
}

/// What rename does when the new name exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// Replaces it.
    Allowed,
    /// EEXIST.
    Never,
    /// Both names swap.
    Exchange,
}

/// A page of a file, for a page table.
#[derive(Debug)]
pub enum FilePage {
    /// A page of the root image: not counted, never written to.
    Image(Phys),
    /// A page of memory.
    Frame(FrameRef),
}

/// What to look for with SEEK_DATA and SEEK_HOLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// The next byte that is not in a hole.
    Data,
    /// The next byte that is in a hole; the end of the file counts.
    Hole,
}

/// Something with attributes, and a name (or many, or none any more).
#[expect(unused_variables, reason = "the defaults are for kinds of files without the operation")]
pub trait Inode: Any + Send + Sync {
    /// Kind of file; never changes.
    fn file_type(&self) -> FileType;

    /// All attributes.
    fn metadata(&self) -> Metadata;

    /// The attributes for a permission check.
    fn permissions(&self) -> Permissions {
        let metadata = self.metadata();
        Permissions { mode: metadata.mode, uid: metadata.uid, gid: metadata.gid }
    }

    /// Bytes in the file.
    fn size(&self) -> u64 {
        self.metadata().size
    }

    /// Sets attributes, and the time of their change.
    ///
    /// # Errors
    /// EPERM where nothing can be set.
    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// The file system's figures.
    fn statfs(&self) -> Statfs;

    /// Finds an entry of a directory.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, or what reading the file system gives.
    fn lookup(&self, name: &[u8]) -> Result<InodeRef> {
        Err(Errno::ENOTDIR)
    }

    /// Where it is: a directory's only place, the name another kind of file was found by first.
    /// `None` for the root of a file system, and for what never had a name.
    fn place(&self) -> Option<Place> {
        None
    }

    /// Shows the entries from `position` on, "." and ".." included, until `sink` is full. The sink
    /// may be called with locks held: it must not touch user memory or inodes.
    ///
    /// # Errors
    /// ENOTDIR, or what reading the file system gives.
    fn read_directory(
        &self,
        position: u64,
        sink: &mut dyn FnMut(&DirectoryEntry<'_>) -> Feed,
    ) -> Result<()> {
        Err(Errno::ENOTDIR)
    }

    /// Makes a new entry.
    ///
    /// # Errors
    /// EEXIST, ENOSPC; EACCES where nothing can be created.
    fn create(&self, name: &[u8], new: &NewInode<'_>) -> Result<InodeRef> {
        Err(Errno::EACCES)
    }

    /// Makes another name for `target`.
    ///
    /// # Errors
    /// EEXIST, EXDEV, EPERM, EMLINK.
    fn link(&self, name: &[u8], target: &InodeRef) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Removes an entry.
    ///
    /// # Errors
    /// ENOENT, EISDIR, ENOTDIR, ENOTEMPTY.
    fn remove(&self, name: &[u8], removal: Removal) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Moves an entry to `to` in `directory`.
    ///
    /// # Errors
    /// ENOENT, EXDEV, EEXIST, EISDIR, ENOTDIR, ENOTEMPTY, EINVAL.
    fn rename(&self, name: &[u8], directory: &InodeRef, to: &[u8], replace: Replace) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// EINVAL for other kinds.
    fn read_link(&self) -> Result<Vec<u8>> {
        Err(Errno::EINVAL)
    }

    /// For the links of /proc that lead to an object rather than to a path: the object.
    fn jump(&self) -> Option<Result<(InodeRef, Option<Place>)>> {
        None
    }

    /// Opens it. `None`: reads and writes go to this inode itself, by offset.
    ///
    /// # Errors
    /// ENXIO for a device that is not there.
    fn open(&self, opening: &Opening) -> Result<Option<Arc<dyn Object>>> {
        Ok(None)
    }

    /// Reads into user memory.
    ///
    /// # Errors
    /// EISDIR, EFAULT, EIO.
    fn read_at(&self, offset: u64, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        Err(if self.file_type() == FileType::Directory { Errno::EISDIR } else { Errno::EINVAL })
    }

    /// Reads into kernel memory (exec); short at the end of the file.
    ///
    /// # Errors
    /// EISDIR, EIO.
    fn read_kernel(&self, offset: u64, dst: &mut [u8]) -> Result<usize> {
        Err(if self.file_type() == FileType::Directory { Errno::EISDIR } else { Errno::EINVAL })
    }

    /// Writes from user memory.
    ///
    /// # Errors
    /// ENOSPC, EFBIG, EFAULT.
    fn write_at(&self, offset: u64, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Sets the size.
    ///
    /// # Errors
    /// EISDIR, EINVAL for kinds without one; ENOSPC, EFBIG.
    fn truncate(&self, size: u64) -> Result<()> {
        Err(if self.file_type() == FileType::Directory { Errno::EISDIR } else { Errno::EINVAL })
    }

    /// Makes memory sure for a range, without changing the size.
    ///
    /// # Errors
    /// ENOSPC; EOPNOTSUPP for kinds without memory.
    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Makes a range read as zeroes, without changing the size.
    ///
    /// # Errors
    /// ENOSPC; EOPNOTSUPP for kinds without memory.
    fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The first byte of `what` at `offset` or behind it.
    ///
    /// # Errors
    /// ENXIO if there is none.
    fn seek(&self, offset: u64, what: Seek) -> Result<u64> {
        let size = self.size();
        match what {
            _ if offset >= size => Err(Errno::ENXIO),
            Seek::Data => Ok(offset),
            Seek::Hole => Ok(size),
        }
    }

    /// A page to map for reading.
    ///
    /// # Errors
    /// ENXIO beyond the end of the file (SIGBUS), ENODEV for kinds that cannot be mapped.
    fn page(&self, index: u64) -> Result<FilePage> {
        Err(Errno::ENODEV)
    }

    /// A page to map shared and writable: what is stored there is stored in the file.
    ///
    /// # Errors
    /// As [`Self::page`], and ENOSPC.
    fn page_for_write(&self, index: u64) -> Result<FrameRef> {
        Err(Errno::ENODEV)
    }

    /// From page `index` on: where the file lies in one piece in the root image, and how many pages.
    fn image_run(&self, index: u64) -> Option<(Phys, u64)> {
        None
    }
}

/// Whether two references are to the same inode.
#[must_use]
pub fn same(a: &InodeRef, b: &InodeRef) -> bool {
    core::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b))
}
