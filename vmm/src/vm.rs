//! A run from beginning to end: this file is the VMM's table of contents.

use std::ffi::OsStr;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shared_abi::boot_info::{
    FLAG_CONSOLE_SERIAL, FLAG_COUNT_SYSCALLS, FLAG_VERBOSE, STREAM_TERMINAL, Stream,
};
use shared_abi::layout::{REPORT_GPA, ROOT_GPA};
use shared_abi::ports;
use shared_abi::report::Report;
use vmm_sys_util::eventfd::EventFd;

use crate::bus::Bus;
use crate::config::{Config, Console};
use crate::device::Device;
use crate::device::serial::Serial;
use crate::device::stdio::{ByteCounts, Input, Stdio};
use crate::error::{Error, Kind};
use crate::event::{EventLoop, Wake};
use crate::irq::{MessageIrq, PinIrq};
use crate::kernel_image::KernelImage;
use crate::kick;
use crate::kvm::Machine;
use crate::loader::{boot_info, cpu_state, elf, page_tables};
use crate::memory::Memory;
use crate::program::Program;
use crate::root::Root;
use crate::signal_fd::SignalFd;
use crate::stats::{ExitCounts, Phase, PhaseClock, Sink, Stats};
use crate::terminal::{self, Terminal};
use crate::vcpu::{End, Vcpu};
use crate::{error, exit_code, host, kernel_image, kvm, report, resident, root, stats};

/// The signals that end a run at once.
const ENDING_SIGNALS: [i32; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];
/// The signals that a terminal sends besides.
const TERMINAL_SIGNALS: [i32; 3] = [libc::SIGWINCH, libc::SIGTSTP, libc::SIGCONT];

/// How long a stopped virtual CPU may take to notice. It is kicked again until it does.
const KICK_INTERVAL: Duration = Duration::from_millis(1);

/// Runs the program in a virtual machine of its own and returns the exit code that `vmm run` ends with.
///
/// # Errors
/// Everything that keeps the program from ending by itself; each error knows its exit code.
pub fn run(config: Config) -> Result<u8, Error> {
    let mut clock = PhaseClock::begin(Duration::ZERO);
    config.validate()?;
    let stats_sink = config.stats.as_ref().map(Sink::open).transpose()?;
    let program = Program::find(&config)?;
    let root = root::build(&config, &program)?;
    for warning in &root.warnings {
        error::print_line(warning);
    }
    let kernel = kernel_image::get(config.kernel.as_deref())?;
    clock.end(Phase::Start);

    let kvm = kvm::open()?;
    let memory = Memory::new(config.memory_bytes, &root.image)
        .map_err(vmm_error("cannot set up guest memory"))?;
    let memory = Arc::new(memory);
    let machine = Machine::new(&kvm, &memory)?;
    clock.end(Phase::Kvm);

    let streams = streams();
    load(&config, &root, &kernel, &memory, &machine, streams)?;
    kernel.release();
    clock.end(Phase::Load);

    let mut guest = Guest::start(&config, &memory, machine, streams[0].kind == STREAM_TERMINAL)?;
    let wake = guest.wait()?;
    let (end, exits) = guest.stop();
    clock.end(Phase::Guest);

    let report = memory
        .read_shared::<Report>(REPORT_GPA)
        .map_err(vmm_error("cannot read the kernel's report"))?;
    let result = verdict(&config, wake, &end, &report, &kernel, &root);
    if let Some(sink) = stats_sink {
        let mut stats = Stats {
            exits,
            bytes: guest.bytes(),
            memory: memory_stats(&memory),
            exit_code: result.as_ref().map_or_else(Error::exit_code, |code| *code),
            ..Stats::default()
        };
        let tsc_khz = guest.tsc_khz;
        drop(guest);
        clock.end(Phase::TearDown);
        stats.time_us = clock.times();
        stats.read_report(&report, tsc_khz);
        stats.write(sink)?;
    }
    result
}

/// Counts the instructions of the guest kernel from its first to the program's first, by single steps: it
/// takes a second, and says exactly what a benchmark's clock would blur.
///
/// # Errors
/// As [`run`], and when the program is never started.
pub fn count_boot_instructions(config: &Config) -> Result<u64, Error> {
    const COUNT_MAX: u64 = 1 << 20;
    config.validate()?;
    let program = Program::find(config)?;
    let root = root::build(config, &program)?;
    let kernel = kernel_image::get(config.kernel.as_deref())?;
    let memory = Memory::new(config.memory_bytes, &root.image)
        .map_err(vmm_error("cannot set up guest memory"))?;
    let machine = Machine::new(&kvm::open()?, &memory)?;
    load(config, &root, &kernel, &memory, &machine, streams())?;
    let mut vcpu = Vcpu {
        fd: machine.vcpu,
        ports: Arc::default(),
        mmio: Arc::default(),
        stop: Arc::default(),
        verbose: false,
        root: ROOT_GPA..ROOT_GPA + memory.root_len(),
    };
    // The kernel's last act before the way out is to mark the time.
    let is_marked =
        || memory.read_shared::<Report>(REPORT_GPA).is_ok_and(|report| report.tsc_user_entry != 0);
    vcpu.count_instructions(COUNT_MAX, is_marked)
        .map_err(|why| Error::new(Kind::GuestCrashed, "cannot count").because(why))
}

/// What is resident of the guest and of us.
fn memory_stats(memory: &Memory) -> stats::Memory {
    let range = |(start, len): (u64, u64)| start..start + len;
    let (ram, root) = memory.host_ranges();
    let guest_bytes = ram.iter().map(|(_, len)| len).sum();
    let ram: Vec<_> = ram.into_iter().map(range).collect();
    // Without /proc there is nothing to tell.
    let resident = resident::measure(&ram, &[range(root)]).unwrap_or_default();
    stats::Memory {
        guest_bytes,
        guest_touched_bytes: resident.guest,
        vmm_resident_bytes: resident.vmm,
        kernel_frames_max: 0,
    }
}

/// Fills guest memory and the CPU's registers.
fn load(
    config: &Config,
    root: &Root,
    image: &KernelImage,
    memory: &Memory,
    machine: &Machine,
    streams: [Stream; 3],
) -> Result<(), Error> {
    let failed = vmm_error("cannot load the guest kernel");
    let kernel = elf::Kernel::parse(&image.name, &image.bytes).map_err(&failed)?;
    kernel.load(&image.name, &image.bytes, memory).map_err(&failed)?;
    let pml4 = page_tables::build(memory, &kernel).map_err(&failed)?;
    let program = OsStr::new(&config.program);
    let arguments: Vec<&OsStr> =
        std::iter::once(program).chain(config.arguments.iter().map(|a| a.as_os_str())).collect();
    let environment: Vec<&OsStr> = config.environment.iter().map(|e| e.as_os_str()).collect();
    let random = host::random_bytes().map_err(io_error("cannot get random bytes"))?;
    let (seed, rest) = random.split_first_chunk().unwrap_or((&[0; 32], &[]));
    let program_random = rest.first_chunk().unwrap_or(&[0; 16]);
    let facts = boot_info::Facts {
        flags: flags(config),
        cpu_count: config.cpu_count,
        tsc_khz: machine.tsc_khz,
        clock: (machine.time_stamp_counter()?, realtime_ns()),
        program: root.program.as_os_str(),
        cwd: root.cwd.as_os_str(),
        arguments: &arguments,
        environment: &environment,
        cmdline: OsStr::new(&config.cmdline),
        streams,
        user: host::user(),
        seed: *seed,
        program_random: *program_random,
        hostname: host::hostname(),
    };
    boot_info::write(memory, kernel.end(), &facts).map_err(&failed)?;
    cpu_state::start_at(&machine.vcpu, &machine.cpuid, kernel.entry, pml4)
        .map_err(vmm_error("KVM refused the CPU's initial state"))
}

/// Where COM1's bytes go.
type SerialOutput = Box<dyn io::Write + Send>;

/// A guest that runs.
struct Guest {
    vcpu: Option<thread::JoinHandle<(End, ExitCounts)>>,
    stop: Arc<AtomicBool>,
    has_ended: bool,
    events: Option<EventLoop>,
    serial: Arc<Mutex<Serial<SerialOutput>>>,
    counts: Arc<ByteCounts>,
    tsc_khz: u32,
}

impl Guest {
    fn start(
        config: &Config,
        memory: &Arc<Memory>,
        machine: Machine,
        stdin_is_terminal: bool,
    ) -> Result<Self, Error> {
        let Machine { vm, vcpu, tsc_khz, .. } = machine;
        let input =
            Arc::new(Input::new(0, stdin_is_terminal).map_err(io_error("cannot watch stdin"))?);
        let counts = Arc::new(ByteCounts::default());
        let serial_irq = Arc::new(PinIrq { vm: vm.clone(), gsi: ports::COM1_GSI });
        // With `--console serial` it carries the program's output, else the kernel's log.
        let output: SerialOutput = match config.console {
            Console::Stdio => Box::new(io::stderr()),
            Console::Serial => Box::new(io::stdout()),
        };
        let serial = Arc::new(Mutex::new(Serial::new(serial_irq, output)));
        let stdio = Stdio::new(memory.clone(), input.clone(), counts.clone());
        let ports = attach_devices(serial.clone(), Arc::new(Mutex::new(stdio)));

        let mut signals = ENDING_SIGNALS.to_vec();
        let terminal = if stdin_is_terminal {
            signals.extend(TERMINAL_SIGNALS);
            Some(Terminal::enter(0).map_err(io_error("cannot set the terminal to raw mode"))?)
        } else {
            None
        };
        let signals = SignalFd::new(&signals).map_err(io_error("cannot receive signals"))?;
        let ended = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)
            .map_err(io_error("cannot create an eventfd"))?;
        let ended_by_vcpu = ended.try_clone().map_err(io_error("cannot clone an eventfd"))?;
        let irq = Arc::new(MessageIrq { vm, vector: ports::STDIO_VECTOR });
        let events = EventLoop::new(ended, signals, config.timeout, input, irq, terminal)
            .map_err(io_error("cannot set up the event loop"))?;

        let stop = Arc::new(AtomicBool::new(false));
        let vcpu = Vcpu {
            fd: vcpu,
            ports: Arc::new(ports),
            mmio: Arc::new(Bus::default()),
            root: ROOT_GPA..ROOT_GPA + memory.root_len(),
            stop: stop.clone(),
            verbose: config.verbose,
        };
        let vcpu = thread::Builder::new()
            .name("vcpu0".into())
            .stack_size(128 << 10)
            .spawn(move || {
                let result = vcpu.run();
                // The counter of an eventfd that nobody reads cannot overflow by one.
                let _ = ended_by_vcpu.write(1);
                result
            })
            .map_err(io_error("cannot start a thread for the virtual CPU"))?;
        Ok(Self {
            vcpu: Some(vcpu),
            stop,
            has_ended: false,
            events: Some(events),
            serial,
            counts,
            tsc_khz,
        })
    }

    fn wait(&mut self) -> Result<Wake, Error> {
        let wake = match self.events.take() {
            Some(events) => events.run().map_err(|e| {
                Error::new(Kind::Vmm, "the event loop failed").because(e.to_string())
            })?,
            None => Wake::GuestEnded,
        };
        self.has_ended = wake == Wake::GuestEnded;
        Ok(wake)
    }

    fn bytes(&self) -> stats::Bytes {
        let [stdin, stdout, stderr] = self.counts.get();
        stats::Bytes { stdin, stdout, stderr }
    }

    /// Stops the virtual CPU if it still runs; how it ended, and its exits.
    fn stop(&mut self) -> (End, ExitCounts) {
        self.stop.store(true, Ordering::Release);
        let Some(vcpu) = self.vcpu.take() else { return (End::Stopped, ExitCounts::default()) };
        // One that ended by itself has said so, and is as good as gone.
        while !self.has_ended && !vcpu.is_finished() {
            kick::kick(&vcpu);
            thread::sleep(KICK_INTERVAL);
        }
        let result = vcpu.join();
        if let Ok(mut serial) = self.serial.lock() {
            serial.flush();
        }
        result.unwrap_or_else(|_| {
            (End::GaveUp("the VMM's thread failed".into()), ExitCounts::default())
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Puts the devices on their bus: the one place to add one.
fn attach_devices(serial: Arc<Mutex<dyn Device>>, stdio: Arc<Mutex<dyn Device>>) -> Bus {
    let mut ports = Bus::default();
    ports.add(u64::from(ports::COM1), 8, serial);
    ports.add(u64::from(ports::STDIO), 4, stdio);
    ports
}

/// What a run's end means for whoever started it.
fn verdict(
    config: &Config,
    wake: Wake,
    end: &End,
    report: &Report,
    kernel: &KernelImage,
    root: &Root,
) -> Result<u8, Error> {
    match (wake, end) {
        (_, End::Word(word)) => exit_word(*word, config, report, kernel, root),
        (Wake::TimedOut, _) => {
            let limit = humantime::format_duration(config.timeout.unwrap_or_default());
            Err(Error::new(Kind::TimedOut, format!("the program still ran after {limit}")))
        }
        (Wake::Signal(signal), _) => Ok(exit_code::killed_by(signal as u8)),
        (Wake::Left, _) => Ok(exit_code::killed_by(libc::SIGINT as u8)),
        (_, End::GaveUp(why)) => {
            Err(Error::new(Kind::GuestCrashed, "the virtual CPU gave up").because(why.as_str()))
        }
        (_, End::MemoryGone) => {
            Err(Error::new(Kind::Vmm, "a host file that the guest uses became shorter")
                .remedy("do not truncate files while a guest has them, replace them by rename"))
        }
        (_, End::Stopped) => Err(Error::new(Kind::Vmm, "the guest was stopped")),
    }
}

fn exit_word(
    word: u32,
    config: &Config,
    report: &Report,
    kernel: &KernelImage,
    root: &Root,
) -> Result<u8, Error> {
    let low = (word & 0xff) as u8;
    match word & !0xff {
        ports::EXIT_STATUS => Ok(low),
        ports::EXIT_SIGNAL => {
            let signal = low & 0x7f;
            if let Some(words) = report::signal_words(signal) {
                error::print_text(words);
            }
            if config.verbose
                && let Some(line) = report::fault_line(report)
            {
                error::print_line(&line);
            }
            Ok(exit_code::killed_by(signal))
        }
        ports::EXIT_EXEC => {
            let error = io::Error::from_raw_os_error(i32::from(low));
            let kind = match error.kind() {
                io::ErrorKind::NotFound => Kind::NotFound,
                _ => Kind::NotExecutable,
            };
            let what = format!("cannot execute {} in the guest", root.program.display());
            Err(Error::new(kind, what).because(error))
        }
        ports::EXIT_CWD => {
            let what = format!("cannot enter the working directory {}", root.cwd.display());
            Err(Error::new(Kind::Vmm, what).because(io::Error::from_raw_os_error(i32::from(low))))
        }
        ports::EXIT_ROOT => {
            Err(Error::new(Kind::Vmm, "the guest kernel cannot mount the root image")
                .because(io::Error::from_raw_os_error(i32::from(low)))
                .remedy("-v shows why; make it with mkfs.erofs without -z"))
        }
        _ => {
            error::print_text(&report::panic_text(&report.panic, &kernel.bytes));
            Ok(exit_code::GUEST_CRASHED)
        }
    }
}

fn flags(config: &Config) -> u64 {
    let choices = [
        (config.verbose, FLAG_VERBOSE),
        (config.stats.is_some(), FLAG_COUNT_SYSCALLS),
        (config.console == Console::Serial, FLAG_CONSOLE_SERIAL),
    ];
    choices.iter().filter(|(chosen, _)| *chosen).map(|(_, flag)| flag).sum()
}

fn streams() -> [Stream; 3] {
    [0, 1, 2].map(|fd| Stream {
        kind: terminal::stream_kind(fd),
        winsize: terminal::window_size(fd).unwrap_or_default(),
    })
}

fn realtime_ns() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_nanos()).unwrap_or(0)
}

fn vmm_error<E: std::error::Error + Send + Sync + 'static>(
    what: &'static str,
) -> impl Fn(E) -> Error {
    move |e| Error::new(Kind::Vmm, what).because(e)
}

fn io_error(what: &'static str) -> impl Fn(io::Error) -> Error {
    vmm_error(what)
}
