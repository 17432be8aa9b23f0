//! What a run cost: counted while it runs, written as text or JSON when it has ended (`--stats`).
//!
//! Counting is adding to plain integers: it is always on. What costs time to find out, the resident
//! memory, is measured only when statistics are wanted.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::ser::{Serialize, SerializeMap, Serializer};
use shared_abi::ports;
use shared_abi::report::{FAULT_KIND_NAMES, Report};

use crate::config::{Size, StatsFormat, StatsRequest};
use crate::error::{Error, Kind};

/// The most port and direction pairs that are counted one by one; the guest chooses the ports.
pub const PORT_COUNT_MAX: usize = 64;

/// Direction of a port access, seen from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The guest reads.
    In,
    /// The guest writes.
    Out,
}

/// Exits to the VMM, by reason. One per virtual CPU, no locks; [`ExitCounts::add`] joins them.
///
/// In JSON: `total`; `io_out` and `io_in`, objects from a port (`"0x700 stdio"`, `"0x80"`, and `"other"`
/// for what is beyond [`PORT_COUNT_MAX`]) to its count; and the fields below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitCounts {
    ports: PortCounts,
    /// Reads of device memory.
    pub mmio_read: u64,
    /// Writes of device memory.
    pub mmio_write: u64,
    /// Halts that the in-kernel irqchip did not serve.
    pub hlt: u64,
    /// Kicks and signals.
    pub interrupted: u64,
    /// Instructions that KVM could not emulate.
    pub emulation_failure: u64,
    /// All other reasons.
    pub other: u64,
    /// Of the above: reads of ports and memory that no device claims.
    pub unclaimed_reads: u64,
    /// Of the above: writes that no device claims.
    pub unclaimed_writes: u64,
}

impl ExitCounts {
    /// Counts an exit for an access to `port`.
    pub fn count_io(&mut self, direction: Direction, port: u16) {
        self.ports.add(direction, port, 1);
    }

    /// Adds the counts of another virtual CPU.
    pub fn add(&mut self, other: &Self) {
        for &(direction, port, count) in &other.ports.entries {
            self.ports.add(direction, port, count);
        }
        self.ports.other_in += other.ports.other_in;
        self.ports.other_out += other.ports.other_out;
        self.mmio_read += other.mmio_read;
        self.mmio_write += other.mmio_write;
        self.hlt += other.hlt;
        self.interrupted += other.interrupted;
        self.emulation_failure += other.emulation_failure;
        self.other += other.other;
        self.unclaimed_reads += other.unclaimed_reads;
        self.unclaimed_writes += other.unclaimed_writes;
    }

    /// All exits.
    pub fn total(&self) -> u64 {
        let ports = self.ports.entries.iter().map(|&(_, _, count)| count).sum::<u64>();
        ports
            + self.ports.other_in
            + self.ports.other_out
            + self.mmio_read
            + self.mmio_write
            + self.hlt
            + self.interrupted
            + self.emulation_failure
            + self.other
    }

    /// Name and count by port, in ascending order of ports.
    fn ports(&self, wanted: Direction) -> Vec<(String, u64)> {
        let entries = self.ports.entries.iter().filter(|&&(direction, _, _)| direction == wanted);
        let mut ports: Vec<_> = entries
            .map(|&(_, port, count)| (port, count))
            .collect::<BTreeMap<_, _>>()
            .into_iter()
            .map(|(port, count)| (port_name(port), count))
            .collect();
        let other = match wanted {
            Direction::In => self.ports.other_in,
            Direction::Out => self.ports.other_out,
        };
        if other != 0 {
            ports.push(("other".to_owned(), other));
        }
        ports
    }

    /// The reasons that are plain numbers, with their JSON keys.
    fn plain(&self) -> [(&'static str, u64); 8] {
        [
            ("mmio_read", self.mmio_read),
            ("mmio_write", self.mmio_write),
            ("hlt", self.hlt),
            ("interrupted", self.interrupted),
            ("emulation_failure", self.emulation_failure),
            ("other", self.other),
            ("unclaimed_reads", self.unclaimed_reads),
            ("unclaimed_writes", self.unclaimed_writes),
        ]
    }
}

impl Serialize for ExitCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let plain = self.plain();
        let mut map = serializer.serialize_map(Some(3 + plain.len()))?;
        map.serialize_entry("total", &self.total())?;
        map.serialize_entry("io_out", &Pairs(&self.ports(Direction::Out)))?;
        map.serialize_entry("io_in", &Pairs(&self.ports(Direction::In)))?;
        for (key, count) in plain {
            map.serialize_entry(key, &count)?;
        }
        map.end()
    }
}

/// A list of pairs as a JSON object that keeps their order.
struct Pairs<'a>(&'a [(String, u64)]);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, count)| (key, count)))
    }
}

/// Counts by direction and port. The few ports of a guest are found in a few compares; a guest that
/// tries them all fills the table and no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct PortCounts {
    entries: Vec<(Direction, u16, u64)>,
    other_in: u64,
    other_out: u64,
}

impl PortCounts {
    fn add(&mut self, direction: Direction, port: u16, count: u64) {
        let known = self.entries.iter_mut().find(|entry| entry.0 == direction && entry.1 == port);
        if let Some(entry) = known {
            entry.2 += count;
        } else if self.entries.len() < PORT_COUNT_MAX {
            self.entries.push((direction, port, count));
        } else {
            match direction {
                Direction::In => self.other_in += count,
                Direction::Out => self.other_out += count,
            }
        }
    }
}

fn port_name(port: u16) -> String {
    let name = match port {
        ports::STDIO => " stdio",
        ports::EXIT => " exit",
        port if (ports::COM1..ports::COM1 + 8).contains(&port) => " com1",
        _ => "",
    };
    format!("{port:#x}{name}")
}

/// Wall time by phase, in microseconds; all phases together are `total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Times {
    /// Finding the program and its libraries, planning the root image, getting the kernel's file.
    pub start: u64,
    /// KVM: the machine, its memory with the root image mapped into it, its virtual CPU.
    pub kvm: u64,
    /// The kernel, its page tables, the boot information.
    pub load: u64,
    /// From the first entry of the guest to the first user instruction.
    pub boot: u64,
    /// From there to the end of the program.
    pub run: u64,
    /// The end of threads and the release of memory.
    pub tear_down: u64,
    /// All of it.
    pub total: u64,
}

/// A phase of a run that the VMM can tell from the next by its own clock; `boot` is told from `run` by
/// the guest's time marks ([`Stats::read_report`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// [`Times::start`].
    Start,
    /// [`Times::kvm`].
    Kvm,
    /// [`Times::load`].
    Load,
    /// [`Times::boot`] and [`Times::run`].
    Guest,
    /// [`Times::tear_down`].
    TearDown,
}

/// Measures phases that follow each other.
#[derive(Clone, Debug)]
pub struct PhaseClock {
    phase_begin: Instant,
    times: Times,
}

impl PhaseClock {
    /// Begins the first phase, which has lasted for `since` already.
    pub fn begin(since: Duration) -> Self {
        let now = Instant::now();
        Self { phase_begin: now.checked_sub(since).unwrap_or(now), times: Times::default() }
    }

    /// Ends `phase` and begins the next one. Phases may come in any order and more than once.
    pub fn end(&mut self, phase: Phase) {
        let now = Instant::now();
        let us = u64::try_from((now - self.phase_begin).as_micros()).unwrap_or(u64::MAX);
        self.phase_begin = now;
        let field = match phase {
            Phase::Start => &mut self.times.start,
            Phase::Kvm => &mut self.times.kvm,
            Phase::Load => &mut self.times.load,
            Phase::Guest => &mut self.times.run,
            Phase::TearDown => &mut self.times.tear_down,
        };
        *field += us;
        self.times.total += us;
    }

    /// The times so far.
    pub fn times(&self) -> Times {
        self.times
    }
}

/// Time marks of the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Boot {
    /// Ticks of the time-stamp counter from the kernel's first instruction to the first of the program.
    pub entry_to_user_ticks: u64,
    /// Frequency of that counter, in kHz.
    pub tsc_khz: u32,
}

/// Bytes through the standard streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Bytes {
    /// Read by the guest.
    pub stdin: u64,
    /// Written by the guest.
    pub stdout: u64,
    /// Written by the guest.
    pub stderr: u64,
}

/// Memory, in bytes if the name does not say frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Memory {
    /// Size of guest RAM.
    pub guest_bytes: u64,
    /// Guest RAM that is backed by memory of the host.
    pub guest_touched_bytes: u64,
    /// What the VMM's process has resident beside guest RAM and the root image.
    pub vmm_resident_bytes: u64,
    /// The most frames that the guest kernel had in use.
    pub kernel_frames_max: u64,
}

/// All statistics of one run. Field names are the keys of the JSON: they stay.
///
/// ```text
/// { "exits": { "total": n, "io_out": { "0x700 stdio": n, … }, "io_in": { … }, "mmio_read": n, … },
///   "time_us": { "start": n, "kvm": n, "load": n, "boot": n, "run": n, "tear_down": n, "total": n },
///   "boot": { "entry_to_user_ticks": n, "tsc_khz": n },
///   "syscalls": { "write": n, … },           only those that were called
///   "faults": { "anonymous": n, … },         every kind
///   "bytes": { "stdin": n, "stdout": n, "stderr": n },
///   "memory": { "guest_bytes": n, "guest_touched_bytes": n, "vmm_resident_bytes": n,
///               "kernel_frames_max": n },
///   "exit_code": n }
/// ```
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Stats {
    /// Exits to the VMM.
    pub exits: ExitCounts,
    /// Wall time.
    pub time_us: Times,
    /// Time marks of the guest.
    pub boot: Boot,
    /// System calls by name.
    pub syscalls: BTreeMap<String, u64>,
    /// Page faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Bytes through the standard streams.
    pub bytes: Bytes,
    /// Memory.
    pub memory: Memory,
    /// What `vmm` exits with.
    pub exit_code: u8,
}

impl Stats {
    /// Takes over what the guest counted, and parts [`Times::boot`] from [`Times::run`] by its time
    /// marks. The guest may have written anything: nothing here depends on its being true.
    pub fn read_report(&mut self, report: &Report, tsc_khz: u32) {
        let marked = report.tsc_kernel_entry != 0 && report.tsc_user_entry != 0;
        let ticks = report.tsc_user_entry.saturating_sub(report.tsc_kernel_entry);
        self.boot = Boot { entry_to_user_ticks: if marked { ticks } else { 0 }, tsc_khz };
        let guest_us = self.time_us.boot + self.time_us.run;
        self.time_us.boot = match (u128::from(tsc_khz), report.tsc_user_entry) {
            (0, _) => 0,
            // It never got to user mode: all was boot.
            (_, 0) => guest_us,
            (khz, _) => {
                let us = u128::from(self.boot.entry_to_user_ticks) * 1000 / khz;
                u64::try_from(us).unwrap_or(u64::MAX).min(guest_us)
            }
        };
        self.time_us.run = guest_us - self.time_us.boot;
        self.faults = FAULT_KIND_NAMES.into_iter().zip(report.faults).collect();
        self.syscalls = report
            .syscalls
            .iter()
            .enumerate()
            .filter(|&(_, &count)| count != 0)
            .map(|(number, &count)| (syscall_name(number), count))
            .collect();
        self.memory.kernel_frames_max = report.frames_used_max;
    }

    /// Writes the statistics into the sink. A disk that is full and a pipe that nobody reads are errors to
    /// report, as any other.
    pub fn write(&self, sink: Sink) -> Result<(), Error> {
        let text = match sink.format {
            StatsFormat::Text => self.to_string(),
            StatsFormat::Json => {
                let json =
                    serde_json::to_string(self).map_err(|error| cannot_write(None, error))?;
                json + "\n"
            }
        };
        match sink.file {
            Some((mut file, path)) => {
                file.write_all(text.as_bytes()).map_err(|error| cannot_write(Some(&path), error))
            }
            None => io::stderr()
                .lock()
                .write_all(text.as_bytes())
                .map_err(|error| cannot_write(None, error)),
        }
    }
}

/// Where statistics go, opened before the run: a place that cannot be written to is found out early.
#[derive(Debug)]
pub struct Sink {
    format: StatsFormat,
    file: Option<(File, PathBuf)>,
}

impl Sink {
    /// Opens what `request` asks for.
    pub fn open(request: &StatsRequest) -> Result<Self, Error> {
        let file = match &request.file {
            Some(path) => {
                let file = File::create(path).map_err(|e| cannot_write(Some(path), e))?;
                Some((file, path.clone()))
            }
            None => None,
        };
        Ok(Self { format: request.format, file })
    }
}

fn cannot_write(
    path: Option<&Path>,
    why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    let place = path.map_or("standard error".into(), |path| path.display().to_string());
    Error::new(Kind::Vmm, format!("cannot write the statistics to {place}"))
        .because(why)
        .remedy("name a writable file with --stats-file")
}

/// The name of a system call of x86-64 Linux, or `syscall_N`.
pub fn syscall_name(number: usize) -> String {
    match syscalls::x86_64::Sysno::new(number) {
        Some(call) => call.name().to_owned(),
        None => format!("syscall_{number}"),
    }
}

/// The form for people: aligned, without what is zero.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |(name, count): (String, u64)| (name, grouped(count), count);
        let counts = |pairs: Vec<(String, u64)>| pairs.into_iter().map(count).collect::<Vec<_>>();

        let mut exits = vec![("total".to_owned(), self.exits.total())];
        let directed = |word: &'static str, ports: Vec<(String, u64)>| {
            ports.into_iter().map(move |(port, count)| (format!("{word} {port}"), count))
        };
        exits.extend(directed("out", self.exits.ports(Direction::Out)));
        exits.extend(directed("in", self.exits.ports(Direction::In)));
        exits.extend(self.exits.plain().map(|(key, count)| (key.replace('_', " "), count)));
        section(f, "Exits to the VMM", &counts(exits))?;

        let times = &self.time_us;
        let times = [
            ("start", times.start),
            ("kvm", times.kvm),
            ("load", times.load),
            ("boot", times.boot),
            ("run", times.run),
            ("tear down", times.tear_down),
            ("total", times.total),
        ];
        section(f, "Time", &times.map(|(name, us)| (name.to_owned(), milliseconds(us), us)))?;

        let mut calls: Vec<_> = self.syscalls.iter().map(|(name, &n)| (name.clone(), n)).collect();
        calls.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        section(f, "System calls", &counts(calls))?;

        let faults = self.faults.iter().map(|(kind, &count)| (kind.replace('_', " "), count));
        section(f, "Page faults", &counts(faults.collect()))?;

        let bytes = &self.bytes;
        let bytes = [("stdin", bytes.stdin), ("stdout", bytes.stdout), ("stderr", bytes.stderr)];
        section(f, "Bytes", &bytes.map(|(name, n)| (name.to_owned(), grouped(n), n)))?;

        let memory = &self.memory;
        let memory = [
            ("guest", memory.guest_bytes),
            ("guest, touched", memory.guest_touched_bytes),
            ("vmm, resident", memory.vmm_resident_bytes),
            ("kernel, most frames", memory.kernel_frames_max.saturating_mul(4096)),
        ];
        let memory = memory.map(|(name, n)| (name.to_owned(), Size(n).to_string(), n));
        section(f, "Memory", &memory)?;
        writeln!(f, "Exit code {}", self.exit_code)
    }
}

/// A heading and its rows, names to the left, values to the right; rows of zero are left out.
fn section(
    f: &mut fmt::Formatter<'_>,
    heading: &str,
    rows: &[(String, String, u64)],
) -> fmt::Result {
    let rows: Vec<_> = rows.iter().filter(|row| row.2 != 0).collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(f, "{heading}")?;
    let name_width = rows.iter().map(|row| row.0.chars().count()).max().unwrap_or(0).max(20);
    let value_width = rows.iter().map(|row| row.1.chars().count()).max().unwrap_or(0).max(12);
    for (name, value, _) in rows {
        writeln!(f, "  {name:name_width$}  {value:>value_width$}")?;
    }
    Ok(())
}

/// 1234567 as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index != 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn milliseconds(us: u64) -> String {
    format!("{}.{:03} ms", grouped(us / 1000), us % 1000)
}

#[cfg(test)]
mod tests;
