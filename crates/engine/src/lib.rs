// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hypervisor side of Xen event channels, for hypervisors and VMMs
