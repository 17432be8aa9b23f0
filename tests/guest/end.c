/* end exit N: exits with N.  end raise N: sends itself signal N.  end abort. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "abort"))
        abort();
    if (argc != 3)
        return 99;
    if (!strcmp(argv[1], "raise"))
        raise(atoi(argv[2]));
    exit(atoi(argv[2]));
}
