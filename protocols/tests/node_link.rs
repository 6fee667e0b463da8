//! The node link: its messages, byte for byte.

use ganglion_protocols::node_link::{Answer, NotAMessage, Refusal, VERSION};

#[test]
fn a_number_means_the_same_answer_to_who_writes_and_who_reads_and_0_is_none() {
    let mut out = [0xA5; 8];
    let answer = Answer::Refused(Refusal::Unnamed);
    let (version, used) = answer.emit(&mut out).unwrap();
    assert_eq!((version, &out[..used]), (VERSION, &[8, 3][..]));
    assert_eq!(Answer::parse(version, &out[..used]), Ok(answer));
    assert_eq!(Answer::parse(VERSION, &[0, 1, 1]), Err(NotAMessage));
}
