use super::parse;

fn digest(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

#[test]
fn an_index_a_manifest_and_a_config_say_what_they_need() {
    let index = format!(r#"{{"manifests": [{{"digest": "{}"}}, {{"digest": "short"}}]}}"#, digest('1'));
    let index = parse(index.as_bytes()).unwrap();
    assert_eq!(
        index.labels().into_iter().collect::<Vec<_>>(),
        [("containerd.io/gc.ref.content.m.0".to_owned(), digest('1'))]
    );

    let manifest = format!(
        r#"{{"config": {{"digest": "{}"}}, "layers": [{{"digest": "{}"}}]}}"#,
        digest('2'),
        digest('3')
    );
    let manifest = parse(manifest.as_bytes()).unwrap();
    let labels: Vec<String> = manifest.labels().into_keys().collect();
    assert_eq!(labels, ["containerd.io/gc.ref.content.config", "containerd.io/gc.ref.content.l.0"]);

    let config = format!(r#"{{"rootfs": {{"diff_ids": ["{}"]}}}}"#, digest('4'));
    assert_eq!(parse(config.as_bytes()).unwrap().chain_id(), Some(digest('4')));
}

#[test]
fn anything_else_is_none() {
    for bytes in [&b""[..], b"[]", b"{}", b"{\"layers\": []}", b"\x1f\x8b", b"null"] {
        assert!(parse(bytes).is_none());
    }
}
