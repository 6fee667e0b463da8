//! What single keys make of a site.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ganglion::config::Severity;
use ganglion::normalize::observe;
use ganglion::pipeline::Sample;
use ganglion::site::{DeviceId, Endpoint, Group, LineSpeed, Link, Parity, Role, Rs485, Site};
use ganglion_protocols::modbus::Table::{self, HoldingRegister, InputRegister};
use ganglion_protocols::{Clock, Quality, Reading, Timestamp, Value};

use super::copy::Copy;

/// A copy whose transmitter has this template, and what its errors are.
fn transmitter(template: &str, points: &str) -> Copy {
    let copy = Copy::new();
    let text = format!("[template]\nname = \"pressure-transmitter\"\n{template}\n{points}");
    copy.write("../templates/pressure-transmitter.toml", &text);
    copy.without_alarms();
    copy
}

fn point(property: &str, address: u16, rest: &str) -> String {
    let unit = match property.split('.').next().expect("a name") {
        "pressure" => "MPa",
        "temperature" => "Cel",
        _ => "V",
    };
    format!(
        "[[point]]\nproperty = \"{property}\"\ntable = \"holding\"\naddress = {address}\ntype = \"u16\"\nunit = \"{unit}\"\n{rest}\n"
    )
}

/// Adds a key to the transmitter of the pump house.
fn device_key(copy: &Copy, line: &str) {
    copy.change("pump-house.toml", "unit = 3\n", &format!("unit = 3\n{line}\n"));
}

/// Replaces the bus of the crossing by one through a serial server.
fn through_server(keys: &str) -> Copy {
    let copy = Copy::new();
    copy.change(
        "pump-house.toml",
        "kind = \"tcp\"\nhost = \"192.168.10.21\"",
        &format!("kind = \"rtu-over-tcp\"\n{keys}"),
    );
    copy
}

fn reads(group: &Group) -> Vec<(Table, u16, u16, usize)> {
    group.wants.iter().map(|want| (want.read.table, want.read.address, want.read.count, want.offset)).collect()
}

#[test]
fn a_bus_says_how_patient_it_is_and_what_dead_units_may_cost() {
    let copy = Copy::new();
    let site = copy.load();
    let (serial, tcp) = (&site.buses[0], &site.buses[1]);
    assert_eq!((serial.retries, serial.dead_unit_share_percent, serial.late_reply.as_millis()), (2, 5, 1000));
    assert_eq!((tcp.late_reply, tcp.response_timeout.as_millis()), (Duration::ZERO, 1000), "transactions tell");
    copy.change(
        "pump-house.toml",
        "late_reply_ms = 1000",
        "late_reply_ms = 70\nretries = 0\ndead_unit_share_percent = 100",
    );
    let site = copy.load();
    let serial = &site.buses[0];
    assert_eq!((serial.retries, serial.dead_unit_share_percent, serial.late_reply.as_millis()), (0, 100, 70));
}

#[test]
fn a_serial_port_has_low_latency_and_leaves_direction_control_alone_unless_told() {
    let copy = Copy::new();
    let link = |copy: &Copy| match &copy.load().buses[0].link {
        Link::Serial(link) => (link.low_latency, link.rs485),
        other => panic!("{other:?}"),
    };
    assert_eq!(link(&copy), (true, None));
    copy.change(
        "pump-house.toml",
        "late_reply_ms = 1000",
        "low_latency = false\nrs485 = { rts_on_send = false, delay_before_send_ms = 2, rx_during_tx = true }",
    );
    let rs485 = Rs485 {
        rts_on_send: false,
        delay_before_send: Duration::from_millis(2),
        delay_after_send: Duration::ZERO,
        rx_during_tx: true,
    };
    assert_eq!(link(&copy), (false, Some(rs485)));
}

#[test]
fn a_serial_server_is_called_or_calls() {
    let site =
        through_server("host = \"192.168.10.30\"\nport = 4196\nbaud = 19200\nparity = \"none\"\nstop_bits = 2").load();
    let endpoint = Endpoint::Connect { host: "192.168.10.30".to_owned(), port: 4196 };
    let speed = LineSpeed { baud: 19_200, parity: Parity::None, stop_bits: 2 };
    assert_eq!(site.buses[1].link, Link::RtuOverTcp { endpoint, speed });
    assert_eq!(site.buses[1].late_reply, Duration::from_secs(3));
    assert_eq!(speed.bits_per_character(), 11);

    let copy = through_server("listen = \"127.0.0.1:9000\"");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9000));
    let speed = LineSpeed { baud: 9600, parity: Parity::Even, stop_bits: 1 };
    let listening = Link::RtuOverTcp { endpoint: Endpoint::Listen { address }, speed };
    assert_eq!(copy.load().buses[1].link, listening);
    assert_eq!(copy.messages(Severity::Warning).len(), 1, "only that classes are provisional");
}

#[test]
fn a_port_that_others_can_reach_is_a_warning_that_says_which() {
    let opens = |listen: &str| {
        let warnings = through_server(&format!("listen = \"{listen}\"")).messages(Severity::Warning);
        warnings.into_iter().find(|warning| warning.contains("opens"))
    };
    assert_eq!(opens("0.0.0.0:9000").as_deref(), Some("this opens TCP port 9000 on every network of this machine"));
    assert_eq!(opens("192.168.10.1:9000").as_deref(), Some("this opens TCP port 9000 at 192.168.10.1"));
    assert_eq!(opens("[::1]:9000"), None);
}

#[test]
fn a_serial_server_that_cannot_be_found_is_an_error_that_says_what_would_be_right() {
    for (keys, message) in [
        ("", "[[bus]] needs `host` or `listen`"),
        ("host = \"a\"", "`host` needs `port`"),
        ("host = \"a\"\nport = 1\nlisten = \"127.0.0.1:1\"", "a bus has `host` or `listen`, not both"),
        ("listen = \"127.0.0.1:1\"\nport = 1", "`port` belongs to `host`"),
        ("listen = \"9000\"", "\"9000\" is no address and port to listen at"),
        ("listen = \"127.0.0.1:0\"", "\"127.0.0.1:0\" is no address and port to listen at"),
        (
            "host = \"a\"\nport = 1\nlow_latency = true",
            "`low_latency` belongs to `kind = \"serial\"`, not to \"rtu-over-tcp\"",
        ),
    ] {
        assert_eq!(through_server(keys).messages(Severity::Error), [message], "{keys}");
    }
    let copy = through_server("listen = \"127.0.0.1:9000\"");
    copy.change("pump-house.toml", "name = \"loops-1\"\nunit = 1", "name = \"loops-1\"\nunit = 0");
    assert_eq!(copy.messages(Severity::Error), ["unit 0 cannot be on a serial line, 1 to 247 can"]);
}

#[test]
fn points_with_a_period_of_their_own_are_read_apart_and_are_streams_of_the_same_resource() {
    let points = [
        point("temperature", 1, "poll_interval_ms = 60000"),
        point("pressure", 4, ""),
        point("pressure.2", 4, "overlap = true"),
        point("battery_voltage", 0, "poll_interval_ms = 60000"),
        point("temperature.2", 2, "poll_interval_ms = 100"),
    ];
    let site = transmitter("", &points.concat()).load();
    let groups = &site.devices[0].groups;
    let intervals: Vec<_> = groups.iter().map(|group| group.interval.as_millis()).collect();
    assert_eq!(intervals, [100, 1000, 60_000], "the shortest first");
    assert_eq!(reads(&groups[1]), [(HoldingRegister, 4, 1, 0)], "equal wants are one");
    assert_eq!(groups[1].points.iter().map(|point| point.want).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(reads(&groups[2]), [(HoldingRegister, 0, 1, 0), (HoldingRegister, 1, 1, 1)], "sorted by address");
    assert_eq!(groups[2].points.iter().map(|point| point.want).collect::<Vec<_>>(), [1, 0]);
    let streams = groups.iter().map(|group| &site.streams[group.streams[0].0]);
    let names = streams.map(|stream| {
        assert_eq!(stream.resource.to_string(), "330502-9601-000123-02");
        stream.properties.iter().map(|property| property.name.as_str()).collect::<Vec<_>>()
    });
    let expected = [vec!["temperature.2"], vec!["pressure", "pressure.2"], vec!["temperature", "battery_voltage"]];
    assert_eq!(names.collect::<Vec<_>>(), expected);
}

#[test]
fn a_property_has_one_source_whatever_its_period() {
    let copy = Copy::new();
    let lane = "[template]\nname = \"loop-detector-controller\"\n\
                [[point]]\nproperty = \"speed\"\nresource = \"lane1\"\ntable = \"input\"\naddress = 0\ntype = \"u16\"\nunit = \"km/h\"\n\
                [[point]]\nproperty = \"speed\"\nresource = \"lane2\"\ntable = \"input\"\naddress = 1\ntype = \"u16\"\nunit = \"km/h\"\npoll_interval_ms = 60000\n";
    copy.write("../templates/loop-detector-controller.toml", lane);
    let text = fs::read_to_string(copy.site()).expect("the site");
    let head = text.split("unused = [").next().expect("the head");
    let resources = "[bus.device.resources]\nlane1 = \"330502-9401-000211-30\"\nlane2 = \"330502-9401-000211-30\"\n";
    copy.write("pump-house.toml", &format!("{head}{resources}"));
    assert_eq!(copy.messages(Severity::Error), ["`speed` of 330502-9401-000211-30 would have two sources"]);
}

#[test]
fn a_request_gap_is_the_template_s_unless_the_device_has_its_own() {
    let copy = transmitter("request_gap_ms = 50", &point("pressure", 0, ""));
    assert_eq!(copy.load().devices[0].request_gap, Duration::from_millis(50));
    device_key(&copy, "request_gap_ms = 0");
    assert_eq!(copy.load().devices[0].request_gap, Duration::ZERO);
}

#[test]
fn registers_of_a_value_are_read_together_with_it_unless_they_are_apart() {
    let terms = "decimals = { address = 3, type = \"u16\" }\nfactor = [{ table = \"input\", address = 90, type = \"u16\", apart = true }]";
    let site = transmitter("", &point("pressure", 5, terms)).load();
    let group = &site.devices[0].groups[0];
    assert_eq!(reads(group), [(InputRegister, 90, 1, 0), (HoldingRegister, 3, 3, 1)]);
    let point = &group.points[0];
    assert_eq!((point.want, point.first), (1, 2));
    let terms: Vec<_> = point.terms.iter().map(|term| (term.role, term.want, term.first)).collect();
    assert_eq!(terms, [(Role::Factor, 0, 0), (Role::Decimals, 1, 0)]);
}

#[test]
fn channels_share_a_register_or_have_one_each() {
    let keys = |step: &str| {
        let term = format!("decimals = {{ address = 20, type = \"u16\", apart = true{step} }}");
        let site = transmitter("", &point("pressure", 0, &format!("channels = 3\n{term}"))).load();
        let group = &site.devices[0].groups[0];
        let read = |want: usize| group.wants[want].read.address;
        group.points.iter().map(|point| (read(point.want), read(point.terms[0].want))).collect::<Vec<_>>()
    };
    assert_eq!(keys(""), [(0, 20), (1, 20), (2, 20)]);
    assert_eq!(keys(", step = 4"), [(0, 20), (1, 24), (2, 28)]);
}

#[test]
fn registers_that_no_request_can_read_together_are_refused() {
    let error =
        |template: &str, rest: &str| transmitter(template, &point("pressure", 10, rest)).messages(Severity::Error);
    let far = "exponent = { address = 200, type = \"i16\" }";
    assert_eq!(error("", far), ["`pressure` cannot be read: 191 items from 10 do not fit a request of 125"]);
    let hole = "forbidden = [{ table = \"holding\", from = 11, to = 12 }]";
    let across = "exponent = { address = 13, type = \"i16\" }";
    assert_eq!(error(hole, across), ["`pressure` cannot be read: 4 items from 10 touch a forbidden range"]);
    let none: [String; 0] = [];
    assert_eq!(error(hole, "exponent = { address = 13, type = \"i16\", apart = true }"), none);
    assert_eq!(
        error("", "exponent = { table = \"input\", address = 0, type = \"i16\" }"),
        ["one request reads one table: it cannot be read together with the value"]
    );
    assert_eq!(
        error("", "factor = [{ table = \"coil\", address = 0, apart = true }]"),
        ["a coil or discrete input is no number that a value could be made of"]
    );
    assert_eq!(error("", "fraction = { address = 11 }"), ["a register of the value needs `type` for registers"]);
    let last = "channels = 2\ndecimals = { address = 65535, type = \"u16\", apart = true, step = 1 }";
    assert_eq!(error("", last), ["for channel 2 it would be past address 65535"]);
}

#[test]
fn a_device_is_recognised_by_its_template_s_register_or_by_its_own_number() {
    let identity = "[template.identity]\ntable = \"input\"\naddress = 7\ntype = \"u32\"\nword_order = \"CDAB\"";
    let copy = transmitter(&format!("{identity}\nequals = 0x2A"), &point("pressure", 0, ""));
    let read = copy.load().devices[0].identity.expect("an identity");
    assert_eq!((read.want.table, read.want.address, read.want.count, read.equals), (InputRegister, 7, 2, 42));
    device_key(&copy, "identity_equals = 4000000000");
    assert_eq!(copy.load().devices[0].identity.map(|identity| identity.equals), Some(4_000_000_000));

    let copy = transmitter(identity, &point("pressure", 0, ""));
    assert_eq!(copy.messages(Severity::Error), ["[[bus.device]] needs `identity_equals`"]);
    device_key(&copy, "identity_equals = 4294967296");
    assert_eq!(copy.messages(Severity::Error), ["4294967296 does not fit the 32 bits of its type"]);

    let copy = Copy::new();
    assert_eq!(copy.load().devices[0].identity, None);
    device_key(&copy, "identity_equals = 7");
    assert_eq!(copy.messages(Severity::Error), ["the template has no identity register that could equal it"]);

    let errors = |identity: &str| transmitter(identity, &point("pressure", 0, "")).messages(Severity::Error);
    assert_eq!(
        errors("identity = { table = \"coil\", address = 7, equals = 1 }"),
        ["one coil or discrete input tells no devices apart"]
    );
    assert_eq!(
        errors("max_registers = 1\nidentity = { table = \"input\", address = 7, type = \"u32\", equals = 1 }"),
        ["the identity cannot be read: 2 items from 7 do not fit a request of 1"]
    );
}

#[test]
fn a_device_reports_every_poll_unless_told_to_report_changes() {
    let heartbeat = |lines: &str| {
        let copy = Copy::new();
        device_key(&copy, lines);
        copy.load().devices[0].groups[0].heartbeat
    };
    assert_eq!(heartbeat(""), None);
    assert_eq!(heartbeat("report = \"on-change\""), Some(Duration::from_secs(600)));
    assert_eq!(heartbeat("report = \"on-change\"\nheartbeat_s = 30"), Some(Duration::from_secs(30)));
    let copy = Copy::new();
    device_key(&copy, "heartbeat_s = 30");
    assert_eq!(copy.messages(Severity::Error), ["`heartbeat_s` belongs to `report = \"on-change\"`"]);
}

#[test]
fn a_deadband_is_absolute_in_percent_or_both_and_never_negative() {
    let deadband = |rest: &str| {
        let site = transmitter("", &point("pressure", 0, rest)).load();
        site.devices[0].groups[0].points[0].deadband.map(|deadband| (deadband.absolute, deadband.percent))
    };
    assert_eq!(deadband(""), None);
    assert_eq!(deadband("deadband = 0.002"), Some((0.002, 0.0)));
    assert_eq!(deadband("deadband = 0.002\ndeadband_percent = 1"), Some((0.002, 1.0)));
    let errors = |rest: &str| transmitter("", &point("pressure", 0, rest)).messages(Severity::Error);
    assert_eq!(errors("deadband = -1"), ["-1 is below 0"]);
    assert_eq!(errors("deadband_percent = nan"), ["nan is not finite"]);
    let open = "[[point]]\nproperty = \"cover_open\"\ntable = \"coil\"\naddress = 0\n";
    for (rest, message) in [
        ("deadband = 1", "`cover_open` is a state: it has no deadband"),
        ("scale = 2", "`cover_open` is a state: it has no scale"),
        (
            "exponent = { address = 1, type = \"u16\", table = \"input\", apart = true }",
            "`cover_open` is a state: it has no further registers",
        ),
    ] {
        assert_eq!(transmitter("", &format!("{open}{rest}\n")).messages(Severity::Error), [message]);
    }
}

#[test]
fn a_resource_whose_name_a_table_could_not_hold_is_refused() {
    let error = transmitter("", &point("pressure", 0, "resource = \"a;b\"")).messages(Severity::Error);
    assert!(error.contains(&"a resource cannot be called \"a;b\"".to_owned()), "{error:?}");
}

/// Polls each group of a device whose registers are given, and returns what its readings show.
fn polled(site: &Site, device: &str, registers: &[(u16, &[u16])]) -> Vec<(String, Option<Value>)> {
    let id = site.devices.iter().position(|own| own.name == device).expect("the device");
    let word = |address: u16| {
        let within = |(first, words): &(u16, &[u16])| words.get(usize::from(address.checked_sub(*first)?)).copied();
        registers.iter().find_map(within).unwrap_or(0)
    };
    let mut shown = Vec::new();
    for (group, own) in site.devices[id].groups.iter().enumerate() {
        let reads = own.wants.iter().flat_map(|want| (want.read.address..).take(usize::from(want.read.count)));
        let sample = Sample {
            device: DeviceId(id),
            group,
            t: Timestamp::from_unix_nanos(0),
            clock: Clock::default(),
            words: reads.map(word).collect(),
            states: vec![None; own.wants.len()],
            origin: None,
        };
        for observation in observe(site, &sample) {
            let properties = &site.streams[observation.stream.0].properties;
            for (property, Reading { value, quality }) in properties.iter().zip(observation.readings) {
                assert_eq!(quality, Quality::Good, "{}", property.name);
                shown.push((property.name.clone(), value));
            }
        }
    }
    shown
}

fn is(shown: &[(String, Option<Value>)], name: &str, expected: f64) {
    let value = shown.iter().find(|(own, _)| own == name).and_then(|(_, value)| *value);
    let number = match value.unwrap_or_else(|| panic!("no {name} in {shown:?}")) {
        Value::Double(number) => number,
        Value::Single(number) => f64::from(number),
        Value::Uint(number) => f64::from(u32::try_from(number).expect("a small number")),
        other => panic!("{name} is {other:?}"),
    };
    assert!((number - expected).abs() <= expected.abs() * 1e-6, "{name} is {number}, not {expected}");
}

fn words(value: f32) -> [u16; 2] {
    let [a, b, c, d] = value.to_be_bytes();
    [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
}

#[test]
fn an_electricity_meter_behind_transformers_shows_the_primary_side() {
    let site = market_hall();
    // 400 to 5 A and 10 to 0.1 kV; what the meter sees is 57.7 V, 2.5 A, 421.3 W and 1234.56 kWh.
    let registers = [
        (0x0006, &[80, 1000][..]),
        (0x2006, &words(577.0)),
        (0x200C, &words(2500.0)),
        (0x2012, &words(4213.0)),
        (0x2044, &words(5001.0)),
        (0x202A, &words(-970.0)),
        (0x101E, &[1, 57_920]),
    ];
    let shown = polled(&site, "meter-1", &registers);
    assert_eq!(shown.len(), 14);
    is(&shown, "voltage.1", 5770.0);
    is(&shown, "current.1", 200.0);
    is(&shown, "active_power", 3370.4);
    is(&shown, "frequency", 50.01);
    is(&shown, "power_factor", -0.97);
    is(&shown, "total_energy", 9_876_480.0);
    let intervals = site.devices.iter().find(|device| device.name == "meter-1").expect("the meter").groups.iter();
    assert_eq!(intervals.map(|group| group.interval.as_secs()).collect::<Vec<_>>(), [1, 5, 60]);
}

#[test]
fn a_flow_meter_of_the_tuf_2000_family_shows_whole_cubic_metres_their_fraction_and_their_multiplier() {
    let [high, low] = words(0.25);
    let registers = [
        (8, &[0x0001, 0x0001, low, high][..]),
        (24, &[0xFFFE, 0xFFFF, low, high]),
        (71, &[0b1_1001]),
        (91, &[0x0363]),
        (1438, &[4]),
    ];
    let shown = polled(&market_hall(), "street-flow", &registers);
    is(&shown, "total_volume", 655_372.5);
    is(&shown, "net_volume", -17.5);
    is(&shown, "signal_quality", 99.0);
    let states: Vec<_> = ["no_signal", "low_signal", "pipe_empty", "hardware_fault"]
        .iter()
        .map(|name| shown.iter().find(|(own, _)| own == name).and_then(|(_, value)| *value))
        .collect();
    assert_eq!(states, [true, false, true, true].map(|state| Some(Value::Bool(state))));
}

#[test]
fn a_transmitter_s_decimal_point_is_where_its_register_says() {
    for (decimals, pressure) in [(0, 4.0), (1, 0.4), (3, 0.004)] {
        let shown = polled(&market_hall(), "inlet-pressure", &[(3, &[decimals, 4])]);
        assert_eq!(shown, [("pressure".to_owned(), Some(Value::Double(pressure)))]);
    }
}

#[test]
fn devices_of_one_kind_share_what_is_read_and_what_it_means() {
    let site = market_hall();
    let meters: Vec<_> = site.devices.iter().filter(|device| device.template == "electricity-meter").collect();
    assert_eq!(meters.len(), 6);
    for meter in &meters {
        assert!(Arc::ptr_eq(&meter.limits, &meters[0].limits));
        for (group, first) in meter.groups.iter().zip(&meters[0].groups) {
            assert!(Arc::ptr_eq(&group.wants, &first.wants) && Arc::ptr_eq(&group.points, &first.points));
        }
    }
}

fn market_hall() -> Site {
    ganglion::config::load(&Copy::new().path("market-hall.toml")).unwrap_or_else(|report| panic!("{report}"))
}
