//! Files in memory, alone and over an image, against a naive model: random operations with a seed,
//! the same errno and the same tree after each.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::{mount, mount_over};
use crate::error::{Errno, Result};
use crate::fs::erofs::Erofs;
use crate::fs::erofs_test::Random;
use crate::fs::inode::{
    Feed, FilePage, FileType, InodeRef, NewInode, Removal, Replace, Seek, same,
};
use crate::mm::addr::{PAGE, UserAddr};
use crate::mm::frame;
use crate::mm::image::ImageMemory;
use crate::mm::user::{UserBuffer, UserSlice};

const NAMES: [&str; 5] = ["a", "b", "c", "dd", "eee"];
const FILE_SIZE_MAX: u64 = 40_000;

enum Content {
    Directory(BTreeMap<String, usize>),
    File(Vec<u8>),
    Symlink(String),
}

/// A tree as plain as can be: nodes by number, node 0 the root.
struct Model {
    nodes: Vec<Content>,
}

impl Model {
    fn entries(&self, directory: usize) -> &BTreeMap<String, usize> {
        match &self.nodes[directory] {
            Content::Directory(entries) => entries,
            _ => panic!("not a directory"),
        }
    }

    fn entries_mut(&mut self, directory: usize) -> &mut BTreeMap<String, usize> {
        match &mut self.nodes[directory] {
            Content::Directory(entries) => entries,
            _ => panic!("not a directory"),
        }
    }

    fn add(&mut self, directory: usize, name: &str, content: Content) -> Result<usize> {
        if self.entries(directory).contains_key(name) {
            return Err(Errno::EEXIST);
        }
        self.nodes.push(content);
        let node = self.nodes.len() - 1;
        self.entries_mut(directory).insert(name.into(), node);
        Ok(node)
    }

    fn is_directory(&self, node: usize) -> bool {
        matches!(self.nodes[node], Content::Directory(_))
    }

    fn is_within(&self, inner: usize, outer: usize) -> bool {
        inner == outer
            || self.is_directory(outer)
                && self.entries(outer).values().any(|&node| self.is_within(inner, node))
    }

    fn remove(&mut self, directory: usize, name: &str, removal: Removal) -> Result<()> {
        let &node = self.entries(directory).get(name).ok_or(Errno::ENOENT)?;
        match (removal, self.is_directory(node)) {
            (Removal::File, true) => return Err(Errno::EISDIR),
            (Removal::Directory, false) => return Err(Errno::ENOTDIR),
            (Removal::Directory, true) if !self.entries(node).is_empty() => {
                return Err(Errno::ENOTEMPTY);
            }
            _ => {}
        }
        self.entries_mut(directory).remove(name);
        Ok(())
    }

    fn rename(
        &mut self,
        (from, name): (usize, &str),
        (to, to_name): (usize, &str),
        replace: Replace,
    ) -> Result<()> {
        let &node = self.entries(from).get(name).ok_or(Errno::ENOENT)?;
        let old = self.entries(to).get(to_name).copied();
        if replace == Replace::Never && old.is_some() {
            return Err(Errno::EEXIST);
        }
        if self.is_directory(node) && self.is_within(to, node) {
            return Err(Errno::EINVAL);
        }
        if replace == Replace::Exchange {
            let old = old.ok_or(Errno::ENOENT)?;
            if self.is_directory(old) && self.is_within(from, old) {
                return Err(Errno::EINVAL);
            }
            self.entries_mut(from).insert(name.into(), old);
            self.entries_mut(to).insert(to_name.into(), node);
            return Ok(());
        }
        if let Some(old) = old {
            if old == node {
                return Ok(());
            }
            match (self.is_directory(node), self.is_directory(old)) {
                (true, true) if !self.entries(old).is_empty() => return Err(Errno::ENOTEMPTY),
                (true, false) => return Err(Errno::ENOTDIR),
                (false, true) => return Err(Errno::EISDIR),
                _ => {}
            }
        }
        self.entries_mut(from).remove(name);
        self.entries_mut(to).insert(to_name.into(), node);
        Ok(())
    }

    fn link_count(&self, node: usize) -> usize {
        let all = self.nodes.iter().filter_map(|content| match content {
            Content::Directory(entries) => Some(entries),
            _ => None,
        });
        all.map(|entries| entries.values().filter(|&&n| n == node).count()).sum()
    }

    /// Writes the tree to the host's disk, for mkfs.erofs. Hard links become files of their own.
    fn write_to(&self, node: usize, path: &Path) {
        match &self.nodes[node] {
            Content::Directory(entries) => {
                std::fs::create_dir(path).expect("writable");
                for (name, &child) in entries {
                    self.write_to(child, &path.join(name));
                }
            }
            Content::File(bytes) => std::fs::write(path, bytes).expect("writable"),
            Content::Symlink(target) => {
                std::os::unix::fs::symlink(target, path).expect("writable");
            }
        }
    }
}

fn new(file_type: FileType, target: &[u8]) -> NewInode<'_> {
    NewInode { file_type, permissions: 0o644, uid: 0, gid: 0, rdev: 0, target }
}

pub(crate) fn read(inode: &InodeRef, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0xee; len];
    let range = [UserSlice { addr: UserAddr(bytes.as_mut_ptr() as u64), len }];
    let count = inode.read_at(offset, &mut UserBuffer::new(&range))?;
    bytes.truncate(count);
    Ok(bytes)
}

pub(crate) fn write(inode: &InodeRef, offset: u64, bytes: &[u8]) -> Result<usize> {
    let range = [UserSlice { addr: UserAddr(bytes.as_ptr() as u64), len: bytes.len() }];
    inode.write_at(offset, &mut UserBuffer::new(&range))
}

fn names(directory: &InodeRef) -> BTreeMap<String, (u64, FileType)> {
    let mut found = BTreeMap::new();
    let mut position = 0;
    loop {
        // A few at a time: the positions must hold.
        let mut count = 0;
        directory
            .read_directory(position, &mut |entry| {
                if count == 3 {
                    return Feed::Full;
                }
                count += 1;
                position = entry.next;
                let name = String::from_utf8(entry.name.to_vec()).expect("ours");
                assert!(found.insert(name, (entry.ino, entry.file_type)).is_none(), "shown twice");
                Feed::More
            })
            .expect("a directory");
        if count == 0 {
            break;
        }
    }
    assert!(found.remove(".").is_some() && found.remove("..").is_some());
    found
}

fn page_bytes(inode: &InodeRef, index: u64) -> Vec<u8> {
    let mut bytes = vec![0; PAGE];
    match inode.page(index).expect("inside of the file") {
        FilePage::Frame(frame) => frame.read(0, &mut bytes),
        FilePage::Image(phys) => {
            let (run, count) = inode.image_run(index).expect("it lies in the image");
            assert!(run == phys && count > 0);
            inode.read_kernel(index * PAGE as u64, &mut bytes).expect("readable");
        }
    }
    bytes
}

fn check(model: &Model, node: usize, inode: &InodeRef, is_root: bool) {
    let metadata = inode.metadata();
    match &model.nodes[node] {
        Content::Directory(entries) => {
            let shown = names(inode);
            assert_eq!(shown.keys().collect::<Vec<_>>(), entries.keys().collect::<Vec<_>>());
            let mut sub_directories = 0;
            for (name, &child) in entries {
                let found = inode.lookup(name.as_bytes()).expect("the model has it");
                let child_metadata = found.metadata();
                assert_eq!(shown[name], (child_metadata.ino, found.file_type()), "{name}");
                if model.is_directory(child) {
                    sub_directories += 1;
                    let place = found.place().expect("a directory knows its place");
                    assert!(same(&place.directory, inode) && *place.name == *name.as_bytes());
                }
                check(model, child, &found, false);
            }
            assert_eq!(metadata.nlink, 2 + sub_directories);
            assert!(is_root == inode.place().is_none());
        }
        Content::File(bytes) => {
            assert_eq!(metadata.size, bytes.len() as u64);
            assert_eq!(metadata.nlink as usize, model.link_count(node));
            assert_eq!(&read(inode, 0, bytes.len() + 100).expect("readable"), bytes);
            let mut kernel = vec![1; bytes.len() + 1];
            assert_eq!(inode.read_kernel(0, &mut kernel), Ok(bytes.len()));
            assert_eq!(&kernel[..bytes.len()], bytes);
        }
        Content::Symlink(target) => {
            assert_eq!(inode.read_link().expect("a link"), target.as_bytes());
            assert_eq!(metadata.size, target.len() as u64);
        }
    }
}

struct Player {
    random: Random,
    model: Model,
    root: InodeRef,
    /// Open files: they live on when their names are gone.
    open: Vec<(usize, InodeRef)>,
}

impl Player {
    fn name(&mut self) -> &'static str {
        NAMES[self.random.below(NAMES.len() as u64) as usize]
    }

    /// A random directory, in both worlds.
    fn directory(&mut self) -> (usize, InodeRef) {
        let (mut node, mut inode) = (0, self.root.clone());
        for _ in 0..self.random.below(4) {
            let name = self.name();
            match self.model.entries(node).get(name) {
                Some(&child) if self.model.is_directory(child) => {
                    inode = inode.lookup(name.as_bytes()).expect("the model has it");
                    node = child;
                }
                _ => {}
            }
        }
        (node, inode)
    }

    /// A random file, in both worlds.
    fn file(&mut self) -> Option<(usize, InodeRef)> {
        if !self.open.is_empty() && self.random.below(4) == 0 {
            let index = self.random.below(self.open.len() as u64) as usize;
            return Some(self.open[index].clone());
        }
        let (node, inode) = self.directory();
        let name = self.name();
        let &child = self.model.entries(node).get(name)?;
        matches!(self.model.nodes[child], Content::File(_))
            .then(|| (child, inode.lookup(name.as_bytes()).expect("the model has it")))
    }

    fn play(&mut self) {
        match self.random.below(16) {
            0..3 => self.create(),
            3 => self.remove(),
            4 | 5 => self.rename(),
            6 => self.link(),
            7..11 => self.write(),
            11 => self.truncate(),
            12 => self.punch(),
            13 => self.read_somewhere(),
            14 => self.look_at_page(),
            _ => {
                if let Some(file) = self.file()
                    && self.open.len() < 5
                {
                    self.open.push(file);
                } else {
                    self.open.pop();
                }
            }
        }
    }

    fn create(&mut self) {
        let (node, inode) = self.directory();
        let name = self.name();
        let (content, new) = match self.random.below(4) {
            0 => (Content::Symlink("target".into()), new(FileType::Symlink, b"target")),
            1 => (Content::Directory(BTreeMap::new()), new(FileType::Directory, b"")),
            _ => (Content::File(Vec::new()), new(FileType::Regular, b"")),
        };
        let expected = self.model.add(node, name, content).map(|_| ());
        assert_eq!(inode.create(name.as_bytes(), &new).map(|_| ()), expected);
    }

    fn remove(&mut self) {
        let (node, inode) = self.directory();
        let name = self.name();
        let removal = if self.random.below(3) == 0 { Removal::File } else { Removal::Directory };
        let expected = self.model.remove(node, name, removal);
        assert_eq!(inode.remove(name.as_bytes(), removal), expected);
    }

    fn rename(&mut self) {
        let (from, from_inode) = self.directory();
        let (to, to_inode) = self.directory();
        let (name, to_name) = (self.name(), self.name());
        let replace = match self.random.below(4) {
            0 => Replace::Never,
            1 => Replace::Exchange,
            _ => Replace::Allowed,
        };
        let expected = self.model.rename((from, name), (to, to_name), replace);
        let outcome = from_inode.rename(name.as_bytes(), &to_inode, to_name.as_bytes(), replace);
        assert_eq!(outcome, expected, "{name} to {to_name}, {replace:?}");
    }

    fn link(&mut self) {
        let Some((file, file_inode)) = self.file() else { return };
        let (node, inode) = self.directory();
        let name = self.name();
        let expected = match self.model.entries(node).contains_key(name) {
            true => Err(Errno::EEXIST),
            false if self.model.link_count(file) == 0 => Err(Errno::ENOENT),
            false => {
                self.model.entries_mut(node).insert(name.into(), file);
                Ok(())
            }
        };
        assert_eq!(inode.link(name.as_bytes(), &file_inode), expected);
    }

    fn bytes_of(&mut self, file: usize) -> &mut Vec<u8> {
        match &mut self.model.nodes[file] {
            Content::File(bytes) => bytes,
            _ => panic!("not a file"),
        }
    }

    /// An offset that is often on the edge of a page.
    fn offset(&mut self) -> u64 {
        match self.random.below(3) {
            0 => self.random.below(10) * PAGE as u64,
            _ => self.random.below(FILE_SIZE_MAX),
        }
    }

    fn write(&mut self) {
        let Some((file, inode)) = self.file() else { return };
        let offset = self.offset();
        let len = match self.random.below(3) {
            0 => PAGE,
            _ => self.random.below(10_000) as usize,
        };
        let data = self.random.bytes(len);
        let expected = self.bytes_of(file);
        if len > 0 {
            let end = offset as usize + len;
            expected.resize(expected.len().max(end), 0);
            expected[offset as usize..end].copy_from_slice(&data);
            assert_eq!(write(&inode, offset, &data), Ok(len));
        }
    }

    fn truncate(&mut self) {
        let Some((file, inode)) = self.file() else { return };
        let size = self.offset();
        self.bytes_of(file).resize(size as usize, 0);
        assert_eq!(inode.truncate(size), Ok(()));
    }

    fn punch(&mut self) {
        let Some((file, inode)) = self.file() else { return };
        let (offset, len) = (self.offset(), 1 + self.offset());
        let bytes = self.bytes_of(file);
        let end = bytes.len().min((offset + len) as usize);
        if let Some(hole) = bytes.get_mut(offset as usize..end) {
            hole.fill(0);
        }
        assert_eq!(inode.punch_hole(offset, len), Ok(()));
    }

    fn read_somewhere(&mut self) {
        let Some((file, inode)) = self.file() else { return };
        let (offset, len) = (self.offset(), self.offset() as usize);
        let bytes = self.bytes_of(file);
        let from = bytes.len().min(offset as usize);
        let to = bytes.len().min(from + len);
        assert_eq!(read(&inode, offset, len).expect("readable"), bytes[from..to]);
        let data = inode.seek(offset, Seek::Data);
        let first = bytes[from..].iter().position(|&b| b != 0).map(|at| (from + at) as u64);
        match (data, first) {
            (Ok(data), Some(first)) => assert!((offset..=first).contains(&data)),
            (Err(errno), Some(_)) => panic!("{errno:?}, but there is data"),
            _ => {}
        }
    }

    fn look_at_page(&mut self) {
        let Some((file, inode)) = self.file() else { return };
        let index = self.random.below(12);
        let for_write = self.random.below(3) == 0;
        let bytes = self.bytes_of(file);
        let start = index as usize * PAGE;
        if start >= bytes.len() {
            assert!(matches!(inode.page(index), Err(Errno::ENXIO)));
            assert!(matches!(inode.page_for_write(index), Err(Errno::ENXIO)));
            return;
        }
        let mut expected = bytes[start..bytes.len().min(start + PAGE)].to_vec();
        expected.resize(PAGE, 0);
        if for_write {
            // A store through a shared mapping.
            let frame = inode.page_for_write(index).expect("memory");
            bytes[start] = 0x5a;
            expected[0] = 0x5a;
            frame.write(0, &[0x5a]);
        }
        assert_eq!(page_bytes(&inode, index), expected);
    }
}

fn play_all(root: InodeRef, model: Model, seed: u64, rounds: usize) {
    let mut player = Player { random: Random(seed), model, root, open: Vec::new() };
    check(&player.model, 0, &player.root, true);
    for round in 0..rounds {
        player.play();
        if round % 50 == 0 {
            check(&player.model, 0, &player.root, true);
        }
    }
    check(&player.model, 0, &player.root, true);
}

#[test]
fn memory_file_system_behaves_as_the_model() {
    frame::initialise_for_tests();
    for seed in 1..=4 {
        let root = mount(1, 1 << 20, 0o755, &[]);
        let model = Model { nodes: vec![Content::Directory(BTreeMap::new())] };
        play_all(root, model, seed, 4000);
    }
}

/// A tree to begin with, of the same names.
fn lower_model(random: &mut Random) -> Model {
    let mut model = Model { nodes: vec![Content::Directory(BTreeMap::new())] };
    let mut directories = vec![0];
    for _ in 0..60 {
        let directory = directories[random.below(directories.len() as u64) as usize];
        let name = NAMES[random.below(5) as usize];
        let content = match random.below(5) {
            0 | 1 => Content::Directory(BTreeMap::new()),
            2 => Content::Symlink("lower".into()),
            _ => {
                let len = random.below(FILE_SIZE_MAX) as usize;
                Content::File(random.bytes(len))
            }
        };
        if let Ok(node) = model.add(directory, name, content)
            && model.is_directory(node)
        {
            directories.push(node);
        }
    }
    model
}

#[test]
fn layer_over_an_image_behaves_as_the_model() {
    frame::initialise_for_tests();
    let options =
        [&[][..], &["--chunksize=4096"], &["-E", "noinline_data"], &["-E", "force-inode-extended"]];
    for (seed, options) in (11..).zip(options) {
        let model = lower_model(&mut Random(seed));
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (tree, image) = (directory.path().join("tree"), directory.path().join("image"));
        model.write_to(0, &tree);
        let status = Command::new("mkfs.erofs").args(options).arg(&image).arg(&tree).output();
        assert!(status.expect("mkfs.erofs is installed").status.success());
        let image = ImageMemory::leak_for_tests(&std::fs::read(&image).expect("it was made"));
        let erofs = Erofs::mount(image).expect("a good image");
        let root = mount_over(1, 1 << 20, erofs, &[]).expect("a good image");
        play_all(root, model, seed, 4000);
    }
}

#[test]
fn untouched_pages_of_a_written_file_stay_in_the_image() {
    frame::initialise_for_tests();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (tree, image) = (directory.path().join("tree"), directory.path().join("image"));
    std::fs::create_dir(&tree).expect("writable");
    std::fs::write(tree.join("file"), [7; 5 * PAGE]).expect("writable");
    let status = Command::new("mkfs.erofs").arg(&image).arg(&tree).output();
    assert!(status.expect("mkfs.erofs is installed").status.success());
    let image = ImageMemory::leak_for_tests(&std::fs::read(&image).expect("it was made"));
    let root = mount_over(1, 1 << 20, Erofs::mount(image).expect("a good image"), &[]);
    let file = root.expect("a good image").find(b"file").expect("it is there");
    let file: InodeRef = file;
    let ino = file.metadata().ino;
    assert_eq!(file.image_run(0).map(|(_, count)| count), Some(5));
    write(&file, 2 * PAGE as u64 + 5, b"x").expect("memory");
    assert_eq!(file.image_run(0).map(|(_, count)| count), Some(2));
    assert_eq!(file.image_run(2), None);
    assert_eq!(file.image_run(3).map(|(_, count)| count), Some(2));
    assert!(matches!(file.page(2), Ok(FilePage::Frame(_))));
    assert!(matches!(file.page(4), Ok(FilePage::Image(_))));
    assert_eq!(file.metadata().ino, ino);
}

#[test]
fn page_limit_is_enospc_and_comes_back() {
    frame::initialise_for_tests();
    let root: InodeRef = mount(1, 3, 0o755, &[]);
    let file = root.create(b"file", &new(FileType::Regular, b"")).expect("room");
    assert_eq!(write(&file, 0, &[1; 5 * PAGE]), Ok(3 * PAGE));
    assert_eq!(write(&file, 3 * PAGE as u64, b"x"), Err(Errno::ENOSPC));
    assert_eq!(file.allocate(0, 4 * PAGE as u64), Err(Errno::ENOSPC));
    assert_eq!(file.truncate(PAGE as u64), Ok(()));
    assert_eq!(write(&file, PAGE as u64, &[1; 2 * PAGE]), Ok(2 * PAGE));
    root.remove(b"file", Removal::File).expect("it is there");
    assert_eq!(root.statfs().bfree, 0);
    drop(file);
    assert_eq!(root.statfs().bfree, 3);
}

#[test]
fn positions_hold_while_names_come_and_go() {
    frame::initialise_for_tests();
    let root: InodeRef = mount(1, 100, 0o755, &[]);
    for index in 0..50 {
        let name = format!("{index}");
        root.create(name.as_bytes(), &new(FileType::Regular, b"")).expect("room");
    }
    // As rm -r: look at some, remove them, go on.
    let (mut position, mut removed) = (0, 0);
    loop {
        let mut batch = Vec::new();
        root.read_directory(position, &mut |entry| {
            if batch.len() == 7 {
                return Feed::Full;
            }
            position = entry.next;
            batch.push(entry.name.to_vec());
            Feed::More
        })
        .expect("a directory");
        if batch.is_empty() {
            break;
        }
        for name in batch.iter().filter(|name| !name.starts_with(b".")) {
            root.remove(name, Removal::File).expect("it is there");
            removed += 1;
        }
    }
    assert_eq!(removed, 50);
}
