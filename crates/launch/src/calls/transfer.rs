// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading ports and writing them back.
//!
//! A read that finds nothing goes on natively: waiting, EAGAIN, EINTR and restarting are the kernel's own. It then gets one port, from
//! the pipe. Everything else is answered here.

use evtchn_abi::Errno;
use evtchn_host::Readable;

use crate::files::PipeId;
use crate::trapped::{Answer, Trapped};
use crate::world::{Thing, World};

/// The kernel's limit on the vectors of one call (`UIO_MAXIOV`).
const MAX_VECTORS: usize = 1024;

/// One stretch of the program's memory.
#[derive(Clone, Copy)]
struct Stretch {
    address: u64,
    length: usize,
}

impl Stretch {
    /// What the kernel refuses before a driver is asked: memory that no program can have, on machines where that is the upper half.
    fn check(self) -> Result<(), Errno> {
        let end = self.address.checked_add(self.length as u64);
        if end.is_some_and(|end| end as i64 >= 0) { Ok(()) } else { Err(Errno::EFAULT) }
    }
}

/// `read`, `readv`, `preadv2`.
pub fn read(world: &mut World, call: &mut Trapped<'_>, number: i64) -> Result<Answer, Answer> {
    let id = event_channels(world, call)?;
    world.files.get(id).ok_or(Answer::Continue)?.flags.check_read()?;
    let stretches = stretches(call, number)?;
    let mut total = 0;
    for stretch in stretches.iter().filter(|stretch| stretch.length > 0) {
        match read_stretch(world, call, id, *stretch) {
            Ok(Some(count)) => {
                total += count;
                if count < stretch.length {
                    break;
                }
            }
            // Nothing is there: natively, if nothing was read before.
            Ok(None) if total == 0 => return Ok(Answer::Continue),
            Ok(None) => break,
            Err(error) if total == 0 => return Err(Answer::Error(error)),
            Err(_) => break,
        }
    }
    Ok(Answer::Value(total as i64))
}

/// Reads into one stretch; `None` is "the kernel's business".
fn read_stretch(
    world: &mut World,
    call: &Trapped<'_>,
    id: PipeId,
    to: Stretch,
) -> Result<Option<usize>, Errno> {
    to.check()?;
    let file = world.files.get(id).ok_or(Errno::EBADF)?;
    match file.device.readable(to.length) {
        Readable::Nothing => return Ok(Some(0)),
        Readable::Overflowed => return Err(Errno::EFBIG),
        Readable::Empty => return Ok(None),
        Readable::Ports(_) => {}
    }
    let mut address = to.address;
    let copy = |bytes: &[u8]| {
        call.write(address, bytes).map_err(Errno::from)?;
        address = address.wrapping_add(bytes.len() as u64);
        Ok(())
    };
    match world.files.read(id, to.length, copy) {
        // A native reader was faster.
        Err(Errno::EAGAIN) => Ok(None),
        result => result.map(Some),
    }
}

/// `write`, `writev`, `pwritev2`: enables ports.
pub fn write(world: &mut World, call: &mut Trapped<'_>, number: i64) -> Result<Answer, Answer> {
    let id = event_channels(world, call)?;
    world.files.get(id).ok_or(Answer::Continue)?.flags.check_write()?;
    let stretches = stretches(call, number)?;
    let mut total = 0;
    for stretch in stretches {
        match write_stretch(world, call, id, stretch) {
            Ok(count) => {
                total += count;
                if count < stretch.length {
                    break;
                }
            }
            Err(error) if total == 0 => return Err(Answer::Error(error)),
            Err(_) => break,
        }
    }
    Ok(Answer::Value(total as i64))
}

fn write_stretch(world: &World, call: &Trapped<'_>, id: PipeId, from: Stretch) -> Result<usize, Errno> {
    from.check()?;
    let mut bytes = vec![0; evtchn_host::whole_bytes(from.length)];
    if bytes.is_empty() {
        return Ok(0);
    }
    call.read(from.address, &mut bytes).map_err(Errno::from)?;
    let file = world.files.get(id).ok_or(Errno::EBADF)?;
    file.device.enable(evtchn_host::ports_in(&bytes));
    Ok(bytes.len())
}

/// The device moves no data between descriptors.
pub fn splice(world: &mut World, call: &mut Trapped<'_>, number: i64) -> Result<Answer, Answer> {
    let arguments: &[usize] = match number {
        libc::SYS_splice => &[0, 2],
        libc::SYS_vmsplice => &[0],
        _ => &[0, 1],
    };
    for &n in arguments {
        let descriptor = call.int(n) as u32;
        match world.identify(call, descriptor)? {
            Thing::Evtchn(..) | Thing::Other(_) => return Ok(Answer::Error(Errno::EINVAL)),
            Thing::Foreign => {}
        }
    }
    Ok(Answer::Continue)
}

/// The event channel file in the first argument. Our other devices can neither be read nor written.
fn event_channels(world: &mut World, call: &mut Trapped<'_>) -> Result<PipeId, Answer> {
    match world.identify(call, call.int(0) as u32)? {
        Thing::Evtchn(id, _) => Ok(id),
        Thing::Other(_) => Err(Answer::Error(Errno::EINVAL)),
        Thing::Foreign => Err(Answer::Continue),
    }
}

/// The memory that a call names. Calls with a position are left to the kernel, which answers ESPIPE.
fn stretches(call: &Trapped<'_>, number: i64) -> Result<Vec<Stretch>, Answer> {
    match number {
        libc::SYS_read | libc::SYS_write => {
            Ok(vec![Stretch { address: call.argument(1), length: length(call.argument(2)) }])
        }
        libc::SYS_preadv2 | libc::SYS_pwritev2 if call.argument(3) as i64 != -1 => Err(Answer::Continue),
        _ => vectors(call),
    }
}

fn vectors(call: &Trapped<'_>) -> Result<Vec<Stretch>, Answer> {
    const VECTOR: usize = 16;
    let count = usize::try_from(call.argument(2)).unwrap_or(usize::MAX);
    if count > MAX_VECTORS {
        return Err(Answer::Error(Errno::EINVAL));
    }
    let mut bytes = vec![0; count * VECTOR];
    call.read(call.argument(1), &mut bytes).map_err(Errno::from)?;
    let (pairs, _) = bytes.as_chunks::<8>();
    let words: Vec<u64> = pairs.iter().map(|&word| u64::from_ne_bytes(word)).collect();
    let (vectors, _) = words.as_chunks::<2>();
    Ok(vectors.iter().map(|&[address, len]| Stretch { address, length: length(len) }).collect())
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
