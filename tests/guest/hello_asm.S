# The tutorial's third: no C library. Position-independent, so that it links in every form.
    .globl _start
_start:
    mov $1, %eax                # write(1, message, 26)
    mov $1, %edi
    lea message(%rip), %rsi
    mov $26, %edx
    syscall
    mov $60, %eax               # exit(0)
    xor %edi, %edi
    syscall

    .section .rodata
message:
    .ascii "Hello from ring 3, world!\n"

    .section .note.GNU-stack, "", @progbits
