//! Xen event channels without Xen: run programs written for /dev/xen/evtchn on any Linux machine
fn main() {}
