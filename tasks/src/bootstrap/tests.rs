use super::*;

const ADDRESS: &str = "unix:///run/containerd/s/1234";

fn protobuf(version: i32, address: &str, protocol: &str) -> Vec<u8> {
    let result = BootstrapResult {
        version,
        address: address.into(),
        protocol: protocol.into(),
        capabilities: vec![0],
        metadata: BTreeMap::from([("key".into(), "value".into())]),
    };
    result.encode_to_vec()
}

#[test]
fn a_plain_address_is_version_2_over_ttrpc() {
    for text in [ADDRESS, "unix:///run/containerd/s/1234\n", "/containerd-shim/default/id/shim.sock"] {
        let parsed = Bootstrap::parse(text.as_bytes()).unwrap();
        assert_eq!(parsed, Bootstrap::plain(text.trim()));
        assert_eq!((parsed.version, parsed.protocol.as_str()), (2, "ttrpc"));
    }
}

#[test]
fn json_says_version_and_protocol_and_may_say_more() {
    let json = format!(r#"{{"version":3,"address":"{ADDRESS}","protocol":"TTRPC","later":[1]}}"#);
    let parsed = Bootstrap::parse(json.as_bytes()).unwrap();
    assert_eq!((parsed.version, parsed.address.as_str()), (3, ADDRESS));
}

#[test]
fn protobuf_keeps_everything_and_survives_the_file() {
    let parsed = Bootstrap::parse(&protobuf(3, ADDRESS, "ttrpc")).unwrap();
    assert_eq!((parsed.version, parsed.address.as_str()), (3, ADDRESS));
    assert_eq!(parsed.capabilities, [0]);
    let json = serde_json::to_vec(&parsed).unwrap();
    assert_eq!(Bootstrap::parse(&json).unwrap(), parsed);
}

#[test]
fn what_is_stored_is_what_containerd_stores() {
    let json = serde_json::to_string(&Bootstrap::plain(ADDRESS)).unwrap();
    assert_eq!(json, format!(r#"{{"version":2,"address":"{ADDRESS}","protocol":"ttrpc"}}"#));
}

#[test]
fn answers_that_cannot_be_used_are_refused_by_class() {
    let json = |version: u32, protocol: &str| {
        format!(r#"{{"version":{version},"address":"{ADDRESS}","protocol":"{protocol}"}}"#).into_bytes()
    };
    for (answer, kind) in [
        (Vec::new(), ErrorKind::Unknown),
        (b" \n".to_vec(), ErrorKind::Unknown),
        (json(4, "ttrpc"), ErrorKind::Unimplemented),
        (json(3, "grpc"), ErrorKind::Unimplemented),
        (json(3, "smoke"), ErrorKind::Unknown),
        (protobuf(4, ADDRESS, "ttrpc"), ErrorKind::Unimplemented),
        (protobuf(1, ADDRESS, "ttrpc"), ErrorKind::Unknown),
        (b"warning: something\nunix:///run/x".to_vec(), ErrorKind::Unknown),
        (vec![0xff, 0xfe, 0xfd], ErrorKind::Unknown),
        (br#"{"version":1,"address":"a b"}"#.to_vec(), ErrorKind::Unknown),
    ] {
        let refused = Bootstrap::parse(&answer).unwrap_err();
        assert_eq!(refused.kind(), kind, "{answer:?}: {refused:?}");
    }
    let long = Bootstrap::parse(&[b' ', b'x'].repeat(100_000)).unwrap_err();
    assert!(long.message().len() < 2 * QUOTED_BYTES, "a long answer is quoted in part");
}

#[test]
fn a_sandbox_endpoint_names_its_protocol() {
    let parsed = from_task_api("ttrpc+unix:///run/x", 3).unwrap();
    assert_eq!(
        (parsed.version, parsed.address.as_str(), parsed.protocol.as_str()),
        (3, "unix:///run/x", "ttrpc")
    );
    assert_eq!(from_task_api("unix:///run/x", 3).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(from_task_api("grpc+vsock://3:1", 3).unwrap_err().kind(), ErrorKind::Unimplemented);
}

#[test]
fn parameters_name_the_instance_and_carry_the_options() {
    let events = corten_events::Exchange::new(std::sync::Arc::new(corten_events::NoEventFields));
    let mut settings = Options::new("/root", "/state", "/run/d.sock", "/run/d.sock.ttrpc", events);
    settings.debug = true;
    settings.socket_dir = Some("/run/s".into());
    let options = Any { type_url: "containerd.runc.v1.Options".into(), value: vec![8, 1].into() };
    let namespace = "default".parse().unwrap();
    let bytes = Stdin::Params.encode(&settings, &namespace, "web", Some(&options));
    let params = BootstrapParams::decode(bytes.as_slice()).unwrap();
    assert_eq!(
        (params.instance_id.as_str(), params.namespace.as_str(), params.log_level),
        ("web", "default", -4)
    );
    assert_eq!(params.socket_dir.as_deref(), Some("/run/s"));
    assert_eq!(params.extensions[0].value.as_ref().unwrap().value, [8, 1]);
    assert!(Stdin::Options.encode(&settings, &namespace, "web", None).is_empty());
}

#[test]
fn only_complaints_about_the_input_are_taken_for_a_misunderstanding() {
    assert!(Stdin::Params.was_misunderstood("io.containerd.runc.v2: type with url web: not found"));
    assert!(!Stdin::Params.was_misunderstood("no space left on device"));
    assert!(!Stdin::Options.was_misunderstood("type with url web: not found"));
}
