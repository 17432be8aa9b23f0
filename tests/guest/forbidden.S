# Never run: what tests/tests/scan.rs must find.
    .globl _start
_start:
    popcnt %rax, %rcx
    stac
    addsd %xmm1, %xmm0
    mov $64, %ecx
    rep bsf %rax, %rcx
    vmcall
    iretq

    .globl try_stac
try_stac:
    stac
    ret
