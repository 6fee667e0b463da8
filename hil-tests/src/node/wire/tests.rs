use super::*;

const CHARACTER: Duration = Duration::from_millis(1);
const A: End = End(0);
const B: End = End(1);
const C: End = End(2);

fn heard_by(wire: &Wire, listener: End, heard: &[Heard]) -> Vec<u8> {
    heard.iter().filter(|one| wire.hears(listener, one)).map(|one| one.byte).collect()
}

#[test]
fn a_character_is_heard_when_it_is_over_and_by_everybody_but_its_sender() {
    let mut wire = Wire::new(CHARACTER, 3, 1);
    let begin = Instant::now();
    wire.say(begin, A, &[1, 2, 3]);
    assert_eq!(wire.advance(begin + CHARACTER - Duration::from_nanos(1)), []);
    assert_eq!(wire.next(), Some(begin + CHARACTER));
    let first = wire.advance(begin + CHARACTER);
    assert_eq!([A, B, C].map(|end| heard_by(&wire, end, &first)), [vec![], vec![1], vec![1]]);
    let rest = wire.advance(begin + 10 * CHARACTER);
    assert_eq!(heard_by(&wire, B, &rest), [2, 3]);
    assert_eq!(wire.counts().latest, 8 * CHARACTER);
}

#[test]
fn what_is_said_while_its_end_still_talks_follows_and_does_not_collide() {
    let mut wire = Wire::new(CHARACTER, 2, 1);
    let begin = Instant::now();
    wire.say(begin, A, &[1, 2]);
    wire.say(begin + CHARACTER / 2, A, &[3]);
    let heard = wire.advance(begin + 3 * CHARACTER);
    assert_eq!(heard_by(&wire, B, &heard), [1, 2, 3]);
    assert_eq!(wire.counts().collisions, 0);
}

#[test]
fn a_collision_spoils_both_for_everybody_and_nothing_beside_it() {
    let mut wire = Wire::new(CHARACTER, 3, 1);
    let begin = Instant::now();
    wire.say(begin, A, &[1, 2, 3]);
    // Falls into the second and the third character.
    wire.say(begin + CHARACTER * 3 / 2, B, &[7]);
    wire.say(begin + 4 * CHARACTER, B, &[8]);
    let heard = wire.advance(begin + 9 * CHARACTER);
    assert_eq!(heard_by(&wire, C, &heard), [1, 2 ^ CLASH, 7 ^ CLASH, 3 ^ CLASH, 8]);
    // Their receivers are off while they talk.
    assert_eq!(heard_by(&wire, A, &heard), [8]);
    assert_eq!(heard_by(&wire, B, &heard), [1]);
    let counts = wire.counts();
    assert_eq!((counts.collisions, counts.spoiled, counts.characters), (1, 3, 5));
}

#[test]
fn characters_that_follow_each_other_without_a_gap_do_not_collide() {
    let mut wire = Wire::new(CHARACTER, 3, 1);
    let begin = Instant::now();
    wire.say(begin, A, &[1]);
    wire.say(begin + CHARACTER, B, &[2]);
    let heard = wire.advance(begin + 2 * CHARACTER);
    assert_eq!(heard_by(&wire, C, &heard), [1, 2]);
}

#[test]
fn an_end_with_echo_hears_itself_as_everybody_hears_it() {
    let mut wire = Wire::new(CHARACTER, 2, 1);
    let begin = Instant::now();
    wire.set_echo(A, true);
    wire.say(begin, A, &[1]);
    wire.say(begin + 2 * CHARACTER, B, &[2]);
    let heard = wire.advance(begin + 4 * CHARACTER);
    assert_eq!(heard_by(&wire, A, &heard), [1, 2]);
    wire.say(begin + 4 * CHARACTER, A, &[3]);
    wire.say(begin + 4 * CHARACTER, B, &[4]);
    let heard = wire.advance(begin + 6 * CHARACTER);
    assert_eq!(heard_by(&wire, A, &heard), [3 ^ CLASH, 4 ^ CLASH]);
    assert!(heard_by(&wire, B, &heard).is_empty(), "it has no echo and was talking");
}

#[test]
fn a_cut_end_hears_nothing_is_not_heard_and_spoils_nobody() {
    let mut wire = Wire::new(CHARACTER, 3, 1);
    let begin = Instant::now();
    wire.set_cut(B, true);
    wire.say(begin, A, &[1]);
    wire.say(begin, B, &[2]);
    let heard = wire.advance(begin + CHARACTER);
    assert_eq!([A, B, C].map(|end| heard_by(&wire, end, &heard)), [vec![], vec![], vec![1]]);
    assert_eq!((wire.counts().cut, wire.counts().collisions), (1, 0));
    wire.set_cut(B, false);
    wire.say(begin + 2 * CHARACTER, A, &[3]);
    let heard = wire.advance(begin + 3 * CHARACTER);
    assert_eq!(heard_by(&wire, B, &heard), [3]);
}

#[test]
fn noise_is_the_same_for_the_same_seed_and_is_counted() {
    let run = |seed| {
        let mut wire = Wire::new(CHARACTER, 2, seed);
        wire.set_noise(0.01, 0.05, 0.03);
        let begin = Instant::now();
        wire.say(begin, A, &[0; 10_000]);
        let heard = wire.advance(begin + 10_001 * CHARACTER);
        (heard_by(&wire, B, &heard), wire.counts())
    };
    let (bytes, counts) = run(1);
    assert_eq!(run(1).0, bytes);
    assert_ne!(run(2).0, bytes);
    assert_eq!(bytes.len() as u64, 10_000 - counts.dropped + counts.inserted);
    assert!((400..600).contains(&counts.dropped), "{counts:?}");
    assert!((200..400).contains(&counts.inserted), "{counts:?}");
    assert!((650..900).contains(&counts.hit_bits), "{counts:?}");
}

#[test]
fn an_end_without_power_stops_in_the_middle_of_what_it_says() {
    let mut wire = Wire::new(CHARACTER, 2, 1);
    let begin = Instant::now();
    wire.say(begin, A, &[1, 2, 3]);
    let heard = wire.advance(begin + CHARACTER);
    wire.hush(A);
    assert_eq!(heard_by(&wire, B, &heard), [1]);
    assert_eq!(wire.advance(begin + 9 * CHARACTER), []);
}
