use super::Version;

#[test]
fn versions_of_several_runtimes_are_read() {
    let runc =
        Version::parse("runc version 1.1.5+ds1\ncommit: abc\nspec: 1.0.2-dev\ngo: go1.19.8\n").unwrap();
    assert_eq!(
        runc,
        Version {
            name: "runc".into(),
            version: "1.1.5+ds1".into(),
            commit: "abc".into(),
            specification: "1.0.2-dev".into()
        }
    );
    let crun =
        Version::parse("crun version 1.8.1\ncommit: f8a\nrundir: /run\nspec: 1.0.0\n+SYSTEMD\n").unwrap();
    assert_eq!((crun.name.as_str(), crun.specification.as_str()), ("crun", "1.0.0"));
    assert_eq!(Version::parse("hello"), None);
    assert_eq!(Version::parse(""), None);
}
