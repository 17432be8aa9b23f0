//! EROFS on disk: <https://docs.kernel.org/filesystems/erofs.html> and `fs/erofs/erofs_fs.h` of Linux.
//! All numbers are little-endian, as this machine is.

#![expect(missing_docs, reason = "the fields are Linux's")]

use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Where the superblock is.
pub const SUPERBLOCK_OFFSET: u64 = 1024;
/// First word of the superblock.
pub const MAGIC: u32 = 0xe0f5_e1e2;
/// Size of a block that is supported: a page, so that pages are mapped where they lie.
pub const BLOCK_SIZE: u64 = 4096;
/// Inode numbers count in units of this from the metadata's start.
pub const SLOT_SIZE: u64 = 32;

/// Incompatible feature: compressed data begins at the end of its block. Means nothing to the rest.
pub const INCOMPAT_ZERO_PADDING: u32 = 0x1;
/// Incompatible feature: files in chunks.
pub const INCOMPAT_CHUNKED_FILE: u32 = 0x4;
/// Incompatible feature: prefixes of extended attributes, which are not read here.
pub const INCOMPAT_XATTR_PREFIXES: u32 = 0x40;
/// Incompatible features that do no harm here.
pub const INCOMPAT_SUPPORTED: u32 =
    INCOMPAT_ZERO_PADDING | INCOMPAT_CHUNKED_FILE | INCOMPAT_XATTR_PREFIXES;
/// Names of the other ones.
pub const INCOMPAT_NAMES: [(u32, &str); 7] = [
    (0x2, "compression configurations or big clusters"),
    (0x8, "more than one device or a second compression algorithm"),
    (0x10, "compressed tails"),
    (0x20, "fragments or deduplication"),
    (0x80, "48-bit addresses"),
    (0x100, "a metadata box"),
    (!0x1ff, "a feature newer than this kernel"),
];

/// `struct erofs_super_block`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
pub struct SuperBlock {
    pub magic: u32,
    pub checksum: u32,
    pub feature_compat: u32,
    pub block_size_bits: u8,
    pub extension_slots: u8,
    pub root_nid: u16,
    pub inode_count: u64,
    pub build_time: u64,
    pub build_time_nsec: u32,
    pub block_count: u32,
    pub meta_block: u32,
    pub xattr_block: u32,
    pub uuid: [u8; 16],
    pub volume_name: [u8; 16],
    pub feature_incompat: u32,
    pub compression: u16,
    pub extra_devices: u16,
    pub device_table_slot: u16,
    pub directory_block_bits: u8,
    pub xattr_prefix_count: u8,
    pub xattr_prefix_start: u32,
    pub packed_nid: u64,
    pub reserved: [u8; 24],
}

/// `struct erofs_inode_compact`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
pub struct CompactInode {
    pub format: u16,
    pub xattr_count: u16,
    pub mode: u16,
    pub nlink: u16,
    pub size: u32,
    pub reserved: u32,
    pub data: u32,
    pub ino: u32,
    pub uid: u16,
    pub gid: u16,
    pub reserved2: u32,
}

/// `struct erofs_inode_extended`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
pub struct ExtendedInode {
    pub format: u16,
    pub xattr_count: u16,
    pub mode: u16,
    pub reserved: u16,
    pub size: u64,
    pub data: u32,
    pub ino: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u64,
    pub mtime_nsec: u32,
    pub nlink: u32,
    pub reserved2: [u8; 16],
}

/// Bit of `format`: the inode is an extended one.
pub const FORMAT_EXTENDED: u16 = 1;
/// Data layout, bits 1 to 3 of `format`: all blocks one after the other.
pub const LAYOUT_PLAIN: u16 = 0;
/// Data layout: as plain, the tail behind the inode.
pub const LAYOUT_INLINE: u16 = 2;
/// Data layout: a table of chunks behind the inode.
pub const LAYOUT_CHUNKED: u16 = 4;

/// Bits of a chunked inode's `data`: chunk size, a shift on top of the block size.
pub const CHUNK_BITS_MASK: u32 = 0x1f;
/// The table has [`ChunkIndex`]es instead of block numbers.
pub const CHUNK_INDEXES: u32 = 0x20;
/// All bits that are known.
pub const CHUNK_FORMAT_MASK: u32 = CHUNK_BITS_MASK | CHUNK_INDEXES;
/// The block number of a hole.
pub const HOLE: u32 = u32::MAX;

/// `struct erofs_inode_chunk_index`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
pub struct ChunkIndex {
    pub start_high: u16,
    pub device: u16,
    pub block: u32,
}

/// `struct erofs_dirent`: an array of them at the start of each directory block, names behind.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
pub struct Dirent {
    pub nid: u64,
    pub name_offset: u16,
    pub file_type: u8,
    pub reserved: u8,
}

/// Bytes of a [`Dirent`].
pub const DIRENT_SIZE: u64 = size_of::<Dirent>() as u64;

const _: () = assert!(size_of::<SuperBlock>() == 128);
const _: () = assert!(size_of::<CompactInode>() == 32);
const _: () = assert!(size_of::<ExtendedInode>() == 64);
const _: () = assert!(size_of::<ChunkIndex>() == 8);
const _: () = assert!(DIRENT_SIZE == 12);
