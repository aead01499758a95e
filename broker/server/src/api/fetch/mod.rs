//! Fetch (1), versions 4-18.
//!
//! Answers with header bytes and slices of log files that the listener sends with sendfile. Topics by name, from
//! version 13 on by id; incremental sessions from version 7 on. A fetch waits until `min_bytes` are readable or
//! `max_wait_ms` have passed; appends wake it, nothing polls. The first batch is delivered however large. Readers of
//! committed records see nothing past the last stable offset and get the aborted transactions of what they read.
//!
//! Below the local start the remote tier is read, several partitions at a time if need be. A slow store means an empty
//! answer at `max_wait_ms` while the download goes on. OFFSET_OUT_OF_RANGE is only for offsets outside of
//! [log start, log end] over both tiers: consumers reset on it.
//!
//! Gaps: followers do not fetch yet; no reader is pointed to a nearer replica.

mod look;
mod respond;
mod sessions;

use std::time::{Duration, Instant};

use kafka_protocol::messages::FetchRequest;
use strandline_core::fetch_session::Candidate;
use strandline_log::FileSlice;
use strandline_wire::Api;

use self::look::{Look, Terms, look};
use self::respond::Answered;
use self::sessions::SessionFetch;
use super::{Apis, RequestContext, Response, ResponseBody};
use crate::clock;
use crate::net::SENDFILE_BYTES_MIN;

pub use self::sessions::FetchSessions;

const READ_COMMITTED: i8 = 1;

pub async fn handle(apis: &Apis, context: &RequestContext, request: FetchRequest) -> Response {
    let version = context.api_version;
    let mut fetch = match apis.sessions.begin(version, &request) {
        Ok(fetch) => fetch,
        Err(error) => {
            apis.count_error(Api::Fetch, error);
            return respond::whole_error(context, error).into();
        }
    };
    let replica_id = if version >= 15 {
        request.replica_state.replica_id.0
    } else {
        request.replica_id.0
    };
    let max_bytes = usize::try_from(request.max_bytes)
        .unwrap_or(0)
        .min(apis.fetch_bytes_max);
    let min_bytes = usize::try_from(request.min_bytes)
        .unwrap_or(0)
        .min(max_bytes);
    let max_wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let deadline = context.received + max_wait;
    let read_committed = request.isolation_level == READ_COMMITTED;

    // Spent on waiting for records and for the object store.
    let mut remote = Duration::ZERO;
    loop {
        let image = apis.metadata.image();
        let terms = Terms {
            apis,
            image: &image,
            fetch: &fetch,
            read_committed,
            from_follower: replica_id >= 0,
        };
        let candidates = apis.sessions.candidates(&fetch);
        // An incremental fetch without a change has nothing to look at, and waits for one.
        let nothing_asked = candidates.is_empty() && !fetch.is_incremental();
        let looks = look_at_all(&terms, candidates, max_bytes, deadline, &mut remote).await;
        let bytes: usize = looks.iter().map(|look| look.bytes).sum();
        let due = nothing_asked
            || bytes >= min_bytes
            || looks.iter().any(Look::is_urgent)
            || clock::now() >= deadline;
        if due {
            let body = answer(apis, context, &fetch, &image, looks, read_committed).await;
            return Response {
                body,
                remote: Some(remote),
            };
        }
        let changed = apis.sessions.park(&fetch, &looks);
        if !fetch.is_watching() {
            // Looks again before it waits: what was appended before the watch is not reported.
            fetch.watch(looks.into_iter().filter_map(|look| look.partition));
            continue;
        }
        if !changed {
            let parked = clock::now();
            wait(&fetch, min_bytes - bytes, deadline).await;
            remote += parked.elapsed();
        }
    }
}

async fn look_at_all(
    terms: &Terms<'_>,
    candidates: Vec<Candidate>,
    max_bytes: usize,
    deadline: Instant,
    remote: &mut Duration,
) -> Vec<Look> {
    let mut looks = Vec::with_capacity(candidates.len());
    let mut bytes_left = max_bytes;
    let mut found = false;
    for candidate in candidates {
        let looked = look(terms, candidate, bytes_left, !found).await;
        found |= looked.bytes > 0;
        bytes_left = bytes_left.saturating_sub(looked.bytes);
        looks.push(looked);
    }
    // All downloads have begun; now they are waited for, each within the same deadline.
    for looked in &mut looks {
        if looked.remote.is_some() {
            let begun = clock::now();
            looked
                .take_remote(terms, deadline, bytes_left, !found)
                .await;
            *remote += begun.elapsed();
            found |= looked.bytes > 0;
            bytes_left = bytes_left.saturating_sub(looked.bytes);
        }
    }
    looks
}

async fn wait(fetch: &SessionFetch, bytes_missing: usize, deadline: Instant) {
    if fetch.waiter.arm(bytes_missing.max(1)) {
        // Either way the next round of the loop finds out what there is.
        let _ = tokio::time::timeout_at(deadline.into(), fetch.waiter.woken()).await;
    }
    fetch.waiter.disarm();
}

/// So that sending the answer will not wait for the disk.
async fn see_in_page_cache(apis: &Apis, look: &Look) -> std::io::Result<()> {
    if look.recent {
        // Smaller ones are read when they are sent, and that does not wait either.
        let sent_from_file = |slice: &&FileSlice| slice.len >= SENDFILE_BYTES_MIN;
        let slices = look.slices.iter().filter(sent_from_file);
        return apis.cold_reads.warm_recent(slices).await;
    }
    apis.cold_reads.warm(&look.slices).await?;
    if let Some(last) = look.slices.last() {
        apis.cold_reads.read_ahead(last);
    }
    Ok(())
}

async fn answer(
    apis: &Apis,
    context: &RequestContext,
    fetch: &SessionFetch,
    image: &strandline_core::metadata::MetadataImage,
    looks: Vec<Look>,
    read_committed: bool,
) -> ResponseBody {
    let belongs = match apis.sessions.settle(fetch, &looks) {
        Ok(belongs) => belongs,
        Err(error) => {
            apis.count_error(Api::Fetch, error);
            return respond::whole_error(context, error);
        }
    };
    let mut answered = Vec::with_capacity(looks.len());
    for (mut look, belongs) in looks.into_iter().zip(belongs) {
        if !belongs {
            continue;
        }
        if let Err(error) = see_in_page_cache(apis, &look).await {
            tracing::warn!(partition = look.candidate.partition, %error, "reading ahead for a fetch failed");
            look.slices.clear();
            look.bytes = 0;
            look.error = Some(strandline_wire::KafkaError::KafkaStorageError);
        }
        if let Some(error) = look.error {
            apis.count_error(Api::Fetch, error);
        }
        if let Some(partition) = &look.partition {
            partition.metrics().bytes_out.inc_by(look.bytes as u64);
        }
        answered.push(Answered {
            look,
            read_committed,
        });
    }
    respond::answer(context, image, fetch.context.session_id, answered)
}
