use std::path::Path;

use corten_types::ErrorKind;

use super::{Action, Flags};

fn parse(line: &str) -> corten_types::Result<Flags> {
    Flags::parse(line.split_whitespace().map(str::to_owned))
}

#[test]
fn the_line_of_containerd_is_understood() {
    let flags = parse(
        "-namespace default -address /run/c.sock -publish-binary /usr/bin/containerd -id one -debug start",
    )
    .unwrap();
    assert_eq!(flags.action, Action::Start);
    assert_eq!((flags.namespace.as_str(), flags.id.as_str()), ("default", "one"));
    assert_eq!(flags.address, "/run/c.sock");
    assert_eq!(flags.publish_binary, "/usr/bin/containerd");
    assert!(flags.debug);
    let flags = parse("--namespace=n --id=i -bundle /b -debug=false delete").unwrap();
    assert_eq!((flags.action, flags.debug), (Action::Delete, false));
    assert_eq!(flags.bundle.as_deref(), Some(Path::new("/b")));
    assert_eq!(parse("-namespace n -id i").unwrap().action, Action::Serve);
}

#[test]
fn version_and_info_need_no_namespace() {
    assert_eq!(parse("-v").unwrap().action, Action::Version);
    assert_eq!(parse("-version").unwrap().action, Action::Version);
    assert_eq!(parse("-info").unwrap().action, Action::Info);
}

#[test]
fn a_bad_line_is_refused() {
    for line in
        ["-id i start", "-namespace n start", "-namespace n -id ../x start", "-nonsense 1", "-id", "-debug=x"]
    {
        assert_eq!(parse(line).unwrap_err().kind(), ErrorKind::InvalidArgument, "{line}");
    }
}
