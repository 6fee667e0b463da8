//! Everything that is wrong with a site's files, said so that a person can put it right.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// More problems than this are counted and not shown: nobody reads on, and the first ones explain the rest.
const MOST_SHOWN: usize = 200;

/// Bytes shown on each side of what is underlined, so that a file without line ends stays readable.
const MOST_CONTEXT: usize = 400;

/// Every problem found, in file order.
#[derive(Clone, Debug, Default)]
pub struct Report {
    problems: Vec<Problem>,
}

/// One thing that is wrong, or worth a look.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Whether the site can be used all the same.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// Where, unless a file as a whole is meant.
    pub mark: Option<Mark>,
    /// The other place that belongs to it: the first of two that may not be alike.
    pub other: Option<Mark>,
    /// The file it is in.
    pub file: PathBuf,
    /// What would be right.
    pub help: Option<String>,
}

/// How bad a problem is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// The site cannot be used.
    Error,
    /// The site can be run, but nothing will be delivered until this is mended: a certificate or key of the uplink.
    Uplink,
    /// The site can be used; somebody should look.
    Warning,
}

/// A stretch of one line of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mark {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// First character, from 1.
    pub column: usize,
    /// What to say there; may be empty.
    pub label: String,
    text: String,
    span: Range<usize>,
}

impl Report {
    pub(super) const fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// Returns every problem, in file order.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Returns how many problems make the site unusable.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.problems.iter().filter(|problem| problem.severity != Severity::Warning).count()
    }

    /// Returns how many problems are remarks only.
    #[must_use]
    pub fn warnings(&self) -> usize {
        self.problems.len() - self.errors()
    }

    /// Writes every problem with the line it is on, and a last line that counts them; empty when there is none.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for problem in self.problems.iter().take(MOST_SHOWN) {
            out.push_str(&renderer.render(&[problem.group()]));
            out.push_str("\n\n");
        }
        let hidden = self.problems.len().saturating_sub(MOST_SHOWN);
        if hidden > 0 {
            out.push_str(&format!("… and {hidden} more\n\n"));
        }
        if !self.problems.is_empty() {
            let count = |n: usize, word| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
            out.push_str(&format!("{}, {}\n", count(self.errors(), "error"), count(self.warnings(), "warning")));
        }
        out
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}

impl Problem {
    fn group(&self) -> Group<'_> {
        let level = match self.severity {
            Severity::Error | Severity::Uplink => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = level.primary_title(self.message.as_str()).elements(None::<Origin<'_>>);
        match &self.mark {
            Some(mark) => group = group.element(mark.snippet(AnnotationKind::Primary)),
            None => group = group.element(Origin::path(self.file.to_string_lossy())),
        }
        if let Some(other) = &self.other {
            group = group.element(other.snippet(AnnotationKind::Context));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        group
    }
}

impl Mark {
    fn snippet(&self, kind: AnnotationKind) -> Snippet<'_, annotate_snippets::Annotation<'_>> {
        let annotation = kind.span(self.span.clone());
        let annotation = if self.label.is_empty() { annotation } else { annotation.label(self.label.as_str()) };
        Snippet::source(self.text.as_str())
            .line_start(self.line)
            .path(self.file.to_string_lossy())
            .annotation(annotation)
    }
}

/// A stretch of a file that [`Findings`] holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    source: usize,
    start: usize,
    end: usize,
}

impl Place {
    pub(super) const fn new(source: usize, span: &Range<usize>) -> Self {
        Self { source, start: span.start, end: span.end }
    }

    /// The bytes `from..to` of this place, counted from its start.
    pub(super) fn part(self, span: Range<usize>) -> Self {
        let at = |offset: usize| self.start.saturating_add(offset).min(self.end);
        Self { start: at(span.start), end: at(span.end), ..self }
    }
}

/// A value and where it stands.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// The files read so far and what was found wrong in them.
#[derive(Debug, Default)]
pub(super) struct Findings {
    sources: Vec<Source>,
    found: Vec<Finding>,
}

#[derive(Debug)]
struct Source {
    path: PathBuf,
    text: String,
    /// First byte of each line after the first.
    lines: Vec<usize>,
}

/// A problem whose places are not resolved yet.
#[derive(Debug)]
struct Finding {
    severity: Severity,
    place: Place,
    whole_file: bool,
    message: String,
    label: String,
    other: Option<(Place, String)>,
    help: Option<String>,
}

impl Findings {
    /// Takes a file that was read, or that could not be; returns its number.
    pub(super) fn add_source(&mut self, path: &Path, text: String) -> usize {
        let lines = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        self.sources.push(Source { path: path.to_owned(), text, lines });
        self.sources.len() - 1
    }

    pub(super) fn text(&self, place: Place) -> &str {
        self.sources.get(place.source).and_then(|source| source.text.get(place.start..place.end)).unwrap_or_default()
    }

    /// Returns the line of a place, from 0.
    pub(super) fn line(&self, place: Place) -> usize {
        let lines = self.sources.get(place.source).map_or(&[][..], |source| &source.lines);
        lines.partition_point(|&first| first <= place.start)
    }

    pub(super) fn text_after(&self, source: usize, start: usize) -> &str {
        self.sources.get(source).and_then(|source| source.text.get(start..)).unwrap_or_default()
    }

    /// Forgets what `find` finds on lines that the problems before it are on.
    pub(super) fn quiet<T>(&mut self, source: usize, find: impl FnOnce(&mut Self) -> T) -> T {
        let known: BTreeSet<_> =
            self.found.iter().map(|finding| (finding.place.source, self.line(finding.place))).collect();
        let before = self.found.len();
        let out = find(self);
        let later = self.found.split_off(before);
        let fresh = |finding: &Finding| !known.contains(&(source, self.line(finding.place)));
        let fresh: Vec<_> = later.into_iter().filter(fresh).collect();
        self.found.extend(fresh);
        out
    }

    /// Returns how many findings make the site unusable.
    pub(super) fn errors(&self) -> usize {
        self.found.iter().filter(|finding| finding.severity == Severity::Error).count()
    }

    pub(super) fn error(&mut self, place: Place, message: impl Into<String>) -> Note<'_> {
        self.find(Severity::Error, place, message.into())
    }

    /// Reports what keeps the uplink from connecting, and nothing else.
    pub(super) fn uplink(&mut self, place: Place, message: impl Into<String>) -> Note<'_> {
        self.find(Severity::Uplink, place, message.into())
    }

    pub(super) fn warning(&mut self, place: Place, message: impl Into<String>) -> Note<'_> {
        self.find(Severity::Warning, place, message.into())
    }

    /// Returns the problem reported last, to say more about it.
    pub(super) fn last(&mut self) -> Note<'_> {
        Note { findings: self }
    }

    /// Reports that the file as a whole is of no use.
    pub(super) fn unusable(&mut self, source: usize, message: impl Into<String>) -> Note<'_> {
        let mut note = self.find(Severity::Error, Place { source, start: 0, end: 0 }, message.into());
        if let Some(finding) = note.finding() {
            finding.whole_file = true;
        }
        note
    }

    fn find(&mut self, severity: Severity, place: Place, message: String) -> Note<'_> {
        self.found.push(Finding {
            severity,
            place,
            whole_file: false,
            message,
            label: String::new(),
            other: None,
            help: None,
        });
        self.last()
    }

    /// Sorts by file and place and forgets what is not needed to show them.
    pub(super) fn into_report(mut self) -> Report {
        self.found.sort_by_key(|finding| finding.place);
        let problems = self.found.iter().map(|finding| {
            let file = self.sources.get(finding.place.source).map(|source| source.path.clone()).unwrap_or_default();
            Problem {
                severity: finding.severity,
                message: finding.message.clone(),
                mark: if finding.whole_file { None } else { self.mark(finding.place, &finding.label) },
                other: finding.other.as_ref().and_then(|(place, label)| self.mark(*place, label)),
                file,
                help: finding.help.clone(),
            }
        });
        Report::new(problems.collect())
    }

    /// Cuts the first line of a place out of its file.
    fn mark(&self, place: Place, label: &str) -> Option<Mark> {
        let Source { path, text, lines } = self.sources.get(place.source)?;
        let start = floor(text, place.start);
        let line = lines.partition_point(|&first| first <= start);
        let line_start = line.checked_sub(1).and_then(|before| lines.get(before)).copied().unwrap_or(0);
        let line_end = lines.get(line).map_or(text.len(), |next| next - 1);
        let end = floor(text, place.end.clamp(start, line_end));
        let left = floor(text, line_start.max(start.saturating_sub(MOST_CONTEXT)));
        let right = floor(text, line_end.min(end.saturating_add(MOST_CONTEXT)));
        let end = end.min(floor(text, start.saturating_add(MOST_CONTEXT)));
        Some(Mark {
            file: path.clone(),
            line: line + 1,
            column: text.get(line_start..start)?.chars().count() + 1,
            label: label.to_owned(),
            text: text.get(left..right)?.to_owned(),
            span: (start - left)..(end.max(start) - left),
        })
    }
}

/// The problem just reported, to say more about it.
pub(super) struct Note<'a> {
    findings: &'a mut Findings,
}

impl Note<'_> {
    fn finding(&mut self) -> Option<&mut Finding> {
        self.findings.found.last_mut()
    }

    /// Says what the underlined text is.
    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        if let Some(finding) = self.finding() {
            finding.label = label.into();
        }
        self
    }

    /// Says what would be right.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        if let Some(finding) = self.finding() {
            finding.help = Some(help.into());
        }
        self
    }

    /// Shows a second place.
    pub(super) fn other(mut self, place: Place, label: impl Into<String>) -> Self {
        if let Some(finding) = self.finding() {
            finding.other = Some((place, label.into()));
        }
        self
    }
}

fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at)
}

/// Returns a known word that `got` may have been meant to be.
pub(crate) fn nearest<'a>(got: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |word: &str| strsim::normalized_damerau_levenshtein(&got.to_lowercase(), &word.to_lowercase());
    let best = known.into_iter().map(|word| (likeness(word), word)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= 0.6).then_some(best.1)
}
