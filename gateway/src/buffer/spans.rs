//! A set of stretches of the log: what is delivered, or what is handed out. Pure.

use super::format::Position;

/// A stretch of the log: from a place up to another, which is not in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    pub(super) from: Position,
    pub(super) to: Position,
}

/// Disjoint stretches in order, none touching the next.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Spans(Vec<Span>);

impl Spans {
    /// Takes stretches as they were read from a disk: in any order, overlapping or empty.
    pub(super) fn of(spans: impl IntoIterator<Item = Span>) -> Self {
        let mut out = Self::default();
        spans.into_iter().for_each(|span| out.add(span));
        out
    }

    /// Adds a stretch; what was in the set stays.
    pub(super) fn add(&mut self, span: Span) {
        if span.from >= span.to {
            return;
        }
        let first = self.0.partition_point(|own| own.to < span.from);
        let behind = self.0.partition_point(|own| own.from <= span.to);
        let joined = self
            .0
            .get(first..behind)
            .unwrap_or_default()
            .iter()
            .fold(span, |joined, own| Span { from: joined.from.min(own.from), to: joined.to.max(own.to) });
        self.0.splice(first..behind, [joined]);
    }

    /// Returns the end of the stretch that holds `at`.
    pub(super) fn end_of(&self, at: Position) -> Option<Position> {
        let behind = self.0.partition_point(|own| own.from <= at);
        let own = self.0.get(behind.checked_sub(1)?)?;
        (at < own.to).then_some(own.to)
    }

    /// Returns where the first stretch behind `at` begins.
    pub(super) fn next_start(&self, at: Position) -> Option<Position> {
        self.0.get(self.0.partition_point(|own| own.from <= at)).map(|own| own.from)
    }

    /// Says whether everything from `from` up to `to` is in the set.
    pub(super) fn covers(&self, from: Position, to: Position) -> bool {
        from >= to || self.end_of(from).is_some_and(|end| end >= to)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Span> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn place(n: u32) -> Position {
        Position { segment: u64::from(n / 4), offset: n % 4 }
    }

    proptest! {
        #[test]
        fn it_is_the_set_of_all_places_added(
            added in prop::collection::vec((0_u32..40, 0_u32..40), 0..20),
            from in 0_u32..40,
            to in 0_u32..40,
        ) {
            let mut model = BTreeSet::new();
            for (from, to) in &added {
                model.extend(*from..*to);
            }
            let spans = Spans::of(added.iter().map(|(from, to)| Span { from: place(*from), to: place(*to) }));
            for (own, next) in spans.iter().zip(spans.iter().skip(1)) {
                prop_assert!(own.from < own.to && own.to < next.from, "{:?}", spans);
            }
            for n in 0..40 {
                let end = (n..=40).find(|m| !model.contains(m)).filter(|end| *end > n);
                prop_assert_eq!(spans.end_of(place(n)), end.map(place), "at {}", n);
                let start = (n + 1..40).find(|m| model.contains(m) && (*m == 0 || !model.contains(&(m - 1))));
                prop_assert_eq!(spans.next_start(place(n)), start.map(place), "behind {}", n);
            }
            prop_assert_eq!(spans.covers(place(from), place(to)), (from..to).all(|n| model.contains(&n)));
        }
    }
}
