// SPDX-License-Identifier: MIT OR Apache-2.0
//! A recording: one JSON object a line, the first one the `meta` record, plain or gzipped.

use std::{collections::BTreeMap, fs, io::Read, path::Path};

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The first two bytes of a gzip file.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The program's name, and how the names of its sequences begin.
const GUEST: &str = "guest";
const BARE_GUEST: &str = "g.";

/// What a recorder printed in one run.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The file's name without directory and ending.
    pub name: String,
    /// The machine and the program that were recorded.
    pub meta: Meta,
    /// All records in order, the `meta` one excluded.
    pub steps: Vec<Step>,
}

/// The recorded machine and program (the `meta` record's outputs).
#[derive(Clone, Debug, Deserialize)]
pub struct Meta {
    /// The recorder's program: `hyper-fixed`, `hyper-random`, `hyperx-random`, `dev-fixed`, `dev-random` or `guest`.
    pub mode: String,
    /// Xen's version; like Linux's and the ABI empty for `guest`.
    pub xen: String,
    /// Linux's release.
    pub linux: String,
    /// The ABI that the domain's kernel uses: `2l` or `fifo`.
    pub abi: String,
    /// The domain's vCPUs.
    pub vcpus: u32,
    /// The domain's id.
    pub domid: u16,
    /// Every port in use before the first step, port 0 included.
    pub ports: BTreeMap<u32, PortStatus>,
}

/// One port of the `meta` record, as `EVTCHNOP_status` describes it.
#[derive(Clone, Debug, Deserialize)]
pub struct PortStatus {
    /// The kind of binding: `closed`, `unbound`, `interdomain`, `pirq`, `virq` or `ipi`.
    pub name: String,
    /// The notified vCPU.
    pub vcpu: u32,
    /// The VIRQ, for `virq`.
    pub virq: Option<u32>,
    /// The PIRQ, for `pirq`.
    pub pirq: Option<u32>,
    /// The peer's domain, for `unbound` and `interdomain`.
    pub remote_dom: Option<u16>,
    /// The peer's port, for `interdomain`.
    pub remote_port_raw: Option<u32>,
}

/// One record of a recording.
#[derive(Clone, Debug, Deserialize)]
pub struct Step {
    /// The sequence's name.
    pub seq: String,
    /// The number in the sequence.
    pub step: u32,
    /// What kind of action it was.
    pub level: Level,
    /// The operation.
    pub op: String,
    /// Its inputs.
    pub args: Map<String, Value>,
    /// Its result: zero, a count, or a negative error number.
    pub ret: i64,
    /// Its outputs.
    pub out: Map<String, Value>,
}

/// What kind of action a record describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// An event channel hypercall.
    Hypercall,
    /// A call on `/dev/xen/evtchn`.
    Device,
    /// Something that the toolstack did to the second domain.
    Domctl,
    /// Looked at; nothing was changed.
    Observe,
    /// A hypercall of the bare guest.
    Guest,
    /// The bare guest read or wrote its shared memory.
    Memory,
}

impl Meta {
    /// The bare guest prints no such record; it changes its ABI on the way.
    fn of_bare_guest() -> Self {
        let unknown = String::new;
        let (xen, linux, abi, ports) = (unknown(), unknown(), unknown(), BTreeMap::new());
        Self { mode: GUEST.to_owned(), xen, linux, abi, vcpus: 2, domid: 1, ports }
    }
}

impl Recording {
    /// Reads a recording from a file, gzipped or not.
    ///
    /// # Errors
    /// The file cannot be read, or is not a recording with a `meta` record.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let text = unzip(bytes).with_context(|| format!("cannot unpack {}", path.display()))?;
        Self::parse(&stem(path), &text)
    }

    /// Reads a recording from its text.
    ///
    /// # Errors
    /// A line is not a record, or the first one is not the `meta` record.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let mut steps = text
            .lines()
            .enumerate()
            .map(|(at, line)| parse_line(line).with_context(|| format!("{name}: line {}", at + 1)));
        let first: Step = steps.next().with_context(|| format!("{name}: empty recording"))??;
        if first.seq.starts_with(BARE_GUEST) {
            let steps = std::iter::once(Ok(first)).chain(steps).collect::<Result<_>>()?;
            return Ok(Self { name: name.to_owned(), meta: Meta::of_bare_guest(), steps });
        }
        ensure!(first.op == "meta", "{name}: the first record is not the meta record");
        let meta = serde_json::from_value(Value::Object(first.out))
            .with_context(|| format!("{name}: meta record"))?;
        Ok(Self { name: name.to_owned(), meta, steps: steps.collect::<Result<_>>()? })
    }

    /// Whether the recorded program is one of the device level.
    #[must_use]
    pub fn is_device(&self) -> bool {
        self.meta.mode.starts_with("dev-")
    }

    /// Whether the recorded program is the bare guest.
    #[must_use]
    pub fn is_guest(&self) -> bool {
        self.meta.mode == GUEST
    }

    /// Refuses what the engine cannot replay.
    pub(crate) fn ensure_replayable(&self) -> Result<()> {
        let Self { name, meta, .. } = self;
        ensure!(!self.is_device(), "{name}: a recording of the device level: use device-diff");
        ensure!(!self.is_guest(), "{name}: a recording of the bare guest, not of hypercalls alone");
        ensure!(["2l", "fifo"].contains(&meta.abi.as_str()), "{name}: unknown ABI `{}`", meta.abi);
        Ok(())
    }
}

fn parse_line(line: &str) -> Result<Step> {
    serde_json::from_str(line).context("not a record")
}

fn unzip(bytes: Vec<u8>) -> Result<String> {
    if !bytes.starts_with(&GZIP_MAGIC) {
        return Ok(String::from_utf8(bytes)?);
    }
    let mut text = String::new();
    GzDecoder::new(bytes.as_slice()).read_to_string(&mut text)?;
    Ok(text)
}

fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    name.strip_suffix(".jsonl").unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::stored;

    #[test]
    fn a_stored_recording_has_its_machine_and_all_its_records() {
        let recording = Recording::load(&stored("xen4.17.7_linux6.1.192_2l.hyper-fixed")).unwrap();
        assert_eq!(recording.name, "xen4.17.7_linux6.1.192_2l.hyper-fixed");
        assert_eq!((recording.meta.vcpus, recording.meta.domid), (2, 0));
        assert_eq!(recording.meta.ports.len(), 25);
        assert_eq!(recording.steps.len(), 938);
        assert!(recording.ensure_replayable().is_ok());
    }

    #[test]
    fn what_is_no_hypercall_recording_is_refused_in_one_line() {
        for (name, reason) in [
            ("xen4.17.7_linux6.1.192_fifo.dev-random", "device level"),
            ("xen4.17.7_linux6.1.192_2l.dev-fixed", "device level"),
            ("xen4.17.7.guest", "bare guest"),
        ] {
            let error = Recording::load(&stored(name)).unwrap().ensure_replayable().unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
        let mut other = Recording::load(&stored("xen4.17.7_linux6.1.192_2l.hyper-fixed")).unwrap();
        other.meta.abi = "3l".into();
        let error = other.ensure_replayable().unwrap_err().to_string();
        assert!(error.contains("unknown ABI `3l`"), "{error}");
    }

    #[test]
    fn the_bare_guests_recording_is_known_by_its_first_record() {
        let line = r#"{"seq":"g.start","step":0,"level":"observe","op":"begin","args":{},"ret":0,"out":{}}"#;
        let recording = Recording::parse("guest", line).unwrap();
        assert!(recording.is_guest() && recording.steps.len() == 1);
    }

    #[test]
    fn a_broken_line_is_named_by_its_number() {
        let meta = r#"{"seq":"meta","step":0,"level":"observe","op":"meta","args":{},"ret":0,"out":
            {"mode":"hyper-fixed","xen":"4","linux":"6","abi":"2l","vcpus":1,"domid":0,"ports":{}}}"#
            .replace('\n', "");
        let error = Recording::parse("cut", &format!("{meta}\n{{\"seq\":")).unwrap_err();
        assert!(format!("{error:#}").starts_with("cut: line 2: not a record"), "{error:#}");
        assert!(Recording::parse("empty", "").unwrap_err().to_string().contains("empty recording"));
    }
}
