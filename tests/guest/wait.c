/* Prints "ready", then: wait read: reads its input to the end; wait spin: never ends, in ring 3;
   wait size: for each line of input prints the terminal's rows and columns. */
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    char line[4096];
    struct winsize size;

    setvbuf(stdout, 0, _IONBF, 0);
    printf("ready\n");
    if (!strcmp(argv[1], "spin"))
        for (;;)
            __asm__ volatile("");
    while (read(0, line, sizeof line) > 0)
        if (!strcmp(argv[1], "size")) {
            if (ioctl(0, TIOCGWINSZ, &size))
                return 1;
            printf("rows %d columns %d\n", size.ws_row, size.ws_col);
        }
    printf("end of input\n");
    return 0;
}
