//! Path walk: from a string to an inode, and back.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::CStr;

use bitflags::bitflags;
use linux_raw_sys::general as linux;

use super::context::FsContext;
use super::inode::{FileType, InodeRef, same};
use super::permission;
use crate::error::{Errno, Result};
use crate::mm::addr::{PAGE, UserAddr};
use crate::mm::user::{self, UserSlice};
use crate::task::{Credentials, Task};

/// The longest component.
pub const NAME_MAX: usize = 255;
/// The longest path, its NUL included.
pub const PATH_MAX: usize = 4096;
/// The most symbolic links on one walk.
const LINK_COUNT_MAX: usize = 40;
/// No tree is deeper: a bound for the way up.
const DEPTH_MAX: usize = 4096;

/// A name in a directory.
#[derive(Clone)]
pub struct Place {
    /// The directory.
    pub directory: InodeRef,
    /// The name.
    pub name: Arc<[u8]>,
}

bitflags! {
    /// What a walk is for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct WalkFlags: u32 {
        /// Follow a symbolic link at the end.
        const FOLLOW = 1;
        /// Tell where the last name is.
        const PLACE = 2;
        /// The last name may be missing.
        const MISSING = 4;
    }
}

/// What the last component of a path was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// A name.
    Name,
    /// ".".
    Dot,
    /// "..".
    DotDot,
    /// Nothing but slashes, or a link of /proc that leads to an object.
    Root,
}

/// Where a walk ended.
pub struct Walked {
    /// What was found; `None`: the name is missing, and [`WalkFlags::MISSING`] allows that.
    pub inode: Option<InodeRef>,
    /// The last name's place, if it was asked for and the last component is a name.
    pub place: Option<Place>,
    /// What the last component was.
    pub last: Last,
    /// Whether slashes came behind it.
    pub trailing_slash: bool,
}

impl Walked {
    /// What was found.
    ///
    /// # Errors
    /// ENOENT if it is missing.
    pub fn found(self) -> Result<InodeRef> {
        self.inode.ok_or(Errno::ENOENT)
    }
}

/// A path from user memory: short ones need no heap.
pub struct UserPath {
    short: [u8; Self::SHORT],
    len: usize,
    long: Vec<u8>,
}

impl UserPath {
    const SHORT: usize = 128;
    const STEP: usize = 64;

    /// Copies a path in.
    ///
    /// # Errors
    /// EFAULT, ENAMETOOLONG.
    pub fn read(addr: UserAddr) -> Result<Self> {
        let mut path = Self { short: [0; Self::SHORT], len: 0, long: Vec::new() };
        let mut at = addr;
        while path.len < Self::SHORT {
            let step = Self::STEP.min(Self::SHORT - path.len).min(PAGE - at.page_offset());
            let piece = &mut path.short[path.len..path.len + step];
            UserSlice::new(at, step)?.read(piece)?;
            if let Ok(string) = CStr::from_bytes_until_nul(piece) {
                path.len += string.count_bytes();
                return Ok(path);
            }
            path.len += step;
            at = at.add(step as u64);
        }
        path.long = user::read_c_string(addr, PATH_MAX - 1)?;
        Ok(path)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        if self.long.is_empty() { &self.short[..self.len] } else { &self.long }
    }
}

/// The directory that relative paths start from.
///
/// # Errors
/// EBADF; ENOTDIR if the descriptor is not a directory's.
pub fn start(task: &Task, dirfd: i32) -> Result<InodeRef> {
    if dirfd == linux::AT_FDCWD {
        return Ok(task.context.working());
    }
    let file = task.files.get(dirfd)?;
    match file.inode().file_type() {
        FileType::Directory => Ok(file.inode().clone()),
        _ => Err(Errno::ENOTDIR),
    }
}

/// Walks a path of a system call.
///
/// # Errors
/// ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG, EBADF.
pub fn resolve(task: &Task, dirfd: i32, path: &[u8], flags: WalkFlags) -> Result<Walked> {
    let credentials = *task.credentials.lock();
    let from = match path.first() {
        None => return Err(Errno::ENOENT),
        Some(b'/') => task.context.root(),
        Some(_) => start(task, dirfd)?,
    };
    walk(&task.context, &credentials, from, path, flags)
}

/// The inode a path leads to.
///
/// # Errors
/// As [`resolve`].
pub fn lookup(task: &Task, dirfd: i32, path: &[u8], flags: WalkFlags) -> Result<InodeRef> {
    resolve(task, dirfd, path, flags)?.found()
}

/// Walks `path` from `from`, which must be the root if the path is absolute.
///
/// # Errors
/// ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG.
pub fn walk(
    context: &FsContext,
    credentials: &Credentials,
    from: InodeRef,
    path: &[u8],
    flags: WalkFlags,
) -> Result<Walked> {
    let mut current = from;
    // The path with links replaced: empty until the first one comes.
    let mut replaced: Vec<u8> = Vec::new();
    let mut at = 0;
    let mut link_count = 0;
    let mut last = Last::Root;
    let mut trailing_slash = false;
    loop {
        let path = if replaced.is_empty() { path } else { &replaced };
        while path.get(at) == Some(&b'/') {
            at += 1;
        }
        let rest = &path[at..];
        if rest.is_empty() {
            return Ok(Walked { inode: Some(current), place: None, last, trailing_slash });
        }
        let len = first_slash(rest);
        let name = &rest[..len];
        trailing_slash = len < rest.len();
        let is_last = !trailing_slash || rest[len..].iter().all(|&b| b == b'/');
        permission::check_search(credentials, &*current)?;
        at += len;
        match name {
            b"." => last = Last::Dot,
            b".." => {
                last = Last::DotDot;
                current = parent(context, current);
            }
            _ => {
                last = Last::Name;
                if len > NAME_MAX {
                    return Err(Errno::ENAMETOOLONG);
                }
                let place = || Place { directory: current.clone(), name: name.into() };
                let place = (is_last && flags.contains(WalkFlags::PLACE)).then(place);
                let found = match context.mounts.at(&current, name) {
                    Some(root) => Ok(root),
                    None => current.lookup(name),
                };
                let child = match found {
                    Ok(child) => child,
                    Err(Errno::ENOENT) if is_last && flags.contains(WalkFlags::MISSING) => {
                        return Ok(Walked { inode: None, place, last, trailing_slash });
                    }
                    Err(errno) => return Err(errno),
                };
                let follow = !is_last || trailing_slash || flags.contains(WalkFlags::FOLLOW);
                if follow && child.file_type() == FileType::Symlink {
                    link_count += 1;
                    if link_count > LINK_COUNT_MAX {
                        return Err(Errno::ELOOP);
                    }
                    if let Some(jump) = child.jump() {
                        let (inode, place) = jump?;
                        if is_last {
                            check_directory(&inode, trailing_slash)?;
                            let last = Last::Root;
                            return Ok(Walked { inode: Some(inode), place, last, trailing_slash });
                        }
                        current = inode;
                        continue;
                    }
                    let mut target = child.read_link()?;
                    match target.first() {
                        None => return Err(Errno::ENOENT),
                        Some(b'/') => current = context.root(),
                        Some(_) => {}
                    }
                    target.extend_from_slice(&path[at..]);
                    replaced = target;
                    at = 0;
                    continue;
                }
                if is_last {
                    check_directory(&child, trailing_slash)?;
                    return Ok(Walked { inode: Some(child), place, last, trailing_slash });
                }
                current = child;
            }
        }
    }
}

/// Where the first slash is, or the length. Eight bytes at a time: each instruction counts.
fn first_slash(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    const SLASHES: u64 = u64::from_ne_bytes([b'/'; 8]);
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word) ^ SLASHES;
        // The lowest zero byte of the word, as in memchr.
        let found = word.wrapping_sub(ONES) & !word & HIGHS;
        if found != 0 {
            return index * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let start = bytes.len() - rest.len();
    rest.iter().position(|&b| b == b'/').map_or(bytes.len(), |at| start + at)
}

fn check_directory(inode: &InodeRef, trailing_slash: bool) -> Result<()> {
    match trailing_slash && inode.file_type() != FileType::Directory {
        true => Err(Errno::ENOTDIR),
        false => Ok(()),
    }
}

/// The directory above; the root's is itself.
fn parent(context: &FsContext, directory: InodeRef) -> InodeRef {
    if same(&directory, &context.root()) {
        return directory;
    }
    match directory.place().or_else(|| context.mounts.place_of(&directory)) {
        Some(place) => place.directory,
        None => directory,
    }
}

/// The absolute path of a directory.
///
/// # Errors
/// ENOENT if it was removed, or is not below the root.
pub fn of_directory(context: &FsContext, directory: &InodeRef) -> Result<Vec<u8>> {
    let root = context.root();
    let mut names: Vec<Arc<[u8]>> = Vec::new();
    let mut at = directory.clone();
    if at.metadata().nlink == 0 {
        return Err(Errno::ENOENT);
    }
    while !same(&at, &root) {
        if names.len() > DEPTH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let place = at.place().or_else(|| context.mounts.place_of(&at)).ok_or(Errno::ENOENT)?;
        names.push(place.name);
        at = place.directory;
    }
    let mut path = Vec::new();
    for name in names.iter().rev() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    Ok(path)
}

/// The absolute path of a name.
///
/// # Errors
/// As [`of_directory`].
pub fn of_place(context: &FsContext, place: &Place) -> Result<Vec<u8>> {
    let mut path = of_directory(context, &place.directory)?;
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(&place.name);
    Ok(path)
}

/// What /proc shows for an open file: its path, with " (deleted)" if that leads elsewhere by now, or
/// a word for what has none.
#[must_use]
pub fn describe(context: &FsContext, inode: &InodeRef, place: Option<&Place>) -> Vec<u8> {
    let metadata = inode.metadata();
    if inode.file_type() == FileType::Directory {
        return of_directory(context, inode).unwrap_or_else(|_| b"(deleted)".to_vec());
    }
    let Some(place) = place else {
        let kind = match inode.file_type() {
            FileType::Fifo => "pipe",
            FileType::Socket => "socket",
            _ => "anon_inode",
        };
        return alloc::format!("{kind}:[{}]", metadata.ino).into_bytes();
    };
    let Ok(mut path) = of_place(context, place) else { return b"(deleted)".to_vec() };
    let is_there = match place.directory.lookup(&place.name) {
        Ok(found) => {
            same(&found, inode) || {
                let found = found.metadata();
                (found.dev, found.ino) == (metadata.dev, metadata.ino)
            }
        }
        Err(_) => false,
    };
    if !is_there {
        path.extend_from_slice(b" (deleted)");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::first_slash;

    #[test]
    fn first_slash_is_the_first() {
        for len in 0..40 {
            assert_eq!(first_slash(&vec![b'x'; len]), len);
            for at in 0..len {
                let mut path = vec![0xaf; len];
                path[at..].fill(b'/');
                assert_eq!(first_slash(&path), at);
            }
        }
    }
}
