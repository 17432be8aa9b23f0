/* streams terminals: for each stream, whether it is a terminal.
   streams bytes: every byte value to stdout, the same backwards to stderr.
   streams count: how many bytes stdin had, and their sum. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    unsigned char bytes[256], buffer[65536];
    unsigned long count = 0, sum = 0;
    long got;

    if (!strcmp(argv[1], "terminals")) {
        /* On all three, so that whichever is the test's shows it. */
        for (int fd = 0; fd < 3; fd++)
            dprintf(fd ? fd : 1, "stdin %d stdout %d stderr %d\n", isatty(0), isatty(1), isatty(2));
    } else if (!strcmp(argv[1], "bytes")) {
        for (int i = 0; i < 256; i++)
            bytes[i] = i;
        if (write(1, bytes, 256) != 256)
            return 1;
        for (int i = 0; i < 256; i++)
            bytes[i] = 255 - i;
        if (write(2, bytes, 256) != 256)
            return 1;
    } else {
        while ((got = read(0, buffer, sizeof buffer)) > 0) {
            count += got;
            for (long i = 0; i < got; i++)
                sum += buffer[i];
        }
        printf("%lu bytes, sum %lu, end %ld\n", count, sum, got);
    }
    return 0;
}
