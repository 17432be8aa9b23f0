/* truncated HOW FILE: prints "ready", waits for a line, and uses the whole FILE, as the VMM's tests
   truncate it meanwhile: by "map", "read", or "write" (of a mapping of it, to stdout). */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static char buffer[1 << 16];
    struct stat status;
    int fd = open(argv[argc - 1], O_RDONLY);
    if (argc != 3 || fd < 0 || fstat(fd, &status))
        return 3;
    const volatile char *map = mmap(0, status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return 3;
    int sum = map[0];
    puts("ready");
    fflush(stdout);
    if (read(0, buffer, sizeof buffer) < 1)
        return 3;
    if (!strcmp(argv[1], "map"))
        for (long at = 0; at < status.st_size; at += 4096)
            sum += map[at];
    if (!strcmp(argv[1], "read"))
        while (read(fd, buffer, sizeof buffer) > 0)
            sum += buffer[0];
    if (!strcmp(argv[1], "write") && write(1, (const char *)map, status.st_size) < 0)
        return 4;
    return sum == 0;
}
