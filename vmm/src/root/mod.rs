//! The guest's root: an EROFS image, assembled in memory from the host's files without copying them.
//!
//! [`build`] collects a tree (the program, its interpreters, the libraries it needs, what the user
//! adds, or a whole directory) and plans an [`Image`] of it: a page or a few of metadata, and for each
//! file the place where it is to be mapped. A ready image is taken as it is.
//!
//! What the image holds is what was asked for: a link is kept as a link, its target is added only if a
//! path that was asked for goes through it. Directories stay on one file system, so with `--root /` the
//! host's /proc, /sys and /dev are empty directories.

#![forbid(unsafe_code)]

pub(crate) mod closure;
pub mod elf;
mod erofs;
mod image;
pub(crate) mod resolve;
mod tree;

use std::io;
use std::path::{Path, PathBuf};

use shared_abi::layout;

pub use self::image::{BLOCK_SIZE, Content, HostFile, Image, Piece};
use self::tree::{Missing, Tree};
use crate::config::{Addition, Config};
use crate::program::Program;

/// The longest image: the space that the guest has for it.
const LEN_MAX: u64 = layout::ROOT_END_GPA - layout::ROOT_GPA;

/// The guest's root, ready to be mapped.
#[derive(Clone, Debug)]
pub struct Root {
    /// The image.
    pub image: Image,
    /// The program's path in it.
    pub program: PathBuf,
    /// The working directory in it, absolute.
    pub cwd: PathBuf,
    /// What was left out of it, one line each, for standard error.
    pub warnings: Vec<String>,
}

/// Why there is no root. One line each: what, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A library that nobody can find.
    #[error("{name}: shared library not found, {} needs it: install the package that has it, or add \
        it with --file", needed_by.display())]
    MissingLibrary {
        /// The library's name.
        name: String,
        /// Who asks for it.
        needed_by: PathBuf,
    },
    /// More libraries than any program has.
    #[error("{}: needs more than 4096 shared libraries: check the file", .0.display())]
    TooManyLibraries(PathBuf),
    /// A file that was asked for by name.
    #[error("{}: cannot be put into the root: {source}: check the path and its permissions",
        path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the host's kernel said.
        source: io::Error,
    },
    /// A socket that was asked for by name.
    #[error("{}: is a socket, which means nothing in the guest: leave it out", .0.display())]
    Socket(PathBuf),
    /// A path through something that is no directory.
    #[error("{}: a part of this guest path is not a directory: choose another", .0.display())]
    NotADirectory(PathBuf),
    /// A file in the place of a directory.
    #[error("{}: is a directory in the guest: give the file's whole guest path", .0.display())]
    IsADirectory(PathBuf),
    /// Links that lead to themselves.
    #[error("{}: too many levels of symbolic links: correct the links", .0.display())]
    LinkLoop(PathBuf),
    /// The working directory of this process is gone.
    #[error("the working directory is not known: {0}: give one with --cwd")]
    NoCwd(io::Error),
    /// More than the guest has space for.
    #[error("the root would have {len} bytes, at most {len_max} are possible: add less to it")]
    TooLarge {
        /// Its length.
        len: u64,
        /// What is possible.
        len_max: u64,
    },
    /// So many files that they can neither be mapped nor be read.
    #[error("the root would have {count} files, and {} MiB of them would have to be copied into \
        memory: make an image with mkfs.erofs IMAGE DIRECTORY and run with --root IMAGE",
        read_len >> 20)]
    TooManyFiles {
        /// How many.
        count: usize,
        /// Bytes in those that cannot be mapped.
        read_len: u64,
    },
    /// A ready image that cannot be read.
    #[error("{}: cannot be read: {source}: check the path and its permissions", path.display())]
    ImageUnreadable {
        /// The image.
        path: PathBuf,
        /// What the host's kernel said.
        source: io::Error,
    },
    /// A ready image that the guest could not read.
    #[error("{}: {reason}", path.display())]
    BadImage {
        /// The image.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: &'static str,
    },
    /// Files to be added to an image that cannot change.
    #[error("{}: nothing can be added to a ready image: leave --file and --dir out, or use a \
        directory as --root", .0.display())]
    FixedImage(PathBuf),
}

impl Error {
    /// 127 for a missing library, as ld.so exits; else 125: the machine could not be set up.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::MissingLibrary { .. } => 127,
            _ => 125,
        }
    }
}

/// Plans the root for `program`, which [`Program::find`] found with the same `config`.
pub fn build(config: &Config, program: &Program) -> Result<Root, Error> {
    let root_cwd = || config.cwd.clone().unwrap_or_else(|| PathBuf::from("/"));
    let (mut tree, cwd) = match &config.root {
        Some(root) if root.is_dir() => (tree_of_directory(root)?, root_cwd()),
        Some(root) => {
            if !config.additions.is_empty() {
                return Err(Error::FixedImage(root.clone()));
            }
            let image = Image::from_file(root)?;
            if image.len > LEN_MAX {
                return Err(Error::TooLarge { len: image.len, len_max: LEN_MAX });
            }
            let program = program.path.clone();
            return Ok(Root { image, program, cwd: root_cwd(), warnings: Vec::new() });
        }
        None => {
            let host_cwd = std::env::current_dir().map_err(Error::NoCwd)?;
            let cwd = config.cwd.clone().unwrap_or_else(|| host_cwd.clone());
            (tree_of_program(program, config, &host_cwd)?, cwd)
        }
    };
    for addition in &config.additions {
        add(&mut tree, addition)?;
    }
    tree.ensure_directory(&cwd, 0o755)?;
    let image = erofs::write(&mut tree, LEN_MAX)?;
    Ok(Root { image, program: program.path.clone(), cwd, warnings: tree.warnings })
}

/// A tree with what the guest kernel mounts on and every program may expect.
fn start_tree(like: &Path, missing: Missing) -> Result<Tree, Error> {
    let mut tree = Tree::new(like, missing)?;
    add_mount_points(&mut tree);
    Ok(tree)
}

fn add_mount_points(tree: &mut Tree) {
    tree.ensure_mount_point("dev", 0o755);
    tree.ensure_mount_point("proc", 0o555);
    tree.ensure_mount_point("tmp", 0o1777);
}

fn tree_of_directory(root: &Path) -> Result<Tree, Error> {
    let mut tree = Tree::new(root, Missing::Plain)?;
    tree.add_directory(root, Path::new("/"))?;
    add_mount_points(&mut tree);
    Ok(tree)
}

fn tree_of_program(program: &Program, config: &Config, cwd: &Path) -> Result<Tree, Error> {
    let mut tree = start_tree(Path::new("/"), Missing::Host)?;
    for link in &program.chain {
        tree.mirror(&link.path)?;
        let Some(elf) = &link.elf else { continue };
        for path in closure::find(&link.path, elf, &config.environment, cwd)? {
            tree.mirror(&path)?;
        }
    }
    Ok(tree)
}

fn add(tree: &mut Tree, addition: &Addition) -> Result<(), Error> {
    match addition.host.is_dir() {
        true => tree.add_directory(&addition.host, &addition.guest),
        false => tree.add_file(&addition.host, &addition.guest),
    }
}

#[cfg(test)]
mod tests;
