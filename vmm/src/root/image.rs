//! An EROFS image as a plan: which bytes lie where, without the bytes of the host's files.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Error;
use super::erofs;

/// Size of a block of the image: a page, so that a file can be mapped.
pub const BLOCK_SIZE: u64 = 4096;

/// A root image: `len` bytes, zero where no piece lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Length in bytes, a multiple of 4096.
    pub len: u64,
    /// What lies in it, by rising offset, without overlap.
    pub pieces: Vec<Piece>,
}

/// A run of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins, a multiple of 4096.
    pub offset: u64,
    /// What it holds.
    pub content: Content,
}

/// What a [`Piece`] holds; after its end come zeros up to the next multiple of 4096.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A file of the host.
    File(HostFile),
}

/// A file of the host, to be mapped from its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFile {
    /// Where it is.
    pub path: PathBuf,
    /// How long it was when the image was planned; never zero.
    pub len: u64,
    /// The device that it was on: whoever opens it checks that it is still the same file.
    pub dev: u64,
    /// Its inode number there.
    pub ino: u64,
}

impl HostFile {
    /// Opens the file and checks that it is still the one that was planned.
    pub fn open(&self) -> io::Result<File> {
        let file = File::open(&self.path)?;
        let now = file.metadata()?;
        match now.dev() == self.dev && now.ino() == self.ino && now.len() >= self.len {
            true => Ok(file),
            false => Err(io::Error::other("the file was replaced or cut short meanwhile")),
        }
    }

    /// Appends the file's data, as long as it was planned.
    pub(crate) fn read_into(&self, bytes: &mut Vec<u8>) -> io::Result<()> {
        self.open()?.take(self.len).read_to_end(bytes).map(drop)
    }
}

impl Image {
    /// A ready image, made by `mkfs.erofs` without compression.
    pub fn from_file(path: &Path) -> Result<Image, Error> {
        let fail = |source| Error::ImageUnreadable { path: path.to_path_buf(), source };
        let refuse = |reason| Error::BadImage { path: path.to_path_buf(), reason };
        let file = File::open(path).map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        let mut block = Vec::new();
        if metadata.is_file() {
            (&file).take(BLOCK_SIZE).read_to_end(&mut block).map_err(fail)?;
        }
        let used_len = erofs::check_superblock(&block).map_err(refuse)?;
        let len = metadata.len().checked_next_multiple_of(BLOCK_SIZE).unwrap_or(u64::MAX);
        if used_len > len {
            return Err(refuse("is cut short: copy or make it again"));
        }
        let host_file = HostFile {
            path: path.to_path_buf(),
            len: metadata.len(),
            dev: metadata.dev(),
            ino: metadata.ino(),
        };
        Ok(Image { len, pieces: vec![Piece { offset: 0, content: Content::File(host_file) }] })
    }

    /// Writes the whole image, file data included: an EROFS file system that Linux mounts, too.
    pub fn write_to(&self, mut output: impl Write) -> io::Result<()> {
        let mut written = 0;
        for piece in &self.pieces {
            write_zeros(&mut output, piece.offset.saturating_sub(written))?;
            written = piece.offset;
            match &piece.content {
                Content::Bytes(bytes) => {
                    output.write_all(bytes)?;
                    written += bytes.len() as u64;
                }
                Content::File(host_file) => {
                    written += io::copy(&mut host_file.open()?.take(host_file.len), &mut output)?;
                }
            }
        }
        write_zeros(&mut output, self.len.saturating_sub(written))?;
        output.flush()
    }
}

fn write_zeros(output: &mut impl Write, len: u64) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(len), output).map(drop)
}
