//! What bad input gets: the documented exit code, and one line on stderr that names the thing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tempfile::TempDir;
use vmm_tests::program::{HELLO, guest, static_hello};
use vmm_tests::run::{Output, Place, Run, Running};

use std::process::Stdio;

const CANNOT_SET_UP: i32 = 125;
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// Runs `program`, which must be refused with `code` in one line that names it, a relative path
/// perhaps by the absolute one.
#[track_caller]
fn refused(program: &Path, code: i32) -> Output {
    let output = Run::new(program).output();
    output.expect_code(code).expect_stdout("").expect_one_line_on_stderr();
    let name = program.display().to_string();
    output.expect_in_stderr(name.strip_prefix("./").unwrap_or(&name));
    output
}

/// An executable file with this content.
fn executable(dir: &TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, content).expect("a file");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("a mode");
    path
}

fn dir() -> TempDir {
    TempDir::new().expect("a temporary directory")
}

fn hello_bytes() -> Vec<u8> {
    fs::read(static_hello()).expect("the program")
}

#[test]
fn a_missing_program_is_not_found() {
    refused(Path::new("/no/such/program"), NOT_FOUND);
    refused(Path::new("no-such-program-in-path"), NOT_FOUND);
    refused(Path::new("./no-such-program-here"), NOT_FOUND);
    refused(Path::new(""), NOT_FOUND);
}

#[test]
fn a_dangling_link_is_not_found() {
    let dir = dir();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("/no/where", &link).expect("a link");
    refused(&link, NOT_FOUND);
}

#[test]
fn a_directory_is_not_executable() {
    refused(dir().path(), NOT_EXECUTABLE);
}

#[test]
fn a_device_is_not_executable() {
    refused(Path::new("/dev/null"), NOT_EXECUTABLE);
}

#[test]
fn a_file_without_the_right_to_execute_is_not_executable() {
    let dir = dir();
    let path = executable(&dir, "program", &hello_bytes());
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("a mode");
    refused(&path, NOT_EXECUTABLE);
}

#[test]
fn an_empty_file_is_not_executable() {
    refused(&executable(&dir(), "empty", b""), NOT_EXECUTABLE);
}

#[test]
fn text_without_an_interpreter_is_not_executable() {
    refused(&executable(&dir(), "text", b"echo hello\n"), NOT_EXECUTABLE);
}

#[test]
fn a_script_with_a_missing_interpreter_says_which() {
    let dir = dir();
    let output = refused(&executable(&dir, "script", b"#!/no/such/interpreter\n"), NOT_FOUND);
    output.expect_in_stderr("/no/such/interpreter");
}

#[test]
fn a_program_for_another_machine_is_not_executable() {
    let mut bytes = hello_bytes();
    bytes[18] = 183; // e_machine: AArch64
    refused(&executable(&dir(), "arm", &bytes), NOT_EXECUTABLE);
}

#[test]
fn a_big_endian_program_is_not_executable() {
    let mut bytes = hello_bytes();
    bytes[5] = 2; // EI_DATA
    refused(&executable(&dir(), "big", &bytes), NOT_EXECUTABLE);
}

#[test]
fn a_32_bit_program_is_not_executable() {
    let mut bytes = hello_bytes();
    bytes[4] = 1; // EI_CLASS
    bytes[18] = 3; // e_machine: 80386
    let output = refused(&executable(&dir(), "i386", &bytes), NOT_EXECUTABLE);
    output.expect_in_stderr("32");
}

#[test]
fn an_object_file_is_not_executable() {
    let mut bytes = hello_bytes();
    bytes[16] = 1; // e_type: ET_REL
    refused(&executable(&dir(), "object.o", &bytes), NOT_EXECUTABLE);
}

#[test]
fn truncated_headers_are_not_executable() {
    let bytes = hello_bytes();
    for length in [1, 4, 15, 16, 40, 63, 64, 100, 64 + 56 * 2] {
        refused(&executable(&dir(), "truncated", &bytes[..length]), NOT_EXECUTABLE);
    }
}

#[test]
fn a_truncated_segment_does_not_run() {
    let bytes = hello_bytes();
    let output = Run::new(executable(&dir(), "half", &bytes[..bytes.len() / 2])).output();
    assert_ne!(output.shell_code(), 0);
    assert_ne!(output.shell_code(), 255, "the kernel panicked: {output:?}");
}

#[test]
fn program_headers_out_of_the_file_are_not_executable() {
    for (offset, value) in [(32, 1 << 40), (32, u64::MAX - 8)] {
        let mut bytes = hello_bytes();
        bytes[offset..offset + 8].copy_from_slice(&u64::to_le_bytes(value)); // e_phoff
        refused(&executable(&dir(), "phoff", &bytes), NOT_EXECUTABLE);
    }
    let mut bytes = hello_bytes();
    bytes[54] = 55; // e_phentsize
    refused(&executable(&dir(), "phentsize", &bytes), NOT_EXECUTABLE);
}

#[test]
fn a_segment_in_kernel_space_is_not_executable() {
    let mut bytes = hello_bytes();
    let headers = u64::from_le_bytes(bytes[32..40].try_into().expect("eight bytes")) as usize;
    let load = (0..12).map(|n| headers + 56 * n).find(|&at| bytes[at..at + 4] == [1, 0, 0, 0]);
    let address = load.expect("a PT_LOAD") + 16;
    bytes[address..address + 8].copy_from_slice(&0xffff_ffff_8010_0000u64.to_le_bytes());
    let output = Run::new(executable(&dir(), "kernel", &bytes)).output();
    output.expect_code(NOT_EXECUTABLE).expect_stdout("").expect_one_line_on_stderr();
}

#[test]
fn a_missing_elf_interpreter_says_which() {
    let program = guest("hello_printf.c", &["-Wl,--dynamic-linker=/no/such/ld.so"]);
    let output = refused(&program, NOT_FOUND);
    output.expect_in_stderr("/no/such/ld.so");
}

/// Options that must be refused, in words with `thing` among them.
#[track_caller]
fn option_refused(options: &[&str], thing: &str) {
    let output = Run::new(static_hello()).options(options).output();
    output.expect_code(CANNOT_SET_UP).expect_stdout("").expect_in_stderr(thing);
}

#[test]
fn impossible_sizes_of_memory_are_refused() {
    for size in ["0", "1M", "900T", "nonsense", "", "-1", "64Q", "18446744073709551615G"] {
        option_refused(&["--memory", size], "memory");
    }
}

#[test]
fn more_than_one_cpu_is_refused() {
    for count in ["0", "2"] {
        option_refused(&["--cpus", count], &format!("{count} CPUs"));
    }
    for count in ["100000", "many"] {
        option_refused(&["--cpus", count], count);
    }
}

#[test]
fn other_bad_options_are_refused() {
    option_refused(&["--no-such-option"], "--no-such-option");
    option_refused(&["--timeout", "soon"], "soon");
    option_refused(&["--file", "/no/such/file"], "/no/such/file");
    option_refused(&["--dir", "/no/such/dir"], "/no/such/dir");
    option_refused(&["--root", "/no/such/root"], "/no/such/root");
    option_refused(&["--kernel", "/no/such/kernel"], "/no/such/kernel");
    option_refused(&["--stats-file", "/no/such/dir/stats", "--stats"], "/no/such/dir/stats");
}

#[test]
fn a_root_that_is_no_image_is_refused() {
    option_refused(&["--root", "/etc/passwd"], "/etc/passwd: is neither");
}

#[test]
fn a_kernel_that_is_none_is_refused() {
    option_refused(&["--kernel", "/bin/true"], "kernel /bin/true");
    option_refused(&["--kernel", "/etc/passwd"], "kernel /etc/passwd: not an ELF file");
}

/// Runs it where /dev holds nothing but what `script` makes, and with no more rights than a user's.
fn with_dev(script: &str) -> Run {
    let prepare = format!(
        "mount -t tmpfs none /dev && touch /dev/null && chmod 666 /dev/null && {script} && \
         exec setpriv --bounding-set=-all --inh-caps=-all \"$@\""
    );
    let unshare = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    Run::new(static_hello()).launcher(["unshare", unshare, "sh", "-c", &prepare, "sh"])
}

#[track_caller]
fn cannot_set_up_kvm(run: &Run) -> Output {
    let output = run.output();
    output.expect_code(CANNOT_SET_UP).expect_stdout("").expect_one_line_on_stderr();
    output.expect_in_stderr("/dev/kvm");
    output
}

#[test]
fn a_missing_kvm_is_told_with_a_remedy() {
    cannot_set_up_kvm(&with_dev("true"));
}

#[test]
fn a_kvm_that_may_not_be_opened_is_told_with_a_remedy() {
    let output = cannot_set_up_kvm(&with_dev("touch /dev/kvm && chmod 0 /dev/kvm"));
    output.expect_in_stderr("kvm");
}

#[test]
fn a_kvm_that_is_none_is_told() {
    cannot_set_up_kvm(&with_dev("touch /dev/kvm && chmod 666 /dev/kvm"));
}

fn start(argument: &str) -> Running {
    let run = Run::new(guest("wait.c", &["-static"])).args([argument]);
    let mut running = run.start(Place::Guest, Stdio::piped(), Stdio::piped(), Stdio::piped());
    running.wait_for_stdout("ready\n");
    running
}

#[test]
fn signals_end_the_run_at_once() {
    for argument in ["spin", "read"] {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let mut running = start(argument);
            // Held open: the end must come from the signal, not from the end of the input.
            let stdin = running.take_stdin();
            running.signal(signal);
            let output = running.finish();
            drop(stdin);
            output.expect_code(128 + signal.as_raw()).expect_stdout("ready\n");
        }
    }
}

#[test]
fn stdout_closed_early_ends_as_sigpipe_does() {
    let run = Run::new("seq").args(["100000000"]);
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let running = run.start(Place::Guest, Stdio::null(), writer.into(), Stdio::piped());
    let mut first = [0; 2];
    std::io::Read::read_exact(&mut reader, &mut first).expect("the first line");
    drop(reader);
    let output = running.finish();
    assert_eq!(&first, b"1\n");
    output.expect_code(128 + Signal::PIPE.as_raw());
}

#[test]
fn after_all_that_a_good_program_runs() {
    Run::new(static_hello()).output().expect_code(0).expect_stdout(HELLO).expect_no_stderr();
}
