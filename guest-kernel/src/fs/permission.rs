//! Who may do what to a file: owner, group, others; user 0 may all but execute what nobody may.
//!
//! Limits: no supplementary groups, capabilities or access control lists.

use linux_raw_sys::general as linux;

use super::inode::{FileType, Inode, Permissions};
use crate::error::{Errno, Result};
use crate::task::Credentials;

/// Execute a file, search a directory.
pub const EXECUTE: u32 = linux::X_OK;
/// Write.
pub const WRITE: u32 = linux::W_OK;
/// Read.
pub const READ: u32 = linux::R_OK;

/// Whether `uid` and `gid` have all of `wanted` (`READ | WRITE | EXECUTE`).
#[must_use]
pub fn allows(permissions: &Permissions, uid: u32, gid: u32, wanted: u32) -> bool {
    let mode = permissions.mode;
    if uid == 0 {
        let is_directory = mode & linux::S_IFMT == linux::S_IFDIR;
        return wanted & EXECUTE == 0 || is_directory || mode & 0o111 != 0;
    }
    let bits = if uid == permissions.uid {
        mode >> 6
    } else if gid == permissions.gid {
        mode >> 3
    } else {
        mode
    };
    bits & wanted == wanted
}

/// Checks the effective ids.
///
/// # Errors
/// EACCES.
#[inline]
pub fn check(credentials: &Credentials, inode: &dyn Inode, wanted: u32) -> Result<()> {
    if credentials.euid == 0 && wanted & EXECUTE == 0 {
        return Ok(());
    }
    match allows(&inode.permissions(), credentials.euid, credentials.egid, wanted) {
        true => Ok(()),
        false => Err(Errno::EACCES),
    }
}

/// Checks the right to search a directory on a path.
///
/// # Errors
/// ENOTDIR, EACCES.
#[inline]
pub fn check_search(credentials: &Credentials, directory: &dyn Inode) -> Result<()> {
    if directory.file_type() != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    if credentials.euid == 0 {
        return Ok(());
    }
    check(credentials, directory, EXECUTE)
}

/// Checks the right to remove or rename `entry` in `directory`.
///
/// # Errors
/// EACCES; EPERM if the directory is sticky and both belong to others.
pub fn check_removal(
    credentials: &Credentials,
    directory: &dyn Inode,
    entry: &dyn Inode,
) -> Result<()> {
    check(credentials, directory, WRITE | EXECUTE)?;
    let parent = directory.permissions();
    let uid = credentials.euid;
    if parent.mode & linux::S_ISVTX != 0 && uid != 0 && uid != parent.uid {
        return match entry.permissions().uid == uid {
            true => Ok(()),
            false => Err(Errno::EPERM),
        };
    }
    Ok(())
}

/// Checks that the file is the caller's own.
///
/// # Errors
/// EPERM.
pub fn check_owner(credentials: &Credentials, inode: &dyn Inode) -> Result<()> {
    match credentials.euid == 0 || credentials.euid == inode.permissions().uid {
        true => Ok(()),
        false => Err(Errno::EPERM),
    }
}
