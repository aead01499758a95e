//! The bytes of what openraft writes: log ids, votes, memberships, entries, and the commands of an entry.
//!
//! All integers are big-endian and of fixed width. They stand inside files that carry version and checksum.
//!
//! | type       | bytes                                                                                         |
//! |------------|-----------------------------------------------------------------------------------------------|
//! | log id     | term u64, node u64, index u64                                                                 |
//! | optional   | u8 0 or 1, then the value if 1                                                                |
//! | vote       | term u64, node u64, committed u8                                                              |
//! | membership | configs u32 × (voters u32 × node u64), nodes u32 × (node u64, address length u32, UTF-8)      |
//! | commands   | u32 × (length u32, command as `strandline_core::metadata` writes it)                           |
//! | entry      | log id, kind u8 (0 blank, 1 commands, 2 membership), length u32, body                          |

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes};
use openraft::{BasicNode, CommittedLeaderId, EntryPayload};
use strandline_core::metadata::{Command, FormatError, decode_command, encode_command};

use crate::type_config::{Entry, LogId, Membership, Proposal, Vote};

const TRUNCATED: FormatError = FormatError::Truncated;

pub fn put_log_id(out: &mut Vec<u8>, id: &LogId) {
    out.put_u64(id.leader_id.term);
    out.put_u64(id.leader_id.node_id);
    out.put_u64(id.index);
}

pub fn get_log_id(bytes: &mut Bytes) -> Result<LogId, FormatError> {
    let (term, node) = (get_u64(bytes)?, get_u64(bytes)?);
    Ok(LogId::new(
        CommittedLeaderId::new(term, node),
        get_u64(bytes)?,
    ))
}

pub fn put_optional<T>(out: &mut Vec<u8>, value: Option<&T>, put: impl FnOnce(&mut Vec<u8>, &T)) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

pub fn get_optional<T>(
    bytes: &mut Bytes,
    get: impl FnOnce(&mut Bytes) -> Result<T, FormatError>,
) -> Result<Option<T>, FormatError> {
    get_bool(bytes)?.then(|| get(bytes)).transpose()
}

pub fn put_vote(out: &mut Vec<u8>, vote: &Vote) {
    out.put_u64(vote.leader_id.term);
    out.put_u64(vote.leader_id.node_id);
    out.put_u8(u8::from(vote.committed));
}

pub fn get_vote(bytes: &mut Bytes) -> Result<Vote, FormatError> {
    let mut vote = Vote::new(get_u64(bytes)?, get_u64(bytes)?);
    vote.committed = get_bool(bytes)?;
    Ok(vote)
}

pub fn put_membership(out: &mut Vec<u8>, membership: &Membership) {
    let configs = membership.get_joint_config();
    out.put_u32(len_u32(configs.len()));
    for voters in configs {
        out.put_u32(len_u32(voters.len()));
        voters.iter().for_each(|id| out.put_u64(*id));
    }
    let nodes: BTreeMap<_, _> = membership.nodes().collect();
    out.put_u32(len_u32(nodes.len()));
    for (id, node) in nodes {
        out.put_u64(*id);
        out.put_u32(len_u32(node.addr.len()));
        out.put_slice(node.addr.as_bytes());
    }
}

pub fn get_membership(bytes: &mut Bytes) -> Result<Membership, FormatError> {
    let mut configs = Vec::new();
    for _ in 0..get_u32(bytes)? {
        let mut voters = BTreeSet::new();
        for _ in 0..get_u32(bytes)? {
            voters.insert(get_u64(bytes)?);
        }
        configs.push(voters);
    }
    let mut nodes = BTreeMap::new();
    for _ in 0..get_u32(bytes)? {
        let id = get_u64(bytes)?;
        let addr = get_section(bytes)?;
        let addr = std::str::from_utf8(&addr).map_err(|_| FormatError::Invalid("UTF-8"))?;
        nodes.insert(id, BasicNode::new(addr));
    }
    // A voter without a node would make openraft's constructor panic.
    if configs.iter().flatten().any(|id| !nodes.contains_key(id)) {
        return Err(FormatError::Invalid("membership"));
    }
    Ok(Membership::new(configs, nodes))
}

/// Joins commands, each as [`encode_command`] wrote it, to one proposal.
pub fn join_commands(commands: &[Bytes]) -> Proposal {
    let bytes = commands.iter().map(|c| 4 + c.len()).sum::<usize>();
    let mut out = Vec::with_capacity(4 + bytes);
    out.put_u32(len_u32(commands.len()));
    for command in commands {
        out.put_u32(len_u32(command.len()));
        out.put_slice(command);
    }
    Proposal(out.into())
}

pub fn encode_commands(commands: &[Command]) -> Result<Vec<Bytes>, FormatError> {
    commands
        .iter()
        .map(|c| Ok(encode_command(c)?.into()))
        .collect()
}

pub fn decode_commands(proposal: &Proposal) -> Result<Vec<Command>, FormatError> {
    let mut bytes = proposal.0.clone();
    let mut commands = Vec::new();
    for _ in 0..get_u32(&mut bytes)? {
        commands.push(decode_command(&get_section(&mut bytes)?)?);
    }
    finish(&bytes)?;
    Ok(commands)
}

pub fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    put_log_id(out, &entry.log_id);
    match &entry.payload {
        EntryPayload::Blank => {
            out.put_u8(0);
            out.put_u32(0);
        }
        EntryPayload::Normal(proposal) => {
            out.put_u8(1);
            out.put_u32(len_u32(proposal.0.len()));
            out.put_slice(&proposal.0);
        }
        EntryPayload::Membership(membership) => {
            let mut body = Vec::new();
            put_membership(&mut body, membership);
            out.put_u8(2);
            out.put_u32(len_u32(body.len()));
            out.put_slice(&body);
        }
    }
}

/// Commands are checked, too: a log that this program cannot apply is found when it is opened.
pub fn get_entry(bytes: &mut Bytes) -> Result<Entry, FormatError> {
    let log_id = get_log_id(bytes)?;
    let kind = bytes.try_get_u8().map_err(|_| TRUNCATED)?;
    let mut body = get_section(bytes)?;
    let payload = match kind {
        0 => EntryPayload::Blank,
        1 => {
            let proposal = Proposal(std::mem::take(&mut body));
            decode_commands(&proposal)?;
            EntryPayload::Normal(proposal)
        }
        2 => EntryPayload::Membership(get_membership(&mut body)?),
        _ => return Err(FormatError::Invalid("entry kind")),
    };
    finish(&body)?;
    Ok(Entry { log_id, payload })
}

pub fn finish(bytes: &Bytes) -> Result<(), FormatError> {
    match bytes.len() {
        0 => Ok(()),
        more => Err(FormatError::TrailingBytes(more)),
    }
}

pub fn get_u64(bytes: &mut Bytes) -> Result<u64, FormatError> {
    bytes.try_get_u64().map_err(|_| TRUNCATED)
}

fn get_u32(bytes: &mut Bytes) -> Result<u32, FormatError> {
    bytes.try_get_u32().map_err(|_| TRUNCATED)
}

fn get_bool(bytes: &mut Bytes) -> Result<bool, FormatError> {
    match bytes.try_get_u8() {
        Ok(0) => Ok(false),
        Ok(1) => Ok(true),
        Ok(_) => Err(FormatError::Invalid("boolean")),
        Err(_) => Err(TRUNCATED),
    }
}

fn get_section(bytes: &mut Bytes) -> Result<Bytes, FormatError> {
    let len = get_u32(bytes)? as usize;
    if len > bytes.len() {
        return Err(TRUNCATED);
    }
    Ok(bytes.split_to(len))
}

/// Commands are at most 16 MiB and proposals are bounded by the quorum, far below 4 GiB.
pub fn len_u32(len: usize) -> u32 {
    u32::try_from(len).expect("a part of an entry is below 4 GiB")
}
