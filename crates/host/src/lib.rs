// SPDX-License-Identifier: MIT OR Apache-2.0
//! Domains as processes of this machine: engine, guest kernel and device files
