//! The keys of a device template.

use super::alarm::ALARM;
use super::keys::{Key, Kind, Need, Section};

/// Words of the four tables.
const TABLES: Kind = Kind::Words(&["holding", "input", "coil", "discrete"]);

/// Words of the value types. A new Modbus data type gets its word here and its meaning in `template.rs`.
pub(super) const TYPES: &[&str] =
    &["u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64", "bcd16", "bcd32", "bcd64", "bits", "bool"];

const WORD_ORDERS: Kind = Kind::Words(&["ABCD", "CDAB", "BADC", "DCBA"]);

/// An address in any notation.
const ADDRESS: Kind = Kind::Integer(0, 465_536);

/// The top level of a template.
pub(super) const TEMPLATE_FILE: Section = Section {
    name: "the template",
    doc: "A Ganglion device template: where a kind of device keeps which values.",
    keys: &[
        Key { name: "template", kind: Kind::Table(&TEMPLATE), need: Need::Required, doc: "the device and its quirks" },
        Key { name: "point", kind: Kind::Tables(&POINT), need: Need::Required, doc: "each value to read" },
    ],
    choice: None,
};

const TEMPLATE: Section = Section {
    name: "[template]",
    doc: "The device and its quirks.",
    keys: &[
        Key { name: "name", kind: Kind::Text, need: Need::Required, doc: "the file's name without `.toml`" },
        Key { name: "maker", kind: Kind::Text, need: Need::Optional, doc: "who makes the device, and which model" },
        Key { name: "document", kind: Kind::Text, need: Need::Optional, doc: "where the register list comes from" },
        Key {
            name: "max_registers",
            kind: Kind::Integer(1, 125),
            need: Need::Number(125),
            doc: "quirk: most registers of one request",
        },
        Key {
            name: "max_bits",
            kind: Kind::Integer(1, 2000),
            need: Need::Number(2000),
            doc: "quirk: most coils or discrete inputs of one request",
        },
        Key {
            name: "bridge",
            kind: Kind::Integer(0, 124),
            need: Need::Number(124),
            doc: "quirk: most unwanted items between two wanted ones that may be read along where that saves bus time; 0 \
                  for a device that dislikes it, or see `forbidden`",
        },
        Key {
            name: "forbidden",
            kind: Kind::Tables(&FORBIDDEN),
            need: Need::Optional,
            doc: "quirk: ranges that must never be asked for",
        },
        Key {
            name: "address_notation",
            kind: Kind::Words(&["from-0", "from-1", "modicon"]),
            need: Need::Word("from-0"),
            doc: "quirk: how the device's document writes addresses: as on the wire, counted from 1, or 40001 and 400001",
        },
        Key {
            name: "word_order",
            kind: WORD_ORDERS,
            need: Need::Word("ABCD"),
            doc: "quirk: byte order of values, for points that do not say; BADC and DCBA also swap single registers",
        },
        Key {
            name: "request_gap_ms",
            kind: Kind::Integer(0, 10_000),
            need: Need::Number(0),
            doc: "quirk: silence it needs between its answer and the next request to it, in milliseconds",
        },
        Key {
            name: "identity",
            kind: Kind::Table(&IDENTITY),
            need: Need::Optional,
            doc: "a register that tells this device from others: with another value in it nothing of it is believed",
        },
    ],
    choice: None,
};

const FORBIDDEN: Section = Section {
    name: "a forbidden range",
    doc: "Items that must never be asked for.",
    keys: &[
        Key { name: "table", kind: TABLES, need: Need::Required, doc: "which table" },
        Key { name: "from", kind: ADDRESS, need: Need::Required, doc: "first address" },
        Key { name: "to", kind: ADDRESS, need: Need::Required, doc: "last address, included" },
    ],
    choice: None,
};

const IDENTITY: Section = Section {
    name: "[template.identity]",
    doc: "A register that must hold a certain value, so that a swapped cable or setting is an error and not wrong data.",
    keys: &[
        TABLE,
        Key { name: "address", kind: ADDRESS, need: Need::Required, doc: "its first register" },
        TYPE,
        BIT,
        WIDTH,
        WORD_ORDER,
        Key {
            name: "equals",
            kind: Kind::Decimal,
            need: Need::Optional,
            doc: "what it must hold: a number of its type, or in hex the bits of its registers; without it each device \
                  says `identity_equals`",
        },
    ],
    choice: None,
};

/// A register that another value depends on.
const REGISTER: Section = Section {
    name: "a register of the value",
    doc: "Another register that the value is made of.",
    keys: &[
        Key { name: "table", kind: TABLES, need: Need::Optional, doc: "which table; else the point's" },
        Key { name: "address", kind: ADDRESS, need: Need::Required, doc: "its first register" },
        TYPE,
        BIT,
        WIDTH,
        WORD_ORDER,
        Key {
            name: "step",
            kind: Kind::Integer(0, 65_535),
            need: Need::Number(0),
            doc: "with `channels`: addresses from one channel's to the next; 0 when all channels share it",
        },
        Key {
            name: "apart",
            kind: Kind::Boolean,
            need: Need::Flag(false),
            doc: "true when it is too far away for one request: it is then read in the same poll, and not at the same \
                  instant",
        },
    ],
    choice: None,
};

const TABLE: Key = Key { name: "table", kind: TABLES, need: Need::Required, doc: "which table" };

const TYPE: Key = Key {
    name: "type",
    kind: Kind::Words(TYPES),
    need: Need::Optional,
    doc: "what the registers hold; a coil or discrete input is always `bool`",
};

const BIT: Key =
    Key { name: "bit", kind: Kind::Integer(0, 15), need: Need::Optional, doc: "for `bits`: the lowest bit, from 0" };

const WIDTH: Key =
    Key { name: "width", kind: Kind::Integer(1, 16), need: Need::Number(1), doc: "for `bits`: how many bits" };

const WORD_ORDER: Key =
    Key { name: "word_order", kind: WORD_ORDERS, need: Need::Optional, doc: "byte order; else the template's" };

const POINT: Section = Section {
    name: "[[point]]",
    doc: "A value to read, or one value for each of many channels.",
    keys: &[
        Key {
            name: "property",
            kind: Kind::Text,
            need: Need::Required,
            doc: "property of the resource's class, with a channel if it has several: `pressure`, `vehicle_count.3`",
        },
        Key {
            name: "resource",
            kind: Kind::Text,
            need: Need::Optional,
            doc: "name that the site file ties to an identifier, `#` in it stands for the channel; without it the \
                  device's one resource",
        },
        TABLE,
        Key { name: "address", kind: ADDRESS, need: Need::Required, doc: "its first register, coil or input" },
        TYPE,
        BIT,
        WIDTH,
        WORD_ORDER,
        Key {
            name: "scale",
            kind: Kind::Decimal,
            need: Need::Optional,
            doc: "factor from the device's number to the unit, in decimal digits: 0.001 divides by 1000 exactly",
        },
        Key { name: "offset", kind: Kind::Decimal, need: Need::Optional, doc: "added after the scale" },
        Key {
            name: "fraction",
            kind: Kind::Table(&REGISTER),
            need: Need::Optional,
            doc: "a register that is added to the device's number: the decimal fraction of a counter",
        },
        Key {
            name: "factor",
            kind: Kind::Tables(&REGISTER),
            need: Need::Optional,
            doc: "registers that the device's number is multiplied by: current and voltage transformer ratios",
        },
        Key {
            name: "exponent",
            kind: Kind::Table(&REGISTER),
            need: Need::Optional,
            doc: "a register with a power of ten that the device's number is multiplied by, -22 to 22",
        },
        Key {
            name: "decimals",
            kind: Kind::Table(&REGISTER),
            need: Need::Optional,
            doc: "a register with the number of decimal places: the device's number is divided by that power of ten",
        },
        Key {
            name: "unit",
            kind: Kind::Text,
            need: Need::Word("1"),
            doc: "UCUM unit of the scaled value: the property's unit in the code directory",
        },
        Key {
            name: "missing",
            kind: Kind::Decimal,
            need: Need::Optional,
            doc: "the device's marker for \"no value\": a number of its type, or in hex the bits of its registers",
        },
        Key {
            name: "poll_interval_ms",
            kind: Kind::Integer(100, 86_400_000),
            need: Need::Optional,
            doc: "time from one poll to the next, in milliseconds, where the device's does not suit the value",
        },
        Key {
            name: "deadband",
            kind: Kind::Decimal,
            need: Need::Optional,
            doc: "for devices that report on change: how far the value must move to be reported, in `unit`",
        },
        Key {
            name: "deadband_percent",
            kind: Kind::Decimal,
            need: Need::Optional,
            doc: "the same in percent of the value last reported; with both, the larger holds",
        },
        Key {
            name: "alarm",
            kind: Kind::FlagOr(&ALARM),
            need: Need::Optional,
            doc: "what makes it an alarm, which is published as an event: `true` for a state, limits for a number; a device \
                  may say otherwise in its `alarms`",
        },
        Key {
            name: "channels",
            kind: Kind::Integer(1, 65_536),
            need: Need::Optional,
            doc: "repeats the point over this many channels, numbered from `first_channel`",
        },
        Key {
            name: "first_channel",
            kind: Kind::Integer(0, 65_535),
            need: Need::Number(1),
            doc: "with `channels`: number of the first",
        },
        Key {
            name: "step",
            kind: Kind::Integer(1, 65_535),
            need: Need::Optional,
            doc: "with `channels`: addresses from one channel to the next; else they follow each other",
        },
        Key {
            name: "overlap",
            kind: Kind::Boolean,
            need: Need::Optional,
            doc: "true when it shares registers with another point on purpose",
        },
    ],
    choice: None,
};
