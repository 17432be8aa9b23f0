//! /proc: the tree. What the files say is in `text`.
//!
//! Inodes are made at each lookup: they are a node of the tree and nothing more. A file's text is made
//! when it is opened.
//!
//! Limits: one process, the current one; nothing can be written to.

mod text;

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::abi::Statfs;
use super::file::{Io, Object, Opening, Positioning};
use super::inode::{
    DirectoryEntry, Feed, FileType, Inode, InodeRef, Metadata, Permissions, Timestamp,
};
use super::path::{self, Place};
use crate::arch;
use crate::error::{Errno, Result};
use crate::mm::addr::PAGE;
use crate::mm::user::UserBuffer;
use crate::task::Task;
use text::Text;

/// Device number of the file system.
pub const DEV: u64 = 0x17;
/// `PROC_SUPER_MAGIC`.
const PROC_MAGIC: i64 = 0x9fa0;

/// A place in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Root,
    /// The directory of the current process.
    Process,
    /// Its fd directory.
    Descriptors,
    /// Its fdinfo directory.
    DescriptorInfos,
    Sys,
    SysKernel,
    SysKernelRandom,
    SysVm,
    SysFs,
    File(Text),
    Link(Link),
    Descriptor(i32),
}

/// Symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// To the process's directory.
    SelfProcess,
    /// `mounts` of the root.
    Mounts,
    Exe,
    Working,
    Root,
}

type Entries = &'static [(&'static str, Node)];

const ROOT: Entries = &[
    ("self", Node::Link(Link::SelfProcess)),
    ("cmdline", Node::File(Text::KernelCommandLine)),
    ("cpuinfo", Node::File(Text::CpuInfo)),
    ("filesystems", Node::File(Text::FileSystems)),
    ("loadavg", Node::File(Text::LoadAverage)),
    ("meminfo", Node::File(Text::MemInfo)),
    ("mounts", Node::Link(Link::Mounts)),
    ("stat", Node::File(Text::SystemStat)),
    ("sys", Node::Sys),
    ("uptime", Node::File(Text::Uptime)),
    ("version", Node::File(Text::Version)),
];
const PROCESS: Entries = &[
    ("cmdline", Node::File(Text::CommandLine)),
    ("comm", Node::File(Text::Comm)),
    ("cwd", Node::Link(Link::Working)),
    ("environ", Node::File(Text::Environment)),
    ("exe", Node::Link(Link::Exe)),
    ("fd", Node::Descriptors),
    ("fdinfo", Node::DescriptorInfos),
    ("limits", Node::File(Text::Limits)),
    ("maps", Node::File(Text::Maps)),
    ("mountinfo", Node::File(Text::MountInfo)),
    ("mounts", Node::File(Text::Mounts)),
    ("oom_score_adj", Node::File(Text::Zero)),
    ("root", Node::Link(Link::Root)),
    ("stat", Node::File(Text::Stat)),
    ("statm", Node::File(Text::Statm)),
    ("status", Node::File(Text::Status)),
];
const SYS: Entries = &[("fs", Node::SysFs), ("kernel", Node::SysKernel), ("vm", Node::SysVm)];
const SYS_KERNEL: Entries = &[
    ("cap_last_cap", Node::File(Text::CapLastCap)),
    ("hostname", Node::File(Text::HostName)),
    ("ngroups_max", Node::File(Text::GroupsMax)),
    ("osrelease", Node::File(Text::OsRelease)),
    ("ostype", Node::File(Text::OsType)),
    ("pid_max", Node::File(Text::PidMax)),
    ("random", Node::SysKernelRandom),
    ("version", Node::File(Text::OsVersion)),
];
const SYS_KERNEL_RANDOM: Entries =
    &[("boot_id", Node::File(Text::BootId)), ("uuid", Node::File(Text::Uuid))];
const SYS_VM: Entries = &[
    ("max_map_count", Node::File(Text::MapCountMax)),
    ("overcommit_memory", Node::File(Text::Overcommit)),
];
const SYS_FS: Entries =
    &[("file-max", Node::File(Text::FileMax)), ("pipe-max-size", Node::File(Text::PipeMax))];

impl Node {
    /// What is in a directory and always there.
    fn entries(self) -> Entries {
        match self {
            Self::Root => ROOT,
            Self::Process => PROCESS,
            Self::Sys => SYS,
            Self::SysKernel => SYS_KERNEL,
            Self::SysKernelRandom => SYS_KERNEL_RANDOM,
            Self::SysVm => SYS_VM,
            Self::SysFs => SYS_FS,
            _ => &[],
        }
    }

    fn file_type(self) -> FileType {
        match self {
            Self::File(_) => FileType::Regular,
            Self::Link(_) | Self::Descriptor(_) => FileType::Symlink,
            _ => FileType::Directory,
        }
    }

    /// A number for each node.
    fn ino(self) -> u64 {
        match self {
            Self::Root => 1,
            Self::Process => 2,
            Self::Descriptors => 3,
            Self::DescriptorInfos => 4,
            Self::Sys => 5,
            Self::SysKernel => 6,
            Self::SysKernelRandom => 7,
            Self::SysVm => 8,
            Self::SysFs => 9,
            Self::File(Text::DescriptorInfo(fd)) => 0x2_0000 + fd as u64,
            Self::File(text) => 0x100 + text.index(),
            Self::Link(link) => 0x200 + link as u64,
            Self::Descriptor(fd) => 0x1_0000 + fd as u64,
        }
    }

    fn parent(self) -> Self {
        match self {
            Self::Descriptors | Self::DescriptorInfos => Self::Process,
            Self::SysKernel | Self::SysVm | Self::SysFs => Self::Sys,
            Self::SysKernelRandom => Self::SysKernel,
            Self::Descriptor(_) => Self::Descriptors,
            _ => Self::Root,
        }
    }
}

/// Makes the file system.
#[must_use]
pub fn make() -> InodeRef {
    inode(Node::Root)
}

fn inode(node: Node) -> InodeRef {
    Arc::new(ProcInode { node, root: None })
}

/// An inode; `root` is the one that is mounted, so that the way up ends there.
struct ProcInode {
    node: Node,
    root: Option<InodeRef>,
}

fn parse_pid(name: &[u8]) -> Option<u32> {
    core::str::from_utf8(name).ok()?.parse().ok()
}

impl ProcInode {
    fn find(&self, task: &Task, name: &[u8]) -> Result<Node> {
        let find_descriptor = || {
            let fd = parse_pid(name).and_then(|fd| i32::try_from(fd).ok()).ok_or(Errno::ENOENT)?;
            task.files.get(fd).map_err(|_| Errno::ENOENT).map(|_| fd)
        };
        match self.node {
            Node::Descriptors => return find_descriptor().map(Node::Descriptor),
            Node::DescriptorInfos => {
                return find_descriptor().map(|fd| Node::File(Text::DescriptorInfo(fd)));
            }
            Node::Root if parse_pid(name) == Some(task.pid) => return Ok(Node::Process),
            _ => {}
        }
        let entries = self.node.entries();
        let found = entries.iter().find(|(entry, _)| entry.as_bytes() == name);
        found.map(|&(_, node)| node).ok_or(Errno::ENOENT)
    }

    /// The directory above, which may be the mounted root.
    fn parent(&self) -> InodeRef {
        match (self.node.parent(), &self.root) {
            (Node::Root, Some(root)) => root.clone(),
            (parent, root) => Arc::new(Self { node: parent, root: root.clone() }),
        }
    }

    fn name(&self, task: &Task) -> Option<Arc<[u8]>> {
        if self.node == Node::Process {
            return Some(alloc::format!("{}", task.pid).into_bytes().into());
        }
        if let Node::Descriptor(fd) = self.node {
            return Some(alloc::format!("{fd}").into_bytes().into());
        }
        let siblings = self.node.parent().entries();
        let all = siblings.iter().chain(PROCESS);
        let mut named = all.filter(|(_, node)| *node == self.node);
        named.next().map(|(name, _)| name.as_bytes().into())
    }
}

impl Inode for ProcInode {
    fn file_type(&self) -> FileType {
        self.node.file_type()
    }

    fn metadata(&self) -> Metadata {
        let now = Timestamp::now();
        let permissions = self.permissions();
        let sub_directories = self.node.entries().iter();
        let sub_directories =
            sub_directories.filter(|(_, node)| node.file_type() == FileType::Directory).count();
        let is_directory = self.file_type() == FileType::Directory;
        Metadata {
            dev: DEV,
            ino: self.node.ino(),
            mode: permissions.mode,
            nlink: if is_directory { 2 + sub_directories as u32 } else { 1 },
            uid: permissions.uid,
            gid: permissions.gid,
            size: if matches!(self.node, Node::Descriptor(_)) { 64 } else { 0 },
            atime: now,
            mtime: now,
            ctime: now,
            ..Metadata::default()
        }
    }

    fn permissions(&self) -> Permissions {
        let credentials = *arch::current().credentials.lock();
        let is_process = match self.node {
            Node::Process | Node::Descriptors | Node::DescriptorInfos | Node::Descriptor(_) => true,
            Node::Link(link) => !matches!(link, Link::SelfProcess | Link::Mounts),
            Node::File(text) => text.is_of_process(),
            _ => false,
        };
        let permissions = match self.node {
            Node::Descriptors => 0o500,
            Node::Descriptor(fd) => match arch::current().files.get(fd) {
                Ok(file) => match (file.is_readable(), file.is_writable()) {
                    (true, true) => 0o700,
                    (true, false) => 0o500,
                    (false, true) => 0o300,
                    (false, false) => 0o100,
                },
                Err(_) => 0,
            },
            Node::File(Text::Environment) => 0o400,
            Node::File(_) => 0o444,
            Node::Link(_) => 0o777,
            _ => 0o555,
        };
        let (uid, gid) = if is_process { (credentials.euid, credentials.egid) } else { (0, 0) };
        Permissions { mode: self.file_type().mode() | permissions, uid, gid }
    }

    fn statfs(&self) -> Statfs {
        let page = PAGE as i64;
        Statfs { kind: PROC_MAGIC, bsize: page, frsize: page, namelen: 255, ..Statfs::default() }
    }

    fn lookup(&self, name: &[u8]) -> Result<InodeRef> {
        if self.file_type() != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        let task = arch::current();
        let node = self.find(task, name)?;
        let mounts = &task.context.mounts;
        let root = mounts.list().iter().find(|mount| mount.dev == DEV).map(|mount| mount.root());
        Ok(Arc::new(Self { node, root }))
    }

    fn place(&self) -> Option<Place> {
        let name = match self.node {
            Node::Root => None,
            _ => self.name(arch::current()),
        };
        Some(Place { directory: self.parent(), name: name? })
    }

    fn read_directory(
        &self,
        position: u64,
        sink: &mut dyn FnMut(&DirectoryEntry<'_>) -> Feed,
    ) -> Result<()> {
        if self.file_type() != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        let task = arch::current();
        let mut show = |name: &[u8], node: Node, at: u64| {
            let file_type = node.file_type();
            let entry = DirectoryEntry { name, ino: node.ino(), file_type, next: at + 1 };
            at < position || sink(&entry) == Feed::More
        };
        if !show(b".", self.node, 0) || !show(b"..", self.node.parent(), 1) {
            return Ok(());
        }
        for (&(name, node), at) in self.node.entries().iter().zip(2..) {
            if !show(name.as_bytes(), node, at) {
                return Ok(());
            }
        }
        // What depends on the process: positions from 0x100 on.
        if self.node == Node::Root {
            show(alloc::format!("{}", task.pid).as_bytes(), Node::Process, 0x100);
        }
        let mut from = position.saturating_sub(0x100) as usize;
        while matches!(self.node, Node::Descriptors | Node::DescriptorInfos)
            && let Some(fd) = task.files.next_open(from)
        {
            let node = match self.node {
                Node::Descriptors => Node::Descriptor(fd as i32),
                _ => Node::File(Text::DescriptorInfo(fd as i32)),
            };
            if !show(alloc::format!("{fd}").as_bytes(), node, 0x100 + fd as u64) {
                break;
            }
            from = fd + 1;
        }
        Ok(())
    }

    fn read_link(&self) -> Result<Vec<u8>> {
        let task = arch::current();
        let context = &task.context;
        match self.node {
            Node::Link(Link::SelfProcess) => Ok(alloc::format!("{}", task.pid).into_bytes()),
            Node::Link(Link::Mounts) => Ok(b"self/mounts".to_vec()),
            Node::Link(Link::Exe) => Ok(task.image.lock().exe.clone()),
            Node::Link(Link::Working) => path::of_directory(context, &context.working()),
            Node::Link(Link::Root) => path::of_directory(context, &context.root()),
            Node::Descriptor(fd) => {
                Ok(task.files.get(fd).map_err(|_| Errno::ENOENT)?.path(context))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn jump(&self) -> Option<Result<(InodeRef, Option<Place>)>> {
        let task = arch::current();
        match self.node {
            Node::Link(Link::Working) => Some(Ok((task.context.working(), None))),
            Node::Link(Link::Root) => Some(Ok((task.context.root(), None))),
            Node::Descriptor(fd) => Some(match task.files.get(fd) {
                Ok(file) => Ok((file.inode().clone(), file.place().cloned())),
                Err(_) => Err(Errno::ENOENT),
            }),
            _ => None,
        }
    }

    fn open(&self, opening: &Opening) -> Result<Option<Arc<dyn Object>>> {
        match self.node {
            Node::File(_) if opening.writable => Err(Errno::EACCES),
            Node::File(text) => {
                let bytes = text.write(arch::current())?;
                Ok(Some(Arc::new(Contents { bytes })))
            }
            _ => Ok(None),
        }
    }

    fn truncate(&self, _: u64) -> Result<()> {
        Err(Errno::EACCES)
    }
}

/// An open file: what it said when it was opened.
struct Contents {
    bytes: Vec<u8>,
}

impl Object for Contents {
    fn positioning(&self) -> Positioning {
        Positioning::Bytes
    }

    fn read(&self, io: &Io, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        let from = usize::try_from(io.position).unwrap_or(usize::MAX).min(self.bytes.len());
        buffer.fill(&self.bytes[from..])
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}
