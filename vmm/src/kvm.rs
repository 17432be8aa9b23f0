//! `/dev/kvm`, the virtual machine and its virtual CPU, in the order that KVM likes: memory, then the
//! interrupt controllers, then CPUs (memory after the controllers costs milliseconds).

use std::sync::Arc;

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_msr_entry};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};

use crate::error::{Error, Kind};
use crate::memory::Memory;

/// Three pages that KVM on Intel without unrestricted guests needs below 4 GiB, away from RAM and devices.
const TSS_ADDRESS: usize = 0xfffb_d000;
/// One more page of that kind.
const IDENTITY_MAP_ADDRESS: u64 = 0xfffb_c000;

/// The only version of KVM's interface (Documentation/virt/kvm/api.rst, `KVM_GET_API_VERSION`).
const API_VERSION: i32 = 12;

/// A virtual machine with one virtual CPU that has no state yet.
pub struct Machine {
    /// The VM.
    pub vm: Arc<VmFd>,
    /// Its CPU.
    pub vcpu: VcpuFd,
    /// What the guest sees of the processor.
    pub cpuid: CpuId,
    /// Frequency of the guest's time-stamp counter.
    pub tsc_khz: u32,
}

/// Opens `/dev/kvm`.
///
/// # Errors
/// With the remedy.
pub fn open() -> Result<Kvm, Error> {
    let kvm = Kvm::new().map_err(|e| {
        let error = Error::new(Kind::Vmm, "cannot open /dev/kvm").because(std::io::Error::from(e));
        match e.errno() {
            libc::ENOENT | libc::ENXIO | libc::ENODEV => error.remedy(
                "load KVM (sudo modprobe kvm_amd, or kvm_intel), or turn virtualisation on in the \
                 firmware or in the cloud machine's settings",
            ),
            libc::EACCES | libc::EPERM => error.remedy(
                "add yourself to the group that owns it (sudo usermod -aG kvm $USER, then log in again)",
            ),
            _ => error.remedy("check the host's set-up"),
        }
    })?;
    match kvm.get_api_version() {
        API_VERSION => Ok(kvm),
        version => Err(Error::new(Kind::Vmm, "cannot use /dev/kvm")
            .because(format!("it speaks version {version} of KVM's interface, not {API_VERSION}"))
            .remedy("check that it is KVM's device (character device 10, 232)")),
    }
}

impl Machine {
    /// Creates it over `memory`.
    ///
    /// # Errors
    /// KVM's, with the name of the step.
    pub fn new(kvm: &Kvm, memory: &Memory) -> Result<Self, Error> {
        let vm = kvm.create_vm().map_err(step("create a virtual machine"))?;
        memory
            .register(&vm)
            .map_err(|e| Error::new(Kind::Vmm, "cannot give the guest its memory").because(e))?;
        vm.set_tss_address(TSS_ADDRESS).map_err(step("set the TSS address"))?;
        vm.set_identity_map_address(IDENTITY_MAP_ADDRESS).map_err(step("set the identity map"))?;
        vm.create_irq_chip().map_err(step("create the interrupt controllers"))?;
        let vcpu = vm.create_vcpu(0).map_err(step("create a virtual CPU"))?;
        let cpuid = guest_cpuid(kvm, &vm)?;
        vcpu.set_cpuid2(&cpuid).map_err(step("set CPUID"))?;
        let tsc_khz = vcpu.get_tsc_khz().map_err(step("read the TSC frequency"))?;
        Ok(Self { vm: Arc::new(vm), vcpu, cpuid, tsc_khz })
    }

    /// The guest's time-stamp counter now.
    ///
    /// # Errors
    /// KVM's.
    pub fn time_stamp_counter(&self) -> Result<u64, Error> {
        const IA32_TIME_STAMP_COUNTER: u32 = 0x10;
        let entry = kvm_msr_entry { index: IA32_TIME_STAMP_COUNTER, ..Default::default() };
        let failed = || Error::new(Kind::Vmm, "cannot read the guest's time-stamp counter");
        let mut msrs = Msrs::from_entries(&[entry]).map_err(|_| failed())?;
        match self.vcpu.get_msrs(&mut msrs) {
            Ok(1) => Ok(msrs.as_slice()[0].data),
            _ => Err(failed()),
        }
    }
}

/// What KVM supports, with this machine's topology and the timer and interrupt controller of its own
/// that KVM offers besides (Documentation/virt/kvm/api.rst, `KVM_GET_SUPPORTED_CPUID`).
fn guest_cpuid(kvm: &Kvm, vm: &VmFd) -> Result<CpuId, Error> {
    const ECX_X2APIC: u32 = 1 << 21;
    const ECX_TSC_DEADLINE: u32 = 1 << 24;
    const ECX_HYPERVISOR: u32 = 1 << 31;
    let mut cpuid =
        kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(step("read the supported CPUID"))?;
    let deadline = vm.check_extension(Cap::TscDeadlineTimer);
    for entry in cpuid.as_mut_slice() {
        match entry.function {
            1 => {
                // APIC id 0, one logical processor.
                entry.ebx = (entry.ebx & 0x0000_ffff) | 1 << 16;
                entry.ecx |=
                    ECX_X2APIC | ECX_HYPERVISOR | if deadline { ECX_TSC_DEADLINE } else { 0 };
            }
            0xb | 0x1f => (entry.eax, entry.ebx, entry.edx) = (0, u32::from(entry.index == 0), 0),
            _ => {}
        }
    }
    Ok(cpuid)
}

fn step(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> Error {
    move |e| Error::new(Kind::Vmm, format!("KVM could not {what}")).because(std::io::Error::from(e))
}
