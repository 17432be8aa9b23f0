//! stdin, stdout and stderr: three streams, binary-clean, each a terminal when it is one on the host.

use std::fs::File;
use std::io::Write;
use std::process::Stdio;

use rustix::process::Signal;
use rustix::termios::SpecialCodeIndex;
use vmm_tests::amount;
use vmm_tests::program::{HELLO, guest, static_hello};
use vmm_tests::run::{Place, Run, Running};
use vmm_tests::terminal::Terminal;

fn streams(argument: &str) -> Run {
    Run::new(guest("streams.c", &["-static"])).args([argument])
}

#[test]
fn stdout_and_stderr_are_separate_and_binary_clean() {
    let output = streams("bytes").same_as_host_with_stderr();
    let up: Vec<u8> = (0..=255).collect();
    let down: Vec<u8> = (0..=255).rev().collect();
    output.expect_code(0).expect_stdout(up);
    assert_eq!(output.stderr, down);
}

#[test]
fn stdin_is_binary_clean_and_ends() {
    for length in [0, 1, 4095, 4096, 4097, amount(1_000_003, 100_003)] {
        let bytes: Vec<u8> = (0..length).map(|n| (n * 7 + n / 256) as u8).collect();
        streams("count").stdin_bytes(bytes).same_as_host_with_stderr();
    }
}

#[test]
fn stdin_from_a_file_and_from_null() {
    streams("count").stdin_file(guest("streams.c", &["-static"])).same_as_host_with_stderr();
    streams("count").same_as_host_with_stderr();
}

#[test]
fn stdout_to_a_file_is_appended_where_it_stands() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(b"before\n").expect("room");
    let stdout = file.as_file().try_clone().expect("a descriptor");
    let run = Run::new(static_hello());
    let output = run.start(Place::Guest, Stdio::null(), stdout.into(), Stdio::piped()).finish();
    output.expect_code(0);
    file.write_all(b"after\n").expect("room");
    let text = std::fs::read_to_string(file.path()).expect("text");
    assert_eq!(text, format!("before\n{HELLO}after\n"));
}

#[test]
fn a_full_device_is_an_error_of_the_program() {
    let full = || Stdio::from(File::options().write(true).open("/dev/full").expect("/dev/full"));
    let run = Run::new("/bin/echo").args(["lost"]);
    let at = |place| run.start(place, Stdio::null(), full(), Stdio::piped()).finish();
    let (host, guest) = (at(Place::Host), at(Place::Guest));
    guest.expect_code(host.shell_code());
    assert_eq!(guest.stderr, host.stderr);
}

#[test]
fn input_that_comes_late_arrives_when_it_comes() {
    let run = Run::new("cat");
    let mut running = run.start(Place::Guest, Stdio::piped(), Stdio::piped(), Stdio::piped());
    let mut stdin = running.take_stdin().expect("a pipe");
    for line in ["first\n", "second\n", "third\n"] {
        stdin.write_all(line.as_bytes()).expect("cat reads");
        running.wait_for_stdout(line);
    }
    drop(stdin);
    running.finish().expect_code(0).expect_stdout("first\nsecond\nthird\n").expect_no_stderr();
}

#[test]
fn closed_streams_are_no_reason_to_hang_or_to_write_elsewhere() {
    let run = |close: &str| {
        let script = format!("exec \"$@\" {close}");
        Run::new(static_hello()).launcher(["sh", "-c", &script, "sh"]).output()
    };
    run("<&-").expect_code(0).expect_stdout(HELLO).expect_no_stderr();
    run(">&-").expect_stdout("").shell_code();
    run("2>&-").expect_code(0).expect_stdout(HELLO).expect_no_stderr();
    run("<&- >&- 2>&-").expect_stdout("").expect_no_stderr();
}

/// Starts `run` with these streams on `terminal`, as the leader of its session, the others piped.
fn start_on(terminal: &Terminal, run: &Run, place: Place, on_terminal: [bool; 3]) -> Running {
    let [stdin, stdout, stderr] = on_terminal.map(|yes| match yes {
        true => terminal.stream(),
        false => Stdio::piped(),
    });
    let launcher = if on_terminal[0] { ["setsid", "-c"] } else { ["setsid", "-w"] };
    run.clone().launcher(launcher).start(place, stdin, stdout, stderr)
}

const ALL: [bool; 3] = [true; 3];

fn wait(argument: &str) -> Run {
    Run::new(guest("wait.c", &["-static"])).args([argument])
}

#[test]
fn each_stream_is_a_terminal_exactly_when_it_is_one_on_the_host() {
    let combinations = [
        ALL,
        [true, false, false],
        [false, true, false],
        [false, false, true],
        [false, true, true],
    ];
    for on_terminal in combinations {
        let seen = [Place::Host, Place::Guest].map(|place| {
            let terminal = Terminal::new(24, 80);
            let output = start_on(&terminal, &streams("terminals"), place, on_terminal).finish();
            assert_eq!(output.shell_code(), 0, "{output:?}");
            let lines =
                on_terminal.iter().filter(|yes| **yes).count() + usize::from(on_terminal[1]);
            // stdin's line goes to stdout: three lines in all, some on the terminal.
            let lines = lines - usize::from(on_terminal[0]);
            let screen = terminal.wait_for_lines(lines);
            (screen, output.stdout, output.stderr)
        });
        assert_eq!(seen[0], seen[1], "{on_terminal:?}");
    }
}

#[test]
fn the_size_of_the_terminal_is_known_and_follows() {
    let terminal = Terminal::new(33, 101);
    let running = start_on(&terminal, &wait("size"), Place::Guest, ALL);
    let until = running.until();
    terminal.wait_for("ready", until);
    terminal.send("\n");
    terminal.wait_for("rows 33 columns 101\r\n", until);
    terminal.resize(40, 132);
    terminal.send("\n");
    terminal.wait_for("rows 40 columns 132\r\n", until);
    terminal.send("\x04");
    running.finish().expect_code(0);
}

#[test]
fn the_terminal_is_raw_while_the_guest_runs_and_restored_after() {
    let terminal = Terminal::new(24, 80);
    // A setting that is nobody's default, to see that it is kept.
    let mut settings = terminal.settings();
    settings.special_codes[SpecialCodeIndex::VERASE] = 0x15;
    terminal.set_settings(&settings);
    let before = format!("{:?}", terminal.settings());

    type Ending = fn(&Terminal, &Running);
    let endings: [(Ending, i32); 4] = [
        (|terminal, _| terminal.send("\x04"), 0),
        (|terminal, _| terminal.send("\x03"), 130),
        (|_, running| running.signal(Signal::TERM), 143),
        (|_, running| running.signal(Signal::HUP), 129),
    ];
    for (end, code) in endings {
        let terminal_before = format!("{:?}", terminal.settings());
        assert_eq!(terminal_before, before);
        let running = start_on(&terminal, &wait("read"), Place::Guest, ALL);
        terminal.wait_for_next("ready", running.until());
        assert!(terminal.is_raw());
        end(&terminal, &running);
        running.finish().expect_code(code);
        assert_eq!(format!("{:?}", terminal.settings()), before, "after exit code {code}");
    }
}

#[test]
fn the_terminal_is_restored_when_a_program_crashes_or_is_timed_out() {
    let terminal = Terminal::new(24, 80);
    let before = format!("{:?}", terminal.settings());
    let crash = Run::new(guest("faults.c", &["-static"])).args(["ud2"]);
    start_on(&terminal, &crash, Place::Guest, ALL).finish().expect_code(132);
    assert_eq!(format!("{:?}", terminal.settings()), before);
    let hang = wait("spin").options(["--timeout", "300ms"]);
    start_on(&terminal, &hang, Place::Guest, ALL).finish().expect_code(124);
    assert_eq!(format!("{:?}", terminal.settings()), before);
}

#[test]
fn lines_are_edited_echoed_and_ended() {
    let terminal = Terminal::new(24, 80);
    let running = start_on(&terminal, &Run::new("cat"), Place::Guest, ALL);
    let until = running.until();
    // Typed ahead or not, a line comes back when it is whole: once as echo, once from cat.
    terminal.send("helloo\x7f there\r");
    terminal.wait_for("hello there\r\n", until);
    terminal.send("\x04");
    running.finish().expect_code(0);
}

#[test]
fn control_c_kills_the_program() {
    let terminal = Terminal::new(24, 80);
    for argument in ["spin", "read"] {
        let running = start_on(&terminal, &wait(argument), Place::Guest, ALL);
        terminal.wait_for_next("ready", running.until());
        terminal.send("\x03");
        running.finish().expect_code(130);
    }
}

#[test]
fn control_a_x_leaves() {
    let terminal = Terminal::new(24, 80);
    let before = format!("{:?}", terminal.settings());
    for argument in ["spin", "read"] {
        let running = start_on(&terminal, &wait(argument), Place::Guest, ALL);
        terminal.wait_for_next("ready", running.until());
        terminal.send("\x01x");
        running.finish().expect_code(130);
        assert_eq!(format!("{:?}", terminal.settings()), before);
    }
}
