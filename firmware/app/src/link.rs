//! What the node says on the node link.

use core::time::Duration;

use ganglion_protocols::Cri;
use ganglion_protocols::node_link::{
    Ack, Answer, Ask, Batch, Command, Done, Hello, MAX_PAYLOAD, NodeReading, Refusal, put_sample,
};

use crate::board::{Copies, Memory};
use crate::fault_log::{Fault, FaultEntry};
use crate::firmware::Firmware;
use crate::registers;
use crate::sampling::{MAX_CHANNELS, millis};
use crate::state::{State, Wish};
use crate::store::StoreError;
use crate::text::Text;

/// How wrong a clock may be before it is set anew: less is what a slow line makes of the same time.
pub const MAX_CLOCK_ERROR: Duration = Duration::from_secs(2);

/// What a batch says beside its samples, in bytes, at most.
const BATCH_HEAD: usize = 80;
/// Longest text of one answer about the fault log.
const LOG_TEXT: usize = 160;

/// What is known of the gateway.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// A gateway has asked this node by its address since it started.
    acquainted: bool,
    order: Option<(u32, Done)>,
}

/// What becomes of a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reply {
    /// The answer is in the buffer: its version and length.
    Now(u8, usize),
    /// The same, after so long.
    In(Duration, u8, usize),
    /// Nobody is meant.
    None,
}

impl Link {
    /// Answers one question, which ended at uptime `heard`, writing the payload to `out`.
    pub(crate) fn answer<M: Memory, C: Copies, U: Firmware>(
        &mut self,
        state: &mut State<M, C, U>,
        ask: &Ask<'_>,
        everybody: bool,
        (heard, now): (Duration, Duration),
        out: &mut [u8; MAX_PAYLOAD],
    ) -> Reply {
        if let Ask::Who { salt, slots, slot_ms, all } = *ask {
            if self.acquainted && !all {
                return Reply::None;
            }
            let slot = u32::from(ganglion_protocols::node_link::slot(state.identity.serial, salt, slots));
            let wait = Duration::from_millis(u64::from(slot.saturating_mul(u32::from(slot_ms))));
            return said(&Answer::Hello(hello(state)), out).after(wait);
        }
        if everybody {
            // Time is for everybody, too; nobody answers it then.
            if let Ask::Time { .. } = ask {
                let _everybody_was_asked = self.one(state, ask, (heard, now), out);
            }
            return Reply::None;
        }
        self.acquainted = true;
        self.one(state, ask, (heard, now), out)
    }

    fn one<M: Memory, C: Copies, U: Firmware>(
        &mut self,
        state: &mut State<M, C, U>,
        ask: &Ask<'_>,
        (heard, now): (Duration, Duration),
        out: &mut [u8; MAX_PAYLOAD],
    ) -> Reply {
        match *ask {
            Ask::Who { .. } | Ask::Describe => said(&Answer::Hello(hello(state)), out),
            Ask::Channel { index } => {
                let period = state.settings().sample_period_s;
                let channel = state.identity.channels.get(usize::from(index));
                let described = channel.map(|channel| channel.describe(index, state.identity.sensors, period));
                said(&described.map_or(Answer::Refused(Refusal::NoChannel), Answer::Channel), out)
            }
            Ask::Fetch { ack, most } => fetch(state, ack, most, now, out),
            Ask::Time { utc_ms, epoch, .. } => {
                let answer = time(state, utc_ms, epoch, heard).unwrap_or(Answer::Refused(Refusal::Unable));
                said(&answer, out)
            }
            Ask::Do { id, command } => {
                let outcome = match self.order {
                    Some((last, outcome)) if last == id => outcome,
                    _ => carry_out(state, command, now),
                };
                self.order = Some((id, outcome));
                said(&Answer::Done { id, outcome }, out)
            }
            Ask::Log { from } => log(state, from, out),
            Ask::Firmware(ask) => {
                let answer = state.update(&ask, now).map_or_else(Answer::Refused, Answer::Firmware);
                said(&answer, out)
            }
        }
    }
}

impl Reply {
    fn after(self, wait: Duration) -> Self {
        match self {
            Self::Now(version, used) => Self::In(wait, version, used),
            other => other,
        }
    }
}

/// Writes an answer; one that does not fit is refused in its place.
fn said(answer: &Answer<'_>, out: &mut [u8; MAX_PAYLOAD]) -> Reply {
    match answer.emit(out).or_else(|_| Answer::Refused(Refusal::Unable).emit(out)) {
        Ok((version, used)) => Reply::Now(version, used),
        Err(_) => Reply::None,
    }
}

/// Says who this node is.
pub(crate) fn hello<M: Memory, C: Copies, U: Firmware>(state: &State<M, C, U>) -> Hello<'static> {
    let identity = &state.identity;
    Hello {
        cri: state.settings().cri,
        serial: identity.serial,
        board: identity.board,
        firmware: identity.firmware,
        schema: state.schema(),
        channels: u8::try_from(identity.channels.len()).unwrap_or(u8::MAX),
        epoch: state.store.epoch(),
        boot: state.store.boot(),
        reset: identity.reset,
        capacity: u16::try_from(state.store.capacity()).unwrap_or(u16::MAX),
        persistent: identity.persistent,
    }
}

/// Takes the time: `utc_ms` was when the last byte of the question had come, at uptime `heard`.
fn time<M: Memory, C: Copies, U: Firmware>(
    state: &mut State<M, C, U>,
    utc_ms: Option<u64>,
    epoch: u32,
    heard: Duration,
) -> Result<Answer<'static>, StoreError> {
    let boot = state.store.boot();
    if let Some(utc) = utc_ms {
        let before = state.store.anchor_of(boot);
        let anchor = utc.saturating_sub(millis(heard));
        let held = state.store.anchor(&mut state.memory.samples(), anchor, MAX_CLOCK_ERROR)?;
        if before.is_some_and(|before| before != held) {
            let moved = before.unwrap_or_default().abs_diff(held) / 1000;
            state.note(heard, Fault::Clock, u32::try_from(moved).unwrap_or(u32::MAX));
        }
    }
    if epoch == 0 && state.store.epoch() == 0 {
        return Ok(Answer::Refused(Refusal::Unnamed));
    }
    let epoch = state.store.name(&mut state.memory.samples(), epoch)?;
    Ok(Answer::Time { boot, uptime_ms: millis(heard), anchor_ms: state.store.anchor_of(boot), epoch })
}

/// Takes an acknowledgement and writes the oldest samples behind it, of one boot.
fn fetch<M: Memory, C: Copies, U: Firmware>(
    state: &mut State<M, C, U>,
    ack: Option<Ack>,
    most: u8,
    now: Duration,
    out: &mut [u8; MAX_PAYLOAD],
) -> Reply {
    let epoch = state.store.epoch();
    if epoch == 0 {
        return said(&Answer::Refused(Refusal::Unnamed), out);
    }
    // One of another epoch is of another life; this one's samples are all new to the gateway.
    if let Some(ack) = ack.filter(|ack| ack.epoch == epoch)
        && state.store.acknowledge(&mut state.memory.samples(), ack.seq) == Ok(false)
    {
        return said(&Answer::Refused(Refusal::BadAck), out);
    }
    state.acknowledged();
    if ack.is_some() {
        // The gateway has what this firmware said before.
        state.firmware.confirm();
    }
    let mut samples = [0; MAX_PAYLOAD - BATCH_HEAD];
    let mut memory = state.memory.samples();
    let next = state.store.next(&mut memory);
    let boot = next.boot.unwrap_or(state.store.boot());
    let (mut used, mut count, mut base_ms, mut last_ms) = (0_usize, 0_u32, 0, 0);
    while count < u32::from(most) {
        let stored = state.store.read(&mut memory, next.first.saturating_add(count));
        let Some(stored) = stored.filter(|stored| stored.boot == boot && next.boot.is_some()) else { break };
        if count == 0 {
            (base_ms, last_ms) = (stored.at_ms, stored.at_ms);
        }
        let step = stored.at_ms.saturating_sub(last_ms);
        let space = samples.get_mut(used..).unwrap_or_default();
        let Ok(more) = put_sample(step, &stored.readings, space) else { break };
        used = used.saturating_add(more);
        last_ms = stored.at_ms;
        count = count.saturating_add(1);
    }
    let behind = state.store.last().saturating_add(1).saturating_sub(next.first).saturating_sub(count);
    let batch = Batch {
        epoch,
        schema: state.schema(),
        first: next.first,
        waiting: u16::try_from(behind).unwrap_or(u16::MAX),
        lost: next.lost,
        alarm: state.alarm_waits(),
        boot,
        anchor_ms: state.store.anchor_of(boot),
        base_ms,
        now: (state.store.boot(), millis(now)),
        samples: samples.get(..used).unwrap_or_default(),
    };
    said(&Answer::Batch(batch), out)
}

fn carry_out<M: Memory, C: Copies, U: Firmware>(state: &mut State<M, C, U>, command: Command, now: Duration) -> Done {
    let refused = |refusal| move |_| Done::No(refusal);
    match command {
        Command::Reset => {
            state.wish = Some(Wish::Reset);
            Done::Yes
        }
        Command::Identify { seconds } => {
            state.identify_until = now.saturating_add(Duration::from_secs(u64::from(seconds)));
            Done::Yes
        }
        Command::Get { key } => {
            registers::setting(state.settings(), key).map_or(Done::No(Refusal::BadSetting), Done::Value)
        }
        Command::Set { key, value } => {
            let mut settings = *state.settings();
            match registers::change(&mut settings, key, value) {
                Ok(()) => state.set(settings, now).map_or_else(refused(Refusal::FlashFailed), |()| Done::Yes),
                Err(_) => Done::No(Refusal::BadSetting),
            }
        }
        Command::ClearLog => {
            let State { faults, memory, .. } = state;
            faults.clear(&mut memory.faults()).map_or_else(refused(Refusal::FlashFailed), |()| Done::Yes)
        }
        Command::Adopt { cri } => {
            if Cri::from_bits(cri).is_err() {
                return Done::No(Refusal::BadSetting);
            }
            let settings = ganglion_protocols::node_settings::NodeSettings { cri, ..*state.settings() };
            state.set(settings, now).map_or_else(refused(Refusal::FlashFailed), |()| Done::Yes)
        }
    }
}

fn log<M: Memory, C: Copies, U: Firmware>(state: &mut State<M, C, U>, from: u32, out: &mut [u8; MAX_PAYLOAD]) -> Reply {
    let mut text: Text<LOG_TEXT> = Text::new();
    let State { faults, memory, .. } = state;
    let mut memory = memory.faults();
    let (mut first, mut next) = (None, from);
    while let Some(entry) = faults.from(&mut memory, next) {
        if LOG_TEXT.saturating_sub(text.as_str().len()) < FaultEntry::LONGEST {
            break;
        }
        entry.write(&mut text);
        text.put("\n");
        first = first.or(Some(entry.number));
        next = entry.number.saturating_add(1);
    }
    said(&Answer::Log { from: first.unwrap_or(next), next, text: text.as_str() }, out)
}

/// The longest sample must fit a batch.
const _: () = assert!(MAX_PAYLOAD - BATCH_HEAD >= 10 + 6 * MAX_CHANNELS);
const _: () = assert!(size_of::<NodeReading>() <= 8);
