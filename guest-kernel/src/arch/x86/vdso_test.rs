//! The vDSO as a C library sees it, on the host: mapped, looked up, called.

use std::arch::x86_64::_rdtsc;
use std::ffi::c_void;
use std::io::Write;
use std::process::Command;
use std::ptr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use elf::ElfBytes;
use elf::endian::LittleEndian;

use super::{NAMES, gnu_hash, image};
use crate::mm::addr::PAGE;
use crate::time::VdsoData;

type ClockFn = unsafe extern "C" fn(libc::c_int, *mut libc::timespec) -> libc::c_int;

fn parse() -> ElfBytes<'static, LittleEndian> {
    ElfBytes::minimal_parse(&image()[..]).expect("an ELF file")
}

/// Looks a name up as glibc does: GNU hash, and the version that the symbol has.
fn lookup(name: &str) -> u64 {
    let file = parse();
    let common = file.find_common_data().expect("tables");
    let (symbols, strings) =
        (common.dynsyms.expect("symbols"), common.dynsyms_strs.expect("names"));
    let gnu = common.gnu_hash.expect("a GNU hash table");
    let (index, symbol) =
        gnu.find(name.as_bytes(), &symbols, &strings).expect("valid table").expect("a symbol");
    let sysv = common.sysv_hash.expect("a hash table");
    let (sysv_index, _) =
        sysv.find(name.as_bytes(), &symbols, &strings).expect("valid table").expect("a symbol");
    assert_eq!(index, sysv_index, "{name}");
    let versions = file.symbol_version_table().expect("valid versions").expect("versions");
    let mut definition =
        versions.get_definition(index).expect("valid definition").expect("a definition");
    assert_eq!(definition.names.next().expect("a name").expect("valid name"), "LINUX_2.6");
    assert_eq!(definition.hash, 0x03ae_75f6);
    assert!(symbol.st_value != 0 && symbol.st_shndx != 0);
    symbol.st_value
}

/// Maps [data][image] as the kernel does; the address of the image.
fn map(data: &VdsoData) -> usize {
    // SAFETY: a fresh mapping of two pages, filled before anybody else knows it.
    unsafe {
        let base = libc::mmap(
            ptr::null_mut(),
            2 * PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(base, libc::MAP_FAILED);
        ptr::copy_nonoverlapping(ptr::from_ref(data).cast::<u8>(), base.cast(), PAGE);
        let code = base.cast::<u8>().add(PAGE);
        ptr::copy_nonoverlapping(image().as_ptr(), code, PAGE);
        assert_eq!(libc::mprotect(base, PAGE, libc::PROT_READ), 0);
        assert_eq!(
            libc::mprotect(code.cast::<c_void>(), PAGE, libc::PROT_READ | libc::PROT_EXEC),
            0
        );
        code as usize
    }
}

/// Real time and TSC of one moment.
fn now() -> (u64, u64) {
    (0..10)
        .map(|_| {
            // SAFETY: every x86-64 has a TSC.
            let before = unsafe { _rdtsc() };
            let ns = libc_clock(libc::CLOCK_REALTIME);
            // SAFETY: every x86-64 has a TSC.
            let after = unsafe { _rdtsc() };
            (after - before, (ns, before + (after - before) / 2))
        })
        .min()
        .expect("ten moments")
        .1
}

fn libc_clock(clock: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is ours.
    assert_eq!(unsafe { libc::clock_gettime(clock, &raw mut ts) }, 0);
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

fn tsc_khz() -> u32 {
    static KHZ: OnceLock<u32> = OnceLock::new();
    *KHZ.get_or_init(|| {
        let (ns0, tsc0) = now();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        let (ns1, tsc1) = now();
        ((tsc1 - tsc0) * 1_000_000 / (ns1 - ns0)) as u32
    })
}

/// A vDSO that is right from now on.
fn mapped() -> usize {
    let khz = tsc_khz();
    let (realtime_ns, tsc) = now();
    map(&VdsoData::new(khz, tsc, realtime_ns))
}

fn clock_function(base: usize, name: &str) -> ClockFn {
    // SAFETY: the symbol is a function of that type.
    unsafe { std::mem::transmute::<usize, ClockFn>(base + lookup(name) as usize) }
}

fn call_ns(function: ClockFn, clock: libc::c_int) -> u64 {
    let mut ts = libc::timespec { tv_sec: -1, tv_nsec: -1 };
    // SAFETY: the structure is ours.
    assert_eq!(unsafe { function(clock, &raw mut ts) }, 0);
    assert!((0..1_000_000_000).contains(&ts.tv_nsec), "{}", ts.tv_nsec);
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// Both libraries' names are there; nothing needs relocation.
#[test]
fn every_name_is_found_both_ways() {
    for name in NAMES {
        lookup(std::str::from_utf8(name).expect("ASCII"));
    }
    for (name, alias) in [("__vdso_time", "time"), ("__vdso_getcpu", "getcpu")] {
        assert_eq!(lookup(name), lookup(alias));
    }
    assert_eq!(gnu_hash(b"printf"), 0x156b_2bb8);
    let file = parse();
    let dynamic = file.dynamic().expect("valid").expect("a dynamic section");
    for entry in dynamic.iter() {
        assert!(![2, 7, 8, 17, 20, 22, 23].contains(&entry.d_tag), "tag {}", entry.d_tag);
    }
    assert_eq!(image().as_ptr() as usize % PAGE, 0);
}

/// musl does not know sections, nor (for the vDSO) hash tables beyond the count of symbols.
#[test]
fn segments_alone_are_enough() {
    let file = parse();
    let segments: Vec<_> = file.segments().expect("segments").iter().collect();
    assert_eq!((segments[0].p_type, segments[0].p_flags, segments[0].p_memsz), (1, 5, 4096));
    let at = segments[1].p_offset as usize;
    let word = |at: usize| u64::from_le_bytes(image()[at..at + 8].try_into().expect("8 bytes"));
    let tag = |tag: u64| (0..).map(|i| at + 16 * i).find(|&e| word(e) == tag).map(|e| word(e + 8));
    let (hash, symbols, strings) = (tag(4), tag(6), tag(5));
    let count = word(hash.expect("DT_HASH") as usize) >> 32;
    assert_eq!(count as usize, NAMES.len() + 1);
    for (i, name) in NAMES.iter().enumerate() {
        let name_at = word(symbols.expect("DT_SYMTAB") as usize + 24 * (i + 1)) as u32 as usize;
        let string = &image()[strings.expect("DT_STRTAB") as usize + name_at..];
        assert!(string.starts_with(name) && string[name.len()] == 0);
    }
}

#[test]
fn readelf_has_nothing_to_complain_about() {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(&image()[..]).expect("written");
    let output = Command::new("readelf")
        .args(["--all", "--wide", "--lint", "--debug-dump=frames"])
        .arg(file.path())
        .env("LC_ALL", "C")
        .output()
        .expect("readelf runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{text}");
    assert!(output.status.success() && !text.contains("Warning"), "{text}");
    for wanted in [
        "Library soname: [linux-vdso.so.1]",
        "__vdso_clock_gettime@@LINUX_2.6",
        "DW_CFA_def_cfa: r7 (rsp) ofs 8",
        "There are no relocations in this file.",
    ] {
        assert!(text.contains(wanted), "{wanted}\n{text}");
    }
}

#[test]
fn clocks_agree_with_the_hosts() {
    let base = mapped();
    let clock_gettime = clock_function(base, "__vdso_clock_gettime");
    for clock in [libc::CLOCK_REALTIME, libc::CLOCK_REALTIME_COARSE, libc::CLOCK_TAI] {
        let ours = call_ns(clock_gettime, clock);
        assert!(ours.abs_diff(libc_clock(libc::CLOCK_REALTIME)) < 20_000_000, "clock {clock}");
    }
    for clock in [
        libc::CLOCK_MONOTONIC,
        libc::CLOCK_MONOTONIC_RAW,
        libc::CLOCK_MONOTONIC_COARSE,
        libc::CLOCK_BOOTTIME,
    ] {
        let ours = call_ns(clock_gettime, clock);
        assert!(ours < 10_000_000_000, "clock {clock} counts from its start: {ours}");
    }
    let (mut before, host) = (0, libc_clock(libc::CLOCK_MONOTONIC));
    let first = call_ns(clock_gettime, libc::CLOCK_MONOTONIC);
    for _ in 0..100_000 {
        let ns = call_ns(clock_gettime, libc::CLOCK_MONOTONIC);
        assert!(ns >= before);
        before = ns;
    }
    let elapsed_ns = libc_clock(libc::CLOCK_MONOTONIC) - host;
    assert!((before - first).abs_diff(elapsed_ns) < 20_000_000);
}

#[test]
fn the_kernel_and_the_vdso_compute_the_same() {
    // With a multiplier of 0 the TSC does not matter.
    for realtime_ns in [0, 1, 999_999_999, 1_000_000_000, 1_800_000_000_123_456_789, u64::MAX] {
        let data = VdsoData::new(u32::MAX, 0, realtime_ns);
        data.mult.store(0, std::sync::atomic::Ordering::Relaxed);
        let base = map(&data);
        assert_eq!(call_ns(clock_function(base, "clock_gettime"), 0), realtime_ns);
        assert_eq!(data.clock_ns(0, 12345), realtime_ns);
    }
    // A base in the future stands for now.
    let base = map(&VdsoData::new(2_000_000, u64::MAX, 42));
    assert_eq!(call_ns(clock_function(base, "clock_gettime"), libc::CLOCK_REALTIME), 42);
    // Between two looks at the TSC.
    let data = VdsoData::new(2_300_000, 1, 7);
    let function = clock_function(map(&data), "clock_gettime");
    // SAFETY: every x86-64 has a TSC.
    let low = data.nanoseconds(unsafe { _rdtsc() });
    let ns = call_ns(function, libc::CLOCK_MONOTONIC);
    // SAFETY: every x86-64 has a TSC.
    let high = data.nanoseconds(unsafe { _rdtsc() });
    assert!(low <= ns && ns <= high);
}

#[test]
fn other_clocks_are_system_calls() {
    let base = mapped();
    let clock_gettime = clock_function(base, "__vdso_clock_gettime");
    let clock_getres = clock_function(base, "__vdso_clock_getres");
    let host = libc_clock(libc::CLOCK_PROCESS_CPUTIME_ID);
    let ours = call_ns(clock_gettime, libc::CLOCK_PROCESS_CPUTIME_ID);
    assert!(ours >= host && ours - host < 1_000_000_000);
    assert_eq!(call_ns(clock_getres, libc::CLOCK_THREAD_CPUTIME_ID), 1);
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    for clock in [10, 12, 31, 32, 1000, i32::MAX] {
        for function in [clock_gettime, clock_getres] {
            // SAFETY: the structure is ours.
            assert_eq!(unsafe { function(clock, &raw mut ts) }, -libc::EINVAL, "clock {clock}");
        }
    }
    // SAFETY: the kernel checks the pointer.
    let result = unsafe { clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, ptr::null_mut()) };
    assert_eq!(result, -libc::EFAULT);
}

#[test]
fn resolutions() {
    let base = mapped();
    let clock_getres = clock_function(base, "clock_getres");
    assert_eq!(call_ns(clock_getres, libc::CLOCK_MONOTONIC), 1);
    assert_eq!(call_ns(clock_getres, libc::CLOCK_TAI), 1);
    assert_eq!(call_ns(clock_getres, libc::CLOCK_REALTIME_COARSE), 4_000_000);
    // SAFETY: NULL asks only whether the clock is there.
    assert_eq!(unsafe { clock_getres(libc::CLOCK_REALTIME, ptr::null_mut()) }, 0);
}

#[test]
fn gettimeofday_time_and_getcpu() {
    type TimeOfDay = unsafe extern "C" fn(*mut libc::timeval, *mut [i32; 2]) -> libc::c_int;
    type Time = unsafe extern "C" fn(*mut i64) -> i64;
    type GetCpu = unsafe extern "C" fn(*mut u32, *mut u32, *mut c_void) -> libc::c_int;
    let base = mapped();
    let address = |name| base + lookup(name) as usize;
    // SAFETY: the symbols are functions of these types.
    let (gettimeofday, time, getcpu) = unsafe {
        (
            std::mem::transmute::<usize, TimeOfDay>(address("__vdso_gettimeofday")),
            std::mem::transmute::<usize, Time>(address("__vdso_time")),
            std::mem::transmute::<usize, GetCpu>(address("__vdso_getcpu")),
        )
    };
    let mut tv = libc::timeval { tv_sec: 0, tv_usec: -1 };
    let mut tz = [7; 2];
    let mut seconds = 0;
    let (mut cpu, mut node) = (7, 7);
    // SAFETY: all structures are ours, and NULL is allowed for each.
    unsafe {
        assert_eq!(gettimeofday(ptr::null_mut(), ptr::null_mut()), 0);
        assert_eq!(gettimeofday(&raw mut tv, &raw mut tz), 0);
        assert_eq!(gettimeofday(&raw mut tv, ptr::null_mut()), 0);
        let now = time(&raw mut seconds);
        assert_eq!(now, seconds);
        assert!(now - time(ptr::null_mut()) <= 0);
        assert_eq!(getcpu(&raw mut cpu, &raw mut node, ptr::null_mut()), 0);
        assert_eq!(getcpu(ptr::null_mut(), ptr::null_mut(), ptr::null_mut()), 0);
    }
    let us = tv.tv_sec * 1_000_000 + tv.tv_usec;
    assert!((0..1_000_000).contains(&tv.tv_usec));
    assert!((us as u64).abs_diff(libc_clock(libc::CLOCK_REALTIME) / 1000) < 20_000);
    assert!(seconds - tv.tv_sec <= 1);
    assert_eq!((tz, cpu, node), ([0; 2], 0, 0));
}

/// With several CPUs the number comes from the kernel.
#[test]
fn getcpu_of_many_is_a_system_call() {
    type GetCpu = unsafe extern "C" fn(*mut u32, *mut u32, *mut c_void) -> libc::c_int;
    let data = VdsoData::new(1_000_000, 0, 0);
    data.set_cpu_count(2);
    let address = map(&data) + lookup("getcpu") as usize;
    let (mut cpu, mut node) = (u32::MAX, u32::MAX);
    // SAFETY: the symbol is a function of this type, and the words are ours.
    let result = unsafe {
        let getcpu = std::mem::transmute::<usize, GetCpu>(address);
        getcpu(&raw mut cpu, &raw mut node, ptr::null_mut())
    };
    assert_eq!(result, 0);
    assert!(cpu < 4096 && node < 4096);
}
