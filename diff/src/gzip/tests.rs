use std::io::Read as _;

use flate2::read::GzDecoder;

use super::*;

fn pack(blocks: &[Vec<u8>], threads: usize) -> Vec<u8> {
    let mut writer = GzipWriter::with_threads(Vec::new(), threads).unwrap();
    for block in blocks {
        writer.write_block(block.clone()).unwrap();
    }
    writer.finish().unwrap()
}

/// What repeats, and what does not.
fn blocks(count: usize, length: usize) -> Vec<Vec<u8>> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..count)
        .map(|_| {
            (0..length).map(|index| if index % 5 < 2 { next() } else { b'a' + (index % 7) as u8 }).collect()
        })
        .collect()
}

#[test]
fn the_blocks_are_one_member_whatever_the_number_of_threads() {
    let blocks = blocks(23, 70_000);
    let packed = pack(&blocks, 1);
    for threads in 2..=MAX_THREADS {
        assert!(pack(&blocks, threads) == packed, "{threads} threads");
    }
    // A reader of one member finds everything, and nothing after it.
    let mut plain = Vec::new();
    let mut reader = GzDecoder::new(&packed[..]);
    reader.read_to_end(&mut plain).unwrap();
    assert!(plain == blocks.concat());
    assert!(reader.into_inner().is_empty());
}

#[test]
fn blocks_refer_to_the_one_before() {
    let block = blocks(1, 30_000).remove(0);
    let once = pack(std::slice::from_ref(&block), 2).len();
    let twice = pack(&[block.clone(), block], 2).len();
    assert!(twice < once + once / 10, "{once} and {twice} bytes");
}

#[test]
fn nothing_becomes_an_empty_member() {
    let packed = pack(&[], 2);
    let mut plain = Vec::new();
    GzDecoder::new(&packed[..]).read_to_end(&mut plain).unwrap();
    assert!(plain.is_empty());
    let packed = pack(&[Vec::new(), vec![7], Vec::new()], 2);
    GzDecoder::new(&packed[..]).read_to_end(&mut plain).unwrap();
    assert_eq!(plain, [7]);
}

#[test]
fn what_cannot_be_compressed_fits() {
    let mut state = 7_u64;
    let noise: Vec<u8> = (0..256 * 1024)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    let packed = pack(&[noise.clone(), noise.clone()], 2);
    let mut plain = Vec::new();
    GzDecoder::new(&packed[..]).read_to_end(&mut plain).unwrap();
    assert!(plain == [noise.clone(), noise].concat());
}

#[test]
fn a_sink_that_fails_ends_it() {
    #[derive(Debug, Default)]
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0 += data.len();
            if self.0 > 100_000 { Err(io::Error::other("full")) } else { Ok(data.len()) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut writer = GzipWriter::with_threads(Full::default(), 2).unwrap();
    let outcome = blocks(50, 70_000).into_iter().try_for_each(|block| writer.write_block(block));
    assert_eq!(outcome.unwrap_err().to_string(), "full");
}
