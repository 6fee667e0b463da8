//! The merger a plan is measured against: it goes over the wants once and joins what it may.

use ganglion_drivers::plan::{Limits, ReadRequest};

/// Returns the requests for those of the sorted `wants` that can be read.
pub(crate) fn merge(wants: &[ReadRequest], limits: &Limits<'_>) -> Vec<ReadRequest> {
    let mut requests: Vec<ReadRequest> = Vec::new();
    let mut alone: Vec<ReadRequest> = Vec::new();
    for &want in wants.iter().filter(|want| limits.allow(**want).is_ok()) {
        if limits.reads_alone(want) {
            if alone.last() != Some(&want) {
                alone.push(want);
            }
            continue;
        }
        match requests.last_mut().and_then(|request| joined(*request, want, limits).map(|joined| (request, joined))) {
            Some((request, joined)) => *request = joined,
            None => requests.push(want),
        }
    }
    requests.extend(alone);
    requests
}

fn joined(low: ReadRequest, high: ReadRequest, limits: &Limits<'_>) -> Option<ReadRequest> {
    let reach = low.end() + u32::from(limits.bridge);
    if low.table != high.table || low.address > high.address || u32::from(high.address) > reach {
        return None;
    }
    let end = low.end().max(high.end());
    let joined = ReadRequest { count: u16::try_from(end - u32::from(low.address)).ok()?, ..low };
    (limits.allow(joined).is_ok() && !limits.reads_alone(joined)).then_some(joined)
}
