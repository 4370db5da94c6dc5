use std::io::{Read as _, Write as _};

use corten_types::{Error, ErrorKind};

use super::*;

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn decompress(data: &[u8]) -> Result<Vec<u8>, Error> {
    let mut output = Vec::new();
    match decompressor(data).unwrap().read_to_end(&mut output) {
        Ok(_) => Ok(output),
        Err(error) => Err(error.downcast::<Error>().unwrap()),
    }
}

#[test]
fn streams_are_recognised_by_their_first_bytes() {
    assert_eq!(Compression::detect(&gzip(b"")), Compression::Gzip);
    assert_eq!(Compression::detect(&zstd::encode_all(&b""[..], 1).unwrap()), Compression::Zstd);
    assert_eq!(Compression::detect(b"\x53\x2a\x4d\x18\x04\0\0\0"), Compression::Zstd);
    assert_eq!(Compression::detect(b"\x53\x2a\x4d\x18"), Compression::None);
    assert_eq!(Compression::detect(b""), Compression::None);
    assert_eq!(Compression::detect(b"file.txt"), Compression::None);
}

#[test]
fn plain_and_empty_streams_are_given_as_they_are() {
    assert_eq!(decompress(b"").unwrap(), b"");
    assert_eq!(decompress(b"short").unwrap(), b"short");
    assert_eq!(decompress(b"longer than what is looked at").unwrap(), b"longer than what is looked at");
}

#[test]
fn gzip_may_have_several_members() {
    assert_eq!(decompress(&[gzip(b"one "), gzip(b""), gzip(b"two")].concat()).unwrap(), b"one two");
}

#[test]
fn zstd_may_have_several_frames_and_frames_that_are_skipped() {
    let frame = |data: &[u8]| zstd::encode_all(data, 1).unwrap();
    let skipped = b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec();
    let stream = [skipped.clone(), frame(b"one "), skipped.clone(), frame(b"two"), skipped].concat();
    assert_eq!(decompress(&stream).unwrap(), b"one two");
}

#[test]
fn damage_is_data_loss_and_says_what_to_do() {
    let data: Vec<u8> =
        (0..100_000_u32).flat_map(|number| (number.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    for whole in [gzip(&data), zstd::stream::encode_all(&data[..], 1).unwrap()] {
        for length in [whole.len() - 1, whole.len() / 2, 20] {
            let error = decompress(&whole[..length]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DataLoss);
            assert!(error.message().contains("fetch the layer again"), "{error:?}");
        }
    }
    let mut damaged = gzip(&data);
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x55;
    assert_eq!(decompress(&damaged).unwrap_err().kind(), ErrorKind::DataLoss);
    let mut wrong_sum = gzip(b"data");
    let last = wrong_sum.len() - 5;
    wrong_sum[last] ^= 1;
    assert!(decompress(&wrong_sum).unwrap_err().message().contains("damaged"));
}

#[test]
fn rubbish_after_the_last_member_is_an_error_as_in_go() {
    for rubbish in [&b"rubbish"[..], &[0; 512], b"\x1f"] {
        assert!(decompress(&[&gzip(b"data"), rubbish].concat()).is_err(), "{rubbish:?}");
    }
    let frame = zstd::encode_all(&b"data"[..], 1).unwrap();
    assert!(decompress(&[&frame, &b"rubbish"[..]].concat()).is_err());
}

#[test]
fn a_zstd_window_that_needs_too_much_memory_is_refused() {
    let compress = |log| {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(b"data").unwrap();
        encoder.finish().unwrap()
    };
    assert_eq!(decompress(&compress(MAX_ZSTD_WINDOW_LOG)).unwrap(), b"data");
    let error = decompress(&compress(MAX_ZSTD_WINDOW_LOG + 1)).unwrap_err();
    assert!(error.chain().contains("memory"), "{}", error.chain());
}

#[test]
fn an_error_of_the_source_stays_what_it_is() {
    struct Failing;
    impl std::io::Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other(Error::unavailable("the store is away")))
        }
    }
    let whole = gzip(&vec![1; 1000]);
    let source = std::io::BufReader::new(whole[..30].chain(Failing));
    let error = decompressor(source).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.downcast::<Error>().unwrap().kind(), ErrorKind::Unavailable);
}
