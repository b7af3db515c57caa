// SPDX-License-Identifier: MIT OR Apache-2.0
//! Port numbers: which are free, and which is the lowest of them.
//!
//! A tree of bits, three levels deep: a leaf word covers one bucket of 64 ports (bit set = free), a
//! summary word covers 64 leaves (bit set = that leaf is not zero), and one root word covers the 32
//! summaries. Finding the lowest free port is three bit scans, however many are open.

use alloc::vec::Vec;

use evtchn_abi::Port;

use crate::error::OpError;
use crate::table::{BUCKET, Channels};

/// A leaf whose ports are all free.
const LEAF: u64 = u64::MAX >> (64 - BUCKET);

/// The numbers of one domain, and the counts that reset needs. Guarded by the domain's event lock.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    leaves: Vec<u64>,
    summaries: Vec<u64>,
    root: u64,
    active: u32,
    xen: u32,
}

impl Ports {
    /// How many records exist: ports below this are valid. A multiple of 64.
    #[allow(clippy::cast_possible_truncation)] // at most 131,072
    pub fn valid(&self) -> u32 {
        self.leaves.len() as u32 * BUCKET
    }

    /// How many ports are in use, port 0 not counted.
    pub fn active(&self) -> u32 {
        self.active
    }

    /// How many of them Xen consumes.
    pub fn xen(&self) -> u32 {
        self.xen
    }

    pub fn count_xen(&mut self, add: bool) {
        self.xen = if add { self.xen + 1 } else { self.xen.saturating_sub(1) };
    }

    /// Makes the next bucket of records; all its ports are free.
    pub fn grow(&mut self, channels: &Channels) -> Result<(), OpError> {
        let bucket = self.leaves.len();
        self.leaves.try_reserve(1).map_err(|_| OpError::OutOfMemory)?;
        if bucket.is_multiple_of(64) {
            self.summaries.try_reserve(1).map_err(|_| OpError::OutOfMemory)?;
        }
        channels.add_bucket()?;
        if bucket.is_multiple_of(64) {
            self.summaries.push(0);
        }
        self.leaves.push(LEAF);
        self.summaries[bucket / 64] |= 1 << (bucket % 64);
        self.root |= 1 << (bucket / 64);
        Ok(())
    }

    /// Takes the lowest free port that is at most `highest`, making its record if need be.
    ///
    /// A port that is `busy` is passed over, unless its record does not exist yet: none has been on a
    /// queue then. A guest can make all its free ports busy; each is looked at once.
    ///
    /// # Errors
    /// ENOSPC if there is none, ENOMEM if its record cannot be made.
    pub fn take_lowest(
        &mut self,
        highest: u32,
        channels: &Channels,
        busy: impl Fn(Port) -> bool,
    ) -> Result<Port, OpError> {
        let port = self.find_lowest(highest, busy)?;
        if port.0 >= self.valid() {
            self.grow(channels)?;
        }
        self.take(port);
        self.active += 1;
        Ok(port)
    }

    /// The port that `take_lowest` would take.
    ///
    /// # Errors
    /// ENOSPC if there is none.
    pub fn find_lowest(&self, highest: u32, busy: impl Fn(Port) -> bool) -> Result<Port, OpError> {
        let mut free = self.lowest_free();
        while let Some(port) = free.filter(|&port| port.0 <= highest && busy(port)) {
            free = self.next_free(Port(port.0 + 1));
        }
        let port = free.unwrap_or(Port(self.valid()));
        if port.0 <= highest { Ok(port) } else { Err(OpError::NoSpace) }
    }

    /// Takes the port of this number, making the records up to it if need be.
    ///
    /// # Errors
    /// ENOSPC if it is above `highest`, EBUSY if it is taken or `busy`, ENOMEM if a record cannot be made.
    pub fn take_chosen(
        &mut self,
        port: Port,
        highest: u32,
        channels: &Channels,
        busy: impl Fn(Port) -> bool,
    ) -> Result<(), OpError> {
        if port.0 > highest {
            return Err(OpError::NoSpace);
        }
        while port.0 >= self.valid() {
            self.grow(channels)?;
        }
        if !self.is_free(port) || busy(port) {
            return Err(OpError::PortInUse);
        }
        self.take(port);
        self.active += 1;
        Ok(())
    }

    /// Takes this port, which is free; its record exists.
    pub fn claim(&mut self, port: Port) {
        self.take(port);
        self.active += 1;
    }

    /// Withdraws port 0 for ever. Not counted as in use.
    pub fn reserve_zero(&mut self) {
        self.take(Port(0));
    }

    /// Counts a port as closed, whose number is to be given back sooner or later.
    pub fn count_closed(&mut self) {
        self.active = self.active.saturating_sub(1);
    }

    /// Gives back a port that was taken but not opened.
    pub fn undo_take(&mut self, port: Port) {
        self.count_closed();
        self.give_back(port);
    }

    /// Makes a closed port's number free.
    pub fn give_back(&mut self, port: Port) {
        let leaf = (port.0 / BUCKET) as usize;
        if let Some(word) = self.leaves.get_mut(leaf) {
            *word |= 1 << (port.0 % BUCKET);
            self.summaries[leaf / 64] |= 1 << (leaf % 64);
            self.root |= 1 << (leaf / 64);
        }
    }

    /// The first port from `from` upwards that is taken.
    #[allow(clippy::cast_possible_truncation)] // at most 2,048 leaves
    pub fn next_taken(&self, from: Port) -> Option<Port> {
        let first = (from.0 / BUCKET) as usize;
        let below = (1u64 << (from.0 % BUCKET)) - 1;
        let leaves = self.leaves.iter().enumerate().skip(first);
        leaves
            .map(|(leaf, word)| (leaf, !word & if leaf == first { LEAF & !below } else { LEAF }))
            .find(|&(_, taken)| taken != 0)
            .map(|(leaf, taken)| Port(leaf as u32 * BUCKET + taken.trailing_zeros()))
    }

    /// The first port from `from` downwards that is taken.
    #[allow(clippy::cast_possible_truncation)] // at most 2,048 leaves
    pub fn previous_taken(&self, from: Port) -> Option<Port> {
        let last = (from.0 / BUCKET) as usize;
        let upto = LEAF >> (BUCKET - 1 - from.0 % BUCKET);
        let leaves = self.leaves.iter().enumerate().take(last + 1).rev();
        leaves
            .map(|(leaf, word)| (leaf, !word & if leaf == last { upto } else { LEAF }))
            .find(|&(_, taken)| taken != 0)
            .map(|(leaf, taken)| Port(leaf as u32 * BUCKET + taken.ilog2()))
    }

    /// The first port from `from` upwards that is free.
    #[allow(clippy::cast_possible_truncation)] // at most 2,048 leaves
    fn next_free(&self, from: Port) -> Option<Port> {
        let first = (from.0 / BUCKET) as usize;
        let here = self.leaves.get(first)? & u64::MAX << (from.0 % BUCKET);
        if here != 0 {
            return Some(Port(from.0 - from.0 % BUCKET + here.trailing_zeros()));
        }
        let mut leaves = self.leaves.iter().enumerate().skip(first + 1);
        let (leaf, free) = leaves.find(|&(_, &free)| free != 0)?;
        Some(Port(leaf as u32 * BUCKET + free.trailing_zeros()))
    }

    fn lowest_free(&self) -> Option<Port> {
        let summary = lowest_bit(self.root)?;
        let leaf = summary * 64 + lowest_bit(*self.summaries.get(summary as usize)?)?;
        let bit = lowest_bit(*self.leaves.get(leaf as usize)?)?;
        Some(Port(leaf * BUCKET + bit))
    }

    fn take(&mut self, port: Port) {
        let leaf = (port.0 / BUCKET) as usize;
        self.leaves[leaf] &= !(1 << (port.0 % BUCKET));
        if self.leaves[leaf] == 0 {
            self.summaries[leaf / 64] &= !(1 << (leaf % 64));
            if self.summaries[leaf / 64] == 0 {
                self.root &= !(1 << (leaf / 64));
            }
        }
    }

    /// How many numbers are not free, port 0 included.
    pub fn taken(&self) -> u32 {
        self.leaves.iter().map(|word| (LEAF & !word).count_ones()).sum()
    }

    /// Is this port free, as far as the numbers know?
    pub fn is_free(&self, port: Port) -> bool {
        let word = self.leaves.get((port.0 / BUCKET) as usize);
        word.is_some_and(|word| word >> (port.0 % BUCKET) & 1 == 1)
    }
}

fn lowest_bit(word: u64) -> Option<u32> {
    (word != 0).then(|| word.trailing_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> (Ports, Channels) {
        let (mut ports, channels) = (Ports::default(), Channels::new());
        ports.grow(&channels).unwrap();
        ports.reserve_zero();
        (ports, channels)
    }

    #[test]
    fn the_lowest_free_port_is_taken() {
        let (mut ports, channels) = fresh();
        for expected in 1..=200 {
            assert_eq!(ports.take_lowest(1000, &channels, |_| false), Ok(Port(expected)));
        }
        ports.undo_take(Port(150));
        ports.undo_take(Port(7));
        assert_eq!(ports.take_lowest(1000, &channels, |_| false), Ok(Port(7)));
        assert_eq!(ports.take_lowest(1000, &channels, |_| false), Ok(Port(150)));
        assert_eq!(ports.take_lowest(1000, &channels, |_| false), Ok(Port(201)));
        assert_eq!(ports.active(), 201);
    }

    #[test]
    fn the_limit_is_a_highest_number_and_makes_no_record() {
        let (mut ports, channels) = fresh();
        for _ in 1..=63 {
            ports.take_lowest(63, &channels, |_| false).unwrap();
        }
        assert_eq!(ports.take_lowest(63, &channels, |_| false), Err(OpError::NoSpace));
        assert_eq!(ports.valid(), 64);
        assert_eq!(ports.active(), 63);
    }

    #[test]
    fn all_131071_ports_can_be_taken_and_given_back() {
        let (mut ports, channels) = fresh();
        for expected in 1..131_072 {
            assert_eq!(ports.take_lowest(u32::MAX, &channels, |_| false), Ok(Port(expected)));
        }
        assert_eq!(ports.take_lowest(u32::MAX, &channels, |_| false), Err(OpError::NoSpace));
        for port in (1..131_072).rev() {
            ports.undo_take(Port(port));
        }
        assert_eq!(ports.active(), 0);
        assert_eq!(ports.take_lowest(u32::MAX, &channels, |_| false), Ok(Port(1)));
    }

    #[test]
    fn taken_ports_are_found_in_both_directions() {
        let (mut ports, channels) = fresh();
        for _ in 1..=300 {
            ports.take_lowest(1000, &channels, |_| false).unwrap();
        }
        for port in 1..=300 {
            if port != 5 && port != 64 && port != 191 {
                ports.give_back(Port(port));
            }
        }
        let mut up = Vec::new();
        let mut from = Port(1);
        while let Some(port) = ports.next_taken(from) {
            up.push(port.0);
            from = Port(port.0 + 1);
        }
        assert_eq!(up, [5, 64, 191]);
        assert_eq!(ports.next_taken(Port(u32::MAX)), None);
        assert_eq!(ports.previous_taken(Port(u32::MAX)), Some(Port(191)));
        assert_eq!(ports.previous_taken(Port(190)), Some(Port(64)));
        assert_eq!(ports.previous_taken(Port(63)), Some(Port(5)));
        assert_eq!(ports.previous_taken(Port(4)), Some(Port(0)));
    }

    #[test]
    fn busy_ports_are_passed_over_in_order() {
        let (mut ports, channels) = fresh();
        for _ in 1..=200 {
            ports.take_lowest(1000, &channels, |_| false).unwrap();
        }
        for port in [3, 4, 70, 199] {
            ports.give_back(Port(port));
        }
        let take = |ports: &mut Ports, busy: &[u32]| {
            ports.take_lowest(1000, &channels, |port| busy.contains(&port.0)).unwrap().0
        };
        assert_eq!(take(&mut ports, &[3]), 4);
        assert_eq!(take(&mut ports, &[3, 70]), 199);
        assert_eq!(take(&mut ports, &[3, 70]), 201);
        assert_eq!(take(&mut ports, &[]), 3);
    }

    #[test]
    fn a_chosen_port_brings_the_records_below_it() {
        let (mut ports, channels) = fresh();
        assert_eq!(ports.take_chosen(Port(200), 1000, &channels, |_| false), Ok(()));
        assert_eq!((ports.valid(), channels.valid(), ports.active()), (256, 256, 1));
        assert_eq!(ports.take_chosen(Port(200), 1000, &channels, |_| false), Err(OpError::PortInUse));
        assert_eq!(ports.take_chosen(Port(0), 1000, &channels, |_| false), Err(OpError::PortInUse));
        assert_eq!(ports.take_chosen(Port(9), 1000, &channels, |_| true), Err(OpError::PortInUse));
        assert_eq!(ports.take_chosen(Port(1001), 1000, &channels, |_| false), Err(OpError::NoSpace));
        assert_eq!(ports.take_lowest(1000, &channels, |_| false), Ok(Port(1)));
        assert_eq!((ports.valid(), ports.active()), (256, 2));
        ports.undo_take(Port(200));
        assert_eq!(ports.take_chosen(Port(200), 1000, &channels, |_| false), Ok(()));
    }

    #[test]
    fn the_last_port_of_all_can_be_chosen() {
        let (mut ports, channels) = fresh();
        assert_eq!(ports.take_chosen(Port(131_071), u32::MAX, &channels, |_| false), Ok(()));
        assert_eq!(ports.take_chosen(Port(131_072), u32::MAX, &channels, |_| false), Err(OpError::NoSpace));
        assert_eq!(ports.active(), 1);
    }

    #[test]
    fn if_all_records_are_busy_a_new_one_is_made_up_to_the_limit() {
        let (mut ports, channels) = fresh();
        assert_eq!(ports.take_lowest(64, &channels, |_| true), Ok(Port(64)));
        assert_eq!(ports.take_lowest(64, &channels, |_| true), Err(OpError::NoSpace));
        assert_eq!(ports.take_lowest(64, &channels, |port| port.0 < 63), Ok(Port(63)));
    }
}
