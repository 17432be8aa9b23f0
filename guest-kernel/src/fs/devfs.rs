//! /dev: a file system in memory that has the devices from the start.

use super::device;
use super::inode::{FileType, InodeRef};
use super::memfs::{self, Preset, Presets};
use crate::mm::frame;

/// Device number of the file system.
pub const DEV: u64 = 5;

const fn device(name: &'static [u8], rdev: u64, permissions: u32) -> Preset {
    let file_type = FileType::CharDevice;
    Preset { name, file_type, permissions, rdev, target: b"", children: &[] }
}

const fn link(name: &'static [u8], target: &'static [u8]) -> Preset {
    let file_type = FileType::Symlink;
    Preset { name, file_type, permissions: 0o777, rdev: 0, target, children: &[] }
}

const fn directory(name: &'static [u8], permissions: u32, children: Presets) -> Preset {
    let file_type = FileType::Directory;
    Preset { name, file_type, permissions, rdev: 0, target: b"", children }
}

static PRESETS: [Preset; 14] = [
    device(b"null", device::NULL, 0o666),
    device(b"zero", device::ZERO, 0o666),
    device(b"full", device::FULL, 0o666),
    device(b"random", device::RANDOM, 0o666),
    device(b"urandom", device::URANDOM, 0o666),
    device(b"tty", device::TTY, 0o666),
    device(b"console", device::CONSOLE, 0o622),
    link(b"fd", b"/proc/self/fd"),
    link(b"stdin", b"/proc/self/fd/0"),
    link(b"stdout", b"/proc/self/fd/1"),
    link(b"stderr", b"/proc/self/fd/2"),
    link(b"core", b"/proc/kcore"),
    directory(b"pts", 0o755, &[device(b"0", device::TERMINAL, 0o620)]),
    directory(b"shm", 0o1777, &[]),
];

/// Makes the file system.
#[must_use]
pub fn make() -> InodeRef {
    memfs::mount(DEV, frame::usage().total / 2, 0o755, &PRESETS)
}
