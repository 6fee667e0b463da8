//! The longest request a unit takes, searched between the longest that answered and the shortest that was too long.

use core::time::Duration;

use super::place::Joint;
use super::term::Term;
use crate::plan::ReadRequest;

/// What is known about the length of requests for registers, or of those for bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Length {
    /// Most items that were ever answered at once.
    pub(super) good: u16,
    /// Up to here nothing longer than `good` is wanted, so the search may go on above.
    tested: u16,
    pub(super) bad: Option<TooLong>,
    /// The first answer since the search last moved: when it comes again, everything was asked once.
    round: Option<ReadRequest>,
    silent: Option<Silent>,
}

/// The shortest request that was too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TooLong {
    pub(super) block: ReadRequest,
    /// A gap in the block that could be a hole as well: before the search begins, a request no longer than what
    /// answered shall cross it.
    doubt: Option<Joint>,
    pub(super) term: Term,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Silent {
    request: ReadRequest,
    since: Duration,
    /// A shorter request has answered since.
    shorter_answers: bool,
}

/// How long a silence waits for its repetition.
const SILENCE_COUNTS_FOR: Duration = Duration::from_secs(24 * 3600);

impl Length {
    pub(super) const UNKNOWN: Self = Self { good: 0, tested: 0, bad: None, round: None, silent: None };

    pub(super) fn is_known(&self) -> bool {
        self.bad.is_some_and(|bad| bad.term.is_running())
    }

    /// Returns the most items a request of several wants may have; while the search goes on, the length to try. A
    /// lapsed limit is tried again at exactly the length that was refused: a longer one could be refused for itself.
    pub(super) fn limit(&self) -> u16 {
        let Some(bad) = &self.bad else { return u16::MAX };
        if !bad.term.is_running() {
            return bad.block.count;
        }
        let below = bad.block.count.saturating_sub(1);
        let low = self.good.max(self.tested);
        let limit = if bad.doubt.is_some() {
            self.good
        } else if bad.block.table.is_bits() {
            // Sixteen bits cost no more than one register: not worth another search.
            if low.saturating_add(16) > below { low } else { low.midpoint(below) }
        } else {
            low.midpoint(below).max(low.saturating_add(1))
        };
        limit.clamp(1, below.max(1))
    }

    /// Says whether [`Length::limit`] is the last word.
    fn is_found(&self) -> bool {
        let low = self.good.max(self.tested);
        let found = |bad: &TooLong| bad.term.is_running() && bad.doubt.is_none() && self.limit() <= low;
        self.bad.as_ref().is_none_or(found)
    }

    pub(super) fn answered(&mut self, request: ReadRequest) {
        if request.count > self.good {
            self.good = request.count;
            self.round = None;
        }
        if self.bad.is_some_and(|bad| request.count >= bad.block.count) {
            self.bad = None;
            self.tested = 0;
        }
        match &mut self.silent {
            Some(silent) if request.count >= silent.request.count => self.silent = None,
            Some(silent) => silent.shorter_answers = true,
            None => {}
        }
        if self.is_found() {
            return;
        }
        let limit = self.limit();
        let Some(bad) = &mut self.bad else { return };
        let crossed = |gap: Joint| bad.block.table == request.table && gap.is_crossed_by(request);
        match (bad.doubt, self.round) {
            (Some(gap), _) if crossed(gap) => bad.doubt = None,
            (_, None) => self.round = Some(request),
            (_, Some(first)) if first != request => {}
            // Nothing of that length is wanted any more.
            _ if !bad.term.is_running() => (self.bad, self.round) = (None, None),
            (Some(_), _) => (bad.doubt, self.round) = (None, None),
            (None, _) => (self.tested, self.round) = (limit, None),
        }
    }

    /// A block without a hole was refused for its length, unless its one `doubt` was the hole.
    pub(super) fn too_long(&mut self, now: Duration, block: ReadRequest, doubt: Option<Joint>) {
        let known = self.bad.map(|bad| bad.term);
        let term = known
            .map_or(Term::begin(now), |term| if term.is_running() { term.renewed(now) } else { term.confirmed(now) });
        self.bad = Some(TooLong { block, doubt, term });
        (self.tested, self.round, self.silent) = (0, None, None);
    }

    /// A request got no answer. Says whether that makes it too long.
    pub(super) fn silent(&mut self, now: Duration, request: ReadRequest) -> bool {
        if request.count <= self.good.max(1) {
            return false;
        }
        match self.silent {
            Some(silent) if silent.request == request => {
                if silent.shorter_answers {
                    self.too_long(now, request, None);
                }
                silent.shorter_answers
            }
            Some(silent) if now.saturating_sub(silent.since) < SILENCE_COUNTS_FOR => false,
            _ => {
                self.silent = Some(Silent { request, since: now, shorter_answers: false });
                false
            }
        }
    }

    /// A refused block may be the lapsed limit again. Says whether it was taken so.
    pub(super) fn confirm(&mut self, now: Duration, block: ReadRequest) -> bool {
        let lapsed = |bad: &&mut TooLong| !bad.term.is_running() && bad.block.count == block.count;
        let Some(bad) = self.bad.as_mut().filter(lapsed) else { return false };
        *bad = TooLong { block, doubt: None, term: bad.term.confirmed(now) };
        true
    }

    /// Something inside `block` was found that explains its refusal. Says whether the limit rested on it.
    pub(super) fn explain(&mut self, block: ReadRequest) -> bool {
        let explained = self.bad.is_some_and(|bad| bad.block.covers(block));
        if explained {
            (self.bad, self.tested, self.round) = (None, 0, None);
        }
        explained
    }

    pub(super) fn expire(&mut self, now: Duration) {
        if let Some(bad) = &mut self.bad
            && bad.term.lapse(now)
        {
            (self.tested, self.round) = (0, None);
        }
        self.bad = self.bad.filter(|bad| !bad.term.is_forgotten(now));
    }

    pub(super) fn restore(&mut self, block: ReadRequest, term: Term) {
        self.bad = Some(TooLong { block, doubt: None, term });
    }
}
