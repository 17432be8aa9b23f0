//! When it is not the program that fails: the kernel panics, a file vanishes under the guest. The run
//! ends, says why, and leaves a code that is not the program's.

use std::fs::File;
use std::io::Write;
use std::process::Stdio;

use vmm_tests::program::{guest, static_hello};
use vmm_tests::run::{Output, Place, Run};

#[test]
fn a_kernel_panic_shows_message_registers_and_backtrace() {
    let run = Run::new(static_hello()).options(["--cmdline", "panic"]);
    let output = run.output();
    output.expect_code(255).expect_stdout("");
    for words in ["panic", "asked for by the kernel's command line", "boot.rs", "rip", "cr3"] {
        output.expect_in_stderr(words);
    }
    // Symbols, not only numbers.
    output.expect_in_stderr("guest_kernel::boot::start");
}

#[test]
fn other_words_for_the_kernel_are_not_a_panic() {
    let run = Run::new(static_hello()).options(["--cmdline", "panics no-panic"]);
    run.output().expect_code(0).expect_no_stderr();
}

/// Runs tests/guest/truncated.c, and truncates the file that it uses meanwhile.
fn truncated(how: &str) -> Output {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(&vec![b'x'; 1 << 20]).expect("room");
    let program = guest("truncated.c", &["-static"]);
    let run = Run::new(program).args([how.as_ref(), file.path()]).file(file.path());
    let mut running = run.start(Place::Guest, Stdio::piped(), Stdio::piped(), Stdio::piped());
    let mut stdin = running.take_stdin().expect("a pipe");
    running.wait_for_stdout("ready\n");
    File::create(file.path()).expect("the file is truncated");
    stdin.write_all(b"go\n").expect("the program reads");
    running.finish()
}

#[test]
fn a_file_that_is_truncated_under_the_guest_ends_the_run() {
    for how in ["map", "read"] {
        let output = truncated(how);
        output.expect_code(125).expect_one_line_on_stderr().expect_in_stderr("became shorter");
    }
}

#[test]
fn output_from_a_truncated_file_is_an_error_of_the_write() {
    truncated("write").expect_code(4).expect_stdout("ready\n").expect_no_stderr();
}
