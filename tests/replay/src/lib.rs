// SPDX-License-Identifier: MIT OR Apache-2.0
//! Replays recordings of real Xen against the engine and compares device recordings
