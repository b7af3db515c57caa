// SPDX-License-Identifier: MIT OR Apache-2.0
//! DC: the dispatcher, and the compat form.

use evtchn_abi::args::{
    AllocUnbound, BindInterdomain, BindIpi, BindPirq, BindVcpu, BindVirq, Close, EvtchnOp, ExpandArray,
    InitControl, Reset, SchedPoll, SchedPoll32, Send, SetPriority, Status, Unmask, VcpuRegisterVcpuInfo,
};
use evtchn_abi::{CStruct, DomId, Gfn, Op, Pirq, Port, VcpuId, Virq};
use evtchn_engine::{DomainKind, Fault, GuestMemory, Outcome};

use crate::fifo::{Fifo, control};
use crate::world::*;
use crate::{Case, case};

/// The sizes of the arguments of operations 0 to 14.
const SIZES: [usize; 15] = [12, 12, 12, 4, 4, 24, 8, 8, 8, 4, 2, 24, 8, 8, 2];

/// `event_channel_op_compat` with an argument at address 0, and the argument afterwards.
fn compat<A: CStruct>(w: &World, op: Op, arg: &mut A) -> i64 {
    let mut whole = EvtchnOp { cmd: op, ..Default::default() };
    assert!(whole.set_arguments(arg));
    let mut bytes = whole.to_bytes();
    let answer = w.engine.event_channel_op_compat(DomId(D1), 0, &mut bytes[..]);
    *arg = EvtchnOp::from_bytes(bytes).arguments().unwrap();
    let Outcome::Done(answer) = answer else { panic!("{answer:?}") };
    answer
}

/// The offsets and sizes of a structure's fields, as text: `dom@0:2 port@4:4`.
fn fields<A: CStruct>() -> String {
    let fields = A::FIELDS.iter().filter(|field| !field.name.starts_with("pad"));
    let texts: Vec<_> = fields.map(|f| format!("{}@{}:{}", f.name, f.offset, f.size)).collect();
    format!("{} {}", A::SIZE, texts.join(" "))
}

/// Memory that another vCPU changes all the time: a different content at each read.
struct Shifty {
    contents: Vec<Vec<u8>>,
    reads: usize,
    written: Vec<u8>,
}

impl GuestMemory for Shifty {
    fn read(&mut self, _: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        let content = self.contents.get(self.reads).ok_or(Fault)?;
        self.reads += 1;
        bytes.copy_from_slice(&content[..bytes.len()]);
        Ok(())
    }

    fn write(&mut self, _: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.written = bytes.to_vec();
        Ok(())
    }
}

pub const CASES: &[Case] = &[
    case("DC-01", "unknown commands are ENOSYS, with a null pointer, too", || {
        let w = World::new();
        for cmd in [15, 100, u32::MAX, 0x7fff_ffff] {
            assert_eq!(w.raw(D1, cmd, 0, &mut [][..]), ENOSYS, "{cmd}");
        }
    }),
    case("DC-02", "every operation with a null or unmapped pointer is EFAULT", || {
        let w = World::new();
        for cmd in 0..15 {
            assert_eq!(w.raw(D1, cmd, 0, &mut [][..]), EFAULT, "{cmd}");
            for address in [NOWHERE, u64::MAX, u64::MAX - 3] {
                assert_eq!(w.raw(D1, cmd, address, &mut [0; 64][..]), EFAULT, "{cmd}");
            }
        }
        assert_eq!(w.counts(D1), (0, 0));
    }),
    case("DC-03", "an argument that ends outside of memory is EFAULT", || {
        let w = World::new();
        for (cmd, size) in (0..).zip(SIZES) {
            let mut memory = vec![0; size];
            assert_eq!(w.raw(D1, cmd, 1, &mut memory[..]), EFAULT, "{cmd}");
            assert_ne!(w.raw(D1, cmd, 0, &mut memory[..]), EFAULT, "{cmd} needs {size} bytes");
        }
    }),
    case("DC-04", "an error leaves the caller's buffer as it was", || {
        let w = World::new();
        for (cmd, size) in (0..).zip(SIZES) {
            let mut memory = vec![0xa5; size];
            assert!(w.raw(D1, cmd, 0, &mut memory[..]) < 0, "{cmd}");
            assert_eq!(memory, vec![0xa5; size], "{cmd}");
        }
    }),
    case("DC-05", "success returns the inputs, padding included", || {
        fn kept<A: CStruct + Copy>(w: &World, op: Op, arg: A, outputs: std::ops::Range<usize>) {
            let (before, mut after) = (arg, arg);
            assert_eq!(w.call(D1, op, &mut after), 0, "{op}");
            let bytes = |arg: &A| arg.to_bytes().as_ref().to_vec();
            for (at, (old, new)) in bytes(&before).into_iter().zip(bytes(&after)).enumerate() {
                assert!(old == new || outputs.contains(&at), "{op}: byte {at}");
            }
        }
        let w = Fifo::two_level();
        let (dom, pad) = (DomId::SELF, [0xee; 2]);
        kept(&w, Op::ALLOC_UNBOUND, AllocUnbound { dom, remote_dom: dom, port: Port(77) }, 4..8);
        let local_port = Port(77);
        let arg = BindInterdomain { remote_dom: dom, pad, remote_port: Port(1), local_port };
        kept(&w, Op::BIND_INTERDOMAIN, arg, 8..12);
        kept(&w, Op::BIND_VIRQ, BindVirq { virq: Virq(1), vcpu: VcpuId(3), port: Port(77) }, 8..12);
        kept(&w, Op::BIND_PIRQ, BindPirq { pirq: Pirq(20), flags: !0, port: Port(77) }, 8..12);
        kept(&w, Op::BIND_IPI, BindIpi { vcpu: VcpuId(2), port: Port(77) }, 4..8);
        let arg = Status { dom, pad, port: Port(1), ..Default::default() };
        kept(&w, Op::STATUS, arg, 8..24);
        let control_gfn = Gfn(control(1));
        let arg = InitControl { control_gfn, offset: 8, vcpu: VcpuId(1), link_bits: 0, pad: [0xee; 7] };
        kept(&w, Op::INIT_CONTROL, arg, 16..17);
    }),
    case("DC-06", "the compat form of commands 0 to 9 does the same", || {
        let w = World::new();
        let far = port(w.au(D2, SELF, D1));
        let mut bind =
            BindInterdomain { remote_dom: DomId(D2), remote_port: Port(far), ..Default::default() };
        assert_eq!((compat(&w, Op::BIND_INTERDOMAIN, &mut bind), bind.local_port), (0, Port(1)));
        let mut virq = BindVirq { vcpu: VcpuId(1), ..Default::default() };
        assert_eq!((compat(&w, Op::BIND_VIRQ, &mut virq), virq.port), (0, Port(2)));
        let mut pirq = BindPirq { pirq: Pirq(20), ..Default::default() };
        assert_eq!((compat(&w, Op::BIND_PIRQ, &mut pirq), pirq.port), (0, Port(3)));
        let mut alloc = AllocUnbound { dom: DomId::SELF, remote_dom: DomId(D2), ..Default::default() };
        assert_eq!((compat(&w, Op::ALLOC_UNBOUND, &mut alloc), alloc.port), (0, Port(4)));
        let mut ipi = BindIpi { vcpu: VcpuId(3), ..Default::default() };
        assert_eq!((compat(&w, Op::BIND_IPI, &mut ipi), ipi.port), (0, Port(5)));
        assert_eq!(compat(&w, Op::SEND, &mut Send { port: Port(1) }), 0);
        assert!(w.pending(D2, far));
        assert_eq!(compat(&w, Op::BIND_VCPU, &mut BindVcpu { port: Port(4), vcpu: VcpuId(2) }), 0);
        let mut status = Status { dom: DomId::SELF, port: Port(4), ..Default::default() };
        assert_eq!((compat(&w, Op::STATUS, &mut status), status.vcpu), (0, VcpuId(2)));
        w.set_mask(D1, 1, true);
        assert_eq!((compat(&w, Op::UNMASK, &mut Unmask { port: Port(1) }), w.masked(D1, 1)), (0, false));
        assert_eq!(compat(&w, Op::CLOSE, &mut Close { port: Port(1) }), 0);
        assert_eq!(compat(&w, Op::CLOSE, &mut Close { port: Port(1) }), EINVAL);
    }),
    case("DC-07", "the compat form of commands 10 to 14 is ENOSYS", || {
        let w = World::new();
        for cmd in 10..15 {
            assert_eq!(compat(&w, Op(cmd), &mut Reset { dom: DomId::SELF }), ENOSYS, "{cmd}");
        }
    }),
    case("DC-08", "the compat form is ENOSYS for hardware-assisted domains", || {
        let w = World::with(|one| one.kind = DomainKind::Hvm);
        let answer = w.engine.event_channel_op_compat(DomId(D1), NOWHERE, &mut [0; 28][..]);
        assert_eq!(answer, Outcome::Done(ENOSYS));
    }),
    case("DC-09", "sizes and offsets are those of Xen's headers", || {
        assert_eq!(fields::<AllocUnbound>(), "8 dom@0:2 remote_dom@2:2 port@4:4");
        assert_eq!(fields::<BindInterdomain>(), "12 remote_dom@0:2 remote_port@4:4 local_port@8:4");
        assert_eq!(fields::<BindVirq>(), "12 virq@0:4 vcpu@4:4 port@8:4");
        assert_eq!(fields::<BindPirq>(), "12 pirq@0:4 flags@4:4 port@8:4");
        assert_eq!(fields::<BindIpi>(), "8 vcpu@0:4 port@4:4");
        assert_eq!(fields::<Close>(), "4 port@0:4");
        assert_eq!((fields::<Send>(), fields::<Unmask>()), (fields::<Close>(), fields::<Close>()));
        assert_eq!(fields::<Status>(), "24 dom@0:2 port@4:4 status@8:4 vcpu@12:4 u@16:8");
        assert_eq!(fields::<BindVcpu>(), "8 port@0:4 vcpu@4:4");
        assert_eq!(fields::<Reset>(), "2 dom@0:2");
        assert_eq!(fields::<InitControl>(), "24 control_gfn@0:8 offset@8:4 vcpu@12:4 link_bits@16:1");
        assert_eq!(fields::<ExpandArray>(), "8 array_gfn@0:8");
        assert_eq!(fields::<SetPriority>(), "8 port@0:4 priority@4:4");
        assert_eq!(fields::<EvtchnOp>(), "28 cmd@0:4 u@4:24");
        assert_eq!(fields::<SchedPoll>(), "24 ports@0:8 nr_ports@8:4 timeout@16:8");
        assert_eq!(fields::<SchedPoll32>(), "16 ports@0:4 nr_ports@4:4 timeout@8:8");
        assert_eq!(VcpuRegisterVcpuInfo::SIZE, 16);
    }),
    case("DC-10", "an argument is read once, whatever another vCPU does to it meanwhile", || {
        for (cmd, size) in (0..).zip(SIZES) {
            let w = World::new();
            let mut memory =
                Shifty { contents: vec![vec![0; size], vec![0xff; size]], reads: 0, written: vec![] };
            let _ = w.raw(D1, cmd, 0, &mut memory);
            assert_eq!(memory.reads, 1, "{cmd}");
        }
        // The first content decides, and it is what is written back.
        let w = World::new();
        let arg = |vcpu| BindIpi { vcpu: VcpuId(vcpu), port: Port(0) }.to_bytes().to_vec();
        let mut memory = Shifty { contents: vec![arg(2), arg(99)], reads: 0, written: vec![] };
        assert_eq!(w.raw(D1, Op::BIND_IPI.0, 0, &mut memory), 0);
        assert_eq!((w.status(D1, SELF, 1), memory.written), (ipi(2), vec![2, 0, 0, 0, 1, 0, 0, 0]));
    }),
];
