// SPDX-License-Identifier: MIT OR Apache-2.0
/* The ways to start a program: vfork and posix_spawn, with a descriptor that is kept and one that is not. Started with two
 * descriptor numbers it is that program: the first must be the device, the second closed. */
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "device.h"

extern char **environ;

static int started(int kept, int lost)
{
    REFUSED(EBADF, notify(lost, 1));
    struct channel c = channel(kept, kept, 0);
    passes(kept, kept, c);
    GIVES(0, unbind(kept, c.caller));
    GIVES(0, unbind(kept, c.listener));
    return 0;
}

static void ended_well(pid_t child)
{
    int status;
    GIVES(child, waitpid(child, &status, 0));
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int argc, char **argv)
{
    if (argc == 3)
        return started(atoi(argv[1]), atoi(argv[2]));
    int kept = device(0), lost = device(O_CLOEXEC);
    char first[12], second[12];
    snprintf(first, sizeof first, "%d", kept);
    snprintf(second, sizeof second, "%d", lost);
    char *arguments[] = { argv[0], first, second, NULL };
    pid_t child = vfork();
    if (child == 0) {
        execv(argv[0], arguments);
        _exit(127);
    }
    ended_well(child);
    GIVES(0, posix_spawn(&child, argv[0], NULL, NULL, arguments, environ));
    ended_well(child);
    passes(kept, lost, channel(kept, lost, 0));
    puts("ok");
    return 0;
}
