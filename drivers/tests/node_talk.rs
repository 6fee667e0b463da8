//! The engine of a line of nodes, one behaviour a test: this is asked, that is answered, and this is told.
#![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]
#![allow(clippy::unwrap_used, reason = "so is a number that does not fit")]

mod talk;

use std::time::Duration;

use ganglion_drivers::node::order::{Deed, Order, OrderError, OrderId, Outcome, Reply};
use ganglion_drivers::node::{Event, NodeInfo, Settings};
use ganglion_protocols::node_link::{
    Ack, Answer, Ask, Command, Done, Head, MAX_FRAME, Refusal, SchemaHash, Speaker, seal,
};
use ganglion_protocols::{Origin, Reason};

use talk::{CRI, EPOCH, PERIOD, Peer, Question, RETRIES, Talk, UTC, framed, secs, settings};

fn get(id: u64) -> Order {
    Order { id: OrderId(id), unit: 5, deed: Deed::Do(Command::Get { key: 40 }) }
}

/// The number of the command.
#[track_caller]
fn number(question: &Question) -> u32 {
    let Ask::Do { id, command: Command::Get { key: 40 } } = question.ask() else { panic!("{:?}", question.ask()) };
    id
}

fn ordered(id: u64, outcome: Outcome) -> Event {
    Event::Ordered { id: OrderId(id), outcome }
}

fn info(peer: &Peer) -> NodeInfo {
    NodeInfo::new(peer.unit, &peer.hello)
}

/// Times at which such a question was asked.
fn times(questions: &[Question], which: impl Fn(&Ask<'_>) -> bool) -> Vec<Duration> {
    questions.iter().filter(|question| which(&question.ask())).map(|question| question.at).collect()
}

fn is_time(ask: &Ask<'_>) -> bool {
    matches!(ask, Ask::Time { .. })
}

fn discovering() -> Settings {
    Settings { discover_every: Some(secs(10)), ..settings(&[5]) }
}

#[test]
fn an_order_is_asked_before_the_polls_and_ends_with_its_outcome() {
    let mut talk = Talk::new(settings(&[5]));
    talk.bus.order(get(1));
    talk.bus.order(get(2));
    let (value, refusal) = (Done::Value(-5), Done::No(Refusal::BadSetting));
    let first = talk.asked();
    talk.say(first.head, &Answer::Done { id: number(&first), outcome: value });
    let second = talk.asked();
    assert_ne!(number(&first), number(&second), "another command has another number");
    talk.say(second.head, &Answer::Done { id: number(&second), outcome: refusal });
    assert!(matches!(talk.asked().ask(), Ask::Describe), "the polls go on");
    let refused = Err(OrderError::Refused(Refusal::BadSetting));
    assert_eq!(talk.told(), [ordered(1, Ok(Reply::Done(Some(-5)))), ordered(2, refused)]);
}

#[test]
fn an_order_without_an_answer_is_asked_again_under_its_number_and_ends_after_the_retries() {
    let mut talk = Talk::new(settings(&[]));
    talk.bus.order(get(1));
    let asked = talk.run(secs(60), &mut []);
    assert_eq!(asked.len(), 1 + RETRIES);
    assert!(asked.iter().all(|question| number(question) == number(&asked[0])));
    assert!(asked.windows(2).all(|pair| pair[0].head.token != pair[1].head.token), "a late answer is told apart");
    assert_eq!(talk.told(), [ordered(1, Err(OrderError::NoAnswer))]);
}

#[test]
fn the_answer_to_another_command_does_not_end_an_order() {
    let mut talk = Talk::new(settings(&[]));
    talk.bus.order(get(1));
    let first = talk.asked();
    talk.say(first.head, &Answer::Done { id: number(&first) - 1, outcome: Done::Yes });
    let again = talk.asked();
    talk.say(again.head, &Answer::Done { id: number(&again), outcome: Done::Yes });
    assert_eq!(talk.told(), [ordered(1, Ok(Reply::Done(None)))]);
}

#[test]
fn a_wire_that_is_lost_keeps_the_order_however_often() {
    let mut talk = Talk::new(settings(&[]));
    talk.bus.order(get(1));
    let first = number(&talk.asked());
    for _ in 0..=2 * RETRIES {
        talk.bus.lost(talk.now);
        assert_eq!(talk.run(secs(10), &mut []).len(), 0, "there is no wire to ask on");
        talk.bus.connected(talk.now);
        assert_eq!(number(&talk.asked()), first);
    }
    assert_eq!(talk.told(), []);
    assert_eq!(talk.run(secs(10), &mut []).len(), RETRIES, "it was no failure of the node");
}

#[test]
fn a_wire_that_cannot_be_opened_ends_all_orders() {
    let mut talk = Talk::new(settings(&[5]));
    talk.bus.order(get(1));
    talk.bus.order(get(2));
    talk.asked();
    talk.bus.disconnected(talk.now);
    let failed = Event::Failed { node: 0, reason: Reason::Disconnected };
    let down = |id| ordered(id, Err(OrderError::Disconnected));
    assert_eq!(talk.told(), [down(1), down(2), failed]);
    talk.bus.connected(talk.now);
    assert!(matches!(talk.asked().ask(), Ask::Describe), "what has ended is not asked again");
}

#[test]
fn a_scan_tells_each_node_once_and_then_that_it_is_over() {
    let mut talk = Talk::new(settings(&[5]));
    let mut peers = [4, 5, 6, 7].map(Peer::new);
    talk.bus.scan();
    let [a, b, c, d] = &mut peers;
    let asked = talk.run(secs(10), &mut [a, b, c, d]);
    let mut salts: Vec<_> = asked.iter().filter_map(|question| salt(question, true)).collect();
    salts.dedup();
    assert_eq!(salts.len(), 4, "each round has other slots");
    let told = talk.told();
    let end = told.iter().position(|event| *event == Event::Scanned).unwrap();
    let found = |peer: &Peer| told[..end].iter().filter(|event| **event == Event::Found(info(peer))).count();
    assert_eq!(peers.each_ref().map(found), [1; 4]);
    assert_eq!(told[end + 1..], [Event::Described { node: 0 }]);
    assert_eq!(end, peers.len(), "nothing else is told: {told:?}");
}

/// The salt of a question to all, or to all strangers.
fn salt(question: &Question, everybody: bool) -> Option<u16> {
    match question.ask() {
        Ask::Who { salt, all, .. } if all == everybody => Some(salt),
        _ => None,
    }
}

#[test]
fn a_scan_whose_wire_is_lost_in_any_round_goes_on_and_ends() {
    for round in 0..4 {
        let mut talk = Talk::new(settings(&[]));
        talk.bus.scan();
        for _ in 0..round {
            talk.asked();
        }
        talk.asked();
        talk.bus.lost(talk.now);
        talk.bus.connected(talk.now);
        assert_eq!(talk.run(secs(10), &mut []).len(), 4 - round, "the question under way is asked again");
        assert_eq!(talk.told(), [Event::Scanned], "lost in round {round}");
    }
}

#[test]
fn two_nodes_with_one_address_are_told_with_both_their_serial_numbers() {
    let mut talk = Talk::new(settings(&[]));
    let (mut one, mut other) = (Peer::new(6), Peer::new(6));
    other.hello.serial = 2;
    talk.bus.scan();
    talk.run(secs(10), &mut [&mut one, &mut other]);
    let told = talk.told();
    let same = |event: &&Event| matches!(event, Event::SameUnit { unit: 6, serials: [1_006, 2] | [2, 1_006] });
    assert!(told.iter().any(|event| same(&event)), "{told:?}");
    let found = |peer| told.contains(&Event::Found(info(peer)));
    assert!(found(&one) && found(&other), "{told:?}");
}

#[test]
fn a_node_that_is_heard_twice_is_not_two() {
    let mut talk = Talk::new(settings(&[]));
    let peer = Peer::new(6);
    talk.bus.scan();
    let question = talk.asked();
    let hello = framed(Head { unit: 6, ..question.head }, &Answer::Hello(peer.hello));
    talk.hear(&[hello.clone(), hello].concat());
    assert_eq!(talk.told(), [Event::Found(info(&peer))]);
}

#[test]
fn a_node_that_nobody_configured_is_told_once_and_again_when_it_changed() {
    let mut talk = Talk::new(discovering());
    let (mut ours, mut stranger) = (Peer::new(5), Peer::new(7));
    let asked = talk.run(secs(60), &mut [&mut ours, &mut stranger]);
    assert_eq!(asked.iter().filter_map(|question| salt(question, false)).count(), 6, "one in ten seconds");
    let first = [Event::Found(info(&stranger)), Event::Described { node: 0 }];
    assert_eq!(talk.told(), first, "the configured one is not found");
    stranger.hello.firmware.minor = 1;
    talk.run(secs(60), &mut [&mut ours, &mut stranger]);
    assert_eq!(talk.told(), [Event::Found(info(&stranger))]);
}

#[test]
fn a_node_of_another_resource_gives_no_samples_until_it_says_the_right_one() {
    let mut peer = Peer::new(5);
    peer.hello.cri = 78;
    let mut talk = Talk::new(settings(&[5]));
    let asked = talk.run(secs(200), &mut [&mut peer]);
    assert!(!asked.iter().any(Question::is_fetch));
    assert_eq!((asked.len(), talk.samples()), (4, vec![]), "once a minute it is asked who it is");
    assert_eq!(talk.told(), [Event::WrongCri { node: 0, found: 78 }], "told once");
    peer.hello.cri = CRI;
    talk.run(secs(60), &mut [&mut peer]);
    assert_eq!(talk.samples(), [(1, 1), (2, 1), (3, 1)]);
    assert_eq!(talk.told(), [Event::RightCri { node: 0 }, Event::Described { node: 0 }]);
}

/// Somebody put another node in the place of the one that was known, with samples and a name of its own.
#[test]
fn a_node_of_another_resource_that_takes_the_place_of_one_gives_no_samples() {
    let swaps: [fn(&mut Peer); 2] = [|peer| peer.hello.boot = 2, |peer| peer.hello.epoch = 10];
    for swap in swaps {
        let mut peer = Peer::new(5);
        let mut talk = Talk::new(settings(&[5]));
        talk.run(secs(10), &mut [&mut peer]);
        assert_eq!(talk.samples().len(), 3);
        talk.told();
        swap(&mut peer);
        peer.hello.cri = 78;
        peer.kept = (1..20).collect();
        talk.run(secs(10), &mut [&mut peer]);
        assert_eq!(talk.samples(), []);
        let (boot, reset) = (peer.hello.boot, peer.hello.reset);
        let news = [Event::Restarted { node: 0, boot, reset }, Event::WrongCri { node: 0, found: 78 }];
        assert_eq!(talk.told(), news);
    }
}

#[test]
fn a_node_that_starts_anew_is_asked_at_once_who_it_is_and_for_its_samples() {
    let mut peer = Peer::new(5);
    let mut talk = Talk::new(settings(&[5]));
    talk.run(secs(1), &mut [&mut peer]);
    for boot in 2..5 {
        talk.told();
        (peer.hello.boot, peer.kept) = (boot, vec![boot + 2]);
        talk.run(PERIOD, &mut [&mut peer]);
        assert_eq!(talk.samples(), [(boot + 2, 1)]);
        let restarted = Event::Restarted { node: 0, boot, reset: peer.hello.reset };
        assert_eq!(talk.told(), [restarted, Event::Described { node: 0 }]);
    }
}

#[test]
fn a_node_of_other_versions_is_told_and_asked_again_only_after_a_minute() {
    let mut talk = Talk::new(settings(&[5]));
    let mut before = None;
    for _ in 0..3 {
        let question = talk.asked();
        assert!(before.is_none_or(|before| question.at >= before + secs(60)));
        talk.say(question.head, &Answer::Unsupported { lowest: 2, highest: 3 });
        before = Some(question.at);
        assert_eq!(talk.told(), [Event::Unsupported { unit: 5, lowest: 2, highest: 3 }]);
    }
    let mut peer = Peer::new(5);
    talk.run(secs(62), &mut [&mut peer]);
    assert_eq!(talk.samples().len(), 3, "new firmware brings it back");
}

#[test]
fn samples_of_other_channels_come_when_those_were_described() {
    let mut peer = Peer::new(5);
    let mut talk = Talk::new(settings(&[5]));
    talk.run(secs(1), &mut [&mut peer]);
    assert_eq!(talk.samples(), [(1, 1), (2, 1), (3, 1)]);
    assert_eq!(talk.told(), [Event::Described { node: 0 }]);
    peer.measure(&["pressure", "temperature"]);
    peer.kept = vec![4, 5];
    let asked = talk.run(PERIOD, &mut [&mut peer]);
    assert_eq!(times(&asked, |ask| matches!(ask, Ask::Channel { .. })).len(), 2);
    assert_eq!(talk.samples(), [(4, 2), (5, 2)]);
    let (_, channels) = talk.bus.node(0).unwrap();
    assert_eq!(channels[1].property, "temperature");
    assert_eq!(talk.told(), [Event::Described { node: 0 }]);
}

#[test]
fn a_node_whose_batches_never_fit_what_it_says_is_not_asked_without_a_pause() {
    for refuses in [false, true] {
        let mut peer = Peer::new(5);
        peer.schema = SchemaHash(1);
        let mut talk = Talk::new(settings(&[5]));
        let mut count = 0;
        while talk.now < PERIOD * 20 {
            let question = talk.asked();
            if refuses && question.is_fetch() {
                talk.say(question.head, &Answer::Refused(Refusal::Unnamed));
            } else {
                talk.let_answer(&question, &mut [&mut peer]);
            }
            count += 1;
        }
        assert!((20..80).contains(&count), "who it is, the time and its samples each period: {count}");
        assert_eq!(talk.samples(), []);
    }
}

#[test]
fn channels_that_do_not_fit_the_hash_are_told_and_asked_for_again_only_after_a_minute() {
    let mut peer = Peer::new(5);
    peer.hello.schema = SchemaHash(1);
    let mut talk = Talk::new(settings(&[5]));
    let asked = talk.run(secs(61), &mut [&mut peer]);
    let described = times(&asked, |ask| *ask == Ask::Describe);
    assert_eq!((asked.len(), described.len()), (4, 2), "who it is and what its channel measures, twice");
    assert!(described[1] >= described[0] + secs(60));
    assert_eq!(talk.told(), [Event::Undescribed { node: 0 }, Event::Undescribed { node: 0 }]);
}

#[test]
fn a_clock_that_is_too_wrong_is_set_once_a_minute_and_another_one_is_not() {
    for (anchor_ms, often) in [(UTC + 2_240, 1), (UTC - 2_240, 1), (UTC + 2_260, 4), (UTC - 2_260, 4)] {
        let mut peer = Peer::new(5);
        peer.anchor_ms = Some(anchor_ms);
        let mut talk = Talk::new(settings(&[5]));
        let told = times(&talk.run(secs(200), &mut [&mut peer]), is_time);
        assert_eq!(told.len(), often, "{anchor_ms}: {told:?}");
        assert!(told.windows(2).all(|pair| pair[1] >= pair[0] + secs(60)), "{told:?}");
    }
}

#[test]
fn a_clock_is_not_set_by_one_that_is_not_sure() {
    let mut peer = Peer::new(5);
    peer.anchor_ms = None;
    let mut talk = Talk::new(settings(&[5]));
    talk.sure = false;
    let asked = talk.run(secs(200), &mut [&mut peer]);
    let unknown = times(&asked, |ask| matches!(ask, Ask::Time { utc_ms: None, .. }));
    assert_eq!((unknown.len(), times(&asked, is_time).len()), (1, 1), "it is named, once");
    talk.sure = true;
    let asked = talk.run(secs(10), &mut [&mut peer]);
    assert_eq!(times(&asked, |ask| matches!(ask, Ask::Time { utc_ms: Some(_), .. })).len(), 1);
}

#[test]
fn an_answer_with_another_token_or_of_another_unit_is_not_taken() {
    let mut peer = Peer::new(5);
    let mut talk = Talk::new(settings(&[5]));
    let head = talk.fetch(&mut peer).head;
    for stranger in [Head { token: head.token.wrapping_sub(1), ..head }, Head { unit: 6, ..head }] {
        talk.say(stranger, &Answer::Refused(Refusal::Unnamed));
    }
    assert_eq!(talk.bus.counts().strangers, 2);
    assert_eq!(talk.told(), [Event::Described { node: 0 }]);
    assert!(talk.asked().is_fetch(), "it was not answered, and is asked again");
}

/// With that token a node says hello when nobody asked.
#[test]
fn no_question_has_the_token_0() {
    let mut peer = Peer::new(5);
    let mut talk = Talk::new(settings(&[5]));
    let asked = talk.run(secs(2 * 260), &mut [&mut peer]);
    assert!(asked.len() > 256 && asked.iter().all(|question| question.head.token != 0));
}

#[test]
fn an_echo_of_the_question_is_not_an_answer() {
    let mut peer = Peer::new(5);
    let mut talk = Talk::new(settings(&[5]));
    let first = talk.fetch(&mut peer);
    talk.hear(&first.frame);
    assert_eq!(talk.bus.counts().echoes, 1);
    assert!(talk.asked().is_fetch(), "it was not answered, and is asked again");
}

#[test]
fn behind_an_echo_a_slow_node_is_waited_for_as_without_one() {
    let mut peer = Peer::new(5);
    let mut talk = Talk::new(settings(&[5]));
    (talk.echoes, talk.takes) = (true, Duration::from_millis(250));
    talk.run(secs(60), &mut [&mut peer]);
    let counts = talk.bus.counts();
    assert!(counts.echoes == counts.questions && counts.questions > 20);
    assert_eq!((counts.timeouts, counts.strangers), (0, 0));
}

#[test]
fn silence_is_told_as_a_timeout_and_garbage_as_malformed() {
    let head = Head { version: 1, speaker: Speaker::Node, unit: 5, token: 0 };
    let mut wrong_sum = framed(head, &Answer::Refused(Refusal::Unable));
    wrong_sum[4] ^= 1;
    let cut_short = &wrong_sum[..5];
    let mut unknown = [0; MAX_FRAME];
    let used = seal(head, &[99], &mut unknown).unwrap();
    let garbage: [(&[u8], Reason); 5] = [
        (&[], Reason::Timeout),
        (&wrong_sum, Reason::Malformed),
        (cut_short, Reason::Malformed),
        (&unknown[..used], Reason::Malformed),
        (&[0xA5; 300], Reason::Malformed),
    ];
    for (bytes, reason) in garbage {
        let mut peer = Peer::new(5);
        let mut talk = Talk::new(settings(&[5]));
        talk.fetch(&mut peer);
        talk.told();
        for _ in 0..RETRIES {
            talk.hear(bytes);
            assert!(talk.asked().is_fetch());
            assert_eq!(talk.told(), [], "it is tried again");
        }
        talk.hear(bytes);
        talk.asked();
        assert_eq!(talk.told(), [Event::Failed { node: 0, reason }], "{bytes:?}");
    }
}

#[test]
fn garbage_before_an_answer_does_not_spoil_it() {
    let mut peer = Peer::new(5);
    let mut talk = Talk::new(settings(&[5]));
    let question = talk.fetch(&mut peer);
    talk.hear(&[0xA5, 0x5A, 0]);
    talk.let_answer(&question, &mut [&mut peer]);
    assert_eq!((talk.samples().len(), talk.bus.counts().broken), (3, 1));
}

#[test]
fn nothing_is_acknowledged_before_it_is_durable() {
    let mut peer = Peer::new(5);
    let mut talk = Talk::new(settings(&[5]));
    let mut acknowledged = |talk: &mut Talk, durable: Option<u32>| {
        if let Some(seq) = durable {
            talk.bus.durable(talk.now, 0, Origin { epoch: EPOCH, seq });
        }
        let question = talk.fetch(&mut peer);
        talk.let_answer(&question, &mut [&mut peer]);
        question.ack()
    };
    let ack = |seq| Some(Ack { epoch: EPOCH, seq });
    assert_eq!(acknowledged(&mut talk, Some(3)), None, "nothing was taken yet");
    assert_eq!(acknowledged(&mut talk, None), None);
    assert_eq!(acknowledged(&mut talk, Some(4)), None, "there is no fourth one");
    assert_eq!(acknowledged(&mut talk, Some(2)), ack(2));
    assert_eq!(acknowledged(&mut talk, Some(1)), ack(2), "what is durable remains so");
    assert_eq!(acknowledged(&mut talk, Some(3)), ack(3));
    assert_eq!(talk.samples(), [(1, 1), (2, 1), (3, 1)], "each is told once, however often it comes");
}
