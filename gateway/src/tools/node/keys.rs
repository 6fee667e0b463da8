//! Names for the settings of a node: the number of a setting is its holding register.

/// Most sensors a node has.
const SENSORS: u16 = 4;
/// First register of the first sensor's settings, and registers of each.
const SENSOR_BASE: u16 = 16;
const SENSOR_EACH: u16 = 16;

/// A setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Key {
    /// Its name.
    pub(super) name: String,
    /// Its holding register.
    pub(super) number: u16,
    form: Form,
    /// What it may be, in words.
    pub(super) range: &'static str,
    /// It holds from the next start of the node on.
    pub(super) next_start: bool,
}

/// How a value is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// A number with its unit.
    Number(&'static str),
    /// Hundreds of bits per second.
    Baud,
    /// One of these words, by its place.
    Words(&'static [&'static str]),
    /// A limit; this number is none.
    Limit(i32),
}

const PLAIN: [(&str, Form, &str, bool); 9] = [
    ("unit", Form::Number(""), "1 to 247", true),
    ("baud", Form::Baud, "1200 to 115200, in hundreds", true),
    ("parity", Form::Words(&["none", "even", "odd"]), "none, even or odd", true),
    ("stop-bits", Form::Number(""), "1 or 2", true),
    ("sample-period", Form::Number(" s"), "1 to 3600 s, and not shorter than measure-period", false),
    ("measure-period", Form::Number(" ms"), "10 to 60000 ms, and not longer than sample-period", false),
    ("attention", Form::Words(&["off", "on"]), "off, or on where the node is alone on its line", false),
    ("answer-delay", Form::Number(" ms"), "0 to 1000 ms", false),
    ("test-signal", Form::Words(&["off", "on"]), "off or on", false),
];

const OF_SENSOR: [(&str, Form, &str, u16); 6] = [
    ("offset", Form::Number(""), "any whole number of the channel's steps", 0),
    ("gain", Form::Number(" ppm"), "-500000 to 500000 ppm", 2),
    ("high", Form::Limit(i32::MAX), "none, or a whole number of steps that is not below low", 4),
    ("low", Form::Limit(i32::MIN), "none, or a whole number of steps that is not above high", 6),
    ("hysteresis", Form::Number(""), "0 or more of the channel's steps", 8),
    ("hold", Form::Number(" s"), "0 to 3600 s", 10),
];

/// Returns every setting, in the order of the registers.
pub(super) fn all() -> Vec<Key> {
    let plain = (0_u16..).zip(PLAIN).map(|(number, (name, form, range, next_start))| Key {
        name: name.to_owned(),
        number,
        form,
        range,
        next_start,
    });
    let of_sensors = (0..SENSORS).flat_map(|sensor| {
        OF_SENSOR.map(|(name, form, range, place)| Key {
            name: format!("sensor{}.{name}", sensor + 1),
            number: SENSOR_BASE + SENSOR_EACH * sensor + place,
            form,
            range,
            next_start: false,
        })
    });
    plain.chain(of_sensors).collect()
}

/// Returns the setting of this name or number.
///
/// # Errors
/// What to tell, with the name that was likely meant.
pub(super) fn find(name: &str) -> Result<Key, String> {
    let all = all();
    if let Some(key) = all.iter().find(|key| key.name == name || name.parse() == Ok(key.number)) {
        return Ok(key.clone());
    }
    let likeness = |key: &Key| strsim::normalized_damerau_levenshtein(name, &key.name);
    let nearest = all.iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
    let meant = nearest.filter(|key| likeness(key) > 0.5).map(|key| format!(": is {} meant?", key.name));
    Err(format!(
        "no setting is called {name:?}{} `ganglion node get` lists them",
        meant.unwrap_or_else(|| ";".to_owned())
    ))
}

impl Key {
    /// Writes a value that the node said.
    pub(super) fn text(&self, value: i32) -> String {
        match self.form {
            Form::Number(unit) => format!("{value}{unit}"),
            Form::Baud => format!("{}", i64::from(value) * 100),
            Form::Words(words) => {
                let word = usize::try_from(value).ok().and_then(|place| words.get(place));
                word.map_or_else(|| value.to_string(), |word| (*word).to_owned())
            }
            Form::Limit(none) if value == none => "none".to_owned(),
            Form::Limit(_) => value.to_string(),
        }
    }

    /// Reads a value as a person writes it.
    ///
    /// # Errors
    /// What it may be.
    pub(super) fn value(&self, text: &str) -> Result<i32, String> {
        let wrong = || format!("{text:?} is no value of {}: {}", self.name, self.range);
        match self.form {
            Form::Words(words) => {
                let place = words.iter().position(|word| *word == text).ok_or_else(wrong)?;
                i32::try_from(place).map_err(|_| wrong())
            }
            Form::Limit(none) if text == "none" => Ok(none),
            Form::Baud => match text.parse::<i32>() {
                Ok(baud) if baud % 100 == 0 => Ok(baud / 100),
                _ => Err(wrong()),
            },
            Form::Number(_) | Form::Limit(_) => text.parse().map_err(|_| wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_has_the_number_of_its_holding_register() {
        let number = |name: &str| find(name).map(|key| key.number);
        assert_eq!(number("unit"), Ok(0));
        assert_eq!(number("sample-period"), Ok(4));
        assert_eq!(number("test-signal"), Ok(8));
        assert_eq!(number("sensor1.offset"), Ok(16));
        assert_eq!(number("sensor3.offset"), Ok(48));
        assert_eq!(number("sensor3.hold"), Ok(58));
        assert_eq!(number("48").map(|_| find("48").unwrap().name), Ok("sensor3.offset".to_owned()));
    }

    #[test]
    fn a_misspelt_name_is_answered_with_the_right_one() {
        let message = find("sampel-period").unwrap_err();
        assert!(message.contains("is sample-period meant?"), "{message}");
        assert!(find("49").is_err(), "the second register of a setting is none");
    }

    #[test]
    fn every_value_reads_back_as_it_was_written() {
        for (name, text, value) in [
            ("baud", "19200", 192),
            ("parity", "odd", 2),
            ("test-signal", "on", 1),
            ("sensor2.high", "none", i32::MAX),
            ("sensor2.low", "-5", -5),
        ] {
            let key = find(name).unwrap();
            assert_eq!(key.value(text), Ok(value));
            assert_eq!(key.text(value), text);
        }
        assert_eq!(find("sample-period").unwrap().text(5), "5 s");
        assert!(find("baud").unwrap().value("9650").is_err());
        assert!(find("parity").unwrap().value("mark").unwrap_err().contains("none, even or odd"));
    }
}
