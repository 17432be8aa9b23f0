/* The tutorial's second: the system call by number. */
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
    syscall(SYS_write, 1, "Hello from a syscall!\n", 22);
    return 0;
}
