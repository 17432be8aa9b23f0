//! What the files of /proc say: man 5 proc.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use crate::error::Result;
use crate::fs::path;
use crate::fs::setup::ROOT_DEV;
use crate::mm::addr::{PAGE, UserAddr};
use crate::mm::frame;
use crate::mm::vma::{Area, Protection, Sharing, Source};
use crate::task::Task;
use crate::{random, task, time};

/// The files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    KernelCommandLine,
    CpuInfo,
    FileSystems,
    LoadAverage,
    MemInfo,
    SystemStat,
    Uptime,
    Version,
    HostName,
    OsRelease,
    OsType,
    OsVersion,
    PidMax,
    CapLastCap,
    GroupsMax,
    BootId,
    Uuid,
    MapCountMax,
    Overcommit,
    FileMax,
    PipeMax,
    // From here on: of the process.
    CommandLine,
    Comm,
    Environment,
    Limits,
    Maps,
    MountInfo,
    Mounts,
    Zero,
    Stat,
    Statm,
    Status,
    DescriptorInfo(i32),
}

/// The release that uname tells.
const RELEASE: &str = text(task::identity::RELEASE);
/// The version that uname tells.
const VERSION: &str = text(task::identity::VERSION);

const fn text(bytes: &'static [u8]) -> &'static str {
    match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => "",
    }
}

impl Text {
    /// A number for each of the files that are there once.
    pub(super) fn index(self) -> u64 {
        // The order of declaration.
        ALL.iter().position(|&text| text == self).map_or(0, |index| index as u64)
    }

    pub(super) fn is_of_process(self) -> bool {
        matches!(self, Self::DescriptorInfo(_)) || self.index() >= Self::CommandLine.index()
    }

    /// The text.
    pub(super) fn write(self, task: &Task) -> Result<Vec<u8>> {
        let mut out = String::new();
        let line = |text: &str| Ok(alloc::format!("{text}\n").into_bytes());
        match self {
            Self::KernelCommandLine => return line(""),
            Self::CpuInfo => cpu_info(&mut out),
            Self::FileSystems => {
                out.push_str(
                    "nodev\tproc\nnodev\ttmpfs\nnodev\tdevtmpfs\nnodev\toverlay\n\terofs\n",
                );
            }
            Self::LoadAverage => {
                let _ = writeln!(out, "0.00 0.00 0.00 1/1 {}", task.pid);
            }
            Self::MemInfo => memory_info(&mut out),
            Self::SystemStat => system_stat(&mut out),
            Self::Uptime => {
                let hundredths = time::monotonic_ns() / 10_000_000;
                let _ = writeln!(out, "{}.{:02} 0.00", hundredths / 100, hundredths % 100);
            }
            Self::Version => {
                let _ = writeln!(out, "Linux version {RELEASE} {VERSION}");
            }
            Self::HostName => {
                let name = task::hostname();
                let len = name.iter().position(|&b| b == 0).unwrap_or(name.len());
                let mut bytes = name[..len].to_vec();
                bytes.push(b'\n');
                return Ok(bytes);
            }
            Self::OsRelease => return line(RELEASE),
            Self::OsType => return line("Linux"),
            Self::OsVersion => return line(VERSION),
            Self::PidMax => return line("32768"),
            Self::CapLastCap => return line("40"),
            Self::GroupsMax => return line("65536"),
            Self::BootId => return line(boot_id()),
            Self::Uuid => {
                let mut bytes = [0; 16];
                random::fill(&mut bytes);
                return line(&uuid(bytes));
            }
            Self::MapCountMax => return line("65530"),
            Self::Overcommit | Self::Zero => return line("0"),
            Self::FileMax => return line("1048576"),
            Self::PipeMax => return line("65536"),
            Self::CommandLine => return Ok(task.image.lock().arguments.clone()),
            Self::Environment => return Ok(task.image.lock().environment.clone()),
            Self::Comm => {
                let mut comm = task.image.lock().comm.clone();
                comm.push(b'\n');
                return Ok(comm);
            }
            Self::Limits => limits(&mut out, task),
            Self::Maps => return Ok(maps(task)),
            Self::MountInfo => mount_info(&mut out, task),
            Self::Mounts => mounts(&mut out, task),
            Self::Stat => stat(&mut out, task),
            Self::Statm => {
                let size = sizes(task);
                let resident = frame::usage().used;
                let _ = writeln!(out, "{} {resident} 0 {} 0 {} 0", size.all, size.code, size.data);
            }
            Self::Status => status(&mut out, task),
            Self::DescriptorInfo(fd) => {
                let file = task.files.get(fd)?;
                let _ = writeln!(
                    out,
                    "pos:\t{}\nflags:\t0{:o}\nmnt_id:\t1\nino:\t{}",
                    file.position(),
                    file.flags(),
                    file.inode().metadata().ino,
                );
            }
        }
        Ok(out.into_bytes())
    }
}

/// In the order of declaration.
const ALL: [Text; 32] = [
    Text::KernelCommandLine,
    Text::CpuInfo,
    Text::FileSystems,
    Text::LoadAverage,
    Text::MemInfo,
    Text::SystemStat,
    Text::Uptime,
    Text::Version,
    Text::HostName,
    Text::OsRelease,
    Text::OsType,
    Text::OsVersion,
    Text::PidMax,
    Text::CapLastCap,
    Text::GroupsMax,
    Text::BootId,
    Text::Uuid,
    Text::MapCountMax,
    Text::Overcommit,
    Text::FileMax,
    Text::PipeMax,
    Text::CommandLine,
    Text::Comm,
    Text::Environment,
    Text::Limits,
    Text::Maps,
    Text::MountInfo,
    Text::Mounts,
    Text::Zero,
    Text::Stat,
    Text::Statm,
    Text::Status,
];

fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40; // RFC 4122, 4.4: random
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A name for this run of the machine.
fn boot_id() -> &'static str {
    static ID: crate::sync::SpinLock<Option<&'static str>> = crate::sync::SpinLock::new(None);
    ID.lock().get_or_insert_with(|| {
        let mut bytes = [0; 16];
        random::fill(&mut bytes);
        alloc::boxed::Box::leak(uuid(bytes).into_boxed_str())
    })
}

fn cpu_count() -> u32 {
    time::vdso_data().cpu_count.load(core::sync::atomic::Ordering::Relaxed)
}

fn cpu_info(out: &mut String) {
    let clock = time::vdso_data();
    let tsc_khz = clock.tsc_at(1_000_000) - clock.tsc_at(0);
    for cpu in 0..cpu_count() {
        // Limits: what the processor is called, only CPUID knows, which programs can ask themselves.
        let _ = writeln!(
            out,
            "processor\t: {cpu}\nvendor_id\t: unknown\nmodel name\t: virtual CPU\n\
             cpu MHz\t\t: {}.000\ncpu cores\t: 1\nflags\t\t: fpu tsc cx8 cmov mmx fxsr sse sse2 \
             syscall nx lm\nbogomips\t: {}.00\naddress sizes\t: 39 bits physical, 48 bits virtual\n",
            tsc_khz / 1000,
            tsc_khz / 500,
        );
    }
}

fn memory_info(out: &mut String) {
    let usage = frame::usage();
    let kib = PAGE as u64 / 1024;
    let (total, free) = (usage.total * kib, (usage.total - usage.used) * kib);
    for (name, value) in [
        ("MemTotal:", total),
        ("MemFree:", free),
        ("MemAvailable:", free),
        ("Buffers:", 0),
        ("Cached:", 0),
        ("SwapCached:", 0),
        ("Active:", 0),
        ("Inactive:", 0),
        ("SwapTotal:", 0),
        ("SwapFree:", 0),
        ("Dirty:", 0),
        ("Writeback:", 0),
        ("AnonPages:", usage.used * kib),
        ("Mapped:", 0),
        ("Shmem:", 0),
        ("Slab:", 0),
        ("CommitLimit:", total),
        ("Committed_AS:", usage.used * kib),
    ] {
        let _ = writeln!(out, "{name:<15} {value:>8} kB");
    }
}

fn system_stat(out: &mut String) {
    let ticks = time::monotonic_ns() / 10_000_000;
    let _ = writeln!(out, "cpu  {ticks} 0 0 0 0 0 0 0 0 0");
    for cpu in 0..cpu_count() {
        let _ = writeln!(out, "cpu{cpu} {ticks} 0 0 0 0 0 0 0 0 0");
    }
    let started = (time::realtime_ns() - time::monotonic_ns()) / time::SECOND_NS;
    let _ = writeln!(
        out,
        "intr 0\nctxt 0\nbtime {started}\nprocesses 1\nprocs_running 1\nprocs_blocked 0"
    );
}

fn limits(out: &mut String, task: &Task) {
    let files = task.files.limit();
    let _ = writeln!(out, "{:<26}{:<21}{:<21}Units", "Limit", "Soft Limit", "Hard Limit");
    let _ = writeln!(out, "{:<26}{files:<21}{files:<21}files", "Max open files");
}

fn mounts(out: &mut String, task: &Task) {
    let _ = writeln!(out, "overlay / overlay rw,noatime 0 0");
    for mount in task.context.mounts.list() {
        let _ = writeln!(out, "{0} /{1} {0} {2} 0 0", mount.kind, mount.name, mount.options);
    }
}

fn mount_info(out: &mut String, task: &Task) {
    let _ = writeln!(out, "1 0 0:{ROOT_DEV} / / rw,noatime - overlay overlay rw");
    for (mount, number) in task.context.mounts.list().iter().zip(2..) {
        let _ = writeln!(
            out,
            "{number} 1 0:{} / /{} {} - {3} {3} rw",
            mount.dev, mount.name, mount.options, mount.kind,
        );
    }
}

/// The areas, low to high. A copy: inodes are not asked under the address space's lock.
fn areas(task: &Task) -> Vec<(UserAddr, Area)> {
    let space = task.space.lock();
    space.areas.iter().map(|(start, area)| (start, area.clone())).collect()
}

fn maps(task: &Task) -> Vec<u8> {
    let mut out = Vec::new();
    let (heap_start, heap_end) = task.space.heap();
    for (start, area) in areas(task) {
        let mut line = String::new();
        let flag = |bit, letter| if area.protection.contains(bit) { letter } else { '-' };
        let _ = write!(
            line,
            "{:08x}-{:08x} {}{}{}{} ",
            start.0,
            area.end.0,
            flag(Protection::READ, 'r'),
            flag(Protection::WRITE, 'w'),
            flag(Protection::EXECUTE, 'x'),
            if area.sharing == Sharing::Shared { 's' } else { 'p' },
        );
        let mut name: Vec<u8> = Vec::new();
        match &area.source {
            Source::File { inode, page } => {
                let metadata = inode.metadata();
                let (major, minor) =
                    (crate::fs::stat::major(metadata.dev), crate::fs::stat::minor(metadata.dev));
                let offset = page * PAGE as u64;
                let _ = write!(line, "{offset:08x} {major:02x}:{minor:02x} {}", metadata.ino);
                name = path::describe(&task.context, inode, inode.place().as_ref());
            }
            other => {
                line.push_str("00000000 00:00 0");
                match other {
                    Source::Stack { .. } => name.extend_from_slice(b"[stack]"),
                    Source::Special(word) => name.extend_from_slice(word.as_bytes()),
                    _ if start < heap_end && area.end > heap_start => {
                        name.extend_from_slice(b"[heap]");
                    }
                    _ => {}
                }
            }
        }
        out.extend_from_slice(line.as_bytes());
        if !name.is_empty() {
            // Names begin in column 74, as on Linux.
            out.resize(out.len() + 73usize.saturating_sub(line.len()).max(1), b' ');
            out.extend_from_slice(&name);
        } else {
            out.push(b' ');
        }
        out.push(b'\n');
    }
    out
}

/// Sizes of the address space, in pages.
struct Sizes {
    all: u64,
    code: u64,
    data: u64,
    stack: u64,
}

fn sizes(task: &Task) -> Sizes {
    let mut sizes = Sizes { all: 0, code: 0, data: 0, stack: 0 };
    for (start, area) in areas(task) {
        let pages = (area.end.0 - start.0) / PAGE as u64;
        sizes.all += pages;
        match area.source {
            Source::Stack { .. } => sizes.stack += pages,
            _ if area.protection.contains(Protection::EXECUTE) => sizes.code += pages,
            _ if area.protection.contains(Protection::WRITE) => sizes.data += pages,
            _ => {}
        }
    }
    sizes
}

fn comm(task: &Task) -> String {
    String::from_utf8_lossy(&task.image.lock().comm).into_owned()
}

fn stat(out: &mut String, task: &Task) {
    let ticks = time::monotonic_ns() / 10_000_000;
    let size = sizes(task).all * PAGE as u64;
    let resident = frame::usage().used;
    let pid = task.pid;
    // Fields 1 to 52; those that nobody counts are 0.
    let _ = writeln!(
        out,
        "{pid} ({}) R 0 {pid} {pid} 34816 {pid} 4194304 0 0 0 0 {ticks} 0 0 0 20 0 1 0 0 {size} \
         {resident} {} 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
        comm(task),
        u64::MAX,
    );
}

fn status(out: &mut String, task: &Task) {
    let kib = PAGE as u64 / 1024;
    let sizes = sizes(task);
    let usage = frame::usage();
    let credentials = *task.credentials.lock();
    let (uid, euid) = (credentials.uid, credentials.euid);
    let (gid, egid) = (credentials.gid, credentials.egid);
    let signals = task.signals.summary();
    let _ = writeln!(
        out,
        "Name:\t{}\nUmask:\t{:04o}\nState:\tR (running)\nTgid:\t{pid}\nNgid:\t0\nPid:\t{pid}\n\
         PPid:\t{}\nTracerPid:\t0\nUid:\t{uid}\t{euid}\t{euid}\t{euid}\n\
         Gid:\t{gid}\t{egid}\t{egid}\t{egid}\nFDSize:\t64\nGroups:\t{gid} ",
        comm(task),
        task.context.umask(),
        task.ppid.load(core::sync::atomic::Ordering::Relaxed),
        pid = task.pid,
    );
    for (name, pages) in [
        ("VmPeak", sizes.all),
        ("VmSize", sizes.all),
        ("VmLck", 0),
        ("VmPin", 0),
        ("VmHWM", usage.used_max),
        ("VmRSS", usage.used),
        ("RssAnon", usage.used),
        ("RssFile", 0),
        ("RssShmem", 0),
        ("VmData", sizes.data),
        ("VmStk", sizes.stack),
        ("VmExe", sizes.code),
        ("VmLib", 0),
        ("VmPTE", 0),
        ("VmSwap", 0),
    ] {
        let _ = writeln!(out, "{name}:\t{:>8} kB", pages * kib);
    }
    let _ = writeln!(
        out,
        "Threads:\t1\nSigQ:\t0/1024\nSigPnd:\t{:016x}\nShdPnd:\t{0:016x}\nSigBlk:\t{:016x}\n\
         SigIgn:\t{:016x}\nSigCgt:\t{:016x}\nNoNewPrivs:\t0\nSeccomp:\t0\nCpus_allowed:\t1\n\
         Cpus_allowed_list:\t0\nMems_allowed:\t1\nMems_allowed_list:\t0\n\
         voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0",
        signals.pending.0, signals.blocked.0, signals.ignored.0, signals.caught.0,
    );
}
