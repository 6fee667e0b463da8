//! `ganglion buffer verify`: every byte read, one line a finding.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::Args;
use ganglion_protocols::{Cri, Origin};

use super::{Named, Where, counted};
use crate::buffer::examine::{Cause, Finding, Jump, Numbering, Seen, Weight};
use crate::buffer::outlook::{bytes_in_words, in_f64};
use crate::tools::REFUSED;

/// What to verify.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    place: Where,
}

/// Verifies and prints.
pub(super) fn main(options: &Options) -> ExitCode {
    let logs = match options.place.data_dir().and_then(|(dir, _)| options.place.open(&dir)) {
        Ok(logs) => logs,
        Err(code) => return code,
    };
    let mut out = io::stdout().lock();
    let mut worst = Weight::Note;
    for named in &logs {
        match verify(named, &mut out) {
            Ok(weight) => worst = worst.max(weight),
            // Whoever reads has left.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Err(_) => return ExitCode::FAILURE,
        }
    }
    match worst {
        Weight::Note => ExitCode::SUCCESS,
        Weight::Damage => ExitCode::FAILURE,
        Weight::Unread => ExitCode::from(REFUSED),
    }
}

/// What one pass over a log has shown.
struct Pass<'a, W> {
    name: &'a str,
    out: &'a mut W,
    worst: Weight,
    findings: u64,
    observations: u64,
    /// Numbers that are not held, and where that was noticed: a declaration of their loss may still come.
    jumps: Vec<(String, Jump)>,
    failed: Option<io::Error>,
}

fn verify(named: &Named, out: &mut impl Write) -> io::Result<Weight> {
    let Named { name, log } = named;
    let mut pass =
        Pass { name, out, worst: Weight::Note, findings: 0, observations: 0, jumps: Vec::new(), failed: None };
    log.findings().iter().for_each(|finding| pass.found(finding));
    let mut numbering = Numbering::default();
    let mut marks = BTreeMap::new();
    let mut file = String::new();
    let walked = log.walk(|seen| {
        match seen {
            Seen::Segment(segment) => {
                numbering.segment(segment.epoch());
                segment.name.clone_into(&mut file);
            }
            Seen::Missing { delivered: true, .. } => numbering.reclaimed(),
            Seen::Missing { from, to, delivered: false } => {
                numbering.damage();
                let count = counted(to - from + 1, "segment");
                pass.line(
                    Weight::Damage,
                    &format!(
                        "{name}: {count} from number {from} not there, and not all delivered: what they held is lost"
                    ),
                );
            }
            Seen::Gap(gap) => numbering.declared(&gap),
            Seen::Mark { resource, origin } => {
                let before = marks.insert(resource, origin);
                pass.mark(&format!("{name}/{file}"), resource, before, origin);
            }
            Seen::Hole { .. } => numbering.damage(),
            Seen::LastSeq { resource, seq } => {
                let jump = numbering.last_seq(resource, seq);
                pass.jumps.extend(jump.map(|jump| (format!("{name}/{file}"), jump)));
            }
            Seen::Observation { offset, stored, .. } => {
                pass.observations += 1;
                let jump = numbering.observation(stored.shape.resource, stored.seq);
                pass.jumps.extend(jump.map(|jump| (format!("{name}/{file}:{offset}"), jump)));
            }
            Seen::Finding(finding) => pass.found(&finding),
        }
        if pass.failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    pass.jumps.extend(numbering.finish().into_iter().map(|jump| (name.clone(), jump)));
    for (place, jump) in std::mem::take(&mut pass.jumps) {
        pass.jump(&place, &jump, numbering.is_declared(&jump));
    }
    if let (ControlFlow::Break(()), Some(error)) = (walked, pass.failed.take()) {
        return Err(error);
    }
    let bytes = log.segments().iter().map(|segment| segment.bytes).sum::<u64>();
    let verdict = match (pass.findings, pass.worst) {
        (0, _) => "clean".to_owned(),
        (findings, Weight::Unread) => format!("{}; some of it could not be read", counted(findings, "finding")),
        (findings, _) => counted(findings, "finding"),
    };
    writeln!(
        pass.out,
        "{name}: {}, {}, {}: {verdict}",
        counted(log.segments().len() as u64, "segment"),
        bytes_in_words(in_f64(bytes)),
        counted(pass.observations, "observation"),
    )?;
    Ok(pass.worst)
}

impl<W: Write> Pass<'_, W> {
    fn found(&mut self, finding: &Finding) {
        let Finding { file, offset, trouble } = finding;
        self.line(finding.weight(), &format!("{}/{file}:{offset}: {trouble}", self.name));
    }

    /// A source that goes on from an earlier place sends what is taken already.
    fn mark(&mut self, place: &str, resource: Cri, before: Option<Origin>, now: Origin) {
        if let Some(before) = before.filter(|before| before.seq > now.seq && before.covers(now)) {
            let (from, to) = (before.seq, now.seq);
            self.line(
                Weight::Damage,
                &format!("{place}: {resource}: its source stood at {from} and stands at {to} after it: samples may be here twice"),
            );
        }
    }

    fn jump(&mut self, place: &str, jump: &Jump, declared: bool) {
        let Jump { resource, from, to, cause } = *jump;
        let numbers = if from == to { format!("number {from} is") } else { format!("numbers {from} to {to} are") };
        match cause {
            // It is where it should be: at the city brain.
            Cause::Reclaimed => {}
            Cause::Damage => {
                let declared = if declared { "; declared as a gap" } else { "" };
                let text = "lost with what cannot be read, or skipped";
                self.line(
                    Weight::Note,
                    &format!("{place}: {resource}: {numbers} not held before this: {text}{declared}"),
                );
            }
            // Every subscriber is told.
            Cause::Unknown if declared => {}
            Cause::Unknown => self.line(
                Weight::Damage,
                &format!(
                    "{place}: {resource}: {numbers} not held before this, and nothing says why: refused by the disk, or lost"
                ),
            ),
            Cause::Twice => self.line(
                Weight::Damage,
                &format!("{place}: {resource}: number {from} comes after {to}: two observations may have one number"),
            ),
        }
    }

    fn line(&mut self, weight: Weight, text: &str) {
        let note = if weight == Weight::Note { "note: " } else { "" };
        self.worst = self.worst.max(weight);
        self.findings += u64::from(weight != Weight::Note);
        if let Err(error) = writeln!(self.out, "{note}{text}") {
            self.failed = Some(error);
        }
    }
}
