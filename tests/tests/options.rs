//! The options of `vmm run`, and the exit codes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use vmm_tests::kernel_elf;
use vmm_tests::program::{HELLO, guest, static_hello};
use vmm_tests::run::Run;

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

fn dir() -> TempDir {
    TempDir::new().expect("a temporary directory")
}

#[test]
fn a_quiet_run_prints_nothing_of_its_own() {
    Run::new(static_hello()).output().expect_code(0).expect_stdout(HELLO).expect_no_stderr();
}

#[test]
fn exit_codes_are_the_programs_own() {
    let program = guest("end.c", &["-static"]);
    for code in [0, 1, 2, 42, 124, 125, 126, 127, 128, 254, 255, 256, -1] {
        Run::new(&program).args(["exit", &code.to_string()]).same_as_host_with_stderr();
    }
}

#[test]
fn a_program_killed_by_a_signal_ends_with_128_and_its_number() {
    let program = guest("end.c", &["-static"]);
    for signal in [SIGKILL, SIGTERM] {
        let output = Run::new(&program).args(["raise", &signal.to_string()]).same_as_host();
        output.expect_code(128 + signal);
    }
    let output = Run::new(&program).args(["abort"]).same_as_host();
    output.expect_code(134).expect_in_stderr("Aborted");
}

#[test]
fn options_after_the_program_are_the_programs() {
    Run::new("/bin/echo").args(["-n", "--memory", "1M", "-v", "--", "--help"]).same_as_host();
    Run::new("/bin/echo").args(["--version"]).same_as_host();
    Run::new("/bin/echo").options(["--"]).args(["--", "-e"]).same_as_host();
}

#[test]
fn env_sets_a_variable_or_passes_the_hosts() {
    let environment = [("FROM_HOST", "kept = whole"), ("NOT_NAMED", "x")];
    let run = Run::new("/usr/bin/env").environment(&environment);
    let run = run.options(["-e", "FROM_HOST", "--env", "SET=here=there", "-e", "UNSET_ON_HOST"]);
    let output = run.output();
    let lines: Vec<&str> = output.expect_code(0).stdout_text().lines().collect();
    assert!(lines.contains(&"FROM_HOST=kept = whole"), "{lines:?}");
    assert!(lines.contains(&"SET=here=there"), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("UNSET_ON_HOST")), "{lines:?}");
}

#[test]
fn cwd_is_the_hosts_or_the_one_given() {
    let dir = dir();
    let path = dir.path().canonicalize().expect("a path");
    let run = Run::new("/bin/pwd").cwd(&path).args(["-P"]);
    run.same_as_host();
    let output = Run::new("/bin/pwd").args(["-P"]).options(["--cwd", "/tmp"]).output();
    output.expect_code(0).expect_stdout("/tmp\n");
}

#[test]
fn file_adds_a_file_at_its_path_or_another() {
    let dir = dir();
    let path = dir.path().join("data");
    fs::write(&path, "content\n").expect("a file");
    Run::new("cat").args([&path]).file(&path).same_as_host();
    let elsewhere = format!("{}:/else/where", path.display());
    let output = Run::new("cat").args(["/else/where"]).options(["--file", &elsewhere]).output();
    output.expect_code(0).expect_stdout("content\n");
}

#[test]
fn what_is_not_given_is_not_there() {
    let dir = dir();
    let path = dir.path().join("data");
    fs::write(&path, "secret\n").expect("a file");
    let output = Run::new("cat").args([&path]).output();
    output.expect_code(1).expect_stdout("").expect_in_stderr("No such file or directory");
}

#[test]
fn dir_adds_a_directory_and_all_below() {
    let dir = dir();
    fs::create_dir_all(dir.path().join("a/b")).expect("directories");
    fs::write(dir.path().join("a/b/deep"), "deep\n").expect("a file");
    fs::write(dir.path().join("top"), "top\n").expect("a file");
    let names = ["top", "a/b/deep"].map(|name| dir.path().join(name));
    Run::new("cat").args(&names).options(["--dir".as_ref(), dir.path()]).same_as_host();
    let elsewhere = format!("{}:/data", dir.path().display());
    let run = Run::new("ls").args(["/data", "/data/a", "/data/a/b"]).options(["--dir", &elsewhere]);
    run.output()
        .expect_code(0)
        .expect_stdout("/data:\na\ntop\n\n/data/a:\nb\n\n/data/a/b:\ndeep\n");
}

#[test]
fn a_writable_layer_lies_above_the_files_and_the_host_stays_as_it_is() {
    let dir = dir();
    let path = dir.path().join("data");
    fs::write(&path, "on the host\n").expect("a file");
    let script = "echo changed > \"$1\"; read line < \"$1\"; echo \"$line\"";
    let run = Run::new("sh").args(["-c", script, "sh"]).args([&path]).file(&path);
    run.output().expect_code(0).expect_stdout("changed\n").expect_no_stderr();
    assert_eq!(fs::read_to_string(&path).expect("the file"), "on the host\n");
}

/// A root with a static hello in it.
fn small_root() -> TempDir {
    let root = dir();
    fs::create_dir(root.path().join("bin")).expect("a directory");
    fs::copy(static_hello(), root.path().join("bin/hello")).expect("a copy");
    root
}

#[test]
fn root_takes_a_directory() {
    let root = small_root();
    let run = Run::new("/bin/hello").options(["--root".as_ref(), root.path()]);
    run.output().expect_code(0).expect_stdout(HELLO).expect_no_stderr();
}

#[test]
fn root_takes_images_that_mkfs_erofs_made() {
    let root = small_root();
    for option in
        ["-Enoinline_data", "-x-1", "-T0", "-Eforce-inode-compact", "-Eforce-inode-extended"]
    {
        let image = dir();
        let image = image.path().join("image.erofs");
        let mkfs = Command::new("mkfs.erofs").arg(option).arg(&image).arg(root.path()).output();
        let mkfs = mkfs.expect("mkfs.erofs runs (scripts/test installs erofs-utils)");
        assert!(mkfs.status.success(), "mkfs.erofs {option}: {mkfs:?}");
        let run = Run::new("/bin/hello").options(["--root".as_ref(), image.as_os_str()]);
        run.output().expect_code(0).expect_stdout(HELLO).expect_no_stderr();
    }
}

#[test]
fn a_program_that_the_root_has_not_is_not_found() {
    let root = small_root();
    let run = Run::new("/bin/other").options(["--root".as_ref(), root.path()]);
    run.output().expect_code(127).expect_one_line_on_stderr().expect_in_stderr("/bin/other");
}

#[test]
fn memory_from_16m_to_16g() {
    for size in ["16M", "17M", "64M", "1G", "3G", "4G", "16G"] {
        let run = Run::new(static_hello()).options(["--memory", size]);
        run.output().expect_code(0).expect_stdout(HELLO).expect_no_stderr();
    }
}

#[test]
fn meminfo_shows_the_memory() {
    for (size, kib) in [("64M", 64 << 10), ("2G", 2 << 20), ("8G", 8 << 20)] {
        let run = Run::new("cat").args(["/proc/meminfo"]).options(["--memory", size]);
        let output = run.output();
        let total = output.stdout_text().lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let total = total.and_then(|text| text.trim().strip_suffix(" kB"));
        let total: u64 = total.expect("a line MemTotal").trim().parse().expect("a number");
        assert!(total <= kib && total >= kib * 9 / 10, "--memory {size}: MemTotal {total} kB");
    }
}

#[test]
fn a_time_out_ends_with_124() {
    for argument in ["spin", "size"] {
        let run = Run::new(guest("wait.c", &["-static"])).args([argument]);
        let mut running = run.options(["--timeout", "500ms"]).start(
            vmm_tests::run::Place::Guest,
            std::process::Stdio::piped(),
            std::process::Stdio::piped(),
            std::process::Stdio::piped(),
        );
        let stdin = running.take_stdin();
        running.finish().expect_code(124).expect_one_line_on_stderr();
        drop(stdin);
    }
    let run = Run::new(static_hello()).options(["--timeout", "1h"]);
    run.deadline(Duration::from_secs(10)).output().expect_code(0).expect_stdout(HELLO);
}

#[test]
fn one_cpu_may_be_asked_for() {
    Run::new(static_hello()).options(["--cpus", "1"]).output().expect_code(0).expect_stdout(HELLO);
}

#[test]
fn another_build_of_the_kernel_runs() {
    let run = Run::new(static_hello()).options(["--kernel".as_ref(), kernel_elf().as_os_str()]);
    run.output().expect_code(0).expect_stdout(HELLO).expect_no_stderr();
}

#[test]
fn verbose_shows_the_kernel_log_on_stderr_only() {
    let output = Run::new(static_hello()).options(["-v"]).output();
    output.expect_code(0).expect_stdout(HELLO);
    assert!(!output.stderr.is_empty());
}

#[test]
fn stats_go_to_stderr_or_to_a_file() {
    let output = Run::new(static_hello()).options(["--stats"]).output();
    output.expect_code(0).expect_stdout(HELLO).expect_in_stderr("Exits to the VMM");

    let output = Run::new(static_hello()).options(["--stats=json"]).output();
    output.expect_code(0).expect_stdout(HELLO);
    expect_stats(&output.stderr);

    let dir = dir();
    let file = dir.path().join("stats.json");
    let options = ["--stats=json".as_ref(), "--stats-file".as_ref(), file.as_os_str()];
    let output = Run::new(static_hello()).options(options).output();
    output.expect_code(0).expect_stdout(HELLO).expect_no_stderr();
    expect_stats(&fs::read(&file).expect("the statistics"));
}

#[track_caller]
fn expect_stats(json: &[u8]) {
    let stats: serde_json::Value = serde_json::from_slice(json).expect("one JSON object");
    for key in ["exits", "time_us", "boot", "syscalls", "faults", "bytes", "memory", "exit_code"] {
        assert!(stats.get(key).is_some(), "no {key} in {stats}");
    }
    assert!(stats["exits"]["total"].as_u64().is_some_and(|total| total > 0), "{stats}");
    assert_eq!(stats["bytes"]["stdout"], HELLO.len(), "{stats}");
    assert_eq!(stats["exit_code"], 0, "{stats}");
    assert_eq!(stats["syscalls"]["write"], 1, "{stats}");
}

#[test]
fn help_documents_the_exit_codes() {
    let help = Run::new("--help").output();
    help.expect_code(0).expect_no_stderr();
    for code in ["124", "125", "126", "127", "255"] {
        assert!(help.stdout_text().contains(code), "--help does not say what {code} is");
    }
}

#[test]
fn a_relative_path_is_a_path_and_not_a_name() {
    let root = small_root();
    let run = Run::new(Path::new("./hello")).cwd(root.path().join("bin"));
    run.output().expect_code(0).expect_stdout(HELLO).expect_no_stderr();
}

#[test]
fn the_serial_console_carries_all_output() {
    let output = Run::new("/bin/sh")
        .args(["-c", "echo out; echo err >&2"])
        .options(["--console", "serial"])
        .output();
    output.expect_code(0);
    assert_eq!(output.stdout_text(), "out\nerr\n");
}
