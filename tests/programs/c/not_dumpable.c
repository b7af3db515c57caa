// SPDX-License-Identifier: MIT OR Apache-2.0
/* not_dumpable first|later: a program whose memory others of its user may not read, from the start or only after it has opened the
 * device. Every call is answered: served, or refused with an errno that says so; prints which. */
#include <sys/prctl.h>

#include "device.h"

static int refused(void)
{
    CHECK(errno == EPERM || errno == EACCES || errno == EFAULT || errno == ENOENT);
    puts("refused");
    return 0;
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    int later = !strcmp(argv[1], "later"), fd = later ? device(O_NONBLOCK) : -1;
    GIVES(0, prctl(PR_SET_DUMPABLE, 0));
    if (!later && (fd = open(NODE, O_RDWR | O_NONBLOCK)) < 0)
        return refused();
    if (bind_unbound(fd, 0) < 0)
        return refused();
    passes(fd, fd, channel(fd, fd, 0));
    puts("served");
    return 0;
}
