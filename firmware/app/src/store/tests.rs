use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec as List;

use proptest::prelude::*;

use super::*;

const SCHEMA: SchemaHash = SchemaHash(0xABCD);
const TOLERANCE: Duration = Duration::from_secs(2);

/// A memory that can be cut off after so many bytes written: the byte under way is spoiled, nothing else happens.
struct Ram {
    bytes: List<u8>,
    /// Bytes until the power goes; `None` never.
    left: Option<usize>,
}

impl Ram {
    fn new(size: usize) -> Self {
        Self { bytes: vec![0xA5; size], left: None }
    }
}

impl Memory for Ram {
    fn size(&self) -> usize {
        self.bytes.len()
    }

    fn read(&mut self, at: usize, out: &mut [u8]) -> Result<(), MemoryError> {
        self.bytes.as_mut_slice().read(at, out)
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> Result<(), MemoryError> {
        for (at, byte) in (at..).zip(bytes) {
            match &mut self.left {
                Some(0) => return Err(MemoryError { at }),
                Some(left) => {
                    *left -= 1;
                    if *left == 0 {
                        self.bytes[at] = 0x5A;
                        return Err(MemoryError { at });
                    }
                    self.bytes[at] = *byte;
                }
                None => self.bytes[at] = *byte,
            }
        }
        Ok(())
    }
}

fn taken(ms: u64) -> Taken {
    let readings = [NodeReading::Value(i32::try_from(ms).unwrap()), NodeReading::Value(-1)];
    Taken { at: Duration::from_millis(ms), readings: readings.into_iter().collect(), alarm: false }
}

fn open(memory: &mut Ram) -> Store {
    Store::open(memory, SCHEMA, 2, true).expect("the memory is large enough")
}

fn fresh(slots: usize) -> (Ram, Store) {
    let mut memory = Ram::new(header::PLACES + slots * slot::size(2));
    let store = open(&mut memory);
    (memory, store)
}

/// Takes everything the store has; returns what was read and what was declared lost.
fn drain(store: &mut Store, memory: &mut Ram) -> (List<(u32, u64)>, List<Lost>) {
    let (mut read, mut lost) = (vec![], vec![]);
    loop {
        let next = store.next(memory);
        lost.extend(next.lost);
        let through = match next.boot {
            Some(_) => {
                let stored = store.read(memory, next.first).expect("it is kept");
                read.push((stored.seq, stored.at_ms));
                next.first
            }
            None => next.first - 1,
        };
        if next.boot.is_none() && next.lost.is_none() {
            return (read, lost);
        }
        assert!(store.acknowledge(memory, through).expect("memory works"), "{next:?}");
    }
}

#[test]
fn a_new_store_is_empty_and_nameless() {
    let (mut memory, mut store) = fresh(4);
    assert_eq!((store.epoch(), store.boot(), store.last(), store.capacity()), (0, 1, 0, 4));
    assert_eq!(store.next(&mut memory), Next { lost: None, first: 1, boot: None });
    assert_eq!(store.name(&mut memory, 77), Ok(77));
    assert_eq!(store.name(&mut memory, 78), Ok(77), "a name is given once");
}

#[test]
fn samples_come_back_in_order_until_they_are_acknowledged() {
    let (mut memory, mut store) = fresh(8);
    for ms in [10, 20, 30] {
        store.push(&mut memory, &taken(ms)).unwrap();
    }
    assert_eq!(store.next(&mut memory), Next { lost: None, first: 1, boot: Some(1) });
    assert_eq!(store.acknowledge(&mut memory, 2), Ok(true));
    assert_eq!(store.acknowledge(&mut memory, 1), Ok(true), "an older one is no harm");
    assert_eq!(store.acknowledge(&mut memory, 4), Ok(false), "4 was never given");
    assert_eq!(store.next(&mut memory).first, 3);
    assert_eq!(store.read(&mut memory, 3).map(|stored| stored.at_ms), Some(30));
    assert_eq!(drain(&mut store, &mut memory), (vec![(3, 30)], vec![]));
}

#[test]
fn a_full_store_declares_the_oldest_lost() {
    let (mut memory, mut store) = fresh(4);
    for ms in 1..=10 {
        store.push(&mut memory, &taken(ms)).unwrap();
    }
    let (read, lost) = drain(&mut store, &mut memory);
    assert_eq!(read, [(7, 7), (8, 8), (9, 9), (10, 10)]);
    assert_eq!(lost, [Lost { first: 1, last: 6, cause: NodeLossCause::Full }]);
}

#[test]
fn a_damaged_sample_is_declared_lost_and_the_others_are_read() {
    let (mut memory, mut store) = fresh(8);
    for ms in 1..=5 {
        store.push(&mut memory, &taken(ms)).unwrap();
    }
    for seq in [2, 3] {
        let at = store.place(seq) + 9;
        memory.bytes[at] ^= 1;
    }
    let (read, lost) = drain(&mut store, &mut memory);
    assert_eq!(read, [(1, 1), (4, 4), (5, 5)]);
    assert_eq!(lost, [Lost { first: 2, last: 3, cause: NodeLossCause::Damaged }]);
}

#[test]
fn a_reset_keeps_samples_numbers_acknowledgements_and_names() {
    let (mut memory, mut store) = fresh(8);
    store.name(&mut memory, 77).unwrap();
    store.anchor(&mut memory, 1_000_000, TOLERANCE).unwrap();
    for ms in 1..=3 {
        store.push(&mut memory, &taken(ms)).unwrap();
    }
    store.acknowledge(&mut memory, 1).unwrap();
    let mut store = open(&mut memory);
    assert_eq!((store.epoch(), store.boot(), store.last(), store.waiting()), (77, 2, 3, 2));
    assert_eq!(store.anchor_of(1), Some(1_000_000));
    store.push(&mut memory, &taken(4)).unwrap();
    assert_eq!(drain(&mut store, &mut memory), (vec![(2, 2), (3, 3), (4, 4)], vec![]));
    assert_eq!(store.anchor_of(1), None, "the clock of a boot is forgotten with its last sample");
}

#[test]
fn samples_of_a_boot_without_a_clock_are_undated_once_it_is_over() {
    let (mut memory, mut store) = fresh(8);
    store.push(&mut memory, &taken(1)).unwrap();
    assert_eq!(store.next(&mut memory).boot, Some(1), "as long as it goes on, uptime dates them");
    let mut store = open(&mut memory);
    store.push(&mut memory, &taken(2)).unwrap();
    let lost = Lost { first: 1, last: 1, cause: NodeLossCause::Undated };
    assert_eq!(drain(&mut store, &mut memory), (vec![(2, 2)], vec![lost]));
}

#[test]
fn a_clock_that_was_right_keeps_its_anchor() {
    let (mut memory, mut store) = fresh(4);
    assert_eq!(store.anchor(&mut memory, 50_000, TOLERANCE), Ok(50_000));
    assert_eq!(store.anchor(&mut memory, 52_000, TOLERANCE), Ok(50_000));
    assert_eq!(store.anchor(&mut memory, 52_001, TOLERANCE), Ok(52_001));
}

#[test]
fn another_schema_keeps_the_numbering_and_declares_what_it_cannot_read() {
    let (mut memory, mut store) = fresh(8);
    store.name(&mut memory, 77).unwrap();
    for ms in 1..=3 {
        store.push(&mut memory, &taken(ms)).unwrap();
    }
    let mut store = Store::open(&mut memory, SchemaHash(1), 1, true).unwrap();
    assert_eq!((store.epoch(), store.last()), (77, 3));
    store.push(&mut memory, &taken(9)).unwrap();
    let lost = Lost { first: 1, last: 3, cause: NodeLossCause::Damaged };
    assert_eq!(drain(&mut store, &mut memory), (vec![(4, 9)], vec![lost]));
}

#[test]
fn a_memory_that_is_not_resumed_begins_a_new_life() {
    let (mut memory, mut store) = fresh(4);
    store.name(&mut memory, 77).unwrap();
    store.push(&mut memory, &taken(1)).unwrap();
    let mut store = Store::open(&mut memory, SCHEMA, 2, false).unwrap();
    assert_eq!((store.epoch(), store.last()), (0, 0));
    assert_eq!(drain(&mut store, &mut memory), (vec![], vec![]));
}

#[test]
fn a_memory_too_small_is_refused_with_its_size() {
    assert_eq!(Store::open(&mut Ram::new(300), SCHEMA, 2, true).err(), Some(StoreError::TooSmall(300)));
}

/// What happens to a store.
#[derive(Clone, Debug)]
enum Step {
    Push,
    /// Fetch and acknowledge this many.
    Fetch(u32),
    Anchor,
    Reset,
    /// The power goes when so many bytes more are written, then it comes back.
    Cut(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Push),
        4 => (0_u32..5).prop_map(Step::Fetch),
        1 => Just(Step::Anchor),
        1 => Just(Step::Reset),
        2 => (1_usize..400).prop_map(Step::Cut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Every number that was given is read once with its own time, or declared lost, whatever happens.
    #[test]
    fn nothing_is_lost_in_silence(steps in proptest::collection::vec(step(), 1..80), slots in 2_usize..9) {
        let (mut memory, mut store) = fresh(slots);
        let (mut pushed, mut seen, mut lost) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut clock = 0;
        for step in steps {
            clock += 1;
            match step {
                Step::Push => if let Ok(seq) = store.push(&mut memory, &taken(clock)) {
                    pushed.insert(seq, clock);
                },
                Step::Fetch(most) => for _ in 0..most {
                    let next = store.next(&mut memory);
                    if let Some(gone) = next.lost {
                        (gone.first..=gone.last).for_each(|seq| { lost.insert(seq, gone.cause); });
                    }
                    let mut through = next.first - 1;
                    if next.boot.is_some() {
                        let stored = store.read(&mut memory, next.first).expect("it is kept");
                        // Seen again only if the acknowledgement was lost with the power.
                        seen.insert(stored.seq, stored.at_ms);
                        through = next.first;
                    }
                    // A memory that fails keeps it until the reset.
                    let _known = store.acknowledge(&mut memory, through);
                },
                Step::Anchor => drop(store.anchor(&mut memory, 1_000_000 + clock, Duration::ZERO)),
                Step::Reset => { memory.left = None; store = open(&mut memory); }
                Step::Cut(after) => memory.left = Some(after),
            }
            if memory.left == Some(0) {
                memory.left = None;
                store = open(&mut memory);
            }
        }
        memory.left = None;
        let (read, declared) = drain(&mut store, &mut memory);
        seen.extend(read);
        for gone in declared {
            (gone.first..=gone.last).for_each(|seq| { lost.insert(seq, gone.cause); });
        }
        for (seq, at) in &pushed {
            match seen.get(seq) {
                Some(time) => prop_assert_eq!(time, at, "number {}", seq),
                None => prop_assert!(lost.contains_key(seq), "number {} is neither read nor declared", seq),
            }
        }
        // A number is declared that was never given only where the power went while it was written.
        prop_assert!(lost.keys().all(|seq| *seq <= store.last()));
    }
}
