//! Directories of EROFS, searched in place: by block, then by entry.

use core::cmp::Ordering;

use super::erofs::{Erofs, ErofsInode, Extent};
use super::erofs_format::{BLOCK_SIZE, DIRENT_SIZE, Dirent};
use super::inode::FileType;
use crate::error::{Errno, Result};
use crate::mm::image::ImagePage;

/// The longest name.
pub const NAME_MAX: usize = 255;

/// A name of a directory, copied out.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    len: u8,
    bytes: [u8; NAME_MAX],
}

impl Name {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// An entry of a directory.
#[derive(Clone, Copy, Debug)]
pub struct ErofsEntry {
    /// Its name.
    pub name: Name,
    /// The inode it names.
    pub nid: u64,
    /// What kind the inode is said to be.
    pub file_type: FileType,
    /// Position of the entry behind it.
    pub next: u64,
}

/// A block of a directory.
#[derive(Clone, Copy)]
struct DirectoryBlock {
    /// The page that it is in.
    page: ImagePage,
    /// Where in the page: not at its start for a tail behind an inode.
    start: usize,
    /// Its bytes: a block, less for the last one.
    len: usize,
    /// Entries in it.
    count: usize,
}

impl Erofs {
    /// Finds a name: by the first name of each block, then by the block's entries.
    ///
    /// # Errors
    /// ENOTDIR; EUCLEAN for nonsense.
    pub fn lookup(&self, directory: &ErofsInode, name: &[u8]) -> Result<Option<u64>> {
        if directory.file_type != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        let wanted = Wanted::new(name);
        let (mut low, mut high) = (0, directory.size.div_ceil(BLOCK_SIZE));
        if high == 0 {
            return Ok(None);
        }
        let mut block = self.directory_block(directory, 0)?;
        // The last block that does not begin behind the name. The first one begins with ".".
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let candidate = self.directory_block(directory, middle)?;
            if candidate.compare(0, &wanted)? == Ordering::Greater {
                high = middle;
            } else {
                low = middle;
                block = candidate;
            }
        }
        let (mut low, mut high) = (0, block.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match block.compare(middle, &wanted)? {
                Ordering::Equal => return Ok(Some(block.nid(middle))),
                Ordering::Greater => high = middle,
                Ordering::Less => low = middle + 1,
            }
        }
        Ok(None)
    }

    /// The entry at `position` or behind it, in the order of the directory; positions are 0, and
    /// what [`ErofsEntry::next`] says.
    ///
    /// # Errors
    /// EUCLEAN for nonsense.
    pub fn entry_at(&self, directory: &ErofsInode, position: u64) -> Result<Option<ErofsEntry>> {
        let (mut number, mut index) = (position / BLOCK_SIZE, position % BLOCK_SIZE / DIRENT_SIZE);
        loop {
            if number >= directory.size.div_ceil(BLOCK_SIZE) {
                return Ok(None);
            }
            let block = self.directory_block(directory, number)?;
            if index < block.count as u64 {
                let index = index as usize;
                let (start, len) = block.name(index)?;
                let mut name = Name { len: len as u8, bytes: [0; NAME_MAX] };
                for (at, byte) in name.bytes[..len].iter_mut().enumerate() {
                    *byte = block.page.byte(start + at);
                }
                let next = match index + 1 == block.count {
                    true => (number + 1) * BLOCK_SIZE,
                    false => number * BLOCK_SIZE + (index + 1) as u64 * DIRENT_SIZE,
                };
                let file_type = file_type(block.file_type(index)).ok_or(Errno::EUCLEAN)?;
                return Ok(Some(ErofsEntry { name, nid: block.nid(index), file_type, next }));
            }
            number += 1;
            index = 0;
        }
    }

    fn directory_block(&self, directory: &ErofsInode, number: u64) -> Result<DirectoryBlock> {
        let start = number * BLOCK_SIZE;
        let len = BLOCK_SIZE.min(directory.size - start);
        let offset = match self.extent(directory, start)? {
            Extent::Image { offset, len: run } if run >= len => offset,
            _ => return Err(Errno::EUCLEAN),
        };
        let page = self.image().page_at(offset)?;
        let (start, len) = ((offset % BLOCK_SIZE) as usize, len as usize);
        let names = usize::from(page.half(start + NAME_OFFSET));
        let is_sound = names >= DIRENT_LEN
            && names <= len
            && names.is_multiple_of(DIRENT_LEN)
            && start + len <= BLOCK_SIZE as usize;
        if !is_sound {
            return Err(Errno::EUCLEAN);
        }
        Ok(DirectoryBlock { page, start, len, count: names / DIRENT_LEN })
    }
}

/// Bytes of an entry, and where in it the offset of its name and its type are.
const DIRENT_LEN: usize = size_of::<Dirent>();
const NAME_OFFSET: usize = core::mem::offset_of!(Dirent, name_offset);
const FILE_TYPE: usize = core::mem::offset_of!(Dirent, file_type);

/// A name to look for.
struct Wanted<'a> {
    name: &'a [u8],
    /// Its first eight bytes, as [`ImagePage::prefix`] makes them.
    prefix: u64,
}

impl<'a> Wanted<'a> {
    fn new(name: &'a [u8]) -> Self {
        let mut first = [0; 8];
        for (to, &from) in first.iter_mut().zip(name) {
            *to = from;
        }
        Self { name, prefix: u64::from_be_bytes(first) }
    }
}

impl DirectoryBlock {
    fn nid(&self, index: usize) -> u64 {
        self.page.word(self.start + index * DIRENT_LEN)
    }

    fn file_type(&self, index: usize) -> u8 {
        self.page.byte(self.start + index * DIRENT_LEN + FILE_TYPE)
    }

    /// Where in the page the name of an entry is, and its length.
    #[inline(always)]
    fn name(&self, index: usize) -> Result<(usize, usize)> {
        let at = self.start + index * DIRENT_LEN + NAME_OFFSET;
        let start = usize::from(self.page.half(at));
        let is_last = index + 1 >= self.count;
        let end = match is_last {
            true => self.len,
            false => usize::from(self.page.half(at + DIRENT_LEN)),
        };
        if start < self.count * DIRENT_LEN || start >= end || end > self.len {
            return Err(Errno::EUCLEAN);
        }
        let (start, mut len) = (self.start + start, end - start);
        if is_last && self.page.byte(start + len - 1) == 0 {
            // The last name ends at the block's end or with a NUL.
            len = (0..len).find(|at| self.page.byte(start + at) == 0).unwrap_or(len);
        }
        if len == 0 || len > NAME_MAX {
            return Err(Errno::EUCLEAN);
        }
        Ok((start, len))
    }

    /// How the name of an entry compares with the one that is wanted.
    #[inline(always)]
    fn compare(&self, index: usize, wanted: &Wanted<'_>) -> Result<Ordering> {
        let (start, len) = self.name(index)?;
        let prefix = self.page.prefix(start, len);
        if prefix != wanted.prefix {
            return Ok(prefix.cmp(&wanted.prefix));
        }
        for at in 8..len.min(wanted.name.len()) {
            let byte = self.page.byte(start + at);
            if byte != wanted.name[at] {
                return Ok(byte.cmp(&wanted.name[at]));
            }
        }
        Ok(len.cmp(&wanted.name.len()))
    }
}

/// `EROFS_FT_*`, which are those of ext4.
fn file_type(number: u8) -> Option<FileType> {
    Some(match number {
        1 => FileType::Regular,
        2 => FileType::Directory,
        3 => FileType::CharDevice,
        4 => FileType::BlockDevice,
        5 => FileType::Fifo,
        6 => FileType::Socket,
        7 => FileType::Symlink,
        _ => return None,
    })
}
