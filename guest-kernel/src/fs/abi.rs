//! Linux's structures as bytes for user memory. `linux-raw-sys` has the same ones without the traits
//! that a safe copy needs; the assertions below hold the two together.

use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct stat`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "man 3type stat")]
pub struct Stat {
    pub dev: u64,
    pub ino: u64,
    pub nlink: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub pad: u32,
    pub rdev: u64,
    pub size: i64,
    pub blksize: i64,
    pub blocks: i64,
    pub atime: Timespec,
    pub mtime: Timespec,
    pub ctime: Timespec,
    pub unused: [i64; 3],
}

/// `struct timespec`.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[expect(missing_docs, reason = "man 3type timespec")]
pub struct Timespec {
    pub seconds: i64,
    pub nanoseconds: i64,
}

/// `struct timeval`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "man 3type timeval")]
pub struct Timeval {
    pub seconds: i64,
    pub microseconds: i64,
}

/// `struct statx_timestamp`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "man 2 statx")]
pub struct StatxTimestamp {
    pub seconds: i64,
    pub nanoseconds: u32,
    pub reserved: i32,
}

/// `struct statx`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "man 2 statx")]
pub struct Statx {
    pub mask: u32,
    pub blksize: u32,
    pub attributes: u64,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub mode: u16,
    pub spare0: u16,
    pub ino: u64,
    pub size: u64,
    pub blocks: u64,
    pub attributes_mask: u64,
    pub atime: StatxTimestamp,
    pub btime: StatxTimestamp,
    pub ctime: StatxTimestamp,
    pub mtime: StatxTimestamp,
    pub rdev_major: u32,
    pub rdev_minor: u32,
    pub dev_major: u32,
    pub dev_minor: u32,
    pub mnt_id: u64,
    pub rest: [u64; 13],
}

/// `struct statfs`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "man 2 statfs")]
pub struct Statfs {
    pub kind: i64,
    pub bsize: i64,
    pub blocks: u64,
    pub bfree: u64,
    pub bavail: u64,
    pub files: u64,
    pub ffree: u64,
    pub fsid: [i32; 2],
    pub namelen: i64,
    pub frsize: i64,
    pub flags: i64,
    pub spare: [i64; 4],
}

/// `struct iovec`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "man 3type iovec")]
pub struct IoVec {
    pub base: u64,
    pub len: u64,
}

/// `struct pollfd`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "man 2 poll")]
pub struct PollFd {
    pub fd: i32,
    pub events: u16,
    pub revents: u16,
}

/// `struct flock`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "man 2 fcntl")]
pub struct Flock {
    pub kind: u16,
    pub whence: u16,
    pub pad: u32,
    pub start: i64,
    pub len: i64,
    pub pid: i32,
    pub pad2: u32,
}

/// `struct termios`: what TCGETS moves.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "man 3 termios")]
pub struct Termios {
    pub iflag: u32,
    pub oflag: u32,
    pub cflag: u32,
    pub lflag: u32,
    pub line: u8,
    pub cc: [u8; 19],
}

/// `struct termios2`: what TCGETS2 moves.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "man 2 ioctl_tty")]
pub struct Termios2 {
    pub base: Termios,
    pub ispeed: u32,
    pub ospeed: u32,
}

/// `struct winsize`.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[expect(missing_docs, reason = "man 2 ioctl_tty")]
pub struct WinSize {
    pub rows: u16,
    pub columns: u16,
    pub x_pixels: u16,
    pub y_pixels: u16,
}

/// What stands before the name in a `struct linux_dirent64`.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[expect(missing_docs, reason = "man 2 getdents64")]
pub struct DirentHeader {
    pub ino: u64,
    pub off: i64,
    pub reclen: u16,
    pub kind: u8,
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Stat>() == size_of::<linux::stat>());
    assert!(offset_of!(Stat, rdev) == offset_of!(linux::stat, st_rdev));
    assert!(offset_of!(Stat, blocks) == offset_of!(linux::stat, st_blocks));
    assert!(offset_of!(Stat, ctime) == offset_of!(linux::stat, st_ctime));
    assert!(size_of::<Statx>() == size_of::<linux::statx>());
    assert!(offset_of!(Statx, ino) == offset_of!(linux::statx, stx_ino));
    assert!(offset_of!(Statx, mtime) == offset_of!(linux::statx, stx_mtime));
    assert!(offset_of!(Statx, mnt_id) == offset_of!(linux::statx, stx_mnt_id));
    assert!(size_of::<Statfs>() == size_of::<linux::statfs>());
    assert!(offset_of!(Statfs, namelen) == offset_of!(linux::statfs, f_namelen));
    assert!(size_of::<Timespec>() == size_of::<linux::timespec>());
    assert!(size_of::<Timeval>() == size_of::<linux::timeval>());
    assert!(size_of::<IoVec>() == size_of::<linux::iovec>());
    assert!(size_of::<PollFd>() == size_of::<linux::pollfd>());
    assert!(size_of::<Flock>() == size_of::<linux::flock>());
    assert!(offset_of!(Flock, pid) == offset_of!(linux::flock, l_pid));
    assert!(size_of::<Termios>() == size_of::<linux::termios>());
    assert!(size_of::<Termios2>() == size_of::<linux::termios2>());
    assert!(size_of::<WinSize>() == size_of::<linux::winsize>());
    assert!(size_of::<DirentHeader>() == offset_of!(linux::linux_dirent64, d_name));
};
