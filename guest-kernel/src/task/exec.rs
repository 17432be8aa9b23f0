//! From a program's path to the registers that it starts with.

use alloc::vec::Vec;

use linux_raw_sys::general as linux;
use shared_abi::layout::{KERNEL_BASE, USER_CS, USER_DS};

use super::elf::{load, read_head};
use super::script::parse_script;
use super::{Image, Task, stack};
use crate::arch::frame::{FxArea, NO_SYSTEM_CALL, UserFrame};
use crate::arch::{self, entry};
use crate::boot_info::StringList;
use crate::error::{Errno, Result};
use crate::fs::inode::InodeRef;
use crate::fs::path::{self, WalkFlags};
use crate::fs::{name, open};
use crate::mm::addr::{PAGE, Phys, UserAddr};
use crate::mm::space::{Space, SpecialPage};
use crate::mm::vma::Protection;
use crate::time;

/// What to execute.
pub struct Request<'a> {
    /// Path of the program; without a slash it is searched in the environment's PATH.
    pub path: &'a [u8],
    /// Arguments, the zeroth included.
    pub arguments: StringList<'a>,
    /// Environment.
    pub environment: StringList<'a>,
    /// AT_RANDOM.
    pub random: [u8; 16],
}

/// Scripts may be interpreted by scripts, so many times (Linux's fs/exec.c).
const SCRIPT_DEPTH_MAX: usize = 5;

/// `chdir` by the kernel.
///
/// # Errors
/// As chdir(2).
pub fn enter_directory(task: &Task, path: &[u8]) -> Result<()> {
    let inode = path::lookup(task, linux::AT_FDCWD, path, WalkFlags::empty())?;
    name::enter(task, inode).map(|_| ())
}

/// Puts a program into the task's address space, which is empty, as its signals and its table of files
/// are fresh; the registers to start it with.
///
/// # Errors
/// As execve(2).
pub fn execute(task: &Task, request: &Request<'_>) -> Result<UserFrame> {
    let mut path = find(task, request)?;
    let mut first_arguments: Vec<Vec<u8>> = Vec::new();
    let mut arguments = request.arguments;
    let (inode, head, len) = 'script: {
        for _ in 0..SCRIPT_DEPTH_MAX {
            let inode = open_program(task, &path)?;
            let (head, len) = read_head(&inode)?;
            let Some(script) = parse_script(&head[..len])? else {
                break 'script (inode, head, len);
            };
            // The interpreter, its argument, and the script's path take the zeroth argument's place.
            if first_arguments.is_empty() {
                arguments = arguments.skip_first();
            } else {
                first_arguments.remove(0);
            }
            let interpreter = script.interpreter.to_vec();
            first_arguments.insert(0, core::mem::replace(&mut path, interpreter.clone()));
            if let Some(argument) = script.argument {
                first_arguments.insert(0, argument.to_vec());
            }
            first_arguments.insert(0, interpreter);
        }
        return Err(Errno::ELOOP);
    };
    let space = &task.space;
    map_vdso(space)?; // before anything is placed where there is room
    let loaded = load(space, &inode, &head[..len], |path| open_program(task, path))?;
    let ids = *task.credentials.lock();
    let contents = stack::Contents {
        first_arguments: &first_arguments,
        arguments,
        environment: request.environment,
        path: &path,
        random: request.random,
        ids: [ids.uid, ids.euid, ids.gid, ids.egid],
        vdso: VDSO,
        hwcap: u64::from(arch::cpu::cpuid(1, 0).edx),
    };
    let stack_pointer = stack::build(space, &contents, &loaded)?;
    remember(task, path, &first_arguments, arguments.bytes, request.environment.bytes);
    arch::fpu_restore(&FxArea::INITIAL);
    Ok(UserFrame {
        number: NO_SYSTEM_CALL,
        rip: loaded.entry.0,
        rsp: stack_pointer.0,
        cs: u64::from(USER_CS),
        ss: u64::from(USER_DS),
        rflags: entry::FLAGS_ALWAYS,
        ..UserFrame::default()
    })
}

/// A name without a slash is searched in PATH, as a shell does.
fn find(task: &Task, request: &Request<'_>) -> Result<Vec<u8>> {
    const DEFAULT: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    if request.path.contains(&b'/') {
        return Ok(request.path.to_vec());
    }
    let mut variables = request.environment.iter();
    let search = variables.find_map(|v| v.strip_prefix(b"PATH=")).unwrap_or(DEFAULT);
    let mut failure = Errno::ENOENT;
    for directory in search.split(|&b| b == b':') {
        let candidate = [directory, b"/", request.path].concat();
        match open_program(task, &candidate) {
            Ok(_) => return Ok(candidate),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(other) => failure = other,
        }
    }
    Err(failure)
}

fn open_program(task: &Task, path: &[u8]) -> Result<InodeRef> {
    let file = open::open_program(task, linux::AT_FDCWD, path)?;
    Ok(file.inode().clone())
}

/// The vDSO and, below it, its data: pages of the kernel image that hold no secrets.
fn map_vdso(space: &Space) -> Result<()> {
    let data = Phys(core::ptr::from_ref(time::vdso_data()) as u64 - KERNEL_BASE);
    let code = Phys(arch::vdso::image().as_ptr() as u64 - KERNEL_BASE);
    let read = Protection::READ;
    let execute = Protection::READ | Protection::EXECUTE;
    space.map_special(UserAddr(VDSO.0 - PAGE as u64), "[vvar]", read, SpecialPage::Kernel(data))?;
    space.map_special(VDSO, "[vdso]", execute, SpecialPage::Kernel(code))
}

/// Where the vDSO is: at the top of the mappings.
const VDSO: UserAddr = UserAddr(crate::mm::space::MMAP_TOP.0 - PAGE as u64);

/// Keeps what /proc shows.
fn remember(
    task: &Task,
    path: Vec<u8>,
    first_arguments: &[Vec<u8>],
    arguments: &[u8],
    environment: &[u8],
) {
    const COMM_LEN_MAX: usize = 15;
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
    let comm = name[..name.len().min(COMM_LEN_MAX)].to_vec();
    let mut all = Vec::new();
    for argument in first_arguments {
        all.extend_from_slice(argument);
        all.push(0);
    }
    all.extend_from_slice(arguments);
    let environment = environment.to_vec();
    *task.image.lock() = Image { exe: path, arguments: all, environment, comm };
}
