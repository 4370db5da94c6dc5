use super::decode;

fn decoded(hex: &str) -> Option<Vec<u8>> {
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|place| u8::from_str_radix(&hex[place..place + 2], 16).unwrap())
        .collect();
    let mut result = Vec::new();
    decode(&bytes, &mut result).map(|()| result)
}

#[test]
fn the_examples_of_the_rfc_decode() {
    for (hex, text) in [
        ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
        ("a8eb10649cbf", "no-cache"),
        ("25a849e95ba97d7f", "custom-key"),
        ("25a849e95bb8e8b4bf", "custom-value"),
        ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("9d29ad171863c78f0b97c8e9ae82ae43d3", "https://www.example.com"),
        (
            "94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
            "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
        ),
    ] {
        assert_eq!(decoded(hex).as_deref(), Some(text.as_bytes()), "{text}");
    }
    assert_eq!(decoded("").as_deref(), Some(&b""[..]));
}

#[test]
fn rare_bytes_decode() {
    // 0x00 has the code 1fff8 of 13 bits, 0x0a the code 3ffffffc of 30 bits.
    assert_eq!(decoded("ffc7").as_deref(), Some(&[0][..]));
    assert_eq!(decoded("fffffff3").as_deref(), Some(&[0x0a][..]));
}

#[test]
fn padding_must_be_short_and_all_ones() {
    assert_eq!(decoded("1f").as_deref(), Some(&b"a"[..]));
    assert_eq!(decoded("18"), None, "zeros after the letter a");
    assert_eq!(decoded("1fff"), None, "more than seven bits");
    assert_eq!(decoded("ff"), None, "a whole byte of padding");
    assert_eq!(decoded("ffffffff"), None, "the end of the string inside it");
}
