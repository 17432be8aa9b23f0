//! Turns a path of the guest into a path of the host below a directory, never outside of it.

use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

/// The most symbolic links on one path, as in Linux (`MAXSYMLINKS`).
pub(crate) const LINK_COUNT_MAX: usize = 40;

/// The host's path of the guest's absolute `path` when the guest's root is `base`; symbolic links are
/// followed as the guest will follow them. With `/` as the base the host's kernel does that itself.
pub(crate) fn resolve(base: &Path, path: &Path) -> io::Result<PathBuf> {
    if base == Path::new("/") {
        return Ok(path.to_path_buf());
    }
    let mut rest: Vec<OsString> = components(path);
    // Relative to the base: components that are no links.
    let mut reached = PathBuf::new();
    let mut link_count = 0;
    while let Some(name) = rest.pop() {
        if name == ".." {
            reached.pop();
            continue;
        }
        let host = base.join(&reached).join(&name);
        let metadata = host.symlink_metadata()?;
        if !metadata.is_symlink() {
            if !rest.is_empty() && !metadata.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            reached.push(&name);
            continue;
        }
        link_count += 1;
        if link_count > LINK_COUNT_MAX {
            return Err(io::Error::other("too many levels of symbolic links"));
        }
        let target = host.read_link()?;
        if target.is_absolute() {
            reached = PathBuf::new();
        }
        rest.extend(components(&target));
    }
    Ok(base.join(reached))
}

/// The names on a path, last one first: a stack of what is still to be walked.
pub(crate) fn components(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_os_string()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}
