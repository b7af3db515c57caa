// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one open of /dev/xen/evtchn is: ring, bindings, restriction, checks
