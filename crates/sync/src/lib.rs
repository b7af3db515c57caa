// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory shared with another party, seen only as atomics
