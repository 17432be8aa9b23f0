//! Names and attributes.

use super::*;

#[test]
fn open_flags_do_what_they_say() {
    let t = task();
    assert_eq!(open_at(t, "/f", RW), Err(Errno::ENOENT));
    make(t, "/f", b"hello");
    assert_eq!(open_at(t, "/f", CREATE | linux::O_EXCL), Err(Errno::EEXIST));
    assert_eq!(open_at(t, "/f", RW | linux::O_DIRECTORY), Err(Errno::ENOTDIR));
    assert_eq!(open_at(t, "/", RW), Err(Errno::EISDIR));
    assert_eq!(open_at(t, "/f/", RW), Err(Errno::ENOTDIR));
    assert_eq!(open_at(t, "/new/", CREATE), Err(Errno::EISDIR));
    assert_eq!(open_at(t, "", RW), Err(Errno::ENOENT));
    let fd = open_at(t, "/f", linux::O_WRONLY | linux::O_APPEND).expect("it is there");
    assert_eq!(put(t, fd, b", world"), Ok(7));
    assert_eq!(get(t, fd, 10), Err(Errno::EBADF));
    assert_eq!(text(t, "/f"), "hello, world");
    open_at(t, "/f", RW | linux::O_TRUNC).expect("it is there");
    assert_eq!(text(t, "/f"), "");
    let stat = stat_of(t, "/f").expect("it is there");
    assert_eq!((stat.mode, stat.size, stat.nlink), (linux::S_IFREG | 0o644, 0, 1));
    name::symlink(t, c("f"), c("/link")).expect("a free name");
    assert_eq!(open_at(t, "/link", RW | linux::O_NOFOLLOW), Err(Errno::ELOOP));
    let fd = open_at(t, "/link", linux::O_PATH | linux::O_NOFOLLOW).expect("the link itself");
    assert_eq!(get(t, fd, 1), Err(Errno::EBADF));
    let out = give([0u8; 10]);
    assert_eq!(stat::readlinkat(t, fd, c(""), out, 10), Ok(1));
    assert_eq!(taken::<u8>(out), b'f');
}

#[test]
fn dangling_link_is_created_through() {
    let t = task();
    name::symlink(t, c("target"), c("/link")).expect("a free name");
    assert_eq!(open_at(t, "/link", CREATE | linux::O_EXCL), Err(Errno::EEXIST));
    make(t, "/link", b"x");
    assert_eq!(text(t, "/target"), "x");
    assert_eq!(name::mkdir(t, c("/link"), 0o755), Err(Errno::EEXIST));
}

#[test]
fn walks_follow_linux() {
    let t = task();
    for path in ["/a", "/a/b/", "/a/b/c"] {
        name::mkdir(t, c(path), 0o755).expect("a free name");
    }
    make(t, "/a/file", b"x");
    name::symlink(t, c("/a/b"), c("/abs")).expect("a free name");
    name::symlink(t, c("../file"), c("/a/b/up")).expect("a free name");
    name::symlink(t, c("loop2"), c("/loop1")).expect("a free name");
    name::symlink(t, c("loop1"), c("/loop2")).expect("a free name");
    let ino = |path: &str| stat_of(t, path).map(|stat| stat.ino);
    let root = ino("/");
    assert_eq!(ino("/.."), root);
    assert_eq!(ino("//a//b/../.././"), root);
    assert_eq!(ino("/abs/c"), ino("/a/b/c"));
    assert_eq!(ino("/abs/.."), ino("/a"));
    assert_eq!(ino("/abs/up"), ino("/a/file"));
    assert_eq!(ino("/loop1"), Err(Errno::ELOOP));
    assert_eq!(ino("/a/file/"), Err(Errno::ENOTDIR));
    assert_eq!(ino("/a/file/x"), Err(Errno::ENOTDIR));
    assert_eq!(ino("/a/none/x"), Err(Errno::ENOENT));
    assert_eq!(ino(&format!("/{}", "x".repeat(256))), Err(Errno::ENAMETOOLONG));
    assert_eq!(ino(&format!("/{}", "x".repeat(255))), Err(Errno::ENOENT));
    assert_eq!(ino(&"/".repeat(4096)), Err(Errno::ENAMETOOLONG));
    assert_eq!(ino(&"/".repeat(4095)), root);
    assert_eq!(ino(&format!("{}a", "/".repeat(300))), ino("/a"));
    let forty: String = (0..40).map(|_| "abs/../../").collect();
    assert_eq!(ino(&format!("/{forty}a")), ino("/a"));
    assert_eq!(ino(&format!("/{forty}abs")), Err(Errno::ELOOP));
    name::chdir(t, c("/abs")).expect("a directory");
    assert_eq!(cwd(t).as_deref(), Ok("/a/b"));
    assert_eq!(ino("../file"), ino("/a/file"));
    assert_eq!(name::chdir(t, c("up")), Err(Errno::ENOTDIR));
    let fd = open_at(t, "/a", linux::O_RDONLY).expect("a directory");
    let out = give(Stat::default());
    assert_eq!(stat::newfstatat(t, fd, c("b/c"), out, 0), Ok(0));
    assert_eq!(stat::newfstatat(t, fd, c(""), out, linux::AT_EMPTY_PATH), Ok(0));
    assert_eq!(stat::newfstatat(t, fd, c(""), out, 0), Err(Errno::ENOENT));
    assert_eq!(stat::newfstatat(t, 99, c("b"), out, 0), Err(Errno::EBADF));
    assert_eq!(stat::newfstatat(t, 99, c("/a"), out, 0), Ok(0));
    let file = open_at(t, "/a/file", linux::O_RDONLY).expect("it is there");
    assert_eq!(stat::newfstatat(t, file, c("b"), out, 0), Err(Errno::ENOTDIR));
    name::rename(t, c("/a"), c("/z")).expect("a free name");
    assert_eq!(cwd(t).as_deref(), Ok("/z/b"));
    name::fchdir(t, fd).expect("a directory");
    assert_eq!(cwd(t).as_deref(), Ok("/z"));
    name::mkdir(t, c("/gone"), 0o755).expect("a free name");
    name::chdir(t, c("/gone")).expect("a directory");
    name::rmdir(t, c("/gone")).expect("empty");
    assert_eq!(cwd(t), Err(Errno::ENOENT));
    assert_eq!(open_at(t, "x", CREATE), Err(Errno::ENOENT));
}

#[test]
fn names_are_removed_as_linux_does() {
    let t = task();
    name::mkdir(t, c("/d"), 0o755).expect("a free name");
    make(t, "/d/f", b"x");
    assert_eq!(name::unlink(t, c("/d")), Err(Errno::EISDIR));
    assert_eq!(name::rmdir(t, c("/d")), Err(Errno::ENOTEMPTY));
    assert_eq!(name::rmdir(t, c("/d/f")), Err(Errno::ENOTDIR));
    assert_eq!(name::rmdir(t, c("/d/.")), Err(Errno::EINVAL));
    assert_eq!(name::rmdir(t, c("/d/..")), Err(Errno::ENOTEMPTY));
    assert_eq!(name::rmdir(t, c("/")), Err(Errno::EBUSY));
    assert_eq!(name::rmdir(t, c("/dev")), Err(Errno::EBUSY));
    assert_eq!(name::rename(t, c("/dev"), c("/x")), Err(Errno::EBUSY));
    assert_eq!(name::rename(t, c("/d"), c("/d/x")), Err(Errno::EINVAL));
    assert_eq!(name::rename(t, c("/d/f"), c("/dev/f")), Err(Errno::EXDEV));
    assert_eq!(name::rename(t, c("/d/f"), c("/g/")), Err(Errno::ENOTDIR));
    assert_eq!(name::unlink(t, c("/d/f")), Ok(0));
    assert_eq!(name::rmdir(t, c("/d/")), Ok(0));
    assert_eq!(name::unlinkat(t, CWD, c("/d"), 1), Err(Errno::EINVAL));
    assert_eq!(name::mkdir(t, c("/a/b"), 0o755), Err(Errno::ENOENT));
    assert_eq!(name::mkdir(t, c("/"), 0o755), Err(Errno::EEXIST));
    assert_eq!(name::symlink(t, c(""), c("/s")), Err(Errno::ENOENT));
    make(t, "/f", b"x");
    assert_eq!(name::link(t, c("/f"), c("/g")), Ok(0));
    assert_eq!(stat_of(t, "/g").map(|stat| stat.nlink), Ok(2));
    assert_eq!(name::link(t, c("/f"), c("/g")), Err(Errno::EEXIST));
    assert_eq!(name::link(t, c("/dev"), c("/h")), Err(Errno::EXDEV));
    let flags = linux::RENAME_NOREPLACE;
    assert_eq!(name::renameat2(t, CWD, c("/f"), CWD, c("/g"), flags), Err(Errno::EEXIST));
    assert_eq!(name::rename(t, c("/f"), c("/g")), Ok(0));
    assert_eq!(stat_of(t, "/f").map(|stat| stat.nlink), Ok(2));
}

#[test]
fn permissions_are_checked() {
    let t = task_of(1000);
    let root = t.context.root();
    let new = |permissions, uid| NewInode {
        file_type: FileType::Directory,
        permissions,
        uid,
        gid: uid,
        rdev: 0,
        target: b"",
    };
    root.create(b"theirs", &new(0o755, 0)).expect("a free name");
    root.create(b"closed", &new(0o700, 0)).expect("a free name");
    root.create(b"sticky", &new(0o1777, 0)).expect("a free name");
    assert_eq!(open_at(t, "/theirs/f", CREATE), Err(Errno::EACCES));
    assert_eq!(name::mkdir(t, c("/theirs/d"), 0o755), Err(Errno::EACCES));
    assert_eq!(stat_of(t, "/closed/f").map(|_| ()), Err(Errno::EACCES));
    assert_eq!(open_at(t, "/closed", linux::O_RDONLY), Err(Errno::EACCES));
    assert_eq!(stat::access(t, c("/theirs"), linux::W_OK), Err(Errno::EACCES));
    assert_eq!(stat::access(t, c("/theirs"), linux::R_OK | linux::X_OK), Ok(0));
    assert_eq!(stat::access(t, c("/theirs"), 8), Err(Errno::EINVAL));
    assert_eq!(attribute::chmod(t, c("/theirs"), 0o777), Err(Errno::EPERM));
    let sticky = root.lookup(b"sticky").expect("it is there");
    sticky.create(b"d", &new(0o755, 0)).expect("a free name");
    assert_eq!(name::rmdir(t, c("/sticky/d")), Err(Errno::EPERM));
    make(t, "/sticky/f", b"x");
    assert_eq!(attribute::chmod(t, c("/sticky/f"), 0o4444), Ok(0));
    assert_eq!(open_at(t, "/sticky/f", RW), Err(Errno::EACCES));
    assert_eq!(attribute::chown(t, c("/sticky/f"), 0, u32::MAX), Err(Errno::EPERM));
    assert_eq!(attribute::chown(t, c("/sticky/f"), u32::MAX, 1000), Ok(0));
    assert_eq!(name::unlink(t, c("/sticky/f")), Ok(0));
}

#[test]
fn times_are_set() {
    let t = task();
    make(t, "/f", b"x");
    let times = [
        Timespec { seconds: 10, nanoseconds: 5 },
        Timespec { seconds: 20, nanoseconds: 0x3fff_fffe },
    ];
    let before = stat_of(t, "/f").expect("it is there").mtime;
    assert_eq!(attribute::utimensat(t, CWD, c("/f"), at(&times), 0), Ok(0));
    let stat = stat_of(t, "/f").expect("it is there");
    assert_eq!((stat.atime, stat.mtime), (times[0], before));
    assert_eq!(attribute::utime(t, c("/f"), at(&[30i64, 40])), Ok(0));
    let stat = stat_of(t, "/f").expect("it is there");
    assert_eq!((stat.atime.seconds, stat.mtime.seconds), (30, 40));
    let bad = [Timespec { seconds: 0, nanoseconds: -1 }; 2];
    assert_eq!(attribute::utimensat(t, CWD, c("/f"), at(&bad), 0), Err(Errno::EINVAL));
}

#[test]
fn extended_attributes_are_not_supported() {
    let t = task();
    make(t, "/f", b"x");
    let out = give([0u8; 100]);
    let get = |path| attribute::getxattr(t, c(path), c("user.x"), Links::Follow);
    assert_eq!(get("/f"), Err(Errno::EOPNOTSUPP));
    assert_eq!(get("/none"), Err(Errno::ENOENT));
    assert_eq!(attribute::listxattr(t, c("/f"), Links::Leave), Ok(0));
    assert_eq!(attribute::fgetxattr(t, 77, out), Err(Errno::EBADF));
}

#[test]
fn statx_says_what_stat_says() {
    let t = task();
    make(t, "/f", b"four");
    let out = give(Statx::default());
    assert_eq!(stat::statx(t, CWD, c("/f"), 0, linux::STATX_ALL, out), Ok(0));
    let statx: Statx = taken(out);
    let stat = stat_of(t, "/f").expect("it is there");
    assert_eq!((statx.ino, statx.size, u32::from(statx.mode)), (stat.ino, 4, stat.mode));
    assert_eq!(stat::statx(t, CWD, c("/f"), 1, 0, out), Err(Errno::EINVAL));
}
