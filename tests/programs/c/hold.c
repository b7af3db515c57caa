// SPDX-License-Identifier: MIT OR Apache-2.0
/* hold DIR: holds a port that waits for domain 5, a connected pair and the VIRQ 8 until DIR/done is there. */
#include "device.h"
#include "meet.h"

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    int fd = device(0);
    give(argv[1], "waiting", VALUE(bind_unbound(fd, 5)));
    struct channel c = channel(fd, fd, 0);
    give(argv[1], "listener", c.listener);
    give(argv[1], "caller", c.caller);
    give(argv[1], "virq", VALUE(bind_virq(fd, 8)));
    give(argv[1], "ready", 1);
    take(argv[1], "done");
    return 0;
}
