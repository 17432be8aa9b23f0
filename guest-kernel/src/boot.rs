//! From the first instruction to the first user instruction: a flat list of calls.
//!
//! The VMM has left little to do: the processor is in 64-bit mode with the final page tables, memory
//! is zero, devices are where `shared-abi` says. What is done here does not grow with RAM or the root.

#![expect(unsafe_code, reason = "takes over the machine as the VMM left it")]

use alloc::boxed::Box;
use alloc::sync::Arc;

use shared_abi::boot_info::{BootInfo, FLAG_CONSOLE_SERIAL, FLAG_COUNT_SYSCALLS, FLAG_VERBOSE};
use shared_abi::ports::{EXIT_CWD, EXIT_EXEC, EXIT_ROOT};

use crate::arch::{self, cpu, entry, percpu};
use crate::boot_info::Boot;
use crate::error::Errno;
use crate::fs::context::FsContext;
use crate::fs::setup;
use crate::mm::addr::Phys;
use crate::mm::frame;
use crate::mm::image::ImageMemory;
use crate::mm::space::Space;
use crate::task::exec::{self, Request};
use crate::task::{Credentials, Task};
use crate::{log, random, report, time};

/// The first Rust code: `page` is the boot information, `entry_tsc` the time of the first instruction,
/// `stack_end` the end of the stack that we run on, which becomes the first task's kernel stack.
///
/// # Safety
/// Once, by the first CPU, as the VMM's page tables and [`BootInfo`] promise.
pub unsafe extern "C" fn start(page: *const BootInfo, entry_tsc: u64, stack_end: u64) -> ! {
    report::mark_kernel_entry(entry_tsc);
    // SAFETY: the VMM's promise; `read` checks that it is this build's.
    let boot = unsafe { Boot::read(page) };
    let info = boot.info;
    if info.flags & FLAG_VERBOSE != 0 {
        log::set_verbose();
    }

    // Memory first: everything else may allocate.
    frame::initialise(Phys(info.free_start), Phys(info.low_ram_end), Phys(info.high_ram_end));
    arch::initialise();
    time::initialise(info.tsc_khz, info.tsc_base, info.realtime_ns);
    time::vdso_data().set_cpu_count(info.cpu_count);
    random::seed(&info.seed);
    if info.flags & FLAG_CONSOLE_SERIAL != 0 {
        crate::driver::stdio::write_to_serial();
    }
    if info.flags & FLAG_COUNT_SYSCALLS != 0 {
        percpu::set_entry_work();
    }

    // Files: the root image, the writable layer above it, /dev, /proc, the three streams.
    // SAFETY: the VMM's read-only slot, which the frame allocator does not know.
    let image = unsafe { ImageMemory::new(Phys(info.root.gpa), info.root.len) };
    let mounts = setup::mounts(image).unwrap_or_else(|error| {
        log::line(format_args!("the root cannot be mounted: {}", error.what));
        stop(EXIT_ROOT, error.errno)
    });
    let mounts = Arc::new(mounts);
    let files = setup::streams(&mounts, &info.streams, (info.uid, info.gid))
        .unwrap_or_else(|errno| stop(EXIT_ROOT, errno));

    // The first task, with the kernel stack that we are on.
    let credentials = Credentials { uid: info.uid, euid: info.uid, gid: info.gid, egid: info.gid };
    let space = Space::new().unwrap_or_else(|errno| stop(EXIT_EXEC, errno));
    let context = FsContext::new(mounts, info.umask);
    let task: &'static Task = Box::leak(Box::new(Task::first(credentials, space, files, context)));
    crate::task::set_hostname(info.hostname);
    arch::set_current(task, stack_end);
    crate::fs::terminal::start();
    // SAFETY: the tables have the kernel's half.
    unsafe { cpu::set_page_table_root(task.space.root().0) };

    crate::fs::terminal::start();

    // The program.
    exec::enter_directory(task, boot.cwd()).unwrap_or_else(|errno| stop(EXIT_CWD, errno));
    if boot.cmdline().split(|&b| b == b' ').any(|word| word == b"panic") {
        panic!("asked for by the kernel's command line");
    }
    let request = Request {
        path: boot.program(),
        arguments: boot.arguments(),
        environment: boot.environment(),
        random: info.program_random,
    };
    let frame = exec::execute(task, &request).unwrap_or_else(|errno| stop(EXIT_EXEC, errno));
    report::mark_user_entry(arch::time_stamp_counter());
    entry::enter_user(&frame)
}

/// Ends the machine before the program has begun, and says why.
fn stop(what: u32, errno: Errno) -> ! {
    arch::exit_machine(what | errno.number() as u32 & 0xff)
}
