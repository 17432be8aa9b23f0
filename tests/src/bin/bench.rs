//! Measures what the README promises: `scripts/bench [--lab] [--json]`.
//!
//! Counts of exits and bytes hold everywhere. Ticks of the time-stamp counter are instructions in the
//! lab, where `scripts/bench --lab` runs this with instruction counting; so are nanoseconds.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use vmm_tests::program::{guest, static_hello};
use vmm_tests::run::{Output, Run};
use vmm_tests::stats::with_stats;
use vmm_tests::vmm_binary;

/// One number.
struct Row {
    key: &'static str,
    what: &'static str,
    value: f64,
    unit: &'static str,
    /// The most it may be, where that is promised for this place.
    limit: Option<f64>,
}

fn main() {
    let options: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| options.iter().any(|option| option == name);
    if let Some(odd) =
        options.iter().find(|o| !["--json", "--counting", "--build"].contains(&&***o))
    {
        eprintln!("bench: no option {odd}: --json, --counting (ticks are instructions), --build");
        std::process::exit(2);
    }
    let programs = Programs::build();
    if has("--build") {
        return;
    }
    let rows = measure(&programs, has("--counting"));
    if has("--json") {
        let object: serde_json::Map<_, _> =
            rows.iter().map(|row| (row.key.to_string(), json!(row.value))).collect();
        println!("{}", serde_json::Value::Object(object));
    } else {
        print_table(&rows);
    }
}

struct Programs {
    hello_assembly: std::path::PathBuf,
    hello_static: std::path::PathBuf,
    hello_dynamic: std::path::PathBuf,
    null_call: std::path::PathBuf,
}

impl Programs {
    fn build() -> Programs {
        Programs {
            hello_assembly: guest("hello_asm.S", &["-nostdlib", "-static"]),
            hello_static: static_hello(),
            hello_dynamic: guest("hello_printf.c", &[]),
            null_call: guest("null_call.c", &["-static"]),
        }
    }
}

fn measure(programs: &Programs, counting: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |key, what, value, unit, limit| rows.push(Row { key, what, value, unit, limit });

    let (_, assembly) = with_stats(Run::new(&programs.hello_assembly));
    let (_, dynamic) = with_stats(Run::new(&programs.hello_dynamic));
    let (_, hello) = with_stats(Run::new(&programs.hello_static));
    let exits = "exits";
    add(
        "exits_static_assembly",
        "static assembly hello",
        assembly.exits() as f64,
        exits,
        Some(4.0),
    );
    add("exits_dynamic_printf", "dynamic printf hello", dynamic.exits() as f64, exits, Some(6.0));

    let (count, limit) = if counting { (5, 30.0) } else { (41, 40.0) };
    let (first_byte, end) = times_of(&programs.hello_assembly, count);
    add("hello_output_ms", "static assembly hello: start to output", first_byte, "ms", Some(limit));
    add("hello_end_ms", "static assembly hello: start to end", end, "ms", None);
    let (first_byte, end) = times_of(&programs.hello_static, count);
    add("printf_output_ms", "static printf hello: start to output", first_byte, "ms", Some(limit));
    add("printf_end_ms", "static printf hello: start to end", end, "ms", None);

    if !counting {
        // Exact anywhere, and the same everywhere; the lab's KVM cannot single-step ring 0.
        let boot = vmm::config::Config::new(&programs.hello_static);
        let steps =
            |config| vmm::count_boot_instructions(&config).expect("the kernel starts the program");
        let (unit, limit) = ("instructions", Some(30_000.0));
        let what = "kernel entry to first user instruction";
        add("entry_to_user", what, steps(boot.clone()) as f64, unit, limit);
        let files = many_files();
        let large = boot.memory_bytes(16 << 30).addition(files.path(), "/files");
        let what = "the same, 16 GiB, 2,000 files in the root";
        add("entry_to_user_large", what, steps(large) as f64, unit, limit);
    }
    let what = "the same by the clock, host's work included";
    add("entry_to_user_ticks", what, hello.entry_to_user_ticks() as f64, "ticks", None);

    let call = Run::new(&programs.null_call);
    let number = |output: Output| -> f64 {
        output.expect_code(0).stdout_text().trim().parse().expect("null_call prints a number")
    };
    let (host, guest) = (number(call.host_output()), number(call.output()));
    let unit = if counting { "instructions" } else { "ticks" };
    let limit = counting.then_some(60.0);
    add("null_call_host", "null system call on the host", host, unit, None);
    add("null_call_guest", "null system call in the guest", guest, unit, limit);
    let limit = counting.then_some(0.25);
    add("null_call_ratio", "guest / host", guest / host, "", limit);

    let kib = |bytes: u64| bytes as f64 / 1024.0;
    let touched = kib(hello.guest_touched_bytes());
    add(
        "vmm_resident_kib",
        "VMM besides guest RAM",
        kib(hello.vmm_resident_bytes()),
        "KiB",
        Some(3072.0),
    );
    add("guest_touched_kib", "guest RAM that static hello touches", touched, "KiB", Some(1536.0));
    rows
}

/// A directory that makes a root large.
fn many_files() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory for files");
    for number in 0..2000 {
        std::fs::write(directory.path().join(number.to_string()), b"a file").expect("a file");
    }
    directory
}

/// Medians, in milliseconds, of the times from the start of `vmm run` to its output and to its end.
fn times_of(program: &Path, count: usize) -> (f64, f64) {
    let times: Vec<_> = (0..count).map(|_| time_of(program)).collect();
    let median = |mut values: Vec<Duration>| {
        values.sort();
        values[values.len() / 2].as_secs_f64() * 1000.0
    };
    (
        median(times.iter().map(|(output, _)| *output).collect()),
        median(times.iter().map(|(_, end)| *end).collect()),
    )
}

fn time_of(program: &Path) -> (Duration, Duration) {
    let begin = Instant::now();
    let mut child = Command::new(vmm_binary())
        .arg("run")
        .arg(program)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("vmm starts");
    let mut first = [0];
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_exact(&mut first).expect("a first byte of output");
    let output = begin.elapsed();
    child.wait().expect("vmm ends");
    (output, begin.elapsed())
}

fn print_table(rows: &[Row]) {
    for Row { what, value, unit, limit, .. } in rows {
        let digits = if value.fract() == 0.0 { 0 } else { 2 };
        let verdict = match limit {
            Some(limit) if value <= limit => format!("(at most {limit})"),
            Some(limit) => format!("MISSED: at most {limit}"),
            None => String::new(),
        };
        println!("{what:<45} {value:>12.digits$} {unit:<12} {verdict}");
    }
}
