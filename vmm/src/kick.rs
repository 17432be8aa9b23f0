//! Gets a virtual CPU's thread out of `KVM_RUN`, or out of a host call, without a race.
//!
//! A signal interrupts `KVM_RUN`; one that arrives just before it would be lost. So the handler, which
//! runs on the virtual CPU's own thread, sets `kvm_run.immediate_exit`: the next `KVM_RUN` returns at
//! once (Documentation/virt/kvm/api.rst, `immediate_exit`).

#![expect(unsafe_code, reason = "a signal handler that writes one byte of the shared kvm_run page")]

use std::cell::Cell;
use std::io;
use std::ptr;
use std::thread::JoinHandle;

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

thread_local! {
    static RUN_PAGE: Cell<*mut kvm_run> = const { Cell::new(ptr::null_mut()) };
}

/// Makes the calling thread one that can be kicked, while this lives.
#[derive(Debug)]
pub struct Kickable(());

impl Kickable {
    /// For the thread that runs `vcpu`.
    ///
    /// # Errors
    /// When the handler cannot be installed.
    pub fn new(vcpu: &mut VcpuFd) -> io::Result<Self> {
        register_signal_handler(SIGRTMIN(), on_kick)?;
        RUN_PAGE.set(ptr::from_mut(vcpu.get_kvm_run()));
        Ok(Self(()))
    }
}

impl Drop for Kickable {
    fn drop(&mut self) {
        RUN_PAGE.set(ptr::null_mut());
    }
}

/// Kicks the thread. Set the flag that it is to look at first.
pub fn kick<T>(thread: &JoinHandle<T>) {
    // The only failure is a thread that has ended, which needs no kick.
    let _ = thread.kill(SIGRTMIN());
}

extern "C" fn on_kick(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let page = RUN_PAGE.get();
    if !page.is_null() {
        // SAFETY: the page is mapped as long as `Kickable` lives on this thread, which the handler
        // interrupts; KVM reads the byte, and nobody else writes it.
        unsafe { (&raw mut (*page).immediate_exit).write_volatile(1) };
    }
}

/// The words of `kvm_run.internal`: suberror, number of data words, data.
#[must_use]
pub fn internal_error_words(run: &kvm_run) -> (u32, u32, [u64; 16]) {
    // SAFETY: the exit reason says that this member of the union was written; all its bit patterns
    // are valid in any case.
    let internal = unsafe { run.__bindgen_anon_1.internal };
    (internal.suberror, internal.ndata, internal.data)
}
