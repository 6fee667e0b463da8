//! A copy of `configs/` that a test may change, and what the tests compare with.

use std::fs;
use std::path::{Path, PathBuf};

use ganglion::config::{self, Report, Severity};
use ganglion::site::Site;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

const CONFIGS: &str = "../configs";

/// Set to write what the tests compare with anew.
const UPDATE: &str = "UPDATE_EXPECTED";

/// A copy of `configs/` with certificates, to change.
pub(crate) struct Copy {
    folder: TempDir,
}

impl Copy {
    pub(crate) fn new() -> Self {
        let copy = Self { folder: tempfile::tempdir().expect("a folder") };
        copy_folder(Path::new(CONFIGS), copy.folder.path());
        copy.issue("pki/ca.pem", 2120);
        copy.issue("pki/gateway.pem", 2120);
        copy
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join("sites").join(file)
    }

    pub(crate) fn site(&self) -> PathBuf {
        self.path("pump-house.toml")
    }

    /// Makes a certificate that ends with the given year, and its key.
    pub(crate) fn issue(&self, file: &str, end: i32) {
        let mut params = CertificateParams::new(vec!["gateway".to_owned()]).expect("a name");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(end, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        self.write(file, &certificate.pem());
        self.write(&file.replace(".pem", ".key"), &key.serialize_pem());
        set_mode(&self.path(&file.replace(".pem", ".key")), 0o600);
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("written");
    }

    pub(crate) fn change(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).expect("the file");
        assert!(text.contains(from), "{file} holds no {from:?}");
        self.write(file, &text.replacen(from, to, 1));
    }

    /// Takes the device's own alarms out of the pump house: no table of devices can say them, and no other template may know
    /// their names.
    pub(crate) fn without_alarms(&self) {
        let text = fs::read_to_string(self.site()).expect("the site");
        let lines = text.lines().filter(|line| !line.contains("alarms]") && !line.starts_with("pressure = {"));
        self.write("pump-house.toml", &lines.map(|line| format!("{line}\n")).collect::<String>());
    }

    pub(crate) fn load(&self) -> Site {
        config::load(&self.site()).unwrap_or_else(|report| panic!("{report}"))
    }

    pub(crate) fn report(&self) -> Report {
        config::load_to_run(&self.site()).1
    }

    /// Loads and returns the messages of the given severity.
    pub(crate) fn messages(&self, severity: Severity) -> Vec<String> {
        let report = self.report();
        report.problems().iter().filter(|problem| problem.severity == severity).map(|p| p.message.clone()).collect()
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() { copy_folder(&path, &target) } else { fs::copy(&path, target).map(drop).expect("copied") }
    }
}

pub(crate) fn stems(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(Path::new(CONFIGS).join(folder)).expect("a folder");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Compares with a file that `UPDATE_EXPECTED=1` writes anew.
pub(crate) fn compare(got: &str, file: &str) {
    if std::env::var_os(UPDATE).is_some() {
        fs::write(file, got).expect("written");
    }
    let expected = fs::read_to_string(file).unwrap_or_default();
    assert!(got == expected, "not as in {file}; {UPDATE}=1 writes it anew, then look at the difference:\n{got}");
}
