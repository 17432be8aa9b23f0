//! Programs of the host, unmodified, print and end in the virtual machine as they do on the host.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use vmm_tests::program::{guest, guest_musl};
use vmm_tests::run::{Output, Run};
use vmm_tests::{amount, profile_dir};

/// 100 MB, in the lab 2.
fn plenty() -> usize {
    amount(100 << 20, 2 << 20)
}

/// Bytes that do not repeat: the state of a linear congruential generator.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        bytes.extend_from_slice(&state.to_le_bytes()[3..]);
    }
    bytes.truncate(length);
    bytes
}

fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("the disk has room");
    file
}

#[track_caller]
fn same(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) {
    Run::new(program).args(args).same_as_host_with_stderr();
}

#[test]
fn hello_by_printf() {
    for flags in [&[][..], &["-static"], &["-static-pie"]] {
        same(guest("hello_printf.c", flags), &[]);
    }
}

#[test]
fn hello_by_system_call() {
    for flags in [&[][..], &["-static"], &["-static-pie"]] {
        same(guest("hello_syscall.c", flags), &[]);
    }
}

#[test]
fn hello_in_assembly() {
    for form in ["-no-pie", "-pie", "-static", "-static-pie"] {
        same(guest("hello_asm.S", &["-nostdlib", form]), &[]);
    }
}

#[test]
fn hello_in_rust() {
    same(guest("hello_rust.rs", &[]), &["one", "two"]);
}

#[test]
fn hello_in_cpp() {
    same(guest("hello_cpp.cpp", &[]), &[]);
    same(guest("hello_cpp.cpp", &["-static"]), &[]);
}

#[test]
fn hello_with_musl() {
    same(guest_musl("hello_printf.c", &[]), &[]);
}

#[test]
fn mappings_keep_what_linux_keeps() {
    same(guest("memory.c", &[]), &[]);
}

#[test]
fn echo_prints_its_arguments() {
    same("/bin/echo", &["hi"]);
    same("/bin/echo", &["-n", "a  b", "", "c\td", "ä\u{1f600}"]);
    same("/bin/echo", &[]);
}

#[test]
fn a_program_is_found_in_path() {
    same("echo", &["found"]);
}

#[test]
fn a_very_long_argument_arrives() {
    same("/bin/echo", &[&"x".repeat(100_000)]);
}

#[test]
fn many_arguments_arrive() {
    let numbers: Vec<String> = (0..5000).map(|n| n.to_string()).collect();
    Run::new("/bin/echo").args(&numbers).same_as_host();
}

#[test]
fn true_and_false_end_with_0_and_1() {
    same("/bin/true", &[]);
    same("/bin/false", &[]);
}

#[test]
fn env_prints_the_environment() {
    let run =
        Run::new("/usr/bin/env").environment(&[("A", "1"), ("B", "two words"), ("EMPTY", "")]);
    run.options(["-e", "A", "-e", "B=two words", "-e", "EMPTY"]).same_as_host();
}

#[test]
fn the_default_environment_is_the_users_and_not_all_of_it() {
    let passed = [
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/home/who"),
        ("USER", "who"),
        ("LOGNAME", "who"),
        ("SHELL", "/bin/sh"),
        ("TERM", "dumb"),
        ("LANG", "C.UTF-8"),
        ("LC_TIME", "C"),
        ("TZ", "UTC"),
    ];
    let kept = [("SECRET_TOKEN", "x"), ("LD_LIBRARY_PATH", "/tmp"), ("LCX", "y")];
    let sorted = |output: &Output| {
        let mut lines: Vec<_> = output.stdout_text().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let host = Run::new("/usr/bin/env").environment(&passed).host_output();
    let guest = Run::new("/usr/bin/env").environment(&[&passed[..], &kept].concat()).output();
    guest.expect_code(0).expect_no_stderr();
    assert_eq!(sorted(&guest), sorted(&host));
}

#[test]
fn uname_names_the_system_and_the_machine() {
    same("uname", &["-s"]);
    same("uname", &["-m"]);
    same("uname", &["-n"]);
}

#[test]
fn seq_counts() {
    same("seq", &["10"]);
    same("seq", &["1", &amount(300_000, 20_000).to_string()]);
    same("seq", &["-f", "%.3f", "0", "0.25", "2"]);
}

#[test]
fn cat_moves_100_mb_through_pipes() {
    let run = Run::new("cat").stdin_bytes(noise(plenty())).deadline(Duration::from_secs(60));
    run.same_as_host_with_stderr();
}

#[test]
fn cat_reads_files() {
    let file = file_of(&noise(70_001));
    let path = file.path().to_str().expect("a path in UTF-8");
    let run = Run::new("cat").args([path, "-", path]).file(path).stdin_bytes("between\n");
    run.same_as_host_with_stderr();
}

#[test]
fn cat_of_a_missing_file_says_so() {
    same("cat", &["/no/such/file"]);
}

#[test]
fn sha256sum_of_a_100_mb_file() {
    let file = file_of(&noise(plenty()));
    let run = Run::new("sha256sum").args([file.path()]).file(file.path());
    run.deadline(Duration::from_secs(60)).same_as_host_with_stderr();
}

#[test]
fn sha256sum_of_busybox() {
    let file = file_of(&noise(amount(10 << 20, 1 << 20)));
    let run = Run::new("/bin/busybox").args(["sha256sum", &file.path().display().to_string()]);
    run.file(file.path()).deadline(Duration::from_secs(60)).same_as_host_with_stderr();
}

#[test]
fn python_multiplies() {
    let run = Run::new("/usr/bin/python3").args(["-c", "print(6*7)"]);
    let ask = "import sysconfig; print(sysconfig.get_paths()['stdlib'])";
    let library = Run::new("/usr/bin/python3").args(["-c", ask]).host_output();
    let run = run.options(["--dir", library.stdout_text().trim()]);
    run.deadline(Duration::from_secs(60)).same_as_host_with_stderr();
}

#[test]
fn ls_of_a_directory_as_the_root() {
    let root = TempDir::new().expect("a temporary directory");
    make_small_system(root.path(), &["ls"]);
    let args = ["-la", "--time-style=full-iso", "/"];
    let chroot = Run::new("chroot").args([root.path()]).args(["/bin/ls"]).args(args).host_output();
    chroot.expect_code(0);
    let guest = Run::new("/bin/ls").args(args).options(["--root".as_ref(), root.path()]).output();
    guest.expect_code(0).expect_no_stderr();
    let (guest, chroot) =
        (without_blocks(guest.stdout_text()), without_blocks(chroot.stdout_text()));
    assert_eq!(without_own_places(&guest), without_own_places(&chroot));
}

#[test]
fn ls_of_files_of_each_kind_as_the_root() {
    let root = TempDir::new().expect("a temporary directory");
    make_small_system(root.path(), &["ls"]);
    let args = ["-lanR", "--time-style=full-iso", "/stuff"];
    let chroot = Run::new("chroot").args([root.path()]).args(["/bin/ls"]).args(args).host_output();
    let guest = Run::new("/bin/ls").args(args).options(["--root".as_ref(), root.path()]).output();
    guest.expect_code(0).expect_no_stderr();
    assert_eq!(without_blocks(guest.stdout_text()), without_blocks(chroot.stdout_text()));
}

/// A root directory with these programs of the host, their libraries, and files of each kind.
fn make_small_system(root: &Path, programs: &[&str]) {
    for dir in ["bin", "dev", "proc", "tmp", "etc", "stuff/deep/er", "stuff/many"] {
        fs::create_dir_all(root.join(dir)).expect("a directory");
    }
    for program in programs {
        let path = PathBuf::from("/bin").join(program);
        copy(&path, root);
        let output = Command::new("ldd").arg(&path).output().expect("ldd runs");
        let text = String::from_utf8_lossy(&output.stdout);
        for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
            copy(Path::new(library), root);
        }
    }
    let write = |name: &str, text: &str| fs::write(root.join(name), text).expect("a file");
    write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nwho:x:1234:99:::\n");
    write("etc/group", "root:x:0:\nmany:x:99:\n");
    write("stuff/empty", "");
    write("stuff/private", "for the owner\n");
    write("stuff/name with spaces", "x");
    File::create(root.join("stuff/sparse"))
        .and_then(|f| f.set_len(5 << 30))
        .expect("a sparse file");
    for n in 0..300 {
        write(&format!("stuff/many/file number {n}"), &"y".repeat(n * 17));
    }
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(root.join(name), PermissionsExt::from_mode(mode)).expect("a mode");
    };
    mode("stuff/private", 0o600);
    mode("stuff/empty", 0o4755);
    mode("stuff/deep", 0o1777);
    symlink("deep/er", root.join("stuff/short-cut")).expect("a symbolic link");
    symlink("/nowhere/at/all", root.join("stuff/dangling")).expect("a symbolic link");
    fs::hard_link(root.join("stuff/private"), root.join("stuff/deep/twin")).expect("a link");
    let fifo = Command::new("mkfifo").arg(root.join("stuff/fifo")).status().expect("mkfifo runs");
    assert!(fifo.success());
}

fn copy(path: &Path, root: &Path) {
    let to = root.join(path.strip_prefix("/").expect("an absolute path"));
    fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
    fs::copy(path, to).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// A long listing without what is the file system's own: blocks, and the sizes of directories. Columns
/// are as wide as what is in them, so blanks count once.
fn without_blocks(listing: &str) -> Vec<String> {
    let lines = listing.lines().filter(|line| !line.starts_with("total "));
    let words = lines.map(|line| {
        let mut words: Vec<_> = line.split_ascii_whitespace().collect();
        if line.starts_with('d') {
            words.remove(4);
        }
        words.join(" ")
    });
    words.collect()
}

/// /dev, /proc and /tmp are the kernel's own.
fn without_own_places(listing: &[String]) -> Vec<&String> {
    let own = [" dev", " proc", " tmp", " sys", " .", " .."];
    listing.iter().filter(|line| !own.iter().any(|name| line.ends_with(name))).collect()
}

#[test]
fn a_program_below_the_build_directory_finds_itself() {
    let program = guest("hello_printf.c", &[]);
    assert!(program.starts_with(profile_dir()));
    let relative = Path::new(program.file_name().expect("a name"));
    let run = Run::new(Path::new(".").join(relative)).cwd(program.parent().expect("a directory"));
    run.same_as_host();
}
