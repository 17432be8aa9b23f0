//! System calls on names: mkdir, rmdir, unlink, rename, link, symlink, mknod, chdir, umask.

use linux_raw_sys::general as linux;

use super::inode::{FileType, InodeRef, Removal, Replace};
use super::open::{create, create_with};
use super::path::{self, Last, Place, UserPath, WalkFlags, Walked};
use super::permission;
use crate::error::{Errno, Result};
use crate::mm::addr::UserAddr;
use crate::task::Task;

/// mkdirat; mkdir with `dirfd` AT_FDCWD.
///
/// # Errors
/// man 2 mkdir.
pub fn mkdirat(task: &Task, dirfd: i32, path: UserAddr, mode: u32) -> Result<usize> {
    let path = UserPath::read(path)?;
    let place = free_place(task, dirfd, path.as_bytes(), Kind::Directory)?;
    create(task, &place, FileType::Directory, mode & 0o1777).map(|_| 0)
}

/// mkdir.
///
/// # Errors
/// man 2 mkdir.
pub fn mkdir(task: &Task, path: UserAddr, mode: u32) -> Result<usize> {
    mkdirat(task, linux::AT_FDCWD, path, mode)
}

/// mknodat; mknod with `dirfd` AT_FDCWD.
///
/// # Errors
/// man 2 mknod.
pub fn mknodat(task: &Task, dirfd: i32, path: UserAddr, mode: u32, dev: u32) -> Result<usize> {
    let path = UserPath::read(path)?;
    let file_type = match mode & linux::S_IFMT {
        0 => FileType::Regular,
        linux::S_IFDIR => return Err(Errno::EPERM),
        _ => FileType::from_mode(mode).ok_or(Errno::EINVAL)?,
    };
    let is_device = matches!(file_type, FileType::CharDevice | FileType::BlockDevice);
    if file_type == FileType::Symlink {
        return Err(Errno::EINVAL);
    }
    if is_device && task.credentials.lock().euid != 0 {
        return Err(Errno::EPERM);
    }
    let place = free_place(task, dirfd, path.as_bytes(), Kind::Other)?;
    let rdev = if is_device { u64::from(dev) } else { 0 };
    create_with(task, &place, file_type, mode, b"", rdev).map(|_| 0)
}

/// symlinkat; symlink with `dirfd` AT_FDCWD.
///
/// # Errors
/// man 2 symlink.
pub fn symlinkat(task: &Task, target: UserAddr, dirfd: i32, path: UserAddr) -> Result<usize> {
    let target = UserPath::read(target)?;
    let path = UserPath::read(path)?;
    if target.as_bytes().is_empty() {
        return Err(Errno::ENOENT);
    }
    let place = free_place(task, dirfd, path.as_bytes(), Kind::Other)?;
    create_with(task, &place, FileType::Symlink, 0o777, target.as_bytes(), 0).map(|_| 0)
}

/// symlink.
///
/// # Errors
/// man 2 symlink.
pub fn symlink(task: &Task, target: UserAddr, path: UserAddr) -> Result<usize> {
    symlinkat(task, target, linux::AT_FDCWD, path)
}

/// linkat; link with both descriptors AT_FDCWD and no flags.
///
/// # Errors
/// man 2 link.
pub fn linkat(
    task: &Task,
    from_dirfd: i32,
    from: UserAddr,
    to_dirfd: i32,
    to: UserAddr,
    flags: u32,
) -> Result<usize> {
    if flags & !(linux::AT_SYMLINK_FOLLOW | linux::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let follow = match flags & linux::AT_SYMLINK_FOLLOW {
        0 => linux::AT_SYMLINK_NOFOLLOW,
        _ => 0,
    };
    let target = super::stat::target(task, from_dirfd, from, flags | follow)?;
    let to = UserPath::read(to)?;
    let place = free_place(task, to_dirfd, to.as_bytes(), Kind::Other)?;
    if !is_same_file_system(&target, &place.directory) {
        return Err(Errno::EXDEV);
    }
    if target.file_type() == FileType::Directory {
        return Err(Errno::EPERM);
    }
    check_directory_writable(task, &place.directory)?;
    place.directory.link(&place.name, &target).map(|()| 0)
}

/// link.
///
/// # Errors
/// man 2 link.
pub fn link(task: &Task, from: UserAddr, to: UserAddr) -> Result<usize> {
    linkat(task, linux::AT_FDCWD, from, linux::AT_FDCWD, to, 0)
}

/// unlinkat; unlink and rmdir are cases of it.
///
/// # Errors
/// man 2 unlink.
pub fn unlinkat(task: &Task, dirfd: i32, path: UserAddr, flags: u32) -> Result<usize> {
    let removal = match flags {
        0 => Removal::File,
        linux::AT_REMOVEDIR => Removal::Directory,
        _ => return Err(Errno::EINVAL),
    };
    let path = UserPath::read(path)?;
    let walked = path::resolve(task, dirfd, path.as_bytes(), WalkFlags::PLACE)?;
    match (removal, walked.last) {
        (_, Last::Name) => {}
        (Removal::File, _) => return Err(Errno::EISDIR),
        (Removal::Directory, Last::Dot) => return Err(Errno::EINVAL),
        (Removal::Directory, Last::DotDot) => return Err(Errno::ENOTEMPTY),
        (Removal::Directory, Last::Root) => return Err(Errno::EBUSY),
    }
    let (inode, place) = existing(walked)?;
    // What is there is not what the directory has under that name: something is mounted on it.
    let is_covered = task.context.mounts.place_of(&inode).is_some();
    let credentials = *task.credentials.lock();
    permission::check_removal(&credentials, &*place.directory, &*inode)?;
    match (removal, inode.file_type()) {
        (Removal::File, FileType::Directory) => Err(Errno::EISDIR),
        (Removal::Directory, FileType::Directory) if is_covered => Err(Errno::EBUSY),
        _ => place.directory.remove(&place.name, removal).map(|()| 0),
    }
}

/// unlink.
///
/// # Errors
/// man 2 unlink.
pub fn unlink(task: &Task, path: UserAddr) -> Result<usize> {
    unlinkat(task, linux::AT_FDCWD, path, 0)
}

/// rmdir.
///
/// # Errors
/// man 2 rmdir.
pub fn rmdir(task: &Task, path: UserAddr) -> Result<usize> {
    unlinkat(task, linux::AT_FDCWD, path, linux::AT_REMOVEDIR)
}

/// renameat2; rename and renameat without flags.
///
/// # Errors
/// man 2 rename. Limits: RENAME_WHITEOUT is EINVAL.
pub fn renameat2(
    task: &Task,
    from_dirfd: i32,
    from: UserAddr,
    to_dirfd: i32,
    to: UserAddr,
    flags: u32,
) -> Result<usize> {
    let replace = match flags {
        0 => Replace::Allowed,
        linux::RENAME_NOREPLACE => Replace::Never,
        linux::RENAME_EXCHANGE => Replace::Exchange,
        _ => return Err(Errno::EINVAL),
    };
    let (from, to) = (UserPath::read(from)?, UserPath::read(to)?);
    let from = path::resolve(task, from_dirfd, from.as_bytes(), WalkFlags::PLACE)?;
    let walk = WalkFlags::PLACE | WalkFlags::MISSING;
    let to = path::resolve(task, to_dirfd, to.as_bytes(), walk)?;
    if from.last != Last::Name || to.last != Last::Name {
        return Err(Errno::EBUSY);
    }
    let to_has_slash = to.trailing_slash;
    let old = to.inode;
    let to = to.place.ok_or(Errno::ENOENT)?;
    let (inode, from) = existing(from)?;
    if to_has_slash && inode.file_type() != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    if !is_same_file_system(&from.directory, &to.directory) {
        return Err(Errno::EXDEV);
    }
    let mounts = &task.context.mounts;
    if mounts.place_of(&inode).is_some()
        || old.as_ref().is_some_and(|old| mounts.place_of(old).is_some())
    {
        return Err(Errno::EBUSY);
    }
    let credentials = *task.credentials.lock();
    permission::check_removal(&credentials, &*from.directory, &*inode)?;
    match &old {
        Some(old) => permission::check_removal(&credentials, &*to.directory, &**old)?,
        None => check_directory_writable(task, &to.directory)?,
    }
    from.directory.rename(&from.name, &to.directory, &to.name, replace).map(|()| 0)
}

/// rename.
///
/// # Errors
/// As [`renameat2`].
pub fn rename(task: &Task, from: UserAddr, to: UserAddr) -> Result<usize> {
    renameat2(task, linux::AT_FDCWD, from, linux::AT_FDCWD, to, 0)
}

/// chdir.
///
/// # Errors
/// man 2 chdir.
pub fn chdir(task: &Task, path: UserAddr) -> Result<usize> {
    let path = UserPath::read(path)?;
    let flags = WalkFlags::FOLLOW;
    let directory = path::lookup(task, linux::AT_FDCWD, path.as_bytes(), flags)?;
    enter(task, directory)
}

/// fchdir.
///
/// # Errors
/// EBADF, ENOTDIR, EACCES.
pub fn fchdir(task: &Task, fd: i32) -> Result<usize> {
    let directory = task.files.get(fd)?.inode().clone();
    enter(task, directory)
}

/// Makes a directory the working directory, as chdir does.
///
/// # Errors
/// ENOTDIR, EACCES.
pub fn enter(task: &Task, directory: InodeRef) -> Result<usize> {
    let credentials = *task.credentials.lock();
    permission::check_search(&credentials, &*directory)?;
    task.context.set_working(directory);
    Ok(0)
}

/// chroot.
///
/// # Errors
/// man 2 chroot.
pub fn chroot(task: &Task, path: UserAddr) -> Result<usize> {
    let path = UserPath::read(path)?;
    let flags = WalkFlags::FOLLOW;
    let directory = path::lookup(task, linux::AT_FDCWD, path.as_bytes(), flags)?;
    let credentials = *task.credentials.lock();
    permission::check_search(&credentials, &*directory)?;
    if credentials.euid != 0 {
        return Err(Errno::EPERM);
    }
    task.context.set_root(directory);
    Ok(0)
}

/// umask.
///
/// # Errors
/// None.
pub fn umask(task: &Task, mask: u32) -> Result<usize> {
    Ok(task.context.set_umask(mask) as usize)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    Other,
}

/// Where something new is to be made.
fn free_place(task: &Task, dirfd: i32, path: &[u8], kind: Kind) -> Result<Place> {
    let walked = path::resolve(task, dirfd, path, WalkFlags::PLACE | WalkFlags::MISSING);
    // "link/" leads nowhere new, whatever it is.
    let walked = match walked {
        Err(Errno::ENOTDIR) if path.last() == Some(&b'/') && kind == Kind::Directory => {
            let trimmed = path.trim_suffix_slashes();
            path::resolve(task, dirfd, trimmed, WalkFlags::PLACE | WalkFlags::MISSING)?
        }
        other => other?,
    };
    if walked.inode.is_some() {
        return Err(Errno::EEXIST);
    }
    if walked.trailing_slash && kind == Kind::Other {
        return Err(Errno::ENOENT);
    }
    walked.place.ok_or(Errno::EEXIST)
}

trait TrimSlashes {
    fn trim_suffix_slashes(&self) -> &Self;
}

impl TrimSlashes for [u8] {
    fn trim_suffix_slashes(&self) -> &Self {
        let end = self.iter().rposition(|&b| b != b'/').map_or(0, |last| last + 1);
        &self[..end]
    }
}

fn existing(walked: Walked) -> Result<(InodeRef, Place)> {
    match (walked.inode, walked.place) {
        (Some(inode), Some(place)) => Ok((inode, place)),
        _ => Err(Errno::ENOENT),
    }
}

fn check_directory_writable(task: &Task, directory: &InodeRef) -> Result<()> {
    let credentials = *task.credentials.lock();
    permission::check(&credentials, &**directory, permission::WRITE | permission::EXECUTE)
}

fn is_same_file_system(a: &InodeRef, b: &InodeRef) -> bool {
    a.metadata().dev == b.metadata().dev
}
