//! The registers of the first virtual CPU: 64-bit mode, paging on, at the kernel's entry.

use kvm_bindings::{CpuId, kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;
use shared_abi::layout::{BOOT_INFO_GPA, DIRECT_MAP, KERNEL_CS, KERNEL_DS, TSS};

const CR0_PE: u64 = 1 << 0;
const CR0_MP: u64 = 1 << 1;
const CR0_ET: u64 = 1 << 4;
const CR0_NE: u64 = 1 << 5;
const CR0_WP: u64 = 1 << 16;
const CR0_AM: u64 = 1 << 18;
const CR0_PG: u64 = 1 << 31;

const CR4_PAE: u64 = 1 << 5;
const CR4_PGE: u64 = 1 << 7;
const CR4_OSFXSR: u64 = 1 << 9;
const CR4_OSXMMEXCPT: u64 = 1 << 10;
const CR4_UMIP: u64 = 1 << 11;
const CR4_FSGSBASE: u64 = 1 << 16;
const CR4_SMEP: u64 = 1 << 20;

const EFER_SCE: u64 = 1 << 0;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;

const APIC_BASE_X2APIC: u64 = 1 << 10;

const RFLAGS_RESERVED: u64 = 1 << 1;

/// Puts the virtual CPU at `entry` with the page tables at `pml4`.
///
/// # Errors
/// KVM's.
pub fn start_at(
    vcpu: &VcpuFd,
    cpuid: &CpuId,
    entry: u64,
    pml4: u64,
) -> Result<(), kvm_ioctls::Error> {
    let mut sregs = vcpu.get_sregs()?;
    sregs.cs = segment(KERNEL_CS, 0xb, Kind::Code);
    let data = segment(KERNEL_DS, 0x3, Kind::Data);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = segment(TSS, 0xb, Kind::System);
    sregs.ldt = kvm_segment { unusable: 1, ..Default::default() };
    (sregs.gdt.limit, sregs.idt.limit) = (0, 0); // the kernel loads its own before it needs any
    sregs.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    sregs.cr3 = pml4;
    sregs.cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | offered_cr4(cpuid);
    sregs.efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    sregs.apic_base |= APIC_BASE_X2APIC;
    vcpu.set_sregs(&sregs)?;
    vcpu.set_regs(&kvm_regs {
        rip: entry,
        rdi: DIRECT_MAP + BOOT_INFO_GPA,
        rflags: RFLAGS_RESERVED,
        ..Default::default()
    })
}

/// The protections that this processor offers (CPUID leaf 7). SMAP is not among them: whether
/// the instructions that it needs can be executed, only the kernel can try.
fn offered_cr4(cpuid: &CpuId) -> u64 {
    let leaf = cpuid.as_slice().iter().find(|e| e.function == 7 && e.index == 0);
    let (ebx, ecx) = leaf.map_or((0, 0), |e| (e.ebx, e.ecx));
    let offered = [
        (ebx & 1 != 0, CR4_FSGSBASE),
        (ebx & (1 << 7) != 0, CR4_SMEP),
        (ecx & (1 << 2) != 0, CR4_UMIP),
    ];
    offered.iter().filter(|(is_offered, _)| *is_offered).map(|(_, bit)| bit).sum()
}

enum Kind {
    Code,
    Data,
    System,
}

fn segment(selector: u16, type_: u8, kind: Kind) -> kvm_segment {
    let (s, l, db, g, limit) = match kind {
        Kind::Code => (1, 1, 0, 1, 0xffff_ffff),
        Kind::Data => (1, 0, 1, 1, 0xffff_ffff),
        Kind::System => (0, 0, 0, 0, 0x67),
    };
    kvm_segment {
        base: 0,
        limit,
        selector,
        type_,
        present: 1,
        dpl: 0,
        db,
        s,
        l,
        g,
        ..Default::default()
    }
}
