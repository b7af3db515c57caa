// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs unmodified programs with /dev/xen/evtchn, by seccomp user notification
