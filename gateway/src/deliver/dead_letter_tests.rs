use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn letter(payload: &[u8]) -> Letter<'_> {
    let t = Timestamp::from_unix_nanos(1_795_330_435_123_456_789);
    Letter { topic: "cities/620602/obs", reason: "not authorized (0x87)", t, payload }
}

fn open(dir: &TempDir) -> DeadLetters {
    DeadLetters::open(dir.path(), DEFAULT_MAX_BYTES)
}

fn payloads(dir: &TempDir) -> Vec<Vec<u8>> {
    read_all(dir.path()).unwrap().0.into_iter().map(|letter| letter.payload).collect()
}

fn file(dir: &TempDir, name: &str) -> PathBuf {
    dir.path().join(DIRECTORY).join(name)
}

/// Bytes of the files.
fn on_disk(dir: &TempDir) -> u64 {
    [OLD, PRESENT].iter().filter_map(|name| fs::metadata(file(dir, name)).ok()).map(|file| file.len()).sum()
}

#[test]
fn a_letter_is_one_line_that_a_person_can_read() {
    let dir = TempDir::new().unwrap();
    open(&dir).put(&letter(br#"{"v":1}"#)).unwrap();
    let head = r#"{"t":"2026-11-22T06:53:55.123Z","topic":"cities/620602/obs","reason":"not authorized (0x87)","#;
    let text = fs::read_to_string(file(&dir, PRESENT)).unwrap();
    assert_eq!(text, format!("{head}{}\n", r#""payload":"{\"v\":1}"}"#));
    let (letters, damaged) = read_all(dir.path()).unwrap();
    assert_eq!(damaged, 0);
    let KeptLetter { t, topic, reason, payload } = &letters[0];
    assert_eq!([t, topic, reason], ["2026-11-22T06:53:55.123Z", "cities/620602/obs", "not authorized (0x87)"]);
    assert_eq!(payload, br#"{"v":1}"#);
}

#[test]
fn bytes_that_are_no_text_come_back_as_they_were() {
    let dir = TempDir::new().unwrap();
    open(&dir).put(&letter(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff])).unwrap();
    assert!(fs::read_to_string(file(&dir, PRESENT)).unwrap().contains(r#""payload_hex":"28b52ffd00ff""#));
    assert_eq!(payloads(&dir), [[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff]]);
}

#[test]
fn where_nothing_was_refused_there_is_no_directory() {
    let dir = TempDir::new().unwrap();
    assert_eq!(open(&dir).stats(), Stats::default());
    assert!(!dir.path().join(DIRECTORY).exists());
    assert_eq!(read_all(dir.path()).unwrap(), (Vec::new(), 0));
}

#[test]
fn letters_are_still_there_after_a_restart_and_the_next_one_follows() {
    let dir = TempDir::new().unwrap();
    open(&dir).put(&letter(b"1")).unwrap();
    let mut letters = open(&dir);
    letters.put(&letter(b"2")).unwrap();
    assert_eq!(payloads(&dir), [b"1", b"2"]);
    let stats = letters.stats();
    assert_eq!((stats.letters, stats.bytes), (2, on_disk(&dir)));
    assert_eq!(stats.last_topic.as_deref(), Some("cities/620602/obs"));
    assert_eq!(stats.last_reason.as_deref(), Some("not authorized (0x87)"));
}

#[test]
fn a_line_torn_by_a_crash_is_passed_over_and_the_next_letter_starts_on_a_new_one() {
    let dir = TempDir::new().unwrap();
    open(&dir).put(&letter(b"first")).unwrap();
    let first = fs::read(file(&dir, PRESENT)).unwrap().len();
    open(&dir).put(&letter(b"torn")).unwrap();
    let whole = fs::read(file(&dir, PRESENT)).unwrap();
    for cut in first + 1..whole.len() {
        fs::write(file(&dir, PRESENT), &whole[..cut]).unwrap();
        open(&dir).put(&letter(b"next")).unwrap();
        let (letters, damaged) = read_all(dir.path()).unwrap();
        let payloads: Vec<_> = letters.iter().map(|letter| letter.payload.as_slice()).collect();
        if cut + 1 == whole.len() {
            assert_eq!(
                (payloads, damaged),
                (vec![&b"first"[..], b"torn", b"next"], 0),
                "only the end of line was missing"
            );
        } else {
            assert_eq!((payloads, damaged), (vec![&b"first"[..], b"next"], 1), "cut at {cut}");
        }
    }
}

#[test]
fn the_oldest_half_goes_when_the_bound_is_reached_and_is_counted() {
    let dir = TempDir::new().unwrap();
    let mut letters = DeadLetters::open(dir.path(), 2_000);
    for number in 0..100 {
        letters.put(&letter(format!("{number}").as_bytes())).unwrap();
        assert!(on_disk(&dir) <= 2_000);
        assert_eq!(letters.stats().bytes, on_disk(&dir));
    }
    let stats = letters.stats();
    assert_eq!(stats.letters + stats.evicted, 100);
    let expected: Vec<_> = (stats.evicted..100).map(|number| number.to_string().into_bytes()).collect();
    assert_eq!(payloads(&dir), expected);
    let again = DeadLetters::open(dir.path(), 2_000).stats();
    assert_eq!((again.letters, again.bytes), (stats.letters, stats.bytes));
}

#[test]
fn a_letter_longer_than_half_of_the_bound_is_refused_and_the_others_stay() {
    let dir = TempDir::new().unwrap();
    let mut letters = DeadLetters::open(dir.path(), 2_000);
    letters.put(&letter(b"1")).unwrap();
    assert!(matches!(letters.put(&letter(&[b'x'; 2_000])), Err(PutError::TooLarge { bytes: 2_100.., limit: 1_000 })));
    letters.put(&letter(b"2")).unwrap();
    assert_eq!(payloads(&dir), [b"1", b"2"]);
    assert_eq!(letters.stats().refused, 1);
}

#[test]
fn a_full_disk_is_an_error_and_a_count_and_the_next_letter_is_tried_again() {
    let dir = TempDir::new().unwrap();
    let mut letters = open(&dir);
    fs::create_dir(dir.path().join(DIRECTORY)).unwrap();
    std::os::unix::fs::symlink("/dev/full", file(&dir, PRESENT)).unwrap();
    let error = letters.put(&letter(b"1")).unwrap_err();
    assert!(error.to_string().contains("letters.jsonl: No space left"), "{error}");
    assert_eq!((letters.stats().letters, letters.stats().refused), (0, 1));
    assert!(letters.stats().last_topic.is_some());
    fs::remove_file(file(&dir, PRESENT)).unwrap();
    letters.put(&letter(b"2")).unwrap();
    assert_eq!(payloads(&dir), [b"2"]);
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error_and_a_count() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join(DIRECTORY), "in its place").unwrap();
    let mut letters = open(&dir);
    assert!(matches!(letters.put(&letter(b"1")), Err(PutError::Disk { .. })));
    assert_eq!(letters.stats().refused, 1);
    assert!(read_all(dir.path()).is_err());
}

#[test]
fn files_that_a_person_took_away_are_begun_anew() {
    let dir = TempDir::new().unwrap();
    let mut letters = DeadLetters::open(dir.path(), 2_000);
    for _ in 0..15 {
        letters.put(&letter(b"1")).unwrap();
    }
    fs::remove_dir_all(dir.path().join(DIRECTORY)).unwrap();
    for number in [b"2", b"3"] {
        letters.put(&letter(number)).unwrap();
    }
    assert_eq!(payloads(&dir), [b"2", b"3"]);
}

#[test]
fn lines_of_anything_else_are_counted_as_damaged() {
    let dir = TempDir::new().unwrap();
    open(&dir).put(&letter(b"1")).unwrap();
    let mut file = OpenOptions::new().append(true).open(file(&dir, PRESENT)).unwrap();
    let head = r#"{"t":"","topic":"","reason":"""#;
    for line in ["", "null", "[]", head, &"\0".repeat(99)] {
        writeln!(file, "{line}").unwrap();
    }
    for payload in [r#""payload_hex":"2""#, r#""payload_hex":"+1""#, r#""payload":"","payload_hex":"""#, r#""x":1"#] {
        writeln!(file, "{head},{payload}}}").unwrap();
    }
    file.write_all(b"\xff\xfe").unwrap();
    assert_eq!(read_all(dir.path()).map(|(letters, damaged)| (letters.len(), damaged)).unwrap(), (1, 10));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_payload_topic_and_reason_come_back(
        payload in prop::collection::vec(any::<u8>(), 0..200),
        topic in any::<String>(),
        reason in any::<String>(),
    ) {
        let dir = TempDir::new().unwrap();
        open(&dir).put(&Letter { topic: &topic, reason: &reason, ..letter(&payload) }).unwrap();
        let (letters, damaged) = read_all(dir.path()).unwrap();
        prop_assert_eq!(damaged, 0);
        prop_assert_eq!((&letters[0].topic, &letters[0].reason, &letters[0].payload), (&topic, &reason, &payload));
    }
}
