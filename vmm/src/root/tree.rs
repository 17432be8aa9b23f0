//! The tree of the image: which files it holds, before they have places.
//!
//! Files of the host appear at their host paths ([`Tree::mirror`]) with every symbolic link on the way
//! kept as a link, or are copied to another place ([`Tree::add_file`], [`Tree::add_directory`]). The
//! data of regular files are never read here.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::Error;
use super::image::HostFile;
use super::resolve::{LINK_COUNT_MAX, components};

/// Index of a node in [`Tree::nodes`].
pub(crate) type NodeId = usize;
/// The root directory's node.
pub(crate) const ROOT: NodeId = 0;
/// Longest name of a file, in Linux and in EROFS.
const NAME_LEN_MAX: usize = 255;

const S_IFDIR: u32 = 0o040_000;

/// An inode.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) attributes: Attributes,
    pub(crate) kind: Kind,
}

/// What `stat` tells besides the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Type and permissions.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime_s: i64,
    pub(crate) mtime_ns: u32,
    /// Of a directory the writer counts it itself.
    pub(crate) link_count: u32,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// Names sorted by bytes, as EROFS wants them.
    Directory(BTreeMap<OsString, NodeId>),
    /// A regular file with data.
    File(HostFile),
    /// A regular file without data.
    EmptyFile,
    Symlink(OsString),
    /// Character or block device, by the mode; the number is in the host's encoding.
    Device(u64),
    Fifo,
}

impl Attributes {
    fn of(metadata: &Metadata) -> Attributes {
        Attributes {
            mode: metadata.mode(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            mtime_s: metadata.mtime(),
            mtime_ns: u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
            link_count: u32::try_from(metadata.nlink()).unwrap_or(u32::MAX),
        }
    }
}

/// Whose paths [`Tree::mirror`] follows where the tree has nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The host's: links, modes and times are taken from there.
    Host,
    /// Nobody's: missing directories are made.
    Plain,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
    /// What was left out, one line each.
    pub(crate) warnings: Vec<String>,
    /// Nodes of host files with more than one name, by device and inode number.
    links: HashMap<(u64, u64), NodeId>,
    missing: Missing,
}

impl Tree {
    /// A tree with an empty root directory that has the attributes of the host directory `like`.
    pub(crate) fn new(like: &Path, missing: Missing) -> Result<Tree, Error> {
        let metadata = like
            .metadata()
            .map_err(|source| Error::Unreadable { path: like.to_path_buf(), source })?;
        let root =
            Node { attributes: Attributes::of(&metadata), kind: Kind::Directory(BTreeMap::new()) };
        Ok(Tree { nodes: vec![root], warnings: Vec::new(), links: HashMap::new(), missing })
    }

    /// Adds what the host has at the absolute path `path`, at the same path: a file, or a directory
    /// without what is in it. Links on the way, and the last one, are kept with their targets.
    pub(crate) fn mirror(&mut self, path: &Path) -> Result<(), Error> {
        self.walk(path, components(path), Last::Mirror).map(drop)
    }

    /// Makes sure that there is a directory at `path`, with permissions `mode` if it has to be made.
    pub(crate) fn ensure_directory(&mut self, path: &Path, mode: u32) -> Result<NodeId, Error> {
        self.walk(path, components(path), Last::Directory(mode))
    }

    /// Makes sure that there is a directory `name` in the root, whatever the host has there.
    pub(crate) fn ensure_mount_point(&mut self, name: &str, mode: u32) {
        if self.lookup(ROOT, OsStr::new(name)).is_none() {
            let node = self.plain_directory(mode);
            self.insert(ROOT, OsStr::new(name), node);
        }
    }

    /// Adds the host's file `host` at the path `guest`, instead of what is there.
    pub(crate) fn add_file(&mut self, host: &Path, guest: &Path) -> Result<(), Error> {
        let fail = |source| Error::Unreadable { path: host.to_path_buf(), source };
        let metadata = host.metadata().map_err(fail)?;
        check_readable(host, &metadata).map_err(fail)?;
        let Some(kind) = kind_of(host, &metadata).map_err(fail)? else {
            return Err(Error::Socket(host.to_path_buf()));
        };
        let (Some(parent), Some(name)) = (guest.parent(), guest.file_name()) else {
            return Err(Error::NotADirectory(guest.to_path_buf()));
        };
        let parent = self.ensure_directory(parent, 0o755)?;
        if let Some(id) = self.lookup(parent, name)
            && self.is_directory(id)
        {
            return Err(Error::IsADirectory(guest.to_path_buf()));
        }
        let node = self.add_node(&metadata, kind);
        self.insert(parent, name, node);
        Ok(())
    }

    /// Adds the host's directory `host` and all below it at the path `guest`. Directories that are
    /// there already are merged, other files replaced. Stays on one file system: a directory that is
    /// a mount point becomes an empty one. Sockets are left out, and so is what cannot be read, with
    /// a warning.
    pub(crate) fn add_directory(&mut self, host: &Path, guest: &Path) -> Result<(), Error> {
        let fail = |source| Error::Unreadable { path: host.to_path_buf(), source };
        let metadata = host.metadata().map_err(fail)?;
        host.read_dir().map_err(fail)?;
        let top = self.ensure_directory(guest, 0o755)?;
        if let Some(node) = self.nodes.get_mut(top) {
            node.attributes = Attributes::of(&metadata);
        }
        let mut pending = vec![(host.to_path_buf(), top)];
        while let Some((directory, id)) = pending.pop() {
            for name in self.names_in(&directory) {
                let path = directory.join(&name);
                match self.add_entry(&path, id, &name) {
                    Ok(Some((id, dev))) if dev == metadata.dev() => pending.push((path, id)),
                    Ok(Some(_)) if self.missing == Missing::Host => self.warnings.push(format!(
                        "{}: is a mount point, its files are left out of the root: add it with --dir",
                        path.display()
                    )),
                    Ok(_) => {}
                    Err(source) => self.warn(&path, &source),
                }
            }
        }
        Ok(())
    }

    /// Sorted, so that equal directories give equal images.
    fn names_in(&mut self, directory: &Path) -> Vec<OsString> {
        let entries = match directory.read_dir() {
            Ok(entries) => entries,
            Err(source) => {
                self.warn(directory, &source);
                return Vec::new();
            }
        };
        let mut names = Vec::new();
        for entry in entries {
            match entry {
                Ok(entry) => names.push(entry.file_name()),
                Err(source) => self.warn(directory, &source),
            }
        }
        names.sort_unstable();
        names
    }

    /// Adds one entry of a host directory; answers the node and the device if it is a directory.
    fn add_entry(
        &mut self,
        path: &Path,
        parent: NodeId,
        name: &OsStr,
    ) -> io::Result<Option<(NodeId, u64)>> {
        let metadata = path.symlink_metadata()?;
        let Some(kind) = kind_of(path, &metadata)? else {
            return Ok(None);
        };
        if matches!(kind, Kind::Directory(_)) {
            if let Some(id) = self.directory_at(parent, name) {
                if let Some(node) = self.nodes.get_mut(id) {
                    node.attributes = Attributes::of(&metadata);
                }
                return Ok(Some((id, metadata.dev())));
            }
            let id = self.add_node(&metadata, kind);
            self.insert(parent, name, id);
            return Ok(Some((id, metadata.dev())));
        }
        check_readable(path, &metadata)?;
        if let Some(id) = self.lookup(parent, name)
            && self.is_directory(id)
        {
            return Err(io::Error::other("the image has a directory there"));
        }
        let id = self.add_node(&metadata, kind);
        self.insert(parent, name, id);
        Ok(None)
    }

    fn warn(&mut self, path: &Path, source: &io::Error) {
        self.warnings.push(format!("{}: left out of the root: {source}", path.display()));
    }

    /// Follows `rest` (last name first) from the root, adding what is missing on the way.
    fn walk(&mut self, path: &Path, mut rest: Vec<OsString>, last: Last) -> Result<NodeId, Error> {
        let not_a_directory = || Error::NotADirectory(path.to_path_buf());
        // The directories from the root to here, and the names between them.
        let mut stack = vec![ROOT];
        let mut reached = PathBuf::from("/");
        let mut link_count = 0;
        while let Some(name) = rest.pop() {
            let here = *stack.last().unwrap_or(&ROOT);
            if name == ".." {
                if stack.len() > 1 {
                    stack.pop();
                    reached.pop();
                }
                continue;
            }
            if name.len() > NAME_LEN_MAX {
                let source = io::ErrorKind::InvalidFilename.into();
                return Err(Error::Unreadable { path: path.to_path_buf(), source });
            }
            let id = match self.lookup(here, &name) {
                Some(id) => id,
                None => {
                    let host = reached.join(&name);
                    let id = self.create(&host, rest.is_empty(), last)?;
                    self.insert(here, &name, id);
                    id
                }
            };
            match self.nodes.get(id).map(|node| &node.kind) {
                Some(Kind::Directory(_)) => {
                    stack.push(id);
                    reached.push(&name);
                }
                Some(Kind::Symlink(target)) => {
                    link_count += 1;
                    if link_count > LINK_COUNT_MAX {
                        return Err(Error::LinkLoop(path.to_path_buf()));
                    }
                    let target = Path::new(target);
                    if target.is_absolute() {
                        stack.truncate(1);
                        reached = PathBuf::from("/");
                    }
                    rest.extend(components(target));
                }
                _ if rest.is_empty() && last == Last::Mirror => return Ok(id),
                _ => return Err(not_a_directory()),
            }
        }
        Ok(*stack.last().unwrap_or(&ROOT))
    }

    /// The node for a path that the tree does not have yet.
    fn create(&mut self, host: &Path, is_last: bool, last: Last) -> Result<NodeId, Error> {
        let fail = |source| Error::Unreadable { path: host.to_path_buf(), source };
        let mode = match last {
            Last::Directory(mode) if is_last => mode,
            _ => 0o755,
        };
        let metadata = match self.missing {
            Missing::Plain => return Ok(self.plain_directory(mode)),
            Missing::Host => host.symlink_metadata(),
        };
        match (metadata, last) {
            (Ok(metadata), _) if metadata.is_dir() || metadata.is_symlink() => {
                let kind = kind_of(host, &metadata).map_err(fail)?;
                Ok(self.add_node(&metadata, kind.unwrap_or(Kind::Directory(BTreeMap::new()))))
            }
            (Ok(metadata), Last::Mirror) if is_last => {
                check_readable(host, &metadata).map_err(fail)?;
                match kind_of(host, &metadata).map_err(fail)? {
                    Some(kind) => Ok(self.add_node(&metadata, kind)),
                    None => Err(Error::Socket(host.to_path_buf())),
                }
            }
            (Err(source), Last::Mirror) => Err(fail(source)),
            // The guest's path does not have to exist on the host, and may be another kind there.
            _ => Ok(self.plain_directory(mode)),
        }
    }

    fn plain_directory(&mut self, mode: u32) -> NodeId {
        let like = self.nodes.first().map(|root| root.attributes);
        let attributes = Attributes {
            mode: S_IFDIR | mode,
            uid: 0,
            gid: 0,
            mtime_s: like.map_or(0, |like| like.mtime_s),
            mtime_ns: like.map_or(0, |like| like.mtime_ns),
            link_count: 2,
        };
        self.nodes.push(Node { attributes, kind: Kind::Directory(BTreeMap::new()) });
        self.nodes.len() - 1
    }

    fn add_node(&mut self, metadata: &Metadata, kind: Kind) -> NodeId {
        let has_names = metadata.nlink() > 1 && !matches!(kind, Kind::Directory(_));
        let key = (metadata.dev(), metadata.ino());
        if has_names && let Some(&id) = self.links.get(&key) {
            return id;
        }
        let id = self.nodes.len();
        self.nodes.push(Node { attributes: Attributes::of(metadata), kind });
        if has_names {
            self.links.insert(key, id);
        }
        id
    }

    fn insert(&mut self, parent: NodeId, name: &OsStr, id: NodeId) {
        if let Some(Node { kind: Kind::Directory(names), .. }) = self.nodes.get_mut(parent) {
            names.insert(name.to_os_string(), id);
        }
    }

    fn lookup(&self, parent: NodeId, name: &OsStr) -> Option<NodeId> {
        match &self.nodes.get(parent)?.kind {
            Kind::Directory(names) => names.get(name).copied(),
            _ => None,
        }
    }

    fn is_directory(&self, id: NodeId) -> bool {
        self.nodes.get(id).is_some_and(|node| matches!(node.kind, Kind::Directory(_)))
    }

    /// The directory that `name` in `parent` is, or that it leads to by one relative or absolute link
    /// from the root directory (`/bin -> usr/bin`), so that merging a tree does not cut such a link.
    fn directory_at(&self, parent: NodeId, name: &OsStr) -> Option<NodeId> {
        let id = self.lookup(parent, name)?;
        let target = match &self.nodes.get(id)?.kind {
            Kind::Directory(_) => return Some(id),
            Kind::Symlink(target) => Path::new(target),
            _ => return None,
        };
        let start = if target.is_absolute() { ROOT } else { parent };
        let mut names = components(target);
        let mut here = start;
        while let Some(name) = names.pop() {
            here = self.lookup(here, &name)?;
        }
        self.is_directory(here).then_some(here)
    }
}

/// What [`Tree::walk`] wants at the end of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// What the host has there.
    Mirror,
    /// A directory, made with these permissions if need be.
    Directory(u32),
}

/// Whether the data of a regular file can be had. Everybody may read most files; the others are tried.
fn check_readable(path: &Path, metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() && metadata.mode() & 0o444 != 0o444 {
        File::open(path)?;
    }
    Ok(())
}

/// What the host has at `path`; nothing for a socket, which means nothing outside of its host.
fn kind_of(path: &Path, metadata: &Metadata) -> io::Result<Option<Kind>> {
    let file_type = metadata.file_type();
    Ok(Some(if file_type.is_dir() {
        Kind::Directory(BTreeMap::new())
    } else if file_type.is_symlink() {
        Kind::Symlink(path.read_link()?.into_os_string())
    } else if file_type.is_fifo() {
        Kind::Fifo
    } else if file_type.is_char_device() || file_type.is_block_device() {
        Kind::Device(metadata.rdev())
    } else if file_type.is_socket() {
        return Ok(None);
    } else if metadata.len() == 0 {
        Kind::EmptyFile
    } else {
        Kind::File(HostFile {
            path: path.to_path_buf(),
            len: metadata.len(),
            dev: metadata.dev(),
            ino: metadata.ino(),
        })
    }))
}

/// The bytes of a name or of a link's target.
pub(crate) fn bytes(name: &OsStr) -> &[u8] {
    name.as_bytes()
}
