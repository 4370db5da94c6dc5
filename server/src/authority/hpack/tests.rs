use super::{Decoder, Field, HpackError, MAX_DECODED_BYTES, encode};

type Fields = Vec<(String, String)>;

fn bytes(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    (0..hex.len()).step_by(2).map(|place| u8::from_str_radix(&hex[place..place + 2], 16).unwrap()).collect()
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, HpackError> {
    let mut fields = Vec::new();
    decoder.decode(block, |field| {
        fields.push((
            String::from_utf8_lossy(field.name).into_owned(),
            String::from_utf8_lossy(field.value).into_owned(),
        ));
    })?;
    Ok(fields)
}

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_requests_of_the_rfc_decode_one_after_the_other() {
    let mut decoder = Decoder::default();
    let first = decode(&mut decoder, &bytes("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff")).unwrap();
    let common = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
    assert_eq!(first, fields(&common));
    let second = decode(&mut decoder, &bytes("8286 84be 5886 a8eb 1064 9cbf")).unwrap();
    assert_eq!(second, fields(&[&common[..], &[("cache-control", "no-cache")]].concat()));
    let third = decode(&mut decoder, &bytes("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf"));
    let wanted = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ];
    assert_eq!(third.unwrap(), fields(&wanted));
}

#[test]
fn old_entries_leave_a_full_table() {
    let mut decoder = Decoder::default();
    // The table is made 96 bytes large: two entries of 34 bytes fit, three do not.
    let block = b"\x3f\x41\x40\x01a\x01b\x40\x01c\x01d\x40\x01e\x01f";
    decode(&mut decoder, block).unwrap();
    assert_eq!(decode(&mut decoder, &[0x80 | 62, 0x80 | 63]).unwrap(), fields(&[("e", "f"), ("c", "d")]));
    assert_eq!(decode(&mut decoder, &[0x80 | 64]), Err(HpackError::Index));
    // An entry that is larger than the table empties it.
    let mut large = b"\x40\x01x\x50".to_vec();
    large.extend([b'y'; 0x50]);
    decode(&mut decoder, &large).unwrap();
    assert_eq!(decode(&mut decoder, &[0x80 | 62]), Err(HpackError::Index));
}

#[test]
fn every_cut_of_a_block_is_an_error_or_fewer_fields_and_never_a_panic() {
    let block = bytes("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff 3f41 5886 a8eb 1064 9cbf 1000 01 61");
    for length in 0..block.len() {
        let _ = decode(&mut Decoder::default(), &block[..length]);
    }
    for first in 0..=255 {
        for second in 0..=255 {
            let _ = decode(&mut Decoder::default(), &[first, second]);
        }
    }
    assert_eq!(decode(&mut Decoder::default(), &[0x3f]), Err(HpackError::Truncated));
    assert_eq!(decode(&mut Decoder::default(), &[0x80]), Err(HpackError::Index));
    assert_eq!(decode(&mut Decoder::default(), &[0xff; 8]), Err(HpackError::IntegerTooLong));
    assert_eq!(decode(&mut Decoder::default(), &[0x3f, 0xe2, 0x1f]), Err(HpackError::TableSize));
    assert_eq!(decode(&mut Decoder::default(), &[0x3f, 0xe1, 0x1f]), Ok(Vec::new()));
}

#[test]
fn a_short_block_that_decodes_to_very_much_is_refused() {
    let mut decoder = Decoder::default();
    let mut entry = b"\x40\x01a\x7f\xa1\x1e".to_vec();
    entry.extend([b'v'; 4000]);
    decode(&mut decoder, &entry).unwrap();
    let times = MAX_DECODED_BYTES / (4000 + 1 + 32);
    assert_eq!(decode(&mut decoder, &vec![0x80 | 62; times]).unwrap().len(), times);
    assert_eq!(decode(&mut decoder, &vec![0x80 | 62; times + 1]), Err(HpackError::TooLarge));
}

#[test]
fn what_is_encoded_decodes_to_the_same() {
    let long = "x".repeat(5000);
    let wanted = fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/containerd.services.version.v1.Version/Version"),
        (":authority", "localhost"),
        ("accept-charset", ""),
        ("grpc-timeout", "1S"),
        ("long", &long),
    ]);
    let mut block = Vec::new();
    for (name, value) in &wanted {
        for never_indexed in [false, true] {
            encode(&Field { name: name.as_bytes(), value: value.as_bytes(), never_indexed }, &mut block);
        }
    }
    let doubled: Fields = wanted.iter().flat_map(|field| [field.clone(), field.clone()]).collect();
    let mut decoder = Decoder::default();
    assert_eq!(decode(&mut decoder, &block).unwrap(), doubled);
    assert!(decoder.entries.is_empty(), "nothing that is encoded is indexed");
}
