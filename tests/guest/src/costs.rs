// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an event costs a guest, and beside it what it costs to leave the guest at all.

use std::time::Instant;

use anyhow::Result;

use crate::ports::Nothing;
use crate::rounds::Loop;

/// Prints medians, in nanoseconds without those of the clock: of an exit to the VMM, of a notify (with the upcall and Linux's handler,
/// which come before it returns), and of all that is done for an event.
///
/// In a machine whose clock counts instructions a nanosecond is one.
pub fn run(count: usize) -> Result<()> {
    let (channel, nothing) = (Loop::open()?, Nothing::open()?);
    let mut samples: [Vec<u64>; 5] = Default::default();
    for _ in 0..count.max(1) {
        let round = [
            timed(|| Ok(()))?,
            timed(|| nothing.by_linux())?,
            timed(|| nothing.by_vmm())?,
            timed(|| channel.notify())?,
            timed(|| channel.take())?,
        ];
        samples.iter_mut().zip(round).for_each(|(samples, sample)| samples.push(sample));
    }
    let [clock, call, exit, notify, take] = samples.map(median);
    println!(
        "costs: exit {} ns, notify {} ns, round {} ns",
        exit.saturating_sub(call),
        notify.saturating_sub(clock),
        (notify + take).saturating_sub(2 * clock)
    );
    Ok(())
}

fn timed(action: impl FnOnce() -> Result<()>) -> Result<u64> {
    let start = Instant::now();
    action()?;
    Ok(u64::try_from(start.elapsed().as_nanos())?)
}

fn median(mut samples: Vec<u64>) -> u64 {
    samples.sort_unstable();
    samples[samples.len() / 2]
}
