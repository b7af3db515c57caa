// SPDX-License-Identifier: MIT OR Apache-2.0
/* virq_counter VIRQ COUNT: waits for so many events of a VIRQ. */
#include <stdlib.h>

#include "device.h"

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    int fd = device(0), port = VALUE(bind_virq(fd, atoi(argv[1])));
    for (int i = 0; i < atoi(argv[2]); i++) {
        GIVES(1, readable(fd, 10000));
        GIVES(port, pending(fd));
        GIVES(0, unmask(fd, port));
    }
    puts("counted");
    return 0;
}
