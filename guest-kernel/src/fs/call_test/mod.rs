//! File system calls, end to end: a task, a tree in memory, this process's memory as the user's.

mod data;
mod device;
mod fuzz;
mod names;

use linux_raw_sys::general as linux;
use shared_abi::stdio::{OP_READ, OP_WINSIZE, OP_WRITE};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::arch;
use crate::driver::stdio::fake;
use crate::error::{Errno, Result};
use crate::fs::abi::{DirentHeader, IoVec, PollFd, Stat, Statx, Termios, Timespec, WinSize};
use crate::fs::attribute::Links;
use crate::fs::context::FsContext;
use crate::fs::erofs_test::Random;
use crate::fs::fd::{FdTable, OnExec};
use crate::fs::file::Opening;
use crate::fs::inode::{FileType, NewInode};
use crate::fs::memfs;
use crate::fs::mount::{Mount, Mounts};
use crate::fs::{
    attribute, control, devfs, io, name, open, pipe, poll, procfs, setup, stat, stream, terminal,
    transfer,
};
use crate::mm::addr::{PAGE, UserAddr};
use crate::mm::frame;
use crate::mm::space::Space;
use crate::mm::user::read_value;
use crate::sync::SpinLock;
use crate::task::{Credentials, Task};

pub(super) const CWD: i32 = linux::AT_FDCWD;
pub(super) const RW: u32 = linux::O_RDWR;
pub(super) const CREATE: u32 = linux::O_RDWR | linux::O_CREAT;

/// A task of user `uid` in an empty tree with /dev and /proc.
pub(super) fn task_of(uid: u32) -> &'static Task {
    frame::initialise_for_tests();
    let root = memfs::mount(setup::ROOT_DEV, 1000, 0o777, &[]);
    let mut mounts = Mounts::new(root);
    mounts.add(Mount::new("dev", "devtmpfs", "rw", devfs::DEV, devfs::make));
    mounts.add(Mount::new("proc", "proc", "rw", procfs::DEV, procfs::make));
    let context = FsContext::new(mounts.into(), 0o022);
    let credentials = Credentials { uid, euid: uid, gid: uid, egid: uid };
    let space = Space::new().expect("memory");
    let task = Task::first(credentials, space, FdTable::new(), context);
    let task: &'static Task = Box::leak(Box::new(task));
    arch::set_current(task);
    task
}

pub(super) fn task() -> &'static Task {
    task_of(0)
}

/// A C string, never freed.
pub(super) fn c(text: &str) -> UserAddr {
    let bytes = Box::leak(format!("{text}\0{}", " ".repeat(PAGE)).into_boxed_str());
    UserAddr(bytes.as_ptr() as u64)
}

/// Memory that the kernel only reads.
pub(super) fn at<T: ?Sized>(value: &T) -> UserAddr {
    UserAddr(core::ptr::from_ref(value).cast::<u8>() as u64)
}

/// Memory that the kernel writes to, as large as a `T` with these contents; never freed.
pub(super) fn give<T: IntoBytes + Immutable>(value: T) -> UserAddr {
    let memory: &'static mut [u8] = Box::leak(value.as_bytes().into());
    UserAddr(memory.as_mut_ptr().expose_provenance() as u64)
}

/// What the kernel wrote.
pub(super) fn taken<T: FromBytes + IntoBytes>(address: UserAddr) -> T {
    read_value(address).expect("ours")
}

pub(super) fn open_at(task: &Task, path: &str, flags: u32) -> Result<i32> {
    open::open(task, c(path), flags, 0o666).map(|fd| fd as i32)
}

pub(super) fn put(task: &Task, fd: i32, bytes: &[u8]) -> Result<usize> {
    io::write(task, fd, at(bytes), bytes.len())
}

pub(super) fn get(task: &Task, fd: i32, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let count = io::read(task, fd, UserAddr(bytes.as_mut_ptr() as u64), len)?;
    bytes.truncate(count);
    Ok(bytes)
}

pub(super) fn make(task: &Task, path: &str, bytes: &[u8]) {
    let fd = open_at(task, path, CREATE).expect("a free name");
    assert_eq!(put(task, fd, bytes), Ok(bytes.len()));
    assert_eq!(open::close(task, fd), Ok(0));
}

pub(super) fn text(task: &Task, path: &str) -> String {
    let fd = open_at(task, path, linux::O_RDONLY).expect("it is there");
    let mut all = Vec::new();
    loop {
        let piece = get(task, fd, 1000).expect("readable");
        if piece.is_empty() {
            break;
        }
        all.extend_from_slice(&piece);
    }
    open::close(task, fd).expect("open");
    String::from_utf8(all).expect("text")
}

pub(super) fn stat_of(task: &Task, path: &str) -> Result<Stat> {
    let out = give(Stat::default());
    stat::newfstatat(task, CWD, c(path), out, 0)?;
    read_value(out)
}

pub(super) fn link_of(task: &Task, path: &str) -> Result<String> {
    let out = give([0u8; 4096]);
    let len = stat::readlink(task, c(path), out, 4096)?;
    Ok(String::from_utf8(taken::<[u8; 4096]>(out)[..len].to_vec()).expect("text"))
}

pub(super) fn cwd(task: &Task) -> Result<String> {
    let out = give([0u8; 4096]);
    let len = stat::getcwd(task, out, 4096)?;
    let out: [u8; 4096] = taken(out);
    assert_eq!(out[len - 1], 0);
    Ok(String::from_utf8(out[..len - 1].to_vec()).expect("text"))
}

pub(super) fn list(task: &Task, path: &str) -> Vec<String> {
    let fd = open_at(task, path, linux::O_RDONLY | linux::O_DIRECTORY).expect("a directory");
    let mut names = Vec::new();
    loop {
        let records = give([0u8; 200]);
        let len = io::getdents64(task, fd, records, 200).expect("readable");
        let records: [u8; 200] = taken(records);
        if len == 0 {
            break;
        }
        let mut at = 0;
        while at < len {
            let size = u16::from_le_bytes([records[at + 16], records[at + 17]]) as usize;
            let name = &records[at + size_of::<DirentHeader>()..at + size];
            let end = name.iter().position(|&b| b == 0).expect("a NUL");
            names.push(String::from_utf8(name[..end].to_vec()).expect("text"));
            at += size;
        }
    }
    open::close(task, fd).expect("open");
    names.sort();
    names
}
