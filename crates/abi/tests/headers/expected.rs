// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the crate says, as a list of numbers with the names that C has for them.

use evtchn_abi::args::{self, StatusUnion};
use evtchn_abi::fifo::{self, ControlBlock};
use evtchn_abi::shared_info::vcpu_time;
use evtchn_abi::*;
use std::fmt;

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Size,
    Offset,
    Value,
}

/// A number, and the C expression that must give it.
pub struct Expected {
    pub kind: Kind,
    pub name: String,
    pub expression: String,
    pub value: u64,
    /// The item exists in C only if this macro does.
    pub guard: Option<&'static str>,
}

impl Expected {
    /// The beginning of the report's line, for example `offset evtchn_status.port`.
    pub fn key(&self) -> String {
        let kind = match self.kind {
            Kind::Size => "size",
            Kind::Offset => "offset",
            Kind::Value => "value",
        };
        format!("{kind} {}", self.name)
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key())
    }
}

/// For whom the headers are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    X86_64,
    X86_32,
    Arm64,
}

#[derive(Default)]
struct Table(Vec<Expected>);

impl Table {
    fn push(&mut self, kind: Kind, name: String, expression: String, value: u64) {
        self.0.push(Expected { kind, name, expression, value, guard: None });
    }

    fn size(&mut self, tag: &str, value: usize) {
        self.push(Kind::Size, tag.to_owned(), format!("sizeof(struct {tag})"), value as u64);
    }

    fn offset(&mut self, tag: &str, field: &str, value: usize) {
        let expression = format!("offsetof(struct {tag}, {field})");
        self.push(Kind::Offset, format!("{tag}.{field}"), expression, value as u64);
    }

    fn value(&mut self, name: &str, value: impl Into<u64>) {
        self.push(Kind::Value, name.to_owned(), name.to_owned(), value.into());
    }

    /// How many elements an array in a structure has.
    fn length(&mut self, tag: &str, field: &str, value: u32) {
        let array = format!("((struct {tag} *)0)->{field}");
        let expression = format!("sizeof({array}) / sizeof({array}[0])");
        self.push(Kind::Value, format!("length:{tag}.{field}"), expression, value.into());
    }

    fn fields<A: CStruct>(&mut self) {
        for field in A::FIELDS.iter().filter(|field| field.name != "pad") {
            self.offset(A::C_NAME, field.name, field.offset);
            let member = format!("sizeof(((struct {} *)0)->{})", A::C_NAME, field.name);
            self.push(Kind::Size, format!("{}.{}", A::C_NAME, field.name), member, field.size as u64);
        }
    }

    fn structure<A: CStruct>(&mut self) {
        self.size(A::C_NAME, A::SIZE);
        self.fields::<A>();
    }
}

macro_rules! structures {
    ($table:ident: $($type:ty),* $(,)?) => { $($table.structure::<$type>();)* };
}

macro_rules! numbers {
    ($table:ident: $($type:ident),* $(,)?) => {
        $(for number in $type::ALL {
            let name = number.name().expect("a listed number has a name");
            $table.value(&format!("{}{name}", $type::C_PREFIX), number.0);
        })*
    };
}

/// Everything in Xen's headers, for one compiler.
pub fn xen(machine: Machine) -> Vec<Expected> {
    let mut table = Table::default();
    lists(&mut table, machine);
    domids(&mut table);
    flags(&mut table);
    fifo(&mut table);
    channel_arguments(&mut table);
    neighbours(&mut table);
    domctl(&mut table);
    match machine {
        Machine::X86_64 => only_64(&mut table),
        Machine::X86_32 => only_32(&mut table),
        Machine::Arm64 => only_arm64(&mut table),
    }
    table.0.extend(ioctls());
    table.0
}

fn lists(table: &mut Table, machine: Machine) {
    numbers! { table: Op, ChannelStatus, Hypercall, SchedOp, VcpuOp, HvmOp, CallbackOp, PhysdevOp, Domctl }
    numbers! { table: XenVersion, HvmParam, Feature, Virq }
    table.value("NR_VIRQS", NR_VIRQS);
    // Arm has no upcall vectors.
    if machine == Machine::Arm64 {
        table.0.retain(|item| item.name != "HVMOP_set_evtchn_upcall_vector");
    }
}

fn domids(table: &mut Table) {
    let ids = [
        ("FIRST_RESERVED", DomId::FIRST_RESERVED),
        ("SELF", DomId::SELF),
        ("IO", DomId::IO),
        ("XEN", DomId::XEN),
        ("COW", DomId::COW),
        ("INVALID", DomId::INVALID),
        ("ANY", DomId::ANY),
        ("IDLE", DomId::IDLE),
        ("MASK", DomId(DomId::MASK)),
    ];
    for (name, id) in ids {
        table.value(&format!("DOMID_{name}"), id.0);
    }
}

fn flags(table: &mut Table) {
    table.value("BIND_PIRQ__WILL_SHARE", args::BIND_PIRQ_WILL_SHARE);
    table.value("XENIRQSTAT_needs_eoi", args::PhysdevIrqStatusQuery::NEEDS_EOI);
    table.value("XENIRQSTAT_shared", args::PhysdevIrqStatusQuery::SHARED);
    table.value("VCPU_SSHOTTMR_future", args::VcpuSetSingleshotTimer::FUTURE);
    table.value("XEN_HVM_CPUID_UPCALL_VECTOR", CPUID_UPCALL_VECTOR);
    table.value("HVM_PARAM_CALLBACK_IRQ_TYPE_MASK", CallbackVia::TYPE_MASK);
    table.value("HVM_PARAM_CALLBACK_TYPE_GSI", CallbackVia::TYPE_GSI);
    table.value("HVM_PARAM_CALLBACK_TYPE_PCI_INTX", CallbackVia::TYPE_PCI_INTX);
}

/// Values of the callback parameter that x86 and Arm do not have in common.
fn callback_x86(table: &mut Table) {
    table.value("HVM_PARAM_CALLBACK_TYPE_VECTOR", CallbackVia::TYPE_VECTOR);
}

fn callback_arm(table: &mut Table) {
    table.value("HVM_PARAM_CALLBACK_TYPE_PPI", CallbackPpi::TYPE);
    table.value("HVM_PARAM_CALLBACK_TYPE_PPI_FLAG_MASK", CallbackPpi::FLAG_MASK);
    table.value("HVM_PARAM_CALLBACK_TYPE_PPI_FLAG_LOW_LEVEL", CallbackPpi::FLAG_LOW_LEVEL);
}

fn fifo(table: &mut Table) {
    table.value("EVTCHN_FIFO_PRIORITY_MAX", Priority::HIGHEST.0);
    table.value("EVTCHN_FIFO_PRIORITY_DEFAULT", Priority::DEFAULT.0);
    table.value("EVTCHN_FIFO_PRIORITY_MIN", Priority::LOWEST.0);
    table.value("EVTCHN_FIFO_MAX_QUEUES", fifo::MAX_QUEUES as u64);
    table.value("EVTCHN_FIFO_PENDING", fifo::PENDING_BIT);
    table.value("EVTCHN_FIFO_MASKED", fifo::MASKED_BIT);
    table.value("EVTCHN_FIFO_LINKED", fifo::LINKED_BIT);
    table.value("EVTCHN_FIFO_BUSY", fifo::BUSY_BIT);
    table.value("EVTCHN_FIFO_LINK_BITS", fifo::LINK_BITS);
    table.value("EVTCHN_FIFO_LINK_MASK", fifo::LINK_MASK);
    table.value("EVTCHN_FIFO_NR_CHANNELS", fifo::NR_CHANNELS);
    let word = "sizeof(event_word_t)".to_owned();
    table.push(Kind::Size, "event_word_t".to_owned(), word, fifo::WORD_SIZE as u64);
    let block = "evtchn_fifo_control_block";
    table.size(block, ControlBlock::SIZE);
    table.offset(block, "ready", ControlBlock::READY);
    table.offset(block, "_rsvd", 4);
    for priority in Priority::all() {
        let head = ControlBlock::head(priority).expect("every priority has a queue");
        table.offset(block, &format!("head[{priority}]"), head);
    }
}

fn channel_arguments(table: &mut Table) {
    structures! { table:
        args::AllocUnbound, args::BindInterdomain, args::BindVirq, args::BindPirq, args::BindIpi, args::Close,
        args::Send, args::Status, args::BindVcpu, args::Unmask, args::Reset, args::InitControl, args::ExpandArray,
        args::SetPriority, args::EvtchnOp,
    }
    table.offset("evtchn_init_control", "_pad", 17);
    let union = [
        ("unbound.dom", StatusUnion::DOM),
        ("interdomain.dom", StatusUnion::DOM),
        ("interdomain.port", StatusUnion::PORT),
        ("pirq", StatusUnion::PIRQ),
        ("virq", StatusUnion::VIRQ),
    ];
    for (field, offset) in union {
        table.offset("evtchn_status", &format!("u.{field}"), 16 + offset);
    }
}

/// Structures of other hypercalls that are the same on all machines.
fn neighbours(table: &mut Table) {
    structures! { table:
        args::SchedShutdown, args::VcpuRegisterVcpuInfo, args::VcpuSetPeriodicTimer, args::HvmParamValue,
        args::PhysdevEoi, args::PhysdevIrqStatusQuery,
    }
    table.size("vcpu_time_info", vcpu_time::SIZE);
    for (field, offset) in TIME_FIELDS {
        table.offset("vcpu_time_info", field, offset);
    }
}

const TIME_FIELDS: [(&str, usize); 6] = [
    ("version", vcpu_time::VERSION),
    ("tsc_timestamp", vcpu_time::TSC_TIMESTAMP),
    ("system_time", vcpu_time::SYSTEM_TIME),
    ("tsc_to_system_mul", vcpu_time::TSC_TO_SYSTEM_MUL),
    ("tsc_shift", vcpu_time::TSC_SHIFT),
    ("flags", vcpu_time::FLAGS),
];

fn domctl(table: &mut Table) {
    table.fields::<args::DomctlHeader>();
    table.offset("xen_domctl", "u", args::DomctlHeader::SIZE);
    table.size("xen_domctl", args::DomctlHeader::DOMCTL_SIZE);
    structures! { table: args::DomctlSetVirqHandler, args::DomctlSubscribe }
}

/// Structures with pointers or machine words, on all 64-bit machines.
fn wide_words(table: &mut Table) {
    table.value("EVTCHN_2L_NR_CHANNELS", two_level::NR_CHANNELS_64);
    structures! { table: args::SchedPoll, args::VcpuSetSingleshotTimer, args::PhysdevPirqEoiGmfn }
}

fn only_64(table: &mut Table) {
    callback_x86(table);
    wide_words(table);
    structures! { table: args::EvtchnUpcallVector }
    structures! { table: privcmd::PrivcmdHypercall }
    table.value("IOCTL_PRIVCMD_HYPERCALL", privcmd::HYPERCALL);
    table.value("XEN_LEGACY_MAX_VCPUS", Layout::X86_64.vcpu_slots);
    layout(table, &Layout::X86_64, "");
    table.offset("vcpu_info", "evtchn_upcall_mask", 1);
    table.offset("shared_info", "wc_sec_hi", Layout::X86_64.wc_sec_hi);
}

fn only_32(table: &mut Table) {
    callback_x86(table);
    table.value("EVTCHN_2L_NR_CHANNELS", two_level::NR_CHANNELS_32);
    structures! { table: args::SchedPoll32, args::VcpuSetSingleshotTimer32, args::PhysdevPirqEoiGmfn32 }
    structures! { table: args::EvtchnUpcallVector }
    table.value("XEN_LEGACY_MAX_VCPUS", Layout::X86_32.vcpu_slots);
    layout(table, &Layout::X86_32, "");
    table.offset("vcpu_info", "evtchn_upcall_mask", 1);
    table.offset("shared_info", "arch.wc_sec_hi", Layout::X86_32.wc_sec_hi);
}

fn only_arm64(table: &mut Table) {
    callback_arm(table);
    wide_words(table);
    table.value("XEN_LEGACY_MAX_VCPUS", Layout::ARM64.vcpu_slots);
    layout(table, &Layout::ARM64, "");
    table.offset("shared_info", "wc_sec_hi", Layout::ARM64.wc_sec_hi);
}

/// The layouts of 64-bit Arm, from the header that toolstacks use for guests of another kind.
pub fn arm64() -> Vec<Expected> {
    let mut table = Table::default();
    table.value("XEN_LEGACY_MAX_VCPUS_ARM64", Layout::ARM64.vcpu_slots);
    layout(&mut table, &Layout::ARM64, "_arm64");
    table.offset("shared_info_arm64", "wc_sec_hi", Layout::ARM64.wc_sec_hi);
    table.size("vcpu_time_info_arm64", vcpu_time::SIZE);
    for (field, offset) in TIME_FIELDS {
        table.offset("vcpu_time_info_arm64", field, offset);
    }
    table.0
}

fn layout(table: &mut Table, layout: &Layout, suffix: &str) {
    let vcpu = format!("vcpu_info{suffix}");
    table.size(&vcpu, layout.vcpu_info_size);
    table.offset(&vcpu, "evtchn_upcall_pending", layout.upcall_pending);
    table.offset(&vcpu, "evtchn_pending_sel", layout.pending_sel);
    table.offset(&vcpu, "arch", layout.vcpu_arch);
    table.offset(&vcpu, "time", layout.time);

    let shared = format!("shared_info{suffix}");
    table.size(&shared, layout.size);
    table.length(&shared, "vcpu_info", layout.vcpu_slots);
    table.length(&shared, "evtchn_pending", layout.word_bits);
    table.length(&shared, "evtchn_mask", layout.word_bits);
    for word in 0..layout.word_bits {
        let pending = layout.pending_word(word).expect("the word exists");
        table.offset(&shared, &format!("evtchn_pending[{word}]"), pending);
        let mask = layout.mask_word(word).expect("the word exists");
        table.offset(&shared, &format!("evtchn_mask[{word}]"), mask);
    }
    for vcpu in 0..layout.vcpu_slots {
        let slot = layout.vcpu_info(vcpu).expect("the slot exists");
        table.offset(&shared, &format!("vcpu_info[{vcpu}]"), slot);
    }
    table.offset(&shared, "wc_version", layout.wc_version);
    table.offset(&shared, "wc_sec", layout.wc_sec);
    table.offset(&shared, "wc_nsec", layout.wc_nsec);
    table.offset(&shared, "arch", layout.arch);
}

/// The commands of the device and their arguments.
pub fn ioctls() -> Vec<Expected> {
    use evtchn_abi::ioctl::*;
    let mut table = Table::default();
    numbers! { table: Ioctl }
    structures! { table: BindVirq, BindInterdomain, BindUnboundPort, Unbind, Notify, RestrictDomid }
    let before = table.0.len();
    structures! { table: BindStatic }
    for item in table.0.iter_mut().skip(before) {
        item.guard = Some("IOCTL_EVTCHN_BIND_STATIC");
    }
    table.0
}

/// Numbers that only Linux has; Xen never answers with them.
const LINUX_ONLY: [Errno; 5] = [Errno::ENOTTY, Errno::EFBIG, Errno::ESPIPE, Errno::EPIPE, Errno::ELOOP];

/// The error numbers of `xen/errno.h`.
pub fn xen_errnos() -> Vec<Expected> {
    let mut table = Table::default();
    for errno in Errno::ALL.iter().filter(|errno| !LINUX_ONLY.contains(errno)) {
        // The prelude's XEN_ERRNO reports them; nothing is to be generated.
        let name = format!("XEN_{}", errno.name().expect("a listed number has a name"));
        table.value(&name, errno.0);
    }
    table.0
}

/// All error numbers as Linux has them.
pub fn linux_errnos() -> Vec<Expected> {
    let mut table = Table::default();
    for errno in Errno::ALL {
        table.value(errno.name().expect("a listed number has a name"), errno.0);
    }
    table.0
}
