//! Writes a [`Tree`] as an EROFS file system: Linux `fs/erofs/erofs_fs.h`, uncompressed.
//!
//! ```text
//! block 0        1,024 unused bytes, superblock (128 bytes), then inodes: the root's first, the
//!                others breadth first. Each is 64 bytes (extended) and is followed by its inline
//!                data: a link's target, a directory's last block if it fits
//! blocks         directories that are larger, targets of long links
//! blocks         the files' data, each file from a block of its own
//! ```
//! Everything up to the files' data is one piece of bytes; a minimal root has one page of it.

use std::collections::VecDeque;
use std::ffi::OsStr;

use super::Error;
use super::image::{BLOCK_SIZE, Content, HostFile, Image, Piece};
use super::tree::{Attributes, Kind, NodeId, ROOT, Tree, bytes};

/// Block size as the `usize` that lengths of buffers are.
const BLOCK_LEN: usize = 4096;
const SUPERBLOCK_OFFSET: usize = 1024;
const SUPERBLOCK_LEN: usize = 128;
const MAGIC: u32 = 0xe0f5_e1e2;
const CHECKSUM_AT: usize = SUPERBLOCK_OFFSET + 4;
/// `EROFS_FEATURE_COMPAT_SB_CHKSUM | EROFS_FEATURE_COMPAT_MTIME`.
const FEATURE_COMPAT: u32 = 0x3;
const FEATURE_COMPAT_CHECKSUM: u32 = 0x1;
const INODE_LEN: usize = 64;
/// A node id counts slots of this size.
const SLOT_LEN: usize = 32;
const DIRENT_LEN: usize = 12;
const LAYOUT_PLAIN: u16 = 0;
const LAYOUT_INLINE: u16 = 2;
/// The first bit of `i_format`: an extended inode.
const EXTENDED: u16 = 1;
/// "No block": `EROFS_NULL_ADDR`.
const NO_BLOCK: u32 = u32::MAX;

/// A process may have 65,530 mappings (`vm.max_map_count`); with more files than this the smallest
/// are read into memory instead.
const MAPPED_FILE_COUNT_MAX: usize = 20_000;
/// The most bytes that are read so: more is memory and start-up time that nobody expects, and a ready
/// image costs neither.
const READ_LEN_MAX: u64 = 1 << 30;

/// Plans the image of `tree`; `len_max` bounds its length. A file that changed since it was added
/// leaves a warning in `tree`.
pub(crate) fn write(tree: &mut Tree, len_max: u64) -> Result<Image, Error> {
    write_with(tree, len_max, MAPPED_FILE_COUNT_MAX)
}

/// As [`write()`], with at most `mapped_count_max` files left to be mapped.
pub(crate) fn write_with(
    tree: &mut Tree,
    len_max: u64,
    mapped_count_max: usize,
) -> Result<Image, Error> {
    let mut layout = Layout::plan(tree);
    let data = place_files(tree, &mut layout, mapped_count_max)?;
    let len = data.end_block.saturating_mul(BLOCK_SIZE);
    let blocks = u32::try_from(data.end_block).ok().filter(|_| len <= len_max);
    let blocks = blocks.ok_or(Error::TooLarge { len, len_max })?;
    let metadata = Metadata { tree, layout: &layout }.write(blocks);
    let mut pieces = vec![Piece { offset: 0, content: Content::Bytes(metadata) }];
    pieces.extend(data.pieces);
    tree.warnings.extend(data.warnings);
    Ok(Image { len, pieces })
}

/// Where a node's parts lie.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Offset of the inode in the image; zero: the node is not in the tree any more.
    inode: usize,
    /// `i_size`.
    size: u64,
    /// First block of the data that are not inline.
    block: Option<u64>,
    /// Bytes behind the inode.
    inline_len: usize,
    /// `..` of a directory.
    parent: NodeId,
    /// Directories in this directory.
    subdirectory_count: u32,
    /// `i_ino`, from 1.
    number: u32,
}

struct Layout {
    /// By node.
    places: Vec<Place>,
    /// The nodes by rising offset of their inodes.
    order: Vec<NodeId>,
    /// First block behind inodes, directories and links.
    data_block: u64,
}

impl Layout {
    /// Gives every node that can be reached an inode and, but for files, a place for its data.
    fn plan(tree: &Tree) -> Layout {
        let mut places = vec![Place::default(); tree.nodes.len()];
        let mut order = Vec::with_capacity(tree.nodes.len());
        let mut end = SUPERBLOCK_OFFSET + SUPERBLOCK_LEN;
        let mut queue = VecDeque::from([(ROOT, ROOT)]);
        while let Some((id, parent)) = queue.pop_front() {
            let (Some(node), Some(place)) = (tree.nodes.get(id), places.get_mut(id)) else {
                continue;
            };
            if place.inode != 0 {
                continue; // another name of a file
            }
            let (size, tail_len) = match &node.kind {
                Kind::Directory(names) => {
                    queue.extend(names.values().map(|&child| (child, id)));
                    place.subdirectory_count = count(names.values().filter(|&&child| {
                        tree.nodes.get(child).is_some_and(|node| is_directory(&node.kind))
                    }));
                    let len = directory_len(&entries(names));
                    (len, len % BLOCK_LEN)
                }
                Kind::Symlink(target) => (target.len(), target.len() % BLOCK_LEN),
                Kind::File(_) | Kind::EmptyFile | Kind::Device(_) | Kind::Fifo => (0, 0),
            };
            // Data in blocks of their own, or a last block that is too long to go with the inode.
            place.inline_len = if INODE_LEN + tail_len <= BLOCK_LEN { tail_len } else { 0 };
            let total_len = INODE_LEN + place.inline_len;
            if end % BLOCK_LEN + total_len > BLOCK_LEN {
                end = end.next_multiple_of(BLOCK_LEN);
            }
            place.inode = end;
            place.size = size as u64;
            place.parent = parent;
            order.push(id);
            place.number = u32::try_from(order.len()).unwrap_or(u32::MAX);
            end = (end + total_len).next_multiple_of(INODE_LEN);
        }
        let mut block = end.div_ceil(BLOCK_LEN) as u64;
        for &id in &order {
            let Some(place) = places.get_mut(id) else {
                continue;
            };
            let outside_len = place.size - place.inline_len as u64;
            if outside_len > 0 {
                place.block = Some(block);
                block += outside_len.div_ceil(BLOCK_SIZE);
            }
        }
        Layout { places, order, data_block: block }
    }
}

fn is_directory(kind: &Kind) -> bool {
    matches!(kind, Kind::Directory(_))
}

fn count(iterator: impl Iterator) -> u32 {
    u32::try_from(iterator.count()).unwrap_or(u32::MAX)
}

/// The names of a directory as EROFS lists them, `.` and `..` in their places.
fn entries(names: &std::collections::BTreeMap<std::ffi::OsString, NodeId>) -> Vec<(&[u8], Target)> {
    let mut entries: Vec<(&[u8], Target)> = Vec::with_capacity(names.len() + 2);
    entries.extend(names.iter().map(|(name, &id)| (bytes(name), Target::Node(id))));
    for (dots, target) in [(".", Target::Itself), ("..", Target::Parent)] {
        let dots = bytes(OsStr::new(dots));
        let at = entries.partition_point(|(name, _)| *name < dots);
        entries.insert(at, (dots, target));
    }
    entries
}

#[derive(Clone, Copy)]
enum Target {
    Node(NodeId),
    Itself,
    Parent,
}

/// Splits a directory's entries into those of each block.
fn directory_blocks<'a, 'b>(
    entries: &'b [(&'a [u8], Target)],
) -> impl Iterator<Item = &'b [(&'a [u8], Target)]> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        let mut len = 0;
        let fitting = rest.iter().take_while(|(name, _)| {
            len += DIRENT_LEN + name.len();
            len <= BLOCK_LEN
        });
        let (block, others) =
            rest.split_at_checked(fitting.count()).filter(|(block, _)| !block.is_empty())?;
        rest = others;
        Some(block)
    })
}

/// `i_size` of a directory: full blocks, and the last one up to its last name.
fn directory_len(entries: &[(&[u8], Target)]) -> usize {
    let mut len = 0usize;
    for block in directory_blocks(entries) {
        len = len.next_multiple_of(BLOCK_LEN);
        len += block.iter().map(|(name, _)| DIRENT_LEN + name.len()).sum::<usize>();
    }
    len
}

/// The files' data.
struct Data {
    pieces: Vec<Piece>,
    /// Files that changed meanwhile.
    warnings: Vec<String>,
    end_block: u64,
}

/// Gives every file its blocks: first those that have to be read, in one piece, then the mapped ones.
fn place_files(tree: &Tree, layout: &mut Layout, mapped_count_max: usize) -> Result<Data, Error> {
    let mut files: Vec<(NodeId, &HostFile)> = Vec::new();
    for &id in &layout.order {
        if let Some(Kind::File(host_file)) = tree.nodes.get(id).map(|node| &node.kind) {
            files.push((id, host_file));
        }
    }
    let read_count = files.len().saturating_sub(mapped_count_max);
    if read_count > 0 {
        // A stable sort: equal trees give equal images.
        files.sort_by_key(|(_, host_file)| host_file.len);
    }
    let mut data = Data { pieces: Vec::new(), warnings: Vec::new(), end_block: layout.data_block };
    for &(id, host_file) in &files {
        let Some(place) = layout.places.get_mut(id) else { continue };
        place.size = host_file.len;
        place.block = Some(data.end_block);
        data.end_block = data.end_block.saturating_add(host_file.len.div_ceil(BLOCK_SIZE));
    }
    let (to_read, to_map) = files.split_at(read_count);
    let padded_len =
        |(_, file): &(NodeId, &HostFile)| file.len.div_ceil(BLOCK_SIZE).saturating_mul(BLOCK_SIZE);
    let read_len: u64 = to_read.iter().map(padded_len).fold(0, u64::saturating_add);
    if read_len > READ_LEN_MAX {
        return Err(Error::TooManyFiles { count: files.len(), read_len });
    }
    data.read(to_read, layout.data_block * BLOCK_SIZE);
    for &(id, host_file) in to_map {
        if let Some(block) = layout.places.get(id).and_then(|place| place.block) {
            let content = Content::File(host_file.clone());
            data.pieces.push(Piece { offset: block.saturating_mul(BLOCK_SIZE), content });
        }
    }
    Ok(data)
}

impl Data {
    /// Reads files into one piece at `offset`, each from a block of its own.
    fn read(&mut self, files: &[(NodeId, &HostFile)], offset: u64) {
        let padded_len = |file: &HostFile| usize::try_from(file.len.next_multiple_of(BLOCK_SIZE));
        let total_len = files.iter().filter_map(|(_, file)| padded_len(file).ok()).sum();
        let mut bytes = Vec::with_capacity(total_len);
        for (_, host_file) in files {
            let end = bytes.len() + padded_len(host_file).unwrap_or(0);
            if let Err(source) = host_file.read_into(&mut bytes) {
                let path = host_file.path.display();
                self.warnings.push(format!("{path}: its data are left out of the root: {source}"));
            }
            bytes.resize(end, 0);
        }
        if !bytes.is_empty() {
            self.pieces.push(Piece { offset, content: Content::Bytes(bytes) });
        }
    }
}

/// The bytes in front of the files' data.
struct Metadata<'a> {
    tree: &'a Tree,
    layout: &'a Layout,
}

impl Metadata<'_> {
    fn write(&self, blocks: u32) -> Vec<u8> {
        let mut out = self.superblock(blocks);
        let mut outside = Vec::new();
        for &id in &self.layout.order {
            let (Some(node), Some(place)) = (self.tree.nodes.get(id), self.layout.places.get(id))
            else {
                continue;
            };
            let data = match &node.kind {
                Kind::Directory(names) => self.directory(id, place, &entries(names)),
                Kind::Symlink(target) => bytes(target).to_vec(),
                _ => Vec::new(),
            };
            let (blocks, inline) = data.split_at(data.len() - place.inline_len);
            outside.extend_from_slice(blocks);
            outside.resize(outside.len().next_multiple_of(BLOCK_LEN), 0);
            out.resize(place.inode, 0);
            out.extend_from_slice(&inode(&node.attributes, &node.kind, place));
            out.extend_from_slice(inline);
        }
        out.resize(out.len().next_multiple_of(BLOCK_LEN), 0);
        out.extend_from_slice(&outside);
        seal(&mut out);
        out
    }

    fn superblock(&self, blocks: u32) -> Vec<u8> {
        let root = self.tree.nodes.first().map(|node| node.attributes);
        // The root's inode is the first: its number fits the superblock's 16 bits.
        let root_nid = ((SUPERBLOCK_OFFSET + SUPERBLOCK_LEN) / SLOT_LEN) as u16;
        let mut out = vec![0; SUPERBLOCK_OFFSET];
        out.extend(MAGIC.to_le_bytes());
        out.extend([0; 4]); // checksum: see `seal`
        out.extend(FEATURE_COMPAT.to_le_bytes());
        out.extend([BLOCK_LEN.trailing_zeros() as u8, 0]);
        out.extend(root_nid.to_le_bytes());
        out.extend((self.layout.order.len() as u64).to_le_bytes());
        out.extend(root.map_or(0, |root| root.mtime_s).to_le_bytes());
        out.extend(root.map_or(0, |root| root.mtime_ns).to_le_bytes());
        out.extend(blocks.to_le_bytes());
        out.resize(SUPERBLOCK_OFFSET + SUPERBLOCK_LEN, 0);
        out
    }

    fn directory(&self, id: NodeId, place: &Place, entries: &[(&[u8], Target)]) -> Vec<u8> {
        let mut out = Vec::new();
        for block in directory_blocks(entries) {
            out.resize(out.len().next_multiple_of(BLOCK_LEN), 0);
            let mut name_offset = block.len() * DIRENT_LEN;
            for (name, target) in block {
                let target = match *target {
                    Target::Node(node) => node,
                    Target::Itself => id,
                    Target::Parent => place.parent,
                };
                let nid = self.layout.places.get(target).map_or(0, |place| place.inode / SLOT_LEN);
                let kind = self.tree.nodes.get(target).map_or(0, file_type);
                out.extend((nid as u64).to_le_bytes());
                out.extend((name_offset as u16).to_le_bytes());
                out.extend([kind, 0]);
                name_offset += name.len();
            }
            for (name, _) in block {
                out.extend_from_slice(name);
            }
        }
        out
    }
}

/// Of `EROFS_FT_*`.
fn file_type(node: &super::tree::Node) -> u8 {
    const S_IFMT: u32 = 0o170_000;
    const S_IFBLK: u32 = 0o060_000;
    match node.kind {
        Kind::File(_) | Kind::EmptyFile => 1,
        Kind::Directory(_) => 2,
        Kind::Device(_) if node.attributes.mode & S_IFMT == S_IFBLK => 4,
        Kind::Device(_) => 3,
        Kind::Fifo => 5,
        Kind::Symlink(_) => 7,
    }
}

/// `struct erofs_inode_extended`.
fn inode(attributes: &Attributes, kind: &Kind, place: &Place) -> Vec<u8> {
    let layout = if place.inline_len > 0 { LAYOUT_INLINE } else { LAYOUT_PLAIN };
    let union = match kind {
        Kind::Device(number) => device_number(*number),
        _ => place.block.map_or(NO_BLOCK, |block| u32::try_from(block).unwrap_or(NO_BLOCK)),
    };
    let link_count = match kind {
        Kind::Directory(_) => place.subdirectory_count.saturating_add(2),
        _ => attributes.link_count,
    };
    let mut out = Vec::with_capacity(INODE_LEN);
    out.extend((EXTENDED | layout << 1).to_le_bytes());
    out.extend([0; 2]); // no extended attributes
    out.extend((attributes.mode as u16).to_le_bytes());
    out.extend([0; 2]);
    out.extend(place.size.to_le_bytes());
    out.extend(union.to_le_bytes());
    out.extend(place.number.to_le_bytes());
    out.extend(attributes.uid.to_le_bytes());
    out.extend(attributes.gid.to_le_bytes());
    out.extend(attributes.mtime_s.to_le_bytes());
    out.extend(attributes.mtime_ns.to_le_bytes());
    out.extend(link_count.to_le_bytes());
    out.resize(INODE_LEN, 0);
    out
}

/// From the C library's 64-bit encoding to the kernel's 32-bit one (`new_encode_dev`).
fn device_number(number: u64) -> u32 {
    let major = (number >> 8 & 0xfff) | (number >> 32 & 0xffff_f000);
    let minor = (number & 0xff) | (number >> 12 & 0xffff_ff00);
    ((minor & 0xff) | (major & 0xfff) << 8 | (minor & 0xf_ff00) << 12) as u32
}

/// Stores the checksum of the first block: crc32c from the superblock on, without the last inversion.
fn seal(metadata: &mut [u8]) {
    let checksum = metadata.get(SUPERBLOCK_OFFSET..BLOCK_LEN).map(|bytes| !crc32c::crc32c(bytes));
    if let (Some(checksum), Some(field)) =
        (checksum, metadata.get_mut(CHECKSUM_AT..CHECKSUM_AT + 4))
    {
        field.copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Checks that a ready image (its first block) is one that the guest can read; answers how many bytes
/// it says it has. A refusal is the end of a sentence that begins with the image's name.
pub(crate) fn check_superblock(block: &[u8]) -> Result<u64, &'static str> {
    const NOT_EROFS: &str =
        "is neither a directory nor an EROFS image: make one with mkfs.erofs IMAGE DIRECTORY";
    let word = |at: usize| {
        let bytes = block.get(SUPERBLOCK_OFFSET + at..SUPERBLOCK_OFFSET + at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    if block.len() < BLOCK_LEN || word(0) != Some(MAGIC) {
        return Err(NOT_EROFS);
    }
    let block_bits = block.get(SUPERBLOCK_OFFSET + 12).copied().unwrap_or(0);
    if u32::from(block_bits) != BLOCK_LEN.trailing_zeros() {
        return Err("has blocks of another size than 4096: make it with mkfs.erofs -b 4096");
    }
    // By bit of feature_incompat.
    let refusal = match word(80).unwrap_or(0) {
        0 => None,
        bits if bits & 0x10 != 0 => Some("uses ztailpacking: make it with mkfs.erofs without -z"),
        bits if bits & 0x20 != 0 => {
            Some("uses fragments or dedupe: make it with mkfs.erofs without -z")
        }
        bits if bits & 0x4 != 0 => Some("uses chunks: make it with mkfs.erofs without --chunksize"),
        bits if bits & 0x8 != 0 => {
            Some("uses extra devices: make it with mkfs.erofs without --blobdev")
        }
        bits if bits & 0x2 != 0 => Some("uses compression: make it with mkfs.erofs without -z"),
        bits if bits & 0x1 != 0 => {
            Some("uses compression (lz4 0padding): make it with mkfs.erofs without -z")
        }
        _ => Some("uses features that are not known here: make it with mkfs.erofs without options"),
    };
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    if word(8).unwrap_or(0) & FEATURE_COMPAT_CHECKSUM != 0 {
        let mut copy = block.to_vec();
        if let Some(field) = copy.get_mut(CHECKSUM_AT..CHECKSUM_AT + 4) {
            field.fill(0);
        }
        seal(&mut copy);
        if copy != block {
            return Err("is damaged, its checksum is wrong: make it again");
        }
    }
    Ok(u64::from(word(36).unwrap_or(0)) * BLOCK_SIZE)
}
