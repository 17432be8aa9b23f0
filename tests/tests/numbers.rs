//! What is promised in counts: exits and memory. Times are for the benchmark, not for a test.

use vmm_tests::program::{guest, static_hello};
use vmm_tests::run::Run;
use vmm_tests::stats::with_stats;

#[track_caller]
fn at_most(what: &str, number: u64, limit: u64, stats: &serde_json::Value) {
    assert!(number <= limit, "{what}: {number}, more than {limit}: {stats}");
}

#[test]
fn static_assembly_hello_takes_at_most_4_exits() {
    let program = guest("hello_asm.S", &["-nostdlib", "-static"]);
    let (_, stats) = with_stats(Run::new(program));
    at_most("exits", stats.exits(), 4, stats.json());
}

#[test]
fn dynamic_printf_hello_takes_at_most_6_exits() {
    let (_, stats) = with_stats(Run::new(guest("hello_printf.c", &[])));
    at_most("exits", stats.exits(), 6, stats.json());
}

#[test]
fn exits_do_not_grow_with_the_length_of_a_write() {
    let long = "x".repeat(100_000);
    let (_, short_stats) = with_stats(Run::new("/bin/echo").args(["x"]));
    let (_, stats) = with_stats(Run::new("/bin/echo").args([long]));
    // stdio of the C library writes in pieces of its buffer's size.
    at_most("exits", stats.exits(), short_stats.exits() + 100_000 / 1024 + 1, stats.json());
}

#[test]
fn static_hello_touches_at_most_1_5_mib_whatever_the_memory() {
    for size in ["16M", "256M", "16G"] {
        let (_, stats) = with_stats(Run::new(static_hello()).options(["--memory", size]));
        at_most("bytes touched", stats.guest_touched_bytes(), 3 << 19, stats.json());
    }
}

#[test]
fn the_vmm_holds_at_most_3_mib_besides_guest_memory() {
    let (_, stats) = with_stats(Run::new(static_hello()));
    at_most("bytes resident", stats.vmm_resident_bytes(), 3 << 20, stats.json());
}
