// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the stat calls tell of our nodes.

use std::os::unix::fs::MetadataExt;

use evtchn_abi::Errno;

use crate::node::{Facts, Node};
use crate::sys;
use crate::trapped::{Answer, Trapped};
use crate::world::{Thing, World};

/// `fstat` of a descriptor in the first argument.
pub fn of_descriptor(world: &mut World, call: &mut Trapped<'_>) -> Result<Answer, Answer> {
    let node = descriptor_node(world, call, call.int(0))?;
    write_stat(call, node, call.argument(1))
}

/// The node behind a descriptor of ours.
pub fn descriptor_node(world: &mut World, call: &mut Trapped<'_>, number: i32) -> Result<Node, Answer> {
    match world.identify(call, number as u32)? {
        Thing::Evtchn(..) => Ok(Node::Evtchn),
        Thing::Other(node) => Ok(node),
        Thing::Foreign => Err(Answer::Continue),
    }
}

/// Answers `stat`, `lstat`, `fstat`, `newfstatat`.
pub fn write_stat(call: &Trapped<'_>, node: Node, address: u64) -> Result<Answer, Answer> {
    let facts = node.facts()?;
    let (user, group) = owner(call, &facts);
    call.write(address, &sys::stat_bytes(&facts, user, group)).map_err(Errno::from)?;
    Ok(Answer::Value(0))
}

/// Answers `statx`.
pub fn write_statx(call: &Trapped<'_>, node: Node, address: u64) -> Result<Answer, Answer> {
    let facts = node.facts()?;
    let (user, group) = owner(call, &facts);
    call.write(address, &sys::statx_bytes(&facts, user, group)).map_err(Errno::from)?;
    Ok(Answer::Value(0))
}

/// Answers `access` and its kind: the nodes belong to the caller, the folders to root.
pub fn check_access(call: &Trapped<'_>, node: Node, wanted: i32) -> Result<Answer, Answer> {
    const READ_AND_WRITE: u32 = 6;
    let wanted = u32::try_from(wanted).ok().filter(|&wanted| wanted <= 7).ok_or(Errno::EINVAL)?;
    let facts = node.facts()?;
    let (user, _) = caller(call);
    let class = if facts.owned_by_caller || user == 0 { 6 } else { 0 };
    // Root may read and write what it likes, and execute what anybody may.
    let granted = facts.mode >> class & 7 | if user == 0 { READ_AND_WRITE } else { 0 };
    if wanted & !granted == 0 { Ok(Answer::Value(0)) } else { Err(Answer::Error(Errno::EACCES)) }
}

fn owner(call: &Trapped<'_>, facts: &Facts) -> (u32, u32) {
    if facts.owned_by_caller { caller(call) } else { (0, 0) }
}

/// The caller's user and group, which own its folder in `/proc`.
fn caller(call: &Trapped<'_>) -> (u32, u32) {
    std::fs::metadata(format!("/proc/{}", call.thread())).map_or((0, 0), |m| (m.uid(), m.gid()))
}
