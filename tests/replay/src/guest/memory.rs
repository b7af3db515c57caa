// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bare guest's pages, and what the guest itself does to them.
//!
//! Everything here is the guest's part: hypercalls are not needed for it, and the engine sees the results only.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
};

use evtchn_abi::{
    EventWord,
    fifo::{ControlBlock, LINK_MASK, LINKED, MASKED, MAX_QUEUES, PENDING, WORDS_PER_PAGE, word_place},
};
use evtchn_abi::{Port, Priority};
use evtchn_sync::{HeapPage, PAGE_SIZE, Page};

/// The guest's vCPUs.
pub(super) const VCPUS: usize = 2;
/// The pages that the guest has for its event array.
pub(super) const ARRAY_PAGES: usize = 6;

/// Bytes of a vcpu_info.
const VCPU_INFO: usize = 64;
/// Where `evtchn_upcall_mask` is in it.
const UPCALL_MASK: usize = 1;
/// Where the selector is in it.
const SELECTOR: usize = 8;
/// Words of pending bits, and as many of mask bits.
const WORDS: usize = 64;

/// One of the two arrays of bits of the two-level ABI, by its first byte in shared_info.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bits {
    Pending = 2048,
    Masked = 2560,
}

impl Bits {
    /// The bit of an event word that means the same.
    const fn in_word(self) -> u32 {
        match self {
            Self::Pending => PENDING,
            Self::Masked => MASKED,
        }
    }
}

/// One port that a consumer's round took off a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub queue: u8,
    pub port: u32,
    /// Whether it was pending and not masked.
    pub active: bool,
}

/// The guest's pages, and which ABI it believes to use.
pub(super) struct Memory {
    pub shared: Arc<HeapPage>,
    pub control: [Arc<HeapPage>; VCPUS],
    pub array: [Arc<HeapPage>; ARRAY_PAGES],
    pub fifo: bool,
    /// Where in its page each vCPU's control block begins.
    pub blocks: [usize; VCPUS],
    /// Pages of the array that Xen knows.
    pub known: usize,
}

impl Memory {
    /// Pages as a domain starts with them: zeroed, upcalls masked.
    pub fn new() -> Self {
        let page = || Arc::new(HeapPage::new());
        let memory = Self {
            shared: page(),
            control: std::array::from_fn(|_| page()),
            array: std::array::from_fn(|_| page()),
            fifo: false,
            blocks: [0; VCPUS],
            known: 0,
        };
        for vcpu in 0..VCPUS {
            memory.byte(vcpu, UPCALL_MASK).store(1, SeqCst);
        }
        memory
    }

    pub fn upcall_pending(&self, vcpu: usize) -> u8 {
        self.byte(vcpu, 0).load(SeqCst)
    }

    pub fn upcall_mask(&self, vcpu: usize) -> u8 {
        self.byte(vcpu, UPCALL_MASK).load(SeqCst)
    }

    pub fn selector(&self, vcpu: usize) -> &AtomicU64 {
        word64(&self.shared, vcpu * VCPU_INFO + SELECTOR)
    }

    /// A word of pending or mask bits.
    pub fn bits(&self, bits: Bits, word: usize) -> &AtomicU64 {
        word64(&self.shared, bits as usize + word * 8)
    }

    pub fn is_set(&self, bits: Bits, port: u32) -> bool {
        self.bits(bits, port as usize / WORDS).load(SeqCst) >> (port % 64) & 1 == 1
    }

    /// A port's event word; `None` beyond the guest's pages.
    pub fn word(&self, port: u32) -> Option<&AtomicU32> {
        let (page, offset) = word_place(Port(port))?;
        self.array.get(page)?.u32(offset)
    }

    pub fn ready(&self, vcpu: usize) -> &AtomicU32 {
        self.control_field(vcpu, ControlBlock::READY)
    }

    pub fn head(&self, vcpu: usize, queue: Priority) -> &AtomicU32 {
        self.control_field(vcpu, ControlBlock::HEAD + 4 * queue.queue())
    }

    /// Sets or clears a port's bit in the ABI in use.
    pub fn put(&self, bits: Bits, port: u32, set: bool) {
        if !self.fifo {
            self.put_two_level(bits, port, set);
        } else if let Some(word) = self.word(port) {
            put(word, bits.in_word(), set);
        }
    }

    /// Sets or clears the mask of a port in both ABIs.
    pub fn put_mask_in_both(&self, port: u32, masked: bool) {
        self.put_two_level(Bits::Masked, port, masked);
        if let Some(word) = self.word(port) {
            put(word, MASKED, masked);
        }
    }

    fn put_two_level(&self, bits: Bits, port: u32, set: bool) {
        let (word, bit) = (self.bits(bits, port as usize / WORDS), 1 << (port % 64));
        if set {
            word.fetch_or(bit, SeqCst);
        } else {
            word.fetch_and(!bit, SeqCst);
        }
    }

    pub fn clear_upcall(&self, vcpu: usize) {
        self.byte(vcpu, 0).store(0, SeqCst);
    }

    pub fn clear_upcall_and_selector(&self, vcpu: usize) {
        self.clear_upcall(vcpu);
        self.selector(vcpu).store(0, SeqCst);
    }

    /// A consumer's round over the bits: the selector that was taken, and the ports in order.
    pub fn consume_two_level(&self, vcpu: usize) -> (u64, Vec<u32>) {
        self.clear_upcall(vcpu);
        let selector = self.selector(vcpu).swap(0, SeqCst);
        let words = (0..WORDS).filter(|word| selector >> word & 1 == 1);
        (selector, words.flat_map(|word| self.take_word(word)).collect())
    }

    fn take_word(&self, word: usize) -> Vec<u32> {
        let pending = self.bits(Bits::Pending, word);
        let active = pending.load(SeqCst) & !self.bits(Bits::Masked, word).load(SeqCst);
        pending.fetch_and(!active, SeqCst);
        let ports = (0..64).filter(|bit| active >> bit & 1 == 1);
        ports.map(|bit| u32::try_from(word).unwrap_or(0) * 64 + bit).collect()
    }

    /// A consumer's round over the queues: the ready bits that were taken, and the ports in order. A drain leaves the
    /// pending bits.
    pub fn consume_fifo(&self, vcpu: usize, drain: bool) -> (u32, Vec<Taken>) {
        let ready = self.ready(vcpu).swap(0, SeqCst);
        self.clear_upcall(vcpu);
        let mut order = Vec::new();
        for queue in Priority::all().filter(|queue| ready & queue.ready_bit() != 0) {
            self.walk(vcpu, queue, drain, &mut order);
        }
        (ready, order)
    }

    fn walk(&self, vcpu: usize, queue: Priority, drain: bool, order: &mut Vec<Taken>) {
        let mut port = self.head(vcpu, queue).load(SeqCst);
        // More ports than that only a loop of links has.
        for _ in 0..ARRAY_PAGES * WORDS_PER_PAGE as usize {
            let Some(word) = self.word(port).filter(|_| port != 0) else { break };
            let was = EventWord(word.fetch_and(!(LINKED | LINK_MASK), SeqCst));
            let active = was.is_pending() && !was.is_masked();
            if active && !drain {
                word.fetch_and(!PENDING, SeqCst);
            }
            order.push(Taken { queue: queue.0, port, active });
            port = was.link().0;
        }
        self.head(vcpu, queue).store(0, SeqCst);
    }

    /// Clears what earlier random sequences left: all bits, the first page's words, the control blocks.
    pub fn clean(&self, console: u32) {
        for word in 0..WORDS {
            self.bits(Bits::Pending, word).store(0, SeqCst);
            self.bits(Bits::Masked, word).store(0, SeqCst);
        }
        self.put_two_level(Bits::Masked, console, true);
        for port in (1..WORDS_PER_PAGE).filter(|port| *port != console) {
            self.word(port).into_iter().for_each(|word| word.store(0, SeqCst));
        }
        for vcpu in 0..VCPUS {
            self.clear_upcall_and_selector(vcpu);
            self.ready(vcpu).store(0, SeqCst);
            Priority::all().for_each(|queue| self.head(vcpu, queue).store(0, SeqCst));
        }
    }

    /// Zeroes the control blocks' and the array's pages.
    pub fn zero_fifo_pages(&self) {
        self.control.iter().chain(&self.array).for_each(|page| page.clear());
    }

    /// Masks every word of an array page.
    pub fn mask_page(&self, page: usize) {
        for offset in (0..PAGE_SIZE).step_by(4) {
            self.array[page].u32(offset).into_iter().for_each(|word| word.store(MASKED, SeqCst));
        }
    }

    fn byte(&self, vcpu: usize, field: usize) -> &std::sync::atomic::AtomicU8 {
        self.shared.u8(vcpu * VCPU_INFO + field).expect("the offset is inside the page")
    }

    fn control_field(&self, vcpu: usize, field: usize) -> &AtomicU32 {
        self.control[vcpu].u32(self.blocks[vcpu] + field).expect("the offset is inside the page")
    }
}

const _: () = assert!(MAX_QUEUES == 16);

fn word64(page: &HeapPage, offset: usize) -> &AtomicU64 {
    page.u64(offset).expect("the offset is inside the page")
}

fn put(word: &AtomicU32, bit: u32, set: bool) {
    if set {
        word.fetch_or(bit, SeqCst);
    } else {
        word.fetch_and(!bit, SeqCst);
    }
}
