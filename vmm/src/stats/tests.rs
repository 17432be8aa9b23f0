//! Counting, times, and the two forms of the statistics.

use super::*;
use shared_abi::report::SYSCALL_COUNT;

/// All bits of a report are plain integers.
fn report() -> Report {
    crate::report::tests::empty_report()
}

#[test]
fn exits_are_counted_by_port_and_lumped_beyond_the_limit() {
    let mut counts = ExitCounts { hlt: 1, unclaimed_reads: 5, ..ExitCounts::default() };
    for port in (0..1000).rev() {
        counts.count_io(Direction::Out, port);
        counts.count_io(Direction::In, port);
    }
    assert_eq!(counts.total(), 2001);
    assert_eq!(counts.ports.entries.len(), PORT_COUNT_MAX);
    let out = counts.ports(Direction::Out);
    assert_eq!(out.first().unwrap(), &("0x3c8".to_owned(), 1));
    assert_eq!(out.last().unwrap(), &("other".to_owned(), 1000 - 32));

    let mut sum = ExitCounts::default();
    sum.add(&counts);
    sum.add(&counts);
    assert_eq!(sum.total(), 4002);
}

#[test]
fn json_has_the_documented_keys() {
    let mut stats = Stats { exit_code: 3, ..Stats::default() };
    stats.exits.count_io(Direction::Out, ports::STDIO);
    stats.exits.count_io(Direction::Out, ports::EXIT);
    stats.exits.count_io(Direction::In, ports::COM1 + 5);
    let mut report = report();
    report.syscalls[1] = 2;
    report.syscalls[SYSCALL_COUNT - 1] = 1;
    report.faults[3] = 7;
    stats.read_report(&report, 1_000_000);
    let expected = serde_json::json!({
        "exits": {
            "total": 3, "io_out": {"0x700 stdio": 1, "0x704 exit": 1}, "io_in": {"0x3fd com1": 1},
            "mmio_read": 0, "mmio_write": 0, "hlt": 0, "interrupted": 0, "emulation_failure": 0,
            "other": 0, "unclaimed_reads": 0, "unclaimed_writes": 0
        },
        "time_us": {
            "start": 0, "kvm": 0, "load": 0, "boot": 0, "run": 0, "tear_down": 0, "total": 0
        },
        "boot": {"entry_to_user_ticks": 0, "tsc_khz": 1_000_000},
        "syscalls": {"write": 2, "syscall_511": 1},
        "faults": {
            "anonymous": 0, "image": 0, "memory": 0, "copy_on_write": 7, "signal": 0, "kernel": 0
        },
        "bytes": {"stdin": 0, "stdout": 0, "stderr": 0},
        "memory": {
            "guest_bytes": 0, "guest_touched_bytes": 0, "vmm_resident_bytes": 0,
            "kernel_frames_max": 0
        },
        "exit_code": 3
    });
    assert_eq!(serde_json::to_value(&stats).unwrap(), expected);
}

#[test]
fn boot_is_told_from_run_by_the_guest_but_not_trusted() {
    let cases = [
        // entry, user, kHz -> boot, run, of 1000 us in all
        (1000, 3000, 1000, 2_000, 0),
        (1000, 1500, 1000, 500, 500),
        (1000, 0, 1000, 1000, 0),
        (0, 0, 1000, 1000, 0),
        (3000, 1000, 1000, 0, 1000),
        (1, u64::MAX, 1, 1000, 0),
        (1000, 1500, 0, 0, 1000),
    ];
    for (entry, user, khz, boot, run) in cases {
        let mut stats = Stats::default();
        stats.time_us.run = 1000;
        let mut report = report();
        (report.tsc_kernel_entry, report.tsc_user_entry) = (entry, user);
        stats.read_report(&report, khz);
        assert_eq!((stats.time_us.boot, stats.time_us.run), (boot.min(1000), run));
    }
}

#[test]
fn text_is_aligned_and_leaves_zeroes_out() {
    let mut stats = Stats::default();
    stats.exits.count_io(Direction::Out, ports::STDIO);
    stats.time_us = Times { run: 1_234_567, total: 1_234_567, ..Times::default() };
    stats.syscalls = [("read".to_owned(), 1), ("write".to_owned(), 12_345)].into();
    stats.memory.guest_bytes = 256 << 20;
    let expected = "\
Exits to the VMM
  total                            1
  out 0x700 stdio                  1
Time
  run                   1,234.567 ms
  total                 1,234.567 ms
System calls
  write                       12,345
  read                             1
Memory
  guest                      256 MiB
Exit code 0
";
    assert_eq!(stats.to_string(), expected);
}

#[test]
fn a_full_disk_is_reported() {
    let request = StatsRequest { format: StatsFormat::Json, file: Some("/dev/full".into()) };
    let sink = Sink::open(&request).unwrap();
    let error = Stats::default().write(sink).unwrap_err();
    assert_eq!(error.exit_code(), 125);
    assert!(error.line().starts_with("cannot write the statistics to /dev/full: No space left"));
}

#[test]
fn system_calls_have_names() {
    for (number, name) in [(0, "read"), (231, "exit_group"), (462, "mseal"), (400, "syscall_400")] {
        assert_eq!(syscall_name(number), name);
    }
}

#[test]
fn phases_add_up() {
    let mut clock = PhaseClock::begin(Duration::from_millis(5));
    clock.end(Phase::Start);
    clock.end(Phase::Kvm);
    clock.end(Phase::Guest);
    let times = clock.times();
    assert!(times.start >= 5000);
    assert_eq!(times.total, times.start + times.kvm + times.run);
}
