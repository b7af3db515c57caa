// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`evtchn_fuzz::pages`] for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| evtchn_fuzz::pages(input));
