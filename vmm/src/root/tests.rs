//! Images are checked by the reference tools: fsck.erofs reads every one and extracts it, and what
//! comes out must equal what went in.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::tree::Kind;
use super::*;

fn config(program: &str) -> Config {
    Config::new(program).cwd("/")
}

fn build_for(config: &Config) -> Root {
    build(config, &Program::find(config).unwrap()).unwrap()
}

/// The image of a directory, with nothing else in it.
fn image_of(directory: &Path) -> Image {
    erofs::write(&mut tree_of(directory), LEN_MAX).unwrap()
}

fn tree_of(directory: &Path) -> Tree {
    let mut tree = Tree::new(directory, Missing::Plain).unwrap();
    tree.add_directory(directory, Path::new("/")).unwrap();
    assert_eq!(tree.warnings, Vec::<String>::new());
    tree
}

fn run(tool: &str, arguments: &[&OsStr]) -> Output {
    let output = Command::new(tool)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{tool}: {error}: install erofs-utils"));
    assert!(output.status.success(), "{tool} {arguments:?}: {output:?}");
    output
}

/// Writes the image to a file and lets fsck.erofs read all of it.
fn check(image: &Image, scratch: &TempDir) -> PathBuf {
    assert_eq!(image.len % BLOCK_SIZE, 0);
    let mut end = 0;
    for piece in &image.pieces {
        assert!(piece.offset % BLOCK_SIZE == 0 && piece.offset >= end, "{:#x}", piece.offset);
        end = piece.offset
            + match &piece.content {
                Content::Bytes(bytes) => bytes.len() as u64,
                Content::File(host_file) => host_file.len,
            };
    }
    assert!(image.len >= end);
    let path = scratch.path().join("image.erofs");
    image.write_to(File::create(&path).unwrap()).unwrap();
    assert_eq!(path.metadata().unwrap().len(), image.len);
    run("fsck.erofs", &[path.as_os_str()]);
    path
}

/// Checks the image and extracts it.
fn extract(image: &Image, scratch: &TempDir) -> PathBuf {
    let path = check(image, scratch);
    let target = scratch.path().join("extracted");
    let mut option = OsString::from("--extract=");
    option.push(&target);
    run("fsck.erofs", &[&option, OsStr::new("--preserve-perms"), path.as_os_str()]);
    target
}

fn stat_of(image: &Path, path: &str) -> String {
    let option = OsString::from(format!("--path={path}"));
    let output = run("dump.erofs", &[&option, image.as_os_str()]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// One line for each file: all that an image keeps of it.
fn list(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(here) = pending.pop() {
        for entry in fs::read_dir(&here).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let content = if metadata.is_dir() {
                pending.push(path.clone());
                "directory".to_string()
            } else if metadata.is_symlink() {
                format!("{:?}", fs::read_link(&path).unwrap())
            } else {
                format!("{:x}", crc32c::crc32c(&fs::read(&path).unwrap()))
            };
            let mode = metadata.mode();
            let line = format!(
                "{mode:o} {} {content}",
                if metadata.is_dir() { 0 } else { metadata.len() }
            );
            found.insert(path.strip_prefix(directory).unwrap().to_path_buf(), line);
        }
    }
    found
}

fn assert_round_trip(source: &Path) {
    let scratch = TempDir::new().unwrap();
    let extracted = extract(&image_of(source), &scratch);
    let (expected, found) = (list(source), list(&extracted));
    assert_eq!(expected.len(), found.len());
    for (path, line) in &expected {
        assert_eq!(Some(line), found.get(path), "{}", path.display());
    }
}

#[test]
fn empty_directory_is_one_block() {
    let source = TempDir::new().unwrap();
    let image = image_of(source.path());
    assert_eq!(image.len, BLOCK_SIZE);
    assert_round_trip(source.path());
}

#[test]
fn names_and_sizes_of_every_kind_survive() {
    let source = TempDir::new().unwrap();
    let base = source.path();
    for len in [0usize, 1, 4031, 4032, 4033, 4095, 4096, 4097, 12_288, 100_000] {
        let data: Vec<u8> = (0..len).map(|index| (index * 7 + len) as u8).collect();
        fs::write(base.join(format!("file-{len}")), data).unwrap();
    }
    for len in [1usize, 59, 60, 255, 1000, 2000, 4000] {
        symlink("x".repeat(len), base.join(format!("link-{len}"))).unwrap();
    }
    fs::write(base.join(OsStr::from_bytes(b"not \xff\xfe utf-8 \n")), "1").unwrap();
    fs::write(base.join("n".repeat(255)), "2").unwrap();
    for name in ["!before-dots", "-dash", ".hidden", "..twodots", "...", "~last"] {
        fs::create_dir(base.join(name)).unwrap();
    }
    fs::set_permissions(base.join("-dash"), fs::Permissions::from_mode(0o1751)).unwrap();
    assert_round_trip(base);
}

#[test]
fn wide_directories_take_several_blocks() {
    let source = TempDir::new().unwrap();
    for index in 0..3000 {
        fs::write(source.path().join(format!("name-{index}")), format!("{index}")).unwrap();
    }
    // Sixteen names of 244 bytes fill a block exactly with their entries.
    for width in [243, 244, 255] {
        let directory = source.path().join(format!("wide-{width}"));
        fs::create_dir(&directory).unwrap();
        for index in 0..100 {
            fs::create_dir(directory.join(format!("{index:0width$}"))).unwrap();
        }
    }
    assert_round_trip(source.path());
}

#[test]
fn directory_sizes_around_a_block() {
    let source = TempDir::new().unwrap();
    // `.` and `..` take 27 bytes, every other entry 12 and its name.
    for total in [4030usize, 4031, 4032, 4033, 4095, 4096, 4097, 8191, 8192, 8193] {
        let directory = source.path().join(format!("total-{total}"));
        fs::create_dir(&directory).unwrap();
        let mut left = total - 27;
        let mut index = 0;
        while left > 0 {
            let take = if left > 267 + 20 {
                200
            } else if left > 267 {
                left - 20
            } else {
                left
            };
            let name_len = (take - 12).max(4);
            fs::write(directory.join(format!("{index:0name_len$}")), "").unwrap();
            left = left.saturating_sub(name_len + 12);
            index += 1;
        }
    }
    assert_round_trip(source.path());
}

#[test]
fn deep_trees() {
    let source = TempDir::new().unwrap();
    let mut path = source.path().to_path_buf();
    for depth in 0..500 {
        path.push(format!("d{}", depth % 10));
    }
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("leaf"), "leaf").unwrap();
    assert_round_trip(source.path());
}

#[test]
fn hard_links_are_one_inode() {
    let source = TempDir::new().unwrap();
    fs::create_dir(source.path().join("d")).unwrap();
    fs::write(source.path().join("a"), "content").unwrap();
    fs::hard_link(source.path().join("a"), source.path().join("d/b")).unwrap();
    let image = image_of(source.path());
    let files = image.pieces.iter().filter(|piece| matches!(piece.content, Content::File(_)));
    assert_eq!(files.count(), 1);
    let scratch = TempDir::new().unwrap();
    let path = check(&image, &scratch);
    let nid = |path_in: &str| {
        let stat = stat_of(&path, path_in);
        assert!(stat.contains("Links: 2"), "{stat}");
        stat.split("NID: ").nth(1).unwrap().split_whitespace().next().unwrap().to_string()
    };
    assert_eq!(nid("/a"), nid("/d/b"));
}

#[test]
fn devices_and_fifos_keep_their_numbers() {
    let scratch = TempDir::new().unwrap();
    let fifo = scratch.path().join("fifo");
    run("mkfifo", &[fifo.as_os_str()]);
    let mut tree = Tree::new(scratch.path(), Missing::Plain).unwrap();
    tree.add_file(&fifo, Path::new("/fifo")).unwrap();
    tree.add_file(Path::new("/dev/null"), Path::new("/null")).unwrap();
    let image = erofs::write(&mut tree, LEN_MAX).unwrap();
    let path = check(&image, &scratch);
    let stat = stat_of(&path, "/null");
    assert!(stat.contains("Access: 0666") && stat.contains("char dev"), "{stat}");
    assert!(stat_of(&path, "/fifo").contains("fifo"));
    // rdev 1:3 in the inode of /null.
    let Content::Bytes(bytes) = &image.pieces[0].content else { panic!("no metadata") };
    let is_null = |inode: &[u8]| inode[4..6] == [0xb6, 0x21] && inode[16..20] == [3, 1, 0, 0];
    assert!(bytes[1152..].chunks_exact(64).any(is_null));
}

#[test]
fn metadata_come_from_the_host() {
    let source = TempDir::new().unwrap();
    let path = source.path().join("f");
    fs::write(&path, "12345").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4751)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_234_567_890, 123_456_789);
    File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    let image = image_of(source.path());
    let Content::Bytes(bytes) = &image.pieces[0].content else { panic!("no metadata") };
    let mut expected = fs::metadata(&path).unwrap().uid().to_le_bytes().to_vec();
    expected.extend(fs::metadata(&path).unwrap().gid().to_le_bytes());
    expected.extend(1_234_567_890u64.to_le_bytes());
    expected.extend(123_456_789u32.to_le_bytes());
    expected.extend(1u32.to_le_bytes());
    assert!(bytes.windows(expected.len()).any(|window| window == expected));
}

#[test]
fn many_files_are_read_instead_of_mapped() {
    let source = TempDir::new().unwrap();
    for index in 1..50usize {
        fs::write(source.path().join(format!("{index}")), vec![index as u8; index * 300]).unwrap();
    }
    let image = erofs::write_with(&mut tree_of(source.path()), LEN_MAX, 10).unwrap();
    let mapped = image.pieces.iter().filter(|piece| matches!(piece.content, Content::File(_)));
    assert_eq!((mapped.count(), image.pieces.len()), (10, 12));
    let scratch = TempDir::new().unwrap();
    let extracted = extract(&image, &scratch);
    assert_eq!(list(source.path()), list(&extracted));
}

#[test]
fn equal_trees_give_equal_images() {
    let source = TempDir::new().unwrap();
    for index in 0..300 {
        fs::write(source.path().join(format!("{}", index * 7919 % 1009)), "x").unwrap();
    }
    assert_eq!(image_of(source.path()), image_of(source.path()));
    let echo = config("/bin/echo");
    assert_eq!(build_for(&echo).image, build_for(&echo).image);
}

#[test]
fn image_has_a_bound() {
    let source = TempDir::new().unwrap();
    File::create(source.path().join("sparse")).unwrap().set_len(1 << 40).unwrap();
    let error = erofs::write(&mut tree_of(source.path()), LEN_MAX).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert_eq!(error.exit_code(), 125);
    let error = erofs::write_with(&mut tree_of(source.path()), LEN_MAX, 0).unwrap_err();
    assert!(matches!(error, Error::TooManyFiles { .. }), "{error}");
}

#[test]
fn sockets_are_left_out_and_unreadable_files_are_named() {
    let source = TempDir::new().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(source.path().join("socket")).unwrap();
    fs::write(source.path().join("f"), "x").unwrap();
    let scratch = TempDir::new().unwrap();
    let extracted = extract(&image_of(source.path()), &scratch);
    assert_eq!(list(&extracted).into_keys().collect::<Vec<_>>(), [PathBuf::from("f")]);

    let mut tree = Tree::new(source.path(), Missing::Plain).unwrap();
    let missing = source.path().join("missing");
    let error = tree.add_file(&missing, Path::new("/m")).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
    assert_eq!(error.exit_code(), 125);
}

#[test]
fn echo_has_its_libraries_and_links_in_few_pages() {
    let root = build_for(&config("/bin/echo"));
    assert_eq!(root.program, Path::new("/bin/echo"));
    let Content::Bytes(metadata) = &root.image.pieces[0].content else { panic!("no metadata") };
    assert!(metadata.len() <= 3 * 4096, "{}", metadata.len());
    let scratch = TempDir::new().unwrap();
    let extracted = extract(&root.image, &scratch);
    // The extracted root works: its own ld.so finds its own libraries.
    let same = |path: &str| {
        let real = fs::canonicalize(path).unwrap();
        let resolved = resolve::resolve(&extracted, Path::new(path)).unwrap();
        assert_eq!(resolved.strip_prefix(&extracted), real.strip_prefix("/"));
        assert!(fs::read(resolved).unwrap() == fs::read(real).unwrap());
    };
    same("/bin/echo");
    same("/lib64/ld-linux-x86-64.so.2");
    same("/lib/x86_64-linux-gnu/libc.so.6");
    for name in ["dev", "proc", "tmp"] {
        assert_eq!(fs::read_dir(extracted.join(name)).unwrap().count(), 0);
    }
    assert_eq!(fs::metadata(extracted.join("tmp")).unwrap().mode() & 0o7777, 0o1777);
    assert!(!extracted.join("etc").exists());
}

/// lddtree, a crate that knows ld.so's rules, is the judge of the closure.
#[test]
fn closure_agrees_with_lddtree() {
    for program in ["/bin/echo", "/usr/bin/python3", "/bin/ls", "/usr/bin/git", "/usr/bin/gcc"] {
        if !Path::new(program).exists() {
            continue;
        }
        let found = Program::find(&config(program)).unwrap();
        let elf = found.chain[0].elf.as_ref().unwrap();
        let paths = closure::find(&found.path, elf, &[], Path::new("/")).unwrap();
        let mut ours: Vec<PathBuf> =
            paths.iter().map(|path| path.canonicalize().unwrap()).collect();
        let tree = lddtree::DependencyAnalyzer::default().analyze(program).unwrap();
        let libraries = tree.libraries.into_values();
        let mut theirs: Vec<PathBuf> =
            libraries.map(|library| library.realpath.expect("found")).collect();
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "{program}");
    }
}

fn compile(directory: &Path, arguments: &[&str]) {
    let output = Command::new("gcc").current_dir(directory).args(arguments).output().unwrap();
    assert!(output.status.success(), "gcc {arguments:?}: {output:?}");
}

/// A program that needs liba, which needs libb; both in a directory of their own.
fn program_with_libraries(arguments: &[&str]) -> TempDir {
    let base = TempDir::new().unwrap();
    let directory = base.path();
    fs::create_dir(directory.join("lib")).unwrap();
    fs::write(directory.join("b.c"), "int b(void) { return 6; }").unwrap();
    fs::write(directory.join("a.c"), "int b(void); int a(void) { return b(); }").unwrap();
    fs::write(directory.join("p.c"), "int a(void); int main(void) { return a(); }").unwrap();
    compile(directory, &["-shared", "-fPIC", "-o", "lib/libb.so", "b.c"]);
    compile(directory, &["-shared", "-fPIC", "-o", "lib/liba.so", "a.c", "-Llib", "-lb"]);
    let program = ["-o", "p", "p.c", "-Llib", "-la", "-Wl,-rpath-link,lib"];
    compile(directory, &[&program[..], arguments].concat());
    base
}

fn libraries_of(base: &TempDir, environment: &[OsString]) -> Result<Vec<PathBuf>, Error> {
    let path = base.path().join("p");
    let found = Program::find(&config(path.to_str().unwrap())).unwrap();
    let paths =
        closure::find(&path, found.chain[0].elf.as_ref().unwrap(), environment, Path::new("/"))?;
    let in_base = paths.into_iter().filter(|path| path.starts_with(base.path()));
    Ok(in_base.map(|path| PathBuf::from(path.file_name().unwrap())).collect())
}

#[test]
fn rpath_is_inherited_and_runpath_is_not() {
    let both = [PathBuf::from("liba.so"), PathBuf::from("libb.so")];
    let rpath = program_with_libraries(&["-Wl,--disable-new-dtags,-rpath,$ORIGIN/lib"]);
    assert_eq!(libraries_of(&rpath, &[]).unwrap(), both);
    let runpath = program_with_libraries(&["-Wl,--enable-new-dtags,-rpath,$ORIGIN/lib"]);
    let error = libraries_of(&runpath, &[]).unwrap_err();
    assert!(error.to_string().starts_with("libb.so: shared library not found, "), "{error}");
    assert!(error.to_string().contains("liba.so needs it"), "{error}");
    assert_eq!(error.exit_code(), 127);
    let plain = program_with_libraries(&[]);
    assert!(libraries_of(&plain, &[]).is_err());
    let mut variable = OsString::from("LD_LIBRARY_PATH=/nowhere:");
    variable.push(plain.path().join("lib"));
    assert_eq!(libraries_of(&plain, std::slice::from_ref(&variable)).unwrap(), both);
    assert!(libraries_of(&runpath, &[OsString::from("LD_LIBRARY_PATH=")]).is_err());
    let mut preload = OsString::from("LD_PRELOAD=");
    preload.push(rpath.path().join("lib/libb.so"));
    assert!(libraries_of(&rpath, &[preload]).unwrap().contains(&both[1]));
}

#[test]
fn static_programs_need_nothing() {
    let base = TempDir::new().unwrap();
    fs::write(base.path().join("p.c"), "int main(void) { return 0; }").unwrap();
    compile(base.path(), &["-static", "-o", "p", "p.c"]);
    let path = base.path().join("p");
    let root = build_for(&config(path.to_str().unwrap()));
    assert_eq!(root.image.pieces.len(), 2);
}

#[test]
fn additions_are_merged() {
    let host = TempDir::new().unwrap();
    fs::create_dir_all(host.path().join("bin/sub")).unwrap();
    fs::write(host.path().join("bin/tool"), "tool").unwrap();
    symlink("tool", host.path().join("bin/alias")).unwrap();
    let addition = |host: &Path, guest: &str| Addition { host: host.into(), guest: guest.into() };
    let mut config = config("/bin/echo");
    config.cwd = Some("/srv/here".into());
    config.additions = vec![
        addition(host.path(), "/"),
        addition(&host.path().join("bin/alias"), "/data/copy"),
        addition(host.path(), "/data/tree"),
        addition(Path::new("/etc/passwd"), "/etc/passwd"),
    ];
    let root = build_for(&config);
    assert_eq!(root.cwd, Path::new("/srv/here"));
    let scratch = TempDir::new().unwrap();
    let extracted = extract(&root.image, &scratch);
    // /bin is a link to usr/bin on the host and stays one.
    assert_eq!(
        extracted.join("bin").symlink_metadata().unwrap().is_symlink(),
        Path::new("/bin").symlink_metadata().unwrap().is_symlink()
    );
    assert_eq!(fs::read(extracted.join("bin/tool")).unwrap(), b"tool");
    assert_eq!(fs::read_link(extracted.join("data/tree/bin/alias")).unwrap(), Path::new("tool"));
    assert!(extracted.join("data/copy").symlink_metadata().unwrap().is_file());
    assert!(extracted.join("data/tree/bin/sub").is_dir());
    assert!(extracted.join("srv/here").is_dir());
    assert_eq!(fs::read(extracted.join("etc/passwd")).unwrap(), fs::read("/etc/passwd").unwrap());

    config.additions = vec![addition(Path::new("/etc/passwd"), "/bin/echo/x")];
    let error = build(&config, &Program::find(&config).unwrap()).unwrap_err();
    assert!(matches!(error, Error::NotADirectory(_)), "{error}");
}

#[test]
fn link_loops_end() {
    let host = TempDir::new().unwrap();
    symlink("b", host.path().join("a")).unwrap();
    symlink("a", host.path().join("b")).unwrap();
    let mut tree = Tree::new(Path::new("/"), Missing::Host).unwrap();
    assert!(matches!(tree.mirror(&host.path().join("a")), Err(Error::LinkLoop(_))));
    assert_round_trip(host.path());
}

#[test]
fn a_directory_is_a_whole_root() {
    let host = TempDir::new().unwrap();
    fs::create_dir_all(host.path().join("opt/bin")).unwrap();
    symlink("/opt/bin", host.path().join("bin")).unwrap();
    let base = TempDir::new().unwrap();
    fs::write(base.path().join("p.c"), "int main(void) { return 0; }").unwrap();
    compile(base.path(), &["-static", "-o", "p", "p.c"]);
    fs::copy(base.path().join("p"), host.path().join("opt/bin/p")).unwrap();
    let mut config = config("p");
    config.cwd = None;
    config.environment = vec!["PATH=/none:/bin".into()];
    config.root = Some(host.path().into());
    let root = build_for(&config);
    assert_eq!((root.program.as_path(), root.cwd.as_path()), (Path::new("/bin/p"), Path::new("/")));
    let scratch = TempDir::new().unwrap();
    let extracted = extract(&root.image, &scratch);
    let names: Vec<OsString> =
        list(&extracted).into_keys().map(|path| path.into_os_string()).collect();
    assert_eq!(names, ["bin", "dev", "opt", "opt/bin", "opt/bin/p", "proc", "tmp"]);
    // An absolute link is the guest's, and nothing leads out.
    symlink("../../../../../../bin/echo", host.path().join("out")).unwrap();
    config.program = "/out".into();
    assert_eq!(Program::find(&config).unwrap_err().exit_code(), 127);
}

#[test]
fn root_slash_stays_on_one_file_system() {
    // Not the whole host: a directory that has mounts below, if anything.
    let mut tree = Tree::new(Path::new("/dev"), Missing::Plain).unwrap();
    tree.add_directory(Path::new("/dev"), Path::new("/")).unwrap();
    let device = fs::metadata("/dev").unwrap().dev();
    for entry in fs::read_dir("/dev").unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        if !metadata.is_dir() || metadata.dev() == device {
            continue;
        }
        let Kind::Directory(names) = &tree.nodes[0].kind else { panic!("no directory") };
        let id = names[path.file_name().unwrap()];
        let Kind::Directory(names) = &tree.nodes[id].kind else { panic!("no directory") };
        assert!(names.is_empty(), "{}", path.display());
    }
}

#[test]
fn ready_images_are_checked() {
    let scratch = TempDir::new().unwrap();
    let source = TempDir::new().unwrap();
    for index in 0..20 {
        fs::write(source.path().join(format!("{index}")), vec![b'x'; 20_000]).unwrap();
    }
    let path = scratch.path().join("ready");
    let make = |options: &[&str]| {
        let mut arguments: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        arguments.extend([path.as_os_str(), source.path().as_os_str()]);
        let _ = fs::remove_file(&path);
        run("mkfs.erofs", &arguments);
    };
    make(&[]);
    let image = Image::from_file(&path).unwrap();
    assert_eq!((image.len % BLOCK_SIZE, image.pieces.len()), (0, 1));
    let copy = scratch.path().join("copy");
    image.write_to(File::create(&copy).unwrap()).unwrap();
    run("fsck.erofs", &[copy.as_os_str()]);

    let refusal = || Image::from_file(&path).unwrap_err().to_string();
    let ready = fs::read(&path).unwrap();
    for (at, reason) in
        [(1024, "neither a directory nor"), (1036, "blocks of another size"), (1060, "damaged")]
    {
        let mut bad = ready.clone();
        bad[at] ^= 0x41;
        fs::write(&path, bad).unwrap();
        assert!(refusal().contains(reason), "{}", refusal());
    }
    fs::write(&path, &ready[..4096]).unwrap();
    assert!(refusal().contains("cut short"), "{}", refusal());
    fs::write(&path, "").unwrap();
    assert!(refusal().contains("neither a directory nor"), "{}", refusal());
    make(&["-zlz4"]);
    assert!(refusal().contains("without -z"), "{}", refusal());
    make(&["--chunksize=4096"]);
    assert!(refusal().contains("without --chunksize"), "{}", refusal());

    // The name of the program is the guest's business; nothing can be added.
    make(&[]);
    let mut config = config("sh");
    config.root = Some(path.clone());
    let root = build_for(&config);
    assert_eq!(root.program, Path::new("sh"));
    config.additions = vec![Addition { host: "/etc/passwd".into(), guest: "/p".into() }];
    let error = build(&config, &Program::find(&config).unwrap()).unwrap_err();
    assert!(matches!(error, Error::FixedImage(_)), "{error}");
}

/// Whatever the bytes of an ELF file are, the answer is an answer.
#[test]
fn damaged_elf_files_are_refused_or_read() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("x");
    let original = fs::read("/lib64/ld-linux-x86-64.so.2").unwrap();
    let echo = fs::read("/bin/echo").unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize % bound
    };
    for round in 0..4000 {
        let mut bytes = if round % 2 == 0 { echo.clone() } else { original.clone() };
        // Headers and program headers, or anything.
        let reach = if round % 3 == 0 { bytes.len() } else { 800 };
        for _ in 0..1 + next(8) {
            let at = next(reach);
            bytes[at] = [0, 1, 0x7f, 0x80, 0xff, next(256) as u8][next(6)];
        }
        if round % 5 == 0 {
            bytes.truncate(next(reach));
        }
        fs::write(&path, &bytes).unwrap();
        let file = File::open(&path).unwrap();
        let head = &bytes[..bytes.len().min(elf::HEAD_LEN)];
        let len = bytes.len() as u64;
        for role in [elf::Role::Program, elf::Role::Library] {
            if let Ok(elf) = elf::Elf::parse(&file, len, head, role) {
                let _ = closure::find(&path, &elf, &[], Path::new("/"));
            }
        }
    }
}

#[test]
fn a_replaced_file_is_noticed() {
    let source = TempDir::new().unwrap();
    let path = source.path().join("f");
    fs::write(&path, "before").unwrap();
    let image = image_of(source.path());
    let mut tree = tree_of(source.path());
    fs::write(&path, "x").unwrap();
    assert!(image.write_to(std::io::sink()).is_err());
    let image = erofs::write_with(&mut tree, LEN_MAX, 0).unwrap();
    assert_eq!(tree.warnings.len(), 1);
    let scratch = TempDir::new().unwrap();
    check(&image, &scratch);
}
