#![expect(clippy::disallowed_methods, reason = "test files need not survive a power cut")]

use corten_api::containerd::runc::v1::Options;
use corten_types::ErrorKind;

use super::{read, write};

#[test]
fn options_are_read_back_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(read(folder.path()).unwrap(), Options::default());
    let options = Options {
        binary_name: "/usr/bin/crun".into(),
        root: "/run/elsewhere".into(),
        systemd_cgroup: true,
        io_uid: 7,
        ..Options::default()
    };
    write(folder.path(), &options).unwrap();
    assert_eq!(read(folder.path()).unwrap(), options);
    let text = std::fs::read_to_string(folder.path().join("options.json")).unwrap();
    assert_eq!(
        text,
        r#"{"io_uid":7,"binary_name":"/usr/bin/crun","root":"/run/elsewhere","systemd_cgroup":true}"#
    );
}

#[test]
fn damaged_options_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("options.json"), "{").unwrap();
    assert_eq!(read(folder.path()).unwrap_err().kind(), ErrorKind::DataLoss);
}
