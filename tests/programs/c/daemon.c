// SPDX-License-Identifier: MIT OR Apache-2.0
/* daemon DIR: goes to the background with an open file, as daemons do, and uses it and a new one after its parent has ended. Leaves
 * DIR/result. */
#include <sys/wait.h>

#include "device.h"
#include "meet.h"

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    int before = device(0);
    pid_t parent = getpid();
    if (VALUE(fork()) != 0)
        _exit(0);
    VALUE(setsid());
    for (int i = 0; i < 2000 && getppid() == parent; i++)
        usleep(1000);
    usleep(200000);
    int after = device(0);
    passes(before, after, channel(before, after, 0));
    give(argv[1], "result", 1);
    return 0;
}
