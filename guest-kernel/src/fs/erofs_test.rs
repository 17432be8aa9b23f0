//! EROFS images made by mkfs.erofs of generated trees, compared with the trees; and broken images.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::erofs::{Erofs, ErofsInode, Extent};
use super::inode::FileType;
use crate::error::Errno;
use crate::mm::image::ImageMemory;

/// A small generator, seeded: xorshift64*.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Makes a tree with every kind of file that needs no privilege.
fn make_tree(root: &Path) {
    let mut random = Random(42);
    fs::create_dir(root).expect("a fresh directory");
    for size in [0, 1, 31, 100, 2000, 4000, 4095, 4096, 4097, 8192, 10_000, 65_536, 100_001] {
        fs::write(root.join(format!("file-{size}")), random.bytes(size)).expect("writable");
    }
    let mut sparse = vec![0; 64 << 10];
    sparse[20_000..24_000].copy_from_slice(&random.bytes(4000));
    fs::write(root.join("sparse"), sparse).expect("writable");
    for count in [0, 1, 2, 3, 50, 300, 2000] {
        let directory = root.join(format!("directory-{count}"));
        fs::create_dir(&directory).expect("writable");
        for index in 0..count {
            let pad = "x".repeat(random.below(40) as usize);
            fs::write(directory.join(format!("{pad}{index}")), format!("{index}"))
                .expect("writable");
        }
    }
    let deep = root.join("a/b/c/d");
    fs::create_dir_all(&deep).expect("writable");
    // One less than the longest: mkfs.erofs 1.5 refuses that.
    fs::write(deep.join("n".repeat(254)), "a long name").expect("writable");
    symlink("a/b/c/d", root.join("short-link")).expect("writable");
    symlink("y".repeat(3000), root.join("long-link")).expect("writable");
    fs::hard_link(root.join("file-100"), root.join("hard-link")).expect("writable");
    let fifo = root.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    let mode = fs::Permissions::from_mode(0o4711);
    fs::set_permissions(root.join("file-4096"), mode).expect("ours");
}

fn make_image(tree: &Path, options: &[&str]) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let image = directory.path().join("image");
    let output = Command::new("mkfs.erofs")
        .args(options)
        .arg(&image)
        .arg(tree)
        .output()
        .expect("mkfs.erofs is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(&image).expect("mkfs.erofs made it")
}

fn tree() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path().join("tree");
    make_tree(&root);
    (directory, root)
}

fn names(erofs: &Erofs, directory: &ErofsInode) -> BTreeMap<Vec<u8>, (u64, FileType)> {
    let mut found = BTreeMap::new();
    let mut position = 0;
    while let Some(entry) = erofs.entry_at(directory, position).expect("a good image") {
        assert!(entry.next > position);
        position = entry.next;
        let name = entry.name.as_bytes().to_vec();
        assert!(found.insert(name, (entry.nid, entry.file_type)).is_none(), "a name comes twice");
    }
    found
}

fn compare(erofs: &Erofs, inode: &ErofsInode, path: &Path) {
    let expected = fs::symlink_metadata(path).expect("it is there");
    assert_eq!(inode.mode, expected.mode(), "{path:?}");
    assert_eq!((inode.uid, inode.gid), (expected.uid(), expected.gid()), "{path:?}");
    assert_eq!(u64::from(inode.nlink), expected.nlink(), "{path:?}");
    match inode.file_type {
        FileType::Directory => {
            let found = names(erofs, inode);
            let mut count = 2;
            for entry in fs::read_dir(path).expect("readable") {
                let entry = entry.expect("readable");
                let name = entry.file_name().into_encoded_bytes();
                let &(nid, file_type) = found.get(&name).expect("readdir shows it");
                assert_eq!(erofs.lookup(inode, &name), Ok(Some(nid)), "{path:?}");
                let child = erofs.inode(nid).expect("a good image");
                assert_eq!(child.file_type, file_type);
                compare(erofs, &child, &entry.path());
                count += 1;
            }
            assert_eq!(found.len(), count, "{path:?}");
            for absent in ["", "zzz", "0", "-", "file-", "xxxxxxxxxx", "\u{7f}"] {
                let is_there = found.contains_key(absent.as_bytes());
                assert!(is_there || erofs.lookup(inode, absent.as_bytes()) == Ok(None));
            }
        }
        FileType::Regular => {
            let data = fs::read(path).expect("readable");
            assert_eq!(inode.size, data.len() as u64);
            let mut read = vec![0xaa; data.len() + 10];
            assert_eq!(erofs.read(inode, 0, &mut read), Ok(data.len()), "{path:?}");
            assert_eq!(read[..data.len()], data, "{path:?}");
            for offset in [1, 4000, 4096, 5000, 12_288] {
                let mut part = [0; 5000];
                let count = erofs.read(inode, offset, &mut part).expect("a good image");
                let from = data.len().min(offset as usize);
                assert_eq!(part[..count], data[from..data.len().min(from + 5000)]);
            }
        }
        FileType::Symlink => {
            let target = fs::read_link(path).expect("a link").into_os_string();
            assert_eq!(erofs.read_link(inode), Ok(target.into_encoded_bytes()));
        }
        FileType::Fifo => assert!(expected.file_type().is_fifo()),
        other => panic!("{other:?} was not made"),
    }
}

fn check_image(options: &[&str]) {
    let (_directory, root) = tree();
    let image = ImageMemory::leak_for_tests(&make_image(&root, options));
    let erofs = Erofs::mount(image).expect("a good image");
    let inode = erofs.inode(erofs.root_nid).expect("a good image");
    compare(&erofs, &inode, &root);
}

#[test]
fn default_image_reads_as_its_tree() {
    check_image(&[]);
}

#[test]
fn compact_inodes_read_as_their_tree() {
    check_image(&["-E", "force-inode-compact"]);
}

#[test]
fn extended_inodes_read_as_their_tree() {
    check_image(&["-E", "force-inode-extended"]);
}

#[test]
fn files_without_inline_tails_read_as_their_tree() {
    check_image(&["-E", "noinline_data"]);
}

#[test]
fn chunk_indexes_read_as_their_tree() {
    check_image(&["--chunksize=4096"]);
}

#[test]
fn chunk_block_maps_read_as_their_tree() {
    check_image(&["--chunksize=16384", "-E", "force-chunk-blockmap"]);
}

#[test]
fn forced_chunk_indexes_read_as_their_tree() {
    check_image(&["--chunksize=8192", "-E", "force-chunk-indexes", "-E", "force-inode-extended"]);
}

#[test]
fn times_of_extended_inodes_are_the_files() {
    let (_directory, root) = tree();
    let bytes = make_image(&root, &["-E", "force-inode-extended", "--preserve-mtime"]);
    let erofs = Erofs::mount(ImageMemory::leak_for_tests(&bytes)).expect("a good image");
    let directory = erofs.inode(erofs.root_nid).expect("a good image");
    let nid = erofs.lookup(&directory, b"file-100").expect("a good image").expect("it is there");
    let expected = fs::metadata(root.join("file-100")).expect("it is there");
    let mtime = erofs.inode(nid).expect("a good image").mtime;
    assert_eq!(mtime.seconds, expected.mtime());
}

#[test]
fn hard_links_are_one_inode() {
    let (_directory, root) = tree();
    let erofs = Erofs::mount(ImageMemory::leak_for_tests(&make_image(&root, &[])));
    let erofs = erofs.expect("a good image");
    let directory = erofs.inode(erofs.root_nid).expect("a good image");
    let nid = |name: &[u8]| erofs.lookup(&directory, name).expect("a good image");
    assert_eq!(nid(b"file-100"), nid(b"hard-link"));
    assert_ne!(nid(b"file-100"), nid(b"file-2000"));
}

#[test]
fn compressed_file_is_refused_by_itself() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path().join("tree");
    fs::create_dir(&root).expect("writable");
    fs::write(root.join("squeezed"), vec![b'a'; 100_000]).expect("writable");
    fs::write(root.join("plain"), b"plain").expect("writable");
    let bytes = make_image(&root, &["-zlz4"]);
    let erofs = match Erofs::mount(ImageMemory::leak_for_tests(&bytes)) {
        Ok(erofs) => erofs,
        Err(error) => {
            assert_eq!(error.errno, Errno::EOPNOTSUPP);
            return;
        }
    };
    let directory = erofs.inode(erofs.root_nid).expect("a good image");
    let read = |name: &[u8]| {
        let nid = erofs.lookup(&directory, name).expect("a good image").expect("it is there");
        let inode = erofs.inode(nid).expect("a good image");
        erofs.read(&inode, 0, &mut [0; 100])
    };
    assert_eq!(read(b"squeezed"), Err(Errno::EOPNOTSUPP));
    assert_eq!(read(b"plain"), Ok(5));
}

#[test]
fn unknown_features_are_named() {
    let (_directory, root) = tree();
    let image = ImageMemory::leak_for_tests(&make_image(&root, &[]));
    image.overwrite_for_tests(1024 + 80, &0x20u32.to_le_bytes());
    let error = Erofs::mount(image).expect_err("fragments are not there");
    assert_eq!(error.errno, Errno::EOPNOTSUPP);
    assert_eq!(error.what, "fragments or deduplication");
    image.overwrite_for_tests(1024, b"what");
    assert_eq!(Erofs::mount(image).expect_err("no magic").errno, Errno::EINVAL);
    let nothing = ImageMemory::leak_for_tests(&[]);
    assert_eq!(Erofs::mount(nothing).expect_err("no image").errno, Errno::EINVAL);
}

/// Looks at everything that can be reached, with bounds of its own.
fn walk_all(erofs: &Erofs) -> usize {
    let mut steps = 0;
    let mut queue = vec![erofs.root_nid];
    while let Some(nid) = queue.pop() {
        steps += 1;
        if steps > 200 {
            break;
        }
        let Ok(inode) = erofs.inode(nid) else { continue };
        match inode.file_type {
            FileType::Directory => {
                let mut position = 0;
                for _ in 0..200 {
                    let Ok(Some(entry)) = erofs.entry_at(&inode, position) else { break };
                    assert!(entry.next > position, "a directory does not end");
                    position = entry.next;
                    let _ = erofs.lookup(&inode, entry.name.as_bytes());
                    queue.push(entry.nid);
                }
                let _ = erofs.lookup(&inode, b"file-100");
            }
            FileType::Symlink => drop(erofs.read_link(&inode)),
            _ => {
                let _ = erofs.read(&inode, 0, &mut [0; 20_000]);
                let _ = erofs.read(&inode, inode.size.saturating_sub(100), &mut [0; 200]);
                let offset = inode.size / 2;
                if let Ok(Extent::Image { len: 0, .. } | Extent::Hole { len: 0 }) =
                    erofs.extent(&inode, offset)
                {
                    panic!("an extent of no bytes: a loop that does not end");
                }
            }
        }
    }
    steps
}

#[test]
fn broken_images_do_no_harm() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path().join("tree");
    fs::create_dir(&root).expect("writable");
    let mut random = Random(7);
    for size in [0, 100, 4096, 6000, 20_000] {
        fs::write(root.join(format!("file-{size}")), random.bytes(size)).expect("writable");
    }
    fs::create_dir(root.join("directory")).expect("writable");
    for index in 0..300 {
        fs::write(root.join(format!("directory/{index:020}")), "").expect("writable");
    }
    symlink("directory", root.join("link")).expect("writable");
    for options in [&[][..], &["--chunksize=4096"], &["-E", "force-inode-extended"]] {
        let bytes = make_image(&root, options);
        let image = ImageMemory::leak_for_tests(&bytes);
        let mut mounted = 0;
        for _ in 0..3500 {
            let mut changes = Vec::new();
            for _ in 0..1 + random.below(8) {
                // Most changes where the metadata is: data cannot do harm.
                let end = if random.below(4) == 0 { bytes.len() as u64 } else { 20_000 };
                let offset = 1024 + random.below(end - 1024);
                let len = 1 + random.below(4) as usize;
                let len = len.min(bytes.len() - offset as usize);
                let value = match random.below(3) {
                    0 => vec![0xff; len],
                    1 => vec![0; len],
                    _ => random.bytes(len),
                };
                image.overwrite_for_tests(offset, &value);
                changes.push((offset as usize, len));
            }
            if let Ok(erofs) = Erofs::mount(image) {
                mounted += 1;
                assert!(walk_all(&erofs) > 0);
            }
            for (offset, len) in changes {
                image.overwrite_for_tests(offset as u64, &bytes[offset..offset + len]);
            }
        }
        assert!(mounted > 1000, "the changes must not all hit the superblock");
    }
}
