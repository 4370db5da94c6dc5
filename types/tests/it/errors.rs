use corten_types::{Error, ErrorKind};

#[test]
fn a_chain_joins_the_sentence_and_its_causes_once() {
    let disk = std::io::Error::from_raw_os_error(28);
    let error = Error::io("write blob", disk);
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert_eq!(error.to_string(), "write blob");
    assert!(error.chain().starts_with("write blob: No space left"));
}
