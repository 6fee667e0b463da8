//! `ganglion decode` as a person runs it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ganglion::decode::{DECODERS, Hints};
use proptest::prelude::*;
use serde_json::{Value, json};

fn decode(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ganglion"));
    command.arg("decode").args(arguments).stdin(Stdio::null()).output().expect("the daemon's binary starts")
}

fn decode_piped(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ganglion"));
    command.arg("decode").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the daemon's binary starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads its input");
    child.wait_with_output().expect("it ends")
}

fn out(output: &Output) -> &str {
    str::from_utf8(&output.stdout).expect("UTF-8")
}

fn err(output: &Output) -> &str {
    str::from_utf8(&output.stderr).expect("UTF-8")
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn vector_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocols/tests/vectors");
    ["rtu", "tcp", "ascii", "pdu", "values"].map(|name| folder.join(format!("modbus_{name}.json"))).to_vec()
}

/// Runs `decode --vectors` over vectors written to a file of their own.
fn judge(vectors: &Value) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("vectors.json");
    std::fs::write(&file, vectors.to_string()).expect("written");
    decode(&["--vectors", file.to_str().expect("UTF-8")])
}

#[test]
fn a_frame_is_explained_field_by_field() {
    let output = decode(&["modbus-rtu", "01", "03", "0x00", "00:00-02", "C40B"]);
    assert_eq!((code(&output), err(&output)), (Some(0), ""));
    let expected = "\
modbus-rtu, 8 bytes: 01 03 00 00 00 02 C4 0B
  unit       1
  function   03
  name       read holding registers
  direction  request
  address    0
  quantity   2
  crc        0BC4
";
    assert_eq!(out(&output), expected);
}

#[test]
fn a_part_of_several_groups_is_shown_as_a_tree() {
    let output = decode(&["modbus-pdu", "140E 06 0004 0001 0002 06 0003 0009 0002"]);
    assert_eq!((code(&output), err(&output)), (Some(0), ""));
    let expected = "\
modbus-pdu, 16 bytes: 14 0E 06 00 04 00 01 00 02 06 00 03 00 09 00 02
  function    14
  name        read file record
  direction   request
  byte_count  14
  groups 1
    file    4
    record  1
    length  2
  groups 2
    file    3
    record  9
    length  2
";
    assert_eq!(out(&output), expected);
}

#[test]
fn a_frame_of_text_is_shown_as_text_without_control_characters() {
    let output = decode(&["modbus-ascii", ":1103006B00037E"]);
    assert_eq!(out(&output).lines().next(), Some("modbus-ascii, 17 characters: :1103006B00037E"));
    let output = decode_piped(&["modbus-ascii"], ":\u{1b}[2J\n");
    assert_eq!(out(&output).lines().next(), Some("modbus-ascii, 7 characters: :.[2J"));
    assert_eq!(
        (code(&output), err(&output)),
        (Some(1), "error: character 1: '\\u{1b}' is no digit 0 to 9 or A to F\n")
    );
}

#[test]
fn bytes_that_can_be_both_a_request_and_an_answer_are_shown_as_both() {
    let output = decode(&["modbus-rtu", "--json", "01010301000AED89"]);
    assert_eq!(code(&output), Some(0));
    let got: Value = serde_json::from_str(out(&output)).expect("JSON");
    let bits = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0];
    let expected = json!([
        { "direction": "request", "address": 769, "quantity": 10 },
        { "direction": "response", "byte_count": 3, "bits": bits },
    ]);
    assert_eq!(got["readings"], expected);
    assert_eq!((&got["unit"], &got["function"], &got["crc"]), (&json!(1), &json!("01"), &json!("89ED")));
}

#[test]
fn registers_are_shown_as_values_of_a_type() {
    let output = decode(&["modbus-rtu", "--json", "--as", "float32", "--order", "CDAB", "010304890242C7009D"]);
    let got: Value = serde_json::from_str(out(&output)).expect("JSON");
    assert_eq!(got["values_as_float32"], json!([99.76759]));
    let output = decode(&["modbus-rtu", "--json", "--as", "f32", "--order", "CDAB", "010304890242C7009D"]);
    let got: Value = serde_json::from_str(out(&output)).expect("JSON");
    assert_eq!(got["values_as_f32"], json!([99.76759]), "the names of templates are taken too");
    let output = decode(&["modbus-values", "--json", "--as", "float32", "--order", "BADC", "F1470020"]);
    assert_eq!(out(&output), "{\"type\":\"float32\",\"order\":\"BADC\",\"value\":123456.0}\n");
    let output = decode(&["modbus-values", "--as", "float31", "0000"]);
    assert_eq!((code(&output), out(&output)), (Some(2), ""));
    assert!(err(&output).starts_with("error: \"float31\" is no type of a value: bool, int16"), "{}", err(&output));
}

#[test]
fn a_bad_frame_says_where_and_what_would_be_right() {
    for (protocol, frame, expected) in [
        ("modbus-rtu", "010300000002C40C", "byte 6: crc 0CC4, computed 0BC4; C4 0B would be right"),
        ("modbus-rtu", "0103", "byte 2: 2 bytes, a frame has at least 4"),
        ("modbus-rtu", "0103000000FF058A", "byte 4: count 255 is outside 1 to 125"),
        ("modbus-rtu", "0103FFFF0002C42F", "byte 2: 2 items from 65535 pass 65535"),
        ("modbus-rtu", "01050001FF011C3A", "byte 4: coil value FF01 is neither 0000 nor FF00"),
        (
            "modbus-rtu",
            "010303000A144321",
            "byte 2: as a request: count 2580 is outside 1 to 125, at 4; \
             as a response: byte count 3 is odd, a register takes two, at 2",
        ),
        // Zero bytes behind a frame leave its CRC right.
        (
            "modbus-rtu",
            "010304890242C7009D00",
            "byte 6: as a request: 7 bytes of pdu, 5 expected, at 6; as a response: 7 bytes of pdu, 6 expected, at 7",
        ),
        ("modbus-tcp", "00010000000100", "byte 4: length 1 is outside 2 to 254; 1 bytes follow it"),
        ("modbus-tcp", "100133120003FE820300", "byte 2: protocol identifier 3312 is not 0"),
        ("modbus-tcp", "000100000006110300", "byte 4: at least 3 more bytes needed; the length would be right as 3"),
        ("modbus-tcp", "0001000000031183020000", "byte 4: 11 bytes, the frame has 9; the length would be right as 5"),
        ("modbus-ascii", ":1103006B00037F", "character 13: lrc 7F, computed 7E"),
        ("modbus-ascii", ":1103006b00037E", "character 8: 'b' is no digit 0 to 9 or A to F"),
        ("modbus-ascii", "1103006B00037E", "character 0: a frame begins with a colon, not with '1'"),
        ("modbus-rtu", "0103 0G", "byte 2: 'G' is no hexadecimal digit"),
    ] {
        let output = decode(&[protocol, frame]);
        assert_eq!((code(&output), err(&output)), (Some(1), &*format!("error: {expected}\n")), "{frame}");
        let output = decode(&[protocol, "--json", frame]);
        let got: Value = serde_json::from_str(out(&output)).expect("JSON");
        let (_, why) = expected.split_once(": ").expect("place and reason");
        assert_eq!((code(&output), &got["error"]["why"]), (Some(1), &json!(why)), "{frame}");
    }
}

#[test]
fn several_frames_come_one_a_line_and_each_bad_one_is_named_by_its_line() {
    let input = "01 03 00 00 00 02 C4 0B\n\n0183030131\r\n010300000002C40C\n";
    let output = decode_piped(&["modbus-rtu", "--json", "-"], input);
    assert_eq!(code(&output), Some(1));
    let lines: Vec<Value> =
        out(&output).lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[0]["quantity"], &lines[1]["exception"]), (&json!(2), &json!("illegal data value")));
    assert_eq!(lines[2]["error"]["at"], json!(6));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("frames");
    std::fs::write(&file, input).expect("written");
    let output = decode(&["modbus-rtu", "--file", file.to_str().expect("UTF-8")]);
    assert_eq!(err(&output), "error: line 4, byte 6: crc 0CC4, computed 0BC4; C4 0B would be right\n");
}

#[test]
fn nothing_to_decode_is_an_error_of_its_own() {
    for (output, expected) in [
        (decode_piped(&["modbus-rtu"], ""), "error: standard input: no frame in it\n"),
        (decode_piped(&["modbus-rtu", "-"], " \n\n"), "error: standard input: no frame in it\n"),
        (decode(&["modbus-rtu", ""]), "error: the arguments: no frame in it\n"),
        (
            decode(&["modbus-rtu", "--file", "no-such-file"]),
            "error: no-such-file: No such file or directory (os error 2)\n",
        ),
    ] {
        assert_eq!((code(&output), out(&output), err(&output)), (Some(2), "", expected));
    }
    let output = decode(&["modbus-rtx", "01"]);
    assert!(err(&output).contains("modbus-rtu"), "the protocols are named: {}", err(&output));
    assert_eq!(code(&output), Some(2));
}

#[test]
fn every_published_modbus_vector_passes() {
    let mut arguments = vec!["--vectors".to_owned()];
    arguments.extend(vector_files().iter().map(|file| file.display().to_string()));
    let output = decode(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let failed: Vec<&str> = out(&output).lines().filter(|line| line.starts_with("failed")).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(out(&output).lines().last(), Some("total: 244 passed, 0 failed"));
    assert_eq!((code(&output), err(&output)), (Some(0), ""));
}

#[test]
fn every_field_of_every_vector_is_looked_at() {
    // Each field is made wrong in turn; if that goes unnoticed, nobody compared it. Descriptions are in no byte.
    let descriptive = ["name", "note"];
    let mut wrong = Vec::new();
    for file in vector_files() {
        let text = std::fs::read_to_string(&file).expect("the vectors are there");
        let vectors: Vec<Value> = serde_json::from_str(&text).expect("they are JSON");
        for vector in vectors.iter().filter(|vector| vector.get("invalid").is_none()) {
            let fields = vector["decoded"].as_object().expect("fields");
            for name in fields.keys().filter(|name| !descriptive.contains(&name.as_str())) {
                let mut vector = vector.clone();
                vector["id"] = json!(format!("{}/{name}", vector["id"].as_str().expect("an id")));
                vector["decoded"][name] = json!({ "wrong": true });
                wrong.push(vector);
            }
        }
    }
    let output = judge(&json!(wrong));
    let passed: Vec<&str> = out(&output).lines().filter(|line| line.starts_with("passed")).collect();
    assert!(passed.is_empty() && wrong.len() > 1000, "{passed:#?}");
    assert_eq!(code(&output), Some(1));
}

#[test]
fn a_vector_that_fails_says_which_field_and_what_it_holds() {
    let frame = json!({ "unit": 1, "function": "03", "direction": "request", "address": 0, "quantity": 2 });
    let vector = |id: &str, hex: &str, decoded: &Value| json!({ "id": id, "protocol": "modbus_rtu", "hex": hex, "decoded": decoded });
    let with = |name: &str, value: Value| {
        let mut changed = frame.clone();
        changed[name] = value;
        changed
    };
    let good = "010300000002C40B";
    let mut refused = vector("refused", "010300000002C40C", &frame);
    refused["invalid"] = json!(true);
    let mut taken = vector("taken", good, &frame);
    taken["invalid"] = json!(true);
    taken["reason"] = json!("made up");
    let mut semantic = vector("semantic", "01050001FF011C3A", &json!({}));
    semantic["semantic"] = json!("invalid");
    let output = judge(&json!([
        vector("right", good, &frame),
        vector("value", good, &with("quantity", json!(3))),
        vector("unknown", good, &with("colour", json!("red"))),
        vector("broken", "010300000002C40C", &frame),
        refused,
        taken,
        semantic,
        vector("empty", good, &json!({})),
        json!({ "id": "other", "protocol": "modbus_plus", "hex": "00", "decoded": {} }),
        json!({ "id": "bare", "protocol": "modbus_rtu", "decoded": {} }),
    ]));
    let expected = "\
passed right
failed value: quantity: expected 3, got 2
failed unknown: colour: expected \"red\", got nothing
failed broken: refused: byte 6: crc 0CC4, computed 0BC4; C4 0B would be right
passed refused
failed taken: it is wrong (made up), and was taken
passed semantic
failed empty: nothing in it to compare
failed other: unknown protocol \"modbus_plus\"
failed bare: neither hex nor ascii
total: 3 passed, 7 failed
";
    assert_eq!((out(&output), code(&output)), (expected, Some(1)));
}

#[test]
fn a_contradiction_that_a_vector_expects_is_compared() {
    // Quantity 2, four bytes announced and six there; and byte count 3 for two registers.
    let write = |id: &str, hex: &str, byte_count: u8, registers: &[u16]| {
        let decoded = json!({
            "function": "10", "direction": "request", "address": 1, "quantity": 2, "byte_count": byte_count,
            "registers": registers, "consistent": false,
        });
        json!({ "id": id, "protocol": "modbus_pdu", "hex": hex, "decoded": decoded })
    };
    let output = judge(&json!([
        write("longer", "100001000204000A01020304", 4, &[10, 258, 772]),
        write("odd", "100001000203000A0102", 3, &[10, 258]),
        write("right", "100001000204000A0102", 4, &[10, 258]),
    ]));
    let expected = "\
passed longer
passed odd
failed right: consistent: expected false, got true
total: 2 passed, 1 failed
";
    assert_eq!((out(&output), code(&output)), (expected, Some(1)));
}

#[test]
fn a_file_that_holds_no_vectors_is_an_error_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    for (text, expected) in [
        ("", "no json: EOF while parsing a value at line 1 column 0"),
        ("[{]", "no json: key must be a string at line 1 column 3"),
        ("[]", "no vectors in it"),
        ("{}", "an array of vectors is expected"),
    ] {
        let file = folder.path().join("vectors.json");
        std::fs::write(&file, text).expect("written");
        let output = decode(&["--vectors", file.to_str().expect("UTF-8")]);
        let expected = format!("error: {}: {expected}\n", file.display());
        assert_eq!((code(&output), out(&output), err(&output)), (Some(2), "", &*expected));
    }
}

#[test]
fn every_kind_of_modbus_content_has_fields_of_its_own() {
    for (pdu, expected) in [
        ("0100130013", json!({ "direction": "request", "address": 19, "quantity": 19 })),
        ("07", json!({ "direction": "request" })),
        ("076D", json!({ "direction": "response", "status": 109, "data": "6D" })),
        ("0B", json!({ "direction": "request" })),
        ("0F0013000A02CD01", json!({ "quantity": 10, "bits": [1, 0, 1, 1, 0, 0, 1, 1, 1, 0], "consistent": true })),
        ("11", json!({ "direction": "request" })),
        ("11032AFF01", json!({ "direction": "response", "byte_count": 3, "data": "2AFF01" })),
        ("140C05060DFE0020050633CD0040", json!({ "groups": [{ "data": [3582, 32] }, { "data": [13261, 64] }] })),
        ("170C00FE0ACD00010003000D00FF", json!({ "direction": "response", "registers": [254, 2765, 1, 3, 13, 255] })),
        ("2B0E0100", json!({ "direction": "request", "mei_type": 14, "read_device_id_code": 1, "object_id": 0 })),
        (
            "2B0E018300000100034142FF",
            json!({
                "direction": "response",
                "data": "018300000100034142FF",
                "conformity_level": 131,
                "more_follows": false,
                "objects": [{ "id": 0, "length": 3, "value": "AB\u{FFFD}" }],
            }),
        ),
        ("2B0D12", json!({ "direction": "request or response", "mei_type": 13, "data": "12" })),
        ("41FF", json!({ "direction": "request or response", "data": "FF" })),
        ("8B54", json!({ "exception_of": "0B", "exception_code": 84, "exception": "unassigned code" })),
    ] {
        let output = decode(&["modbus-pdu", "--json", pdu]);
        assert_eq!(code(&output), Some(0), "{pdu}: {}", err(&output));
        let got: Value = serde_json::from_str(out(&output)).expect("JSON");
        for (name, value) in expected.as_object().expect("fields") {
            assert_eq!(&got[name], value, "{name} of {pdu}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn any_bytes_are_explained_or_refused_inside_them(
        front in prop::sample::select(vec![&[][..], &[1, 3], &[1, 0x10, 0, 1, 0, 2], &[1, 0x2B, 0x0E, 1, 1, 0, 0], &[0, 1, 0, 0, 0, 3], b":01"]),
        bytes in prop::collection::vec(any::<u8>(), 0..40),
        order in prop::sample::select(vec!["AB", "CDAB", "nonsense"]),
    ) {
        let frame = [front, bytes.as_slice()].concat();
        let wanted = vec!["values_as_float32_CDAB".to_owned(), "values_as_".to_owned(), "bits_9_to_3".to_owned()];
        let hints = Hints { value_type: Some("int32".to_owned()), order: Some(order.to_owned()), wanted };
        for decoder in DECODERS {
            let decoded = (decoder.decode)(&frame, &hints);
            prop_assert!(serde_json::to_string(&decoded.fields).is_ok());
            if let Some(fault) = decoded.fault {
                prop_assert!(fault.at <= frame.len() && !fault.why.is_empty(), "{} {:?}", decoder.name, fault);
            }
        }
    }
}
