//! Random calls.

use super::*;

/// Random calls with random words, among them good ones: nothing panics, and the kernel goes on.
#[test]
fn no_words_make_the_kernel_panic() {
    let t = task();
    let mut random = Random(1234);
    let paths = [
        "/",
        "/a",
        "/a/b",
        "/a/b/c",
        "/a/../a",
        "a",
        "b/",
        ".",
        "..",
        "",
        "/dev/null",
        "/dev/zero",
        "/dev",
        "/proc/self/fd/0",
        "/proc/self/cwd",
        "/proc/self/fd",
        "/proc/self",
        "/link/x",
        "/dev/stdin",
        "/proc/self/maps",
        "/dev/full",
    ];
    let path_addresses: Vec<UserAddr> = paths.iter().map(|path| c(path)).collect();
    let memory = give([0u8; 8192]);
    let word = |random: &mut Random| match random.below(6) {
        0 => random.next(),
        1 => u64::MAX - random.below(3),
        2 => i64::MAX as u64 - random.below(3),
        3 => 1 << random.below(64),
        _ => random.below(70_000),
    };
    for _ in 0..60_000 {
        let r = &mut random;
        let fd = r.below(12) as i32 - 1;
        let other = if r.below(4) == 0 { CWD } else { r.below(12) as i32 };
        let path = path_addresses[r.below(paths.len() as u64) as usize];
        let path2 = path_addresses[r.below(paths.len() as u64) as usize];
        let (a, b, len) = (word(r), word(r), r.below(4096) as usize);
        let (flags, size) = (a as u32, b as i64);
        // Never wait: nobody would come.
        let open_flags = flags | linux::O_NONBLOCK;
        let _ = match r.below(46) {
            0..4 => open::openat(t, other, path, open_flags & 0x7f_ffff, 0o777),
            4 => open::openat(t, other, path, CREATE | linux::O_NONBLOCK, a as u32),
            5 => open::close(t, fd),
            6 => open::close_range(t, 20 + (a as u32 >> 1), b as u32, flags & 7),
            7 => io::read(t, fd, memory, len),
            8 => io::write(t, fd, memory, len),
            9 => io::pread64(t, fd, memory, len, size),
            10 => io::pwrite64(t, fd, memory, len, size & 0xff_ffff),
            11 => io::pwrite64(t, fd, memory, len, size),
            12 => io::lseek(t, fd, size, flags % 7),
            13 => io::getdents64(t, fd, memory, len),
            14 => stat::newfstatat(t, other, path, memory, flags & 0x1900),
            15 => stat::statx(t, other, path, flags & 0x7900, b as u32, memory),
            16 => stat::faccessat2(t, other, path, flags & 7, b as u32 & 0x1300),
            17 => stat::readlinkat(t, other, path, memory, len as i32 - 1),
            18 => stat::getcwd(t, memory, len),
            19 => stat::statfs(t, path, memory),
            20 => name::mkdirat(t, other, path, flags),
            21 => name::unlinkat(t, other, path, flags & linux::AT_REMOVEDIR),
            22 => name::renameat2(t, other, path, CWD, path2, flags & 3),
            23 => name::linkat(t, other, path, CWD, path2, flags & 0x1400),
            24 => name::symlinkat(t, path, other, path2),
            25 => name::mknodat(t, other, path, flags & 0xffff, b as u32),
            26 => name::chdir(t, path),
            27 => name::fchdir(t, fd),
            28 => attribute::fchmodat2(t, other, path, flags | 0o700, 0),
            29 => attribute::fchownat(t, other, path, flags, b as u32, 0),
            30 => attribute::truncate(t, path, size),
            31 => attribute::ftruncate(t, fd, size & 0xff_ffff),
            32 => attribute::fallocate(
                t,
                fd,
                flags & 3,
                (a & 0xff_ffff) as i64,
                (b & 0xf_ffff) as i64,
            ),
            33 => attribute::utimensat(t, other, path, memory, flags & 0x1100),
            34 => control::dup(t, fd),
            35 => control::dup3(t, fd, other & 15, flags & linux::O_CLOEXEC),
            36 => {
                let command = [0, 1, 2, 3, 8, 9, 1030, 1031, 1032, 77][r.below(10) as usize];
                control::fcntl(t, fd, command, b & 31)
            }
            37 => control::fcntl(t, fd, linux::F_SETFL, b | u64::from(linux::O_NONBLOCK)),
            38 => control::flock(t, fd, flags & 15),
            39 => transfer::sendfile(t, fd, other, UserAddr(0), len),
            40 => transfer::copy_file_range(t, fd, UserAddr(0), other, UserAddr(0), len, 0),
            41 => pipe::pipe2(t, memory, linux::O_NONBLOCK | flags & linux::O_CLOEXEC),
            42 => poll::poll(t, memory, len & 7, 0),
            43 => control::fadvise64(t, fd, 0, size, flags & 7),
            44 => attribute::futimesat(t, other, path, memory),
            _ => name::umask(t, flags & 0o77),
        };
        // Descriptors for poll, times for utimensat.
        if r.below(3) == 0 {
            let zero = [0u8; 256];
            crate::mm::user::write_value(memory, &zero).expect("ours");
        }
        if t.files.next_open(40).is_some() {
            t.files.close_all();
        }
    }
    t.files.close_all();
    assert!(open_at(t, "/proc/self/maps", linux::O_RDONLY).is_ok());
}
