// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pages that a guest shares with Xen.

use evtchn_abi::fifo::ControlBlock;
use evtchn_abi::{Gfn, Layout, VcpuId};
use evtchn_sync::{PAGE_SIZE, Page};

/// A page of the guest's memory, and the number of its frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<P> {
    /// The page.
    pub page: P,
    /// What Xen calls it: the guest's frame number, which is the machine's for a paravirtual guest.
    pub gfn: Gfn,
}

/// Something that is smaller than a page.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a, P> {
    /// The page that it is in.
    pub page: &'a P,
    /// The number of the page's frame.
    pub gfn: Gfn,
    /// Bytes from the start of the page.
    pub offset: usize,
}

/// The pages that a guest has for its event channels: where Xen and the guest meet.
///
/// [`Frames`] is an implementation over slices. A kernel that would rather allocate pages when they are needed writes its own:
/// nothing is asked for before it is used, and what was answered once must stay.
pub trait Memory {
    /// How the kernel gets at a page.
    type Page: Page;

    /// How `shared_info` is laid out: as the guest's words are wide.
    fn layout(&self) -> &'static Layout;

    /// The page `shared_info`.
    fn shared_info(&self) -> &Self::Page;

    /// Where a vCPU's `vcpu_info` is to be, if not in `shared_info`. It is registered with Xen when the vCPU comes
    /// online. A vCPU that has no place in `shared_info`, as those from number 32, gets no events without one.
    ///
    /// It must not cross a page, and begin at a multiple of its size.
    fn vcpu_info(&self, vcpu: VcpuId) -> Option<Place<'_, Self::Page>> {
        let _ = vcpu;
        None
    }

    /// Where a vCPU's FIFO control block is: 72 bytes from a multiple of 8.
    fn control_block(&self, vcpu: VcpuId) -> Option<Place<'_, Self::Page>> {
        let _ = vcpu;
        None
    }

    /// A page of the FIFO event array, which holds the words of 1,024 ports. `None` if there is no memory for it.
    fn array_page(&self, index: usize) -> Option<Frame<&Self::Page>> {
        let _ = index;
        None
    }
}

macro_rules! forward {
    ($($(#[$attr:meta])* [$($generics:tt)*] $type:ty;)*) => {
        $($(#[$attr])*
        impl<$($generics)*> Memory for $type {
            type Page = M::Page;

            #[inline]
            fn layout(&self) -> &'static Layout {
                (**self).layout()
            }

            #[inline]
            fn shared_info(&self) -> &Self::Page {
                (**self).shared_info()
            }

            #[inline]
            fn vcpu_info(&self, vcpu: VcpuId) -> Option<Place<'_, Self::Page>> {
                (**self).vcpu_info(vcpu)
            }

            #[inline]
            fn control_block(&self, vcpu: VcpuId) -> Option<Place<'_, Self::Page>> {
                (**self).control_block(vcpu)
            }

            #[inline]
            fn array_page(&self, index: usize) -> Option<Frame<&Self::Page>> {
                (**self).array_page(index)
            }
        })*
    };
}

forward! {
    [M: Memory + ?Sized] &M;
    #[cfg(feature = "alloc")]
    [M: Memory + ?Sized] alloc::sync::Arc<M>;
    #[cfg(feature = "alloc")]
    [M: Memory + ?Sized] alloc::boxed::Box<M>;
}

/// Control blocks lie this far apart, so that no two vCPUs write to one line of the cache.
const BLOCK_DISTANCE: usize = 128;
const BLOCKS_PER_PAGE: usize = PAGE_SIZE / BLOCK_DISTANCE;
const _: () =
    assert!(ControlBlock::SIZE <= BLOCK_DISTANCE && BLOCK_DISTANCE.is_multiple_of(ControlBlock::ALIGN));

/// The pages that a guest has for its event channels, in slices.
///
/// All three lists are of one type `S`, however long each is: so take `&[Frame<P>]` or `Vec<Frame<P>>`; arrays fit only where all are
/// of the same length, as `[Frame<P>; 0]` is for two-level.
///
/// ```
/// use evtchn_abi::{Gfn, Layout};
/// use evtchn_guest::{Frame, Frames};
/// use evtchn_sync::HeapPage;
///
/// static SHARED_INFO: HeapPage = HeapPage::new();
/// static CONTROL: HeapPage = HeapPage::new();
/// static ARRAY: [HeapPage; 2] = [const { HeapPage::new() }; 2];
///
/// // One page of control blocks serves 32 vCPUs, two of the array serve 2,048 ports.
/// static MEMORY: Frames<&HeapPage, &[Frame<&HeapPage>]> = Frames {
///     layout: &Layout::X86_64,
///     shared_info: &SHARED_INFO,
///     vcpu_infos: &[],
///     control_blocks: &[Frame { page: &CONTROL, gfn: Gfn(0x1001) }],
///     event_array: &[
///         Frame { page: &ARRAY[0], gfn: Gfn(0x1002) },
///         Frame { page: &ARRAY[1], gfn: Gfn(0x1003) },
///     ],
/// };
/// ```
#[derive(Clone, Debug)]
pub struct Frames<P, S> {
    /// How `shared_info` is laid out.
    pub layout: &'static Layout,
    /// The page `shared_info`.
    pub shared_info: P,
    /// Pages for every vCPU's `vcpu_info`, 64 in each; none if they are in `shared_info`.
    pub vcpu_infos: S,
    /// Pages for control blocks, 32 in each; none for a guest that uses two-level only.
    pub control_blocks: S,
    /// Pages for the event array, as many as it may ever have.
    pub event_array: S,
}

impl<P, S: Default> Frames<P, S> {
    /// What a guest with the two-level ABI needs, and no more.
    pub fn two_level(shared_info: P, layout: &'static Layout) -> Self {
        let none = S::default;
        Self { layout, shared_info, vcpu_infos: none(), control_blocks: none(), event_array: none() }
    }
}

impl<P: Page, S: AsRef<[Frame<P>]>> Memory for Frames<P, S> {
    type Page = P;

    #[inline]
    fn layout(&self) -> &'static Layout {
        self.layout
    }

    #[inline]
    fn shared_info(&self) -> &P {
        &self.shared_info
    }

    fn vcpu_info(&self, vcpu: VcpuId) -> Option<Place<'_, P>> {
        // Of 64 bytes or less in every layout.
        place(self.vcpu_infos.as_ref(), vcpu, 64)
    }

    fn control_block(&self, vcpu: VcpuId) -> Option<Place<'_, P>> {
        place(self.control_blocks.as_ref(), vcpu, BLOCKS_PER_PAGE)
    }

    #[inline]
    fn array_page(&self, index: usize) -> Option<Frame<&P>> {
        let frame = self.event_array.as_ref().get(index)?;
        Some(Frame { page: &frame.page, gfn: frame.gfn })
    }
}

/// Where what a vCPU has is, if a page holds that of so many.
fn place<P>(frames: &[Frame<P>], vcpu: VcpuId, per_page: usize) -> Option<Place<'_, P>> {
    let vcpu = vcpu.0 as usize;
    let frame = frames.get(vcpu / per_page)?;
    Some(Place { page: &frame.page, gfn: frame.gfn, offset: vcpu % per_page * (PAGE_SIZE / per_page) })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use evtchn_sync::HeapPage;

    #[test]
    fn vcpus_share_pages_without_overlapping() {
        let [first, second] = [HeapPage::new(), HeapPage::new()];
        let frames = [Frame { page: &first, gfn: Gfn(1) }, Frame { page: &second, gfn: Gfn(2) }];
        let memory = Frames {
            layout: &Layout::X86_64,
            shared_info: &first,
            vcpu_infos: &frames[..1],
            control_blocks: &frames[..],
            event_array: &frames[..0],
        };
        let block = |vcpu| memory.control_block(VcpuId(vcpu)).map(|place| (place.gfn, place.offset));
        assert_eq!(block(0), Some((Gfn(1), 0)));
        assert_eq!(block(31), Some((Gfn(1), 3968)));
        assert_eq!(block(32), Some((Gfn(2), 0)));
        assert_eq!(block(64), None);
        let info = |vcpu| memory.vcpu_info(VcpuId(vcpu)).map(|place| place.offset);
        assert_eq!((info(1), info(63), info(64)), (Some(64), Some(4032), None));
        assert!(memory.array_page(0).is_none());
    }
}
