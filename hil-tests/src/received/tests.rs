use super::*;

const ID: &str = "620602-9101-000007-05";
const TOPIC: &str = "city/v1/620602/gateway/9101/000007/obs";

fn payload(epoch: &str, numbers: &[u64]) -> Vec<u8> {
    let obs: Vec<_> = numbers
        .iter()
        .map(|seq| {
            serde_json::json!({
                "id": ID, "seq": seq, "t": "2026-11-22T06:53:55.123Z",
                "p": {"pressure": {"v": 0.412, "u": "MPa", "q": "good"}},
            })
        })
        .collect();
    let envelope = serde_json::json!({
        "v": 1, "gw": ID, "epoch": epoch, "dir": "city", "clock": {"src": "ntp", "err_ms": 12}, "obs": obs,
    });
    envelope.to_string().into_bytes()
}

fn received(numbers: &[u64]) -> Received {
    let mut received = Received::new(Keep::All);
    for &number in numbers {
        received.message(TOPIC, &payload("e", &[number]), SystemTime::UNIX_EPOCH);
    }
    received
}

#[test]
fn a_complete_run_has_no_fault() {
    let received = received(&[1, 2, 3, 4]);
    let resource = received.resource(ID).expect("it came");
    assert_eq!((resource.received(), resource.duplicates(), resource.reordered()), (4, 0, 0));
    assert_eq!((resource.lost(4), resource.highest()), (0, 4));
    assert!(received.violations().is_empty() && resource.conflicting().is_empty());
    let latest = resource.latest().expect("it came");
    assert_eq!(latest.seq, 4);
    let reading = &latest.readings["pressure"];
    assert_eq!((reading.value.as_f64(), reading.unit.as_str(), reading.quality.as_str()), (Some(0.412), "MPa", "good"));
}

#[test]
fn numbers_that_never_came_are_missing_at_the_front_in_the_middle_and_at_the_end() {
    let received = received(&[2, 3, 6]);
    let resource = received.resource(ID).expect("it came");
    assert_eq!(resource.missing(8), [1..=1, 4..=5, 7..=8]);
    assert_eq!(resource.lost(8), 5);
    assert_eq!(resource.missing(3), [1..=1]);
    assert_eq!(resource.lost(0), 0);
}

#[test]
fn a_number_that_came_twice_is_a_duplicate_and_not_counted_again() {
    let received = received(&[1, 2, 1, 2, 2, 3]);
    let resource = received.resource(ID).expect("it came");
    assert_eq!((resource.received(), resource.duplicates(), resource.reordered()), (3, 3, 0));
    assert_eq!(received.count(), 3);
}

#[test]
fn a_first_occurrence_behind_a_higher_number_is_reordered() {
    let received = received(&[1, 3, 2, 4]);
    let resource = received.resource(ID).expect("it came");
    assert_eq!((resource.reordered(), resource.duplicates(), resource.lost(4)), (1, 0, 0));
    assert_eq!(resource.latest().map(|latest| latest.seq), Some(4));
}

#[test]
fn a_duplicate_with_other_content_is_a_conflict() {
    let mut received = received(&[1, 2]);
    let other = String::from_utf8(payload("e", &[2])).expect("JSON").replace("0.412", "0.413");
    received.message(TOPIC, other.as_bytes(), SystemTime::UNIX_EPOCH);
    let resource = received.resource(ID).expect("it came");
    assert_eq!(resource.conflicting().iter().copied().collect::<Vec<_>>(), [2]);
}

#[test]
fn a_new_epoch_is_reported_and_counted_from_one() {
    let mut received = received(&[1, 2, 3]);
    received.message(TOPIC, &payload("f", &[1]), SystemTime::UNIX_EPOCH);
    let resource = received.resource(ID).expect("it came");
    assert_eq!((resource.epoch(), resource.received(), resource.duplicates()), ("f", 1, 0));
    let expected = Violation::EpochChanged { id: ID.to_owned(), before: "e".to_owned(), now: "f".to_owned() };
    assert_eq!(received.violations(), [expected]);
}

#[test]
fn an_observation_under_the_topic_of_another_resource_is_refused() {
    let mut received = Received::new(Keep::Latest);
    for topic in ["city/v1/620602/gateway/9101/000008/obs", "city/v1/620602/gateway/9101/000007/x/obs"] {
        received.message(topic, &payload("e", &[1]), SystemTime::UNIX_EPOCH);
    }
    assert_eq!(received.count(), 0);
    assert_eq!(received.violations().len(), 2);
    assert!(matches!(&received.violations()[0], Violation::ForeignTopic { id, .. } if id == ID));
}

#[test]
fn what_is_no_envelope_of_contract_one_is_refused() {
    let mut received = Received::new(Keep::Latest);
    received.message(TOPIC, b"{", SystemTime::UNIX_EPOCH);
    let second = String::from_utf8(payload("e", &[1])).expect("JSON").replace("\"v\":1}", "\"v\":2}");
    received.message(TOPIC, second.as_bytes(), SystemTime::UNIX_EPOCH);
    received.message(TOPIC, &payload("e", &[0]), SystemTime::UNIX_EPOCH);
    assert!(matches!(
        received.violations(),
        [Violation::NotAnEnvelope { .. }, Violation::Version { got: 2, .. }, Violation::NoNumber { .. }]
    ));
}

#[test]
fn a_status_is_kept_by_its_topic() {
    let mut received = Received::new(Keep::Latest);
    received.message("city/v1/620602/gateway/000007/status", b"online", SystemTime::UNIX_EPOCH);
    received.message("city/v1/620602/gateway/000007/status", b"offline", SystemTime::UNIX_EPOCH);
    assert_eq!(received.others()["city/v1/620602/gateway/000007/status"], b"offline");
}

#[test]
fn ranges_agree_with_a_plain_set_in_any_order() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..200 {
        let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
        for _ in 0..60 {
            let number = random.u64(1..=40);
            assert_eq!(ranges.insert(number), set.insert(number));
        }
        let missing: Vec<u64> = ranges.gaps(45).into_iter().flatten().collect();
        assert_eq!(missing, (1..=45).filter(|number| !set.contains(number)).collect::<Vec<_>>());
    }
}
