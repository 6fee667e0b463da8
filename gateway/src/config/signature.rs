//! What a device of each template must look like: to name a device that was found on a line.

use std::path::Path;
use std::sync::Arc;

use ganglion_drivers::plan::ReadRequest;

use super::directory::Directory;
use super::point::first;
use super::report::{Findings, Place};
use super::template::Template;
use super::{files, keys, site_keys};
use crate::site::{DeviceLimits, Group, Identity, Point, Term, Want};

/// A template as something to compare a device with.
#[derive(Clone, Debug)]
pub struct Signature {
    /// Name of the template.
    pub template: String,
    /// What one request to the device may be.
    pub limits: Arc<DeviceLimits>,
    /// The register that tells it from all others, where the template says what it holds.
    pub identity: Option<Identity>,
    /// Its points; each belongs to no stream. The ranges are those of the directory: wide enough for every class that has
    /// a property of that name and unit.
    pub group: Group,
    /// Names of the resources that a site file must give an identifier; empty if it needs one only.
    pub resources: Vec<String>,
}

/// Returns the signatures of a folder's templates; one that is wrong is left out. Ranges come from the directory, if one is
/// given and right.
#[must_use]
pub fn signatures(templates: &Path, directory: Option<&Path>) -> Vec<Signature> {
    let mut findings = Findings::default();
    let source = findings.add_source(templates, String::new());
    let nowhere = Place::new(source, &(0..0));
    let directory = directory.and_then(|folder| Directory::read(&mut findings, folder, nowhere)).unwrap_or_default();
    let names = files::names(templates, "toml");
    let signature = |name: String| {
        let template = Template::read(&mut findings, templates, &name, nowhere)?;
        Some(of(name, &template, &directory))
    };
    names.into_iter().filter_map(signature).collect()
}

/// Returns the signatures of the templates that a site file names the folder of.
#[must_use]
pub fn signatures_of_site(path: &Path) -> Vec<Signature> {
    let mut findings = Findings::default();
    let folder = path.parent().unwrap_or(Path::new(""));
    let Some((source, text)) = files::read_first(&mut findings, path) else { return Vec::new() };
    let file = keys::check(&mut findings, source, &text, &site_keys::SITE);
    let under = |key: &str| file.text(key).map(|at| folder.join(at.value));
    under("templates").map_or_else(Vec::new, |templates| signatures(&templates, under("directory").as_deref()))
}

fn of(name: String, template: &Template, directory: &Directory) -> Signature {
    let reads = template.points.iter().flat_map(|point| {
        let terms = point.terms.iter().map(|term| point.want_of(term));
        terms.chain([point.want()]).collect::<Vec<ReadRequest>>()
    });
    let mut reads: Vec<ReadRequest> = reads.collect();
    reads.sort_unstable();
    reads.dedup();
    let place = |read: ReadRequest| reads.partition_point(|other| *other < read);
    let points = template.points.iter().map(|point| Point {
        part: 0,
        place: 0,
        want: place(point.want()),
        first: first(point.own, point.want()),
        value_type: point.value_type,
        word_order: point.word_order,
        terms: point
            .terms
            .iter()
            .map(|term| Term {
                role: term.role,
                want: place(point.want_of(term)),
                first: first(term.own, point.want_of(term)),
                value_type: term.value_type,
                word_order: term.word_order,
            })
            .collect(),
        scale: point.scale,
        missing: point.missing,
        range: directory.widest_range(&point.property, &point.unit.value),
        deadband: None,
    });
    let points: Vec<Point> = points.collect();
    let wants = reads.iter().scan(0, |next, &read| {
        let offset = *next;
        *next += usize::from(read.count);
        Some(Want { read, offset })
    });
    let identity = template.identity.and_then(|identity| {
        let (want, value_type, word_order) = (identity.want, identity.value_type, identity.word_order);
        identity.equals.map(|equals| Identity { want, value_type, word_order, equals })
    });
    Signature {
        template: name,
        limits: Arc::clone(&template.limits),
        identity,
        group: Group {
            interval: std::time::Duration::from_secs(1),
            wants: wants.collect(),
            points: points.into(),
            streams: Vec::new(),
            heartbeat: None,
            alarms: Vec::new(),
        },
        resources: template.resources().into_iter().map(str::to_owned).collect(),
    }
}
